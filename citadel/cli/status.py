"""`citadel status`: how the running Citadel is, what waits for somebody, and who holds what."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from citadel.api.proto.citadel.v1 import admin_pb2 as admin
from citadel.cli import ca, documents
from citadel.cli.client import Client, connect
from citadel.cli.documents import when
from citadel.cli.options import ConfigOption, SocketOption, examples
from citadel.cli.output import Column, Document, Format, FormatOption, field, print_table, show_list, show_one
from citadel.cli.run import printable
from citadel.config import parse_duration
from citadel.errors import InvalidInput, Unavailable

EXAMPLES = examples(
    "citadel status",
    "citadel status --clients --watch",
    "citadel status --wait 30s",
    "citadel status -o json",
)
_LOOK_AGAIN = 0.2  # seconds
_CLEAR = "\x1b[H\x1b[2J\x1b[3J"  # home, clear screen and scrollback (ECMA-48, xterm)


def status(
    clients: Annotated[bool, typer.Option("--clients", help="Show who holds what, and what it acknowledged.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it again and again, until Ctrl-C.")] = False,
    interval: Annotated[
        float, typer.Option("--interval", help="Seconds between two looks.", min=0.2, metavar="SECONDS")
    ] = 2.0,
    wait: Annotated[
        str | None, typer.Option("--wait", help="Wait at most so long until it is ready, as 30s.", metavar="TIME")
    ] = None,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Show how the running Citadel is.

    Health, authorities, the identities that are held here, jobs, and what waits for somebody; with --clients: which
    Envoy holds which certificate and bundle, and whether it acknowledged them.
    """
    look: Callable[[Client, Format], None] = _clients if clients else _status
    if wait is not None:
        _wait_until_ready(config, socket, _patience(wait))
    with connect(config, socket) as client:
        if not watch:
            look(client, output)
            return
        while True:
            if output is Format.TABLE and sys.stdout.isatty():
                print(_CLEAR, end="")
            look(client, output)
            sys.stdout.flush()
            time.sleep(interval)


def _patience(text: str) -> float:
    """Seconds. Raises InvalidInput."""
    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise InvalidInput(f"--wait: {error}") from None


def _wait_until_ready(config: Path | None, socket: Path | None, patience: float) -> None:
    """Raises Unavailable with what it still lacks, if it is not ready in time; at once what waiting does not mend."""
    end = time.monotonic() + patience
    while True:
        try:
            with connect(config, socket) as client:
                status = client.call(client.admin.GetStatus, admin.GetStatusRequest())
            failing = [f"{check.name}: {check.reason}" for check in status.checks if not check.ok]
            if not failing:
                return
            lacks = Unavailable(f"Citadel is not ready: {'; '.join(failing)}", mend="see: citadel status")
        except Unavailable as error:
            lacks = error
        if time.monotonic() >= end:
            raise lacks
        time.sleep(min(_LOOK_AGAIN, max(end - time.monotonic(), 0)))


def _clients(client: Client, output: Format) -> None:
    now = datetime.now(UTC)
    columns = [
        field("client", "client"),
        field("resource", "resource"),
        field("state", "state"),
        when("heard of", "at", now),
        field("version", "version"),
        Column("holds", _holding),
        when("until", "not_after", now),
        field("rejected because", "nack_detail", none=""),
    ]
    found = [documents.client(one) for one in _all_clients(client)]
    show_list(found, columns, output, empty="no client has asked for anything yet")


def _all_clients(client: Client) -> Iterator[admin.Client]:
    request = admin.ListClientsRequest()
    while True:
        answer = client.call(client.admin.ListClients, request)
        yield from answer.clients
        if not answer.next_page_token:
            return
        request.page_token = answer.next_page_token


def _holding(document: Document) -> str:
    """What the client acknowledged last: that is what it uses."""
    if document["serial"]:
        return f"{document['spiffe_id']} serial {document['serial']}"
    if document["bundle_sequence"]:
        return f"bundle {document['bundle_sequence']}"
    return "-"


def _status(client: Client, output: Format) -> None:
    now = datetime.now(UTC)
    document = documents.status(client.call(client.admin.GetStatus, admin.GetStatusRequest()))
    if output is not Format.TABLE:
        show_one(document, [], output)
        return
    show_one(document, _head(now), output)
    for sentence in document["waiting"]:
        print(printable(f"waits         {sentence}"))
    for title, columns, key in (
        ("Checks", _CHECKS, "checks"),
        ("Authorities", ca.columns(now), "authorities"),
        ("Identities of workloads here", _identities(now), "identities"),
        ("Jobs", _jobs(now), "jobs"),
    ):
        if document[key]:
            print(f"\n{title}")
            print_table(columns, document[key])


_CHECKS = [
    Column("check", lambda d: d["name"]),
    Column("state", lambda d: "ok" if d["ok"] else "failing"),
    field("reason", "reason", none=""),
]


def _head(now: datetime) -> list[Column]:
    return [
        field("trust domain", "trust_domain"),
        field("node", "node_id"),
        field("version", "version"),
        when("started", "started_at", now),
        field("ready", "ready"),
        Column("store", lambda d: ": ".join(filter(None, [d["store"]["kind"], d["store"]["error"]]))),
        Column("bundle", lambda d: "unknown" if d["store"]["error"] else f"sequence {d['bundle_sequence']}"),
        Column("entries", lambda d: "unknown" if d["store"]["error"] else str(d["entries"])),
        field("streams", "streams"),
        Column("policies", _policies),
        Column("vault", _vault),
    ]


def _vault(document: Document) -> str:
    found = document["vault"]
    if found is None:
        return "none configured"
    if found["fault"]:
        return f"{found['fault']} (since {found['fault_since']}); {found['lasts']}"
    return f"{found['address']}, signed in as {found['signed_in_as'] or 'nobody yet'}"


def _policies(document: Document) -> str:
    found = document["policies"]
    if found is None:
        return "none configured"
    if not found["version"]:
        return f"none yet, from {found['source']}: every check is denied"
    kept = ", kept from before" if found["restored"] else ""
    return f"version {found['version']}, {found['documents']} documents{kept}"


def _identities(now: datetime) -> list[Column]:
    return [
        field("spiffe id", "spiffe_id"),
        field("entry", "entry_id"),
        when("expires", "not_after", now),
        when("renewal", "renew_at", now),
        field("last error", "last_error", none=""),
    ]


def _jobs(now: datetime) -> list[Column]:
    return [
        field("job", "name"),
        when("last run", "last_finished_at", now, none="never"),
        Column("outcome", lambda d: "-" if not d["last_finished_at"] else "ok" if d["ok"] else "failed"),
        when("next run", "next_run_at", now),
        field("detail", "detail", none=""),
    ]
