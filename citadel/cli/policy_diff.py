"""`citadel policy diff` and `export`: what another set would change, and what an Envoy needs to enforce one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import StrEnum
from itertools import islice
from typing import Annotated, Any

import typer

from citadel.authz import Workload, WorkloadKind
from citadel.authz.asking import whole_lines
from citadel.authz.difference import Changed, DocumentDifference, Tally, documents_differing, requests_differing
from citadel.cli.exits import Exit
from citadel.cli.options import ConfigOption, SocketOption, examples
from citadel.cli.output import Format, FormatOption, field, print_table, show_one
from citadel.cli.policy_options import LabelOption, MaybeFilesOption, MeshOption, TrustDomainOption, pairs
from citadel.cli.policy_sets import Sets
from citadel.cli.requests import chunks, opened
from citadel.cli.run import printable, say
from citadel.errors import InvalidInput

DIFF_EXAMPLES = examples(
    "citadel policy diff policies/ new-policies/ --requests requests.jsonl",
    "citadel policy diff v11 v12",
    "citadel policy diff store policies/ --requests /var/lib/citadel/decisions/decisions.jsonl",
)
EXPORT_EXAMPLES = examples(
    "citadel policy export -f policies/ -n shop -l app=cart",
    "citadel policy export --version store -n shop -l app=cart --listener tcp -o yaml",
)
_SHOWN = 100


class Listener(StrEnum):
    ALL = "all"
    HTTP = "http"
    TCP = "tcp"


def diff(
    old: Annotated[str, typer.Argument(help="A file or folder, a stored version (v12), or store.", metavar="OLD")],
    new: Annotated[str, typer.Argument(help="Likewise.", metavar="NEW")],
    requests: Annotated[
        str | None,
        typer.Option(
            "--requests", help="Requests as JSON lines, or a decision log; - for standard input.", metavar="FILE"
        ),
    ] = None,
    most: Annotated[int, typer.Option("--limit", help="List at most so many requests.", metavar="N", min=0)] = _SHOWN,
    every: Annotated[
        bool, typer.Option("--all", help="Also list requests with the same outcome by another policy.")
    ] = False,
    fail: Annotated[bool, typer.Option("--fail", help="End with 1 if a request has another outcome.")] = False,
    mesh_file: MeshOption = None,
    trust_domain: TrustDomainOption = None,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Say what differs between two sets of policies.

    With requests: which of them would be decided otherwise, and by which policy. A line that is no request is told, and
    the exit code is 4 then.
    """
    with Sets(config, socket, mesh_file, trust_domain) as sets:
        before, after = sets.compiled(old, new)
    documents = documents_differing(before.documents, after.documents)
    tally = Tally()
    shown: list[Changed] = []
    if requests is not None:
        with opened(requests) as descriptor:
            lines = (line for some in whole_lines(chunks(descriptor)) for line in some)
            found = requests_differing(before, after, lines, tally)
            wanted = (one for one in found if one.turned or every)
            shown = list(islice(wanted, most))
            for _ in wanted:  # the rest is counted
                pass
    if output is Format.TABLE:
        for text in _texts(documents, tally, shown, asked=requests is not None):
            print(printable(text))
    else:
        show_one(_document(before.version, after.version, documents, tally, shown), [], output)
    for sentence in tally.bad:
        say(printable(sentence))
    if tally.bad_lines:
        raise typer.Exit(Exit.INVALID)
    if fail and (tally.to_deny or tally.to_allow):
        raise typer.Exit(Exit.FAILED)


def _texts(documents: DocumentDifference, tally: Tally, shown: list[Changed], *, asked: bool) -> Iterator[str]:
    for sign, keys in (("+", documents.created), ("~", documents.changed), ("-", documents.deleted)):
        for kind, name in keys:
            yield f"{sign} {kind}/{name}"
    if not (documents.created or documents.changed or documents.deleted):
        yield "the documents are the same"
    if not asked:
        return
    for one in shown:
        yield one.sentence()
    turned = tally.to_deny + tally.to_allow
    yield (
        f"of {tally.asked} requests {turned} have another outcome: {tally.to_deny} would be denied, {tally.to_allow} "
        f"allowed; {tally.otherwise} have the same by another policy, reason or dry run"
    )
    for by, count in tally.by.most_common():
        yield f"  {count} x {by}"
    if tally.skipped:
        yield _without_request(tally)
    if tally.altered:
        yield f"{tally.altered} records are not in all as their requests were (masked, or cut)"


