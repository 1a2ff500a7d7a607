"""Following a rotation: live on a terminal, a line per event elsewhere. To stop following stops nothing."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime

from rich.console import Console
from rich.live import Live
from rich.text import Text

from citadel.api.proto.citadel.v1 import rotation_pb2 as pb
from citadel.cli import root_brought, root_plan, root_view
from citadel.cli.client import Client
from citadel.cli.documents import Document
from citadel.errors import NotFound, Unavailable

_PAUSE_SECONDS = 0.5
_OUTAGE_SECONDS = 60.0


def plans(client: Client, *, all_of_them: bool = False) -> list[Document]:
    answer = client.call(client.rotation.ListRotations, pb.ListRotationsRequest(all=True))
    return [one for one in root_view.documents(answer.plans) if all_of_them or root_view.is_open(one)]


def planned_next(client: Client, now: datetime) -> str:
    """What is planned next, in a sentence."""
    answer = client.call(client.rotation.ListRotations, pb.ListRotationsRequest())
    found = root_plan.planned_document(answer.planned) if answer.HasField("planned") else None
    return root_plan.next_line(found, now)


def waiting(client: Client) -> list[Document]:
    """Issuing CAs that wait for their certificate."""
    answer = client.call(client.rotation.ListRotations, pb.ListRotationsRequest())
    return [root_brought.document(one) for one in answer.requests]


def newest(client: Client) -> Document:
    """The plan that began last. Raises NotFound."""
    found = plans(client, all_of_them=True)
    if not found:
        raise NotFound("there is no rotation to follow", mend="begin one: citadel root rotate")
    return found[-1]


def follow(client: Client, plan_id: str, *, timeout: float | None, quiet: bool) -> Document:
    """Show the plan until it is over, and return it as it ended. Citadel may restart meanwhile.

    Raises Unavailable after `timeout` seconds, or if Citadel does not come back; the rotation goes on all the same.
    """
    show = _Live() if sys.stdout.isatty() and not quiet else _Lines(quiet=quiet)
    began = heard = time.monotonic()
    with show:
        while True:
            try:
                one = next((p for p in plans(client, all_of_them=True) if p["id"] == plan_id), None)
                heard = time.monotonic()
            except Unavailable:
                if time.monotonic() - heard > _OUTAGE_SECONDS:
                    raise
                one = None
            if one is not None:
                show.show(one)
                if one["phase"] in ("done", "abandoned"):
                    return one
            if timeout is not None and time.monotonic() - began > timeout:
                raise Unavailable(
                    f"the rotation {plan_id} is not over after {timeout:g} s; it goes on by itself",
                    mend="look at it with: citadel root status --watch",
                )
            time.sleep(_PAUSE_SECONDS)


class _Lines:
    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._last = ""

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None: ...

    def show(self, one: Document) -> None:
        line = root_view.progress(one)
        if line != self._last and not self._quiet:
            print(f"{datetime.now(UTC):%H:%M:%S} {line}", flush=True)
        self._last = line


class _Live:
    def __init__(self) -> None:
        self._live = Live(console=Console(highlight=False), auto_refresh=False, transient=False)

    def __enter__(self) -> _Live:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, one: Document) -> None:
        text = "\n".join(root_view.lines(one, datetime.now(UTC)))
        self._live.update(Text(f"{text}\n\nCtrl-C leaves; the rotation goes on."), refresh=True)
