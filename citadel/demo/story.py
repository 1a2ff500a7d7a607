"""The demo's story: start everything, load, watch renewals, rotate the root, judge."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from citadel.demo import traffic
from citadel.demo.rotation import rotate
from citadel.demo.show import say, write
from citadel.demo.stage import Stage, Wishes, staged

_LOOK_SECONDS = 0.5
_LINE_SECONDS = 5
_MOST_SECONDS = 180


async def show(wishes: Wishes) -> bool:
    """All of it; whether everything went as it should. Raises Failed."""
    async with staged(wishes) as stage:
        faults = await _tell(stage, wishes)
        say(
            f"requests: {stage.tally.ok} ok, {stage.tally.failed} failed; mTLS handshakes: {stage.handshakes}; "
            f"renewals: server {stage.server.renewals}, client {stage.client.renewals}"
        )
        for fault in faults:
            say(f"FAILED: {fault}", bold=True)
        if not faults:
            say("intruder got nothing: no certificate, and not one answer")
            what = " and the root was replaced" if wishes.rotation else ""
            say(f"PASSED: every request succeeded while every certificate was renewed{what}", bold=True)
        if wishes.keep:
            _invite(stage, wishes)
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        return not faults


async def _tell(stage: Stage, wishes: Wishes) -> list[str]:
    """Under load: renewals, then the rotation; what went wrong, in sentences."""
    say("load starts: each request on a connection of its own, connections between the Envoys renewed every 2 s")
    async with _loaded(stage, wishes):
        await _watch_renewals(stage, wishes.renewals)
        rotated = await rotate(stage, wishes.folder) if wishes.rotation else None
    await stage.watch()
    faults = await _faults(stage, wishes)
    return faults + await rotated.faults(stage) if rotated else faults


@asynccontextmanager
async def _loaded(stage: Stage, wishes: Wishes) -> AsyncIterator[None]:
    tasks = [
        asyncio.create_task(traffic.load(stage.ports["client"], stage.tally, per_second=wishes.per_second)),
        asyncio.create_task(_count(stage)),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _count(stage: Stage) -> None:
    """A line now and then."""
    while True:
        await asyncio.sleep(_LINE_SECONDS)
        say(f"requests {stage.tally.ok} ok, {stage.tally.failed} failed; mTLS handshakes {stage.handshakes}")


async def _watch_renewals(stage: Stage, wanted: int) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + _MOST_SECONDS
    while loop.time() < end and min(stage.server.renewals, stage.client.renewals) < wanted:
        await asyncio.sleep(_LOOK_SECONDS)
        await stage.watch()


async def _faults(stage: Stage, wishes: Wishes) -> list[str]:
    faults = []
    if stage.tally.failed or not stage.tally.ok:
        faults.append(
            f"{stage.tally.failed} of {stage.tally.ok + stage.tally.failed} requests failed: {stage.tally.faults}"
        )
    for envoy in (stage.server, stage.client):
        if envoy.renewals < wishes.renewals:
            faults.append(f"Envoy {envoy.name} renewed only {envoy.renewals} times")
        if envoy.sight and envoy.sight.failed_handshakes:
            faults.append(f"Envoy {envoy.name} saw {envoy.sight.failed_handshakes} failed handshakes")
    if stage.intruder.serials or (stage.intruder.sight and stage.intruder.sight.secrets_accepted):
        faults.append("the intruder was given a certificate")
    try:
        status = await traffic.get(stage.ports["intruder"])
        if status == 200:
            faults.append("the intruder reached the service")
    except (OSError, TimeoutError, EOFError):
        pass  # refused, as it should be
    return faults


def _invite(stage: Stage, wishes: Wishes) -> None:
    say("it goes on running; in another terminal:", bold=True)
    past = "\n  citadel root status --all" if wishes.rotation else ""
    write(f"""
  export CITADEL_CONFIG={stage.config} PATH={Path(sys.executable).parent}:$PATH
  citadel status --clients
  citadel entry list
  citadel svid list
  citadel ca list{past}
  python3 -c "import urllib.request as u; print(u.urlopen('http://127.0.0.1:{stage.ports["client"]}/').status)"

`citadel root rotate` replaces the root once more. The Envoys' files and all logs: {wishes.folder}.
Ctrl-C ends everything.
""")