def _without_request(tally: Tally) -> str:
    places = [f"line {number} ({reason})" for number, reason in tally.skipped_lines]
    if more := tally.skipped - len(places):
        places.append(f"and {more} more")
    what = "1 record has" if tally.skipped == 1 else f"{tally.skipped} records have"
    return f"{what} no request, since no policy was asked: {', '.join(places)}"


def _document(old: str, new: str, documents: DocumentDifference, tally: Tally, shown: list[Changed]) -> dict[str, Any]:
    def names(keys: tuple[Any, ...]) -> list[str]:
        return [f"{kind}/{name}" for kind, name in keys]

    return {
        "old": old,
        "new": new,
        "documents": {
            "created": names(documents.created),
            "changed": names(documents.changed),
            "deleted": names(documents.deleted),
        },
        "requests": {
            "asked": tally.asked,
            "to_deny": tally.to_deny,
            "to_allow": tally.to_allow,
            "otherwise": tally.otherwise,
            "skipped": tally.skipped,
            "skipped_lines": [{"line": number, "reason": reason} for number, reason in tally.skipped_lines],
            "altered": tally.altered,
            "bad": tally.bad_lines,
            "by": dict(tally.by.most_common()),
            "changed": [one.to_json() for one in shown],
        },
    }


def export(
    file: MaybeFilesOption = None,
    version: Annotated[
        str | None, typer.Option("--version", help="A stored version (v12), or store.", metavar="VERSION")
    ] = None,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="Namespace of the workload.", metavar="NAME")
    ] = "default",
    label: LabelOption = None,
    kind: Annotated[WorkloadKind, typer.Option("--kind", help="What its proxy stands before.")] = WorkloadKind.WORKLOAD,
    gateway: Annotated[
        str, typer.Option("--gateway", help="Name of the Gateway, for gateways and waypoints.", metavar="NAME")
    ] = "",
    listener: Annotated[Listener, typer.Option("--listener", help="For which kind of listener.")] = Listener.ALL,
    discovered: Annotated[
        list[str] | None,
        typer.Option(
            "--discovered", help="Where an issuer that names no keys has them (jwks_uri).", metavar="ISSUER=URL"
        ),
    ] = None,
    stats: Annotated[bool, typer.Option("--stats", help="With counters for each rule.")] = False,
    mesh_file: MeshOption = None,
    trust_domain: TrustDomainOption = None,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.JSON,
) -> None:
    """Write the Envoy filters that enforce a workload's policies.

    The http_filters go before the router of an HTTP connection manager, the network_filters before the proxy of a TCP
    filter chain; clusters are what they send to. docs/authorization-envoy.md says what the Envoy must have besides.
    """
    from citadel.authz.envoy import compile_filters  # Envoy's messages take longer to import than the rest of this

    if (file is None) is (version is None):
        raise InvalidInput("it needs policies: either files, -f, or a stored version, --version")
    with Sets(config, socket, mesh_file, trust_domain) as sets:
        policies = sets.of_files(file) if file is not None else sets.compiled(version or "")[0]
    workload = Workload(namespace, pairs(label, "--label"), kind, gateway)
    filters = compile_filters(policies, workload, discovered=_discovered(discovered), stats=stats)
    made: dict[str, Any] = json.loads(filters.to_json())
    if listener is Listener.HTTP:
        del made["network_filters"]
    elif listener is Listener.TCP:
        del made["http_filters"]
    if output is not Format.TABLE:
        show_one(made, [], output)
        return
    rows: list[dict[str, Any]] = []
    for part in ("http_filters", "network_filters", "clusters"):
        rows += [{"part": part, "name": one["name"]} for one in made.get(part, [])]
    print_table([field("part", "part"), field("name", "name")], rows)


def _discovered(given: list[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given or []:
        issuer, sign, url = text.rpartition("=https://")
        if not (issuer and sign and url):
            raise InvalidInput(f"--discovered {text!r} is not ISSUER=https://...")
        found[issuer] = f"https://{url}"
    return found
