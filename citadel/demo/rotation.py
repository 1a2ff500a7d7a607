"""The demo's last chapter: the root is replaced under load, and what the old one signed is refused afterwards."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from citadel.demo.kept import KeptLeaf, taken_from
from citadel.demo.processes import lines
from citadel.demo.show import say
from citadel.demo.stage import KEPT_TTL, Stage

_MOST_SECONDS = 55
_LOOK_SECONDS = 0.25
_TIME_OF_DAY = re.compile(r"\A\d\d:\d\d:\d\d ")


@dataclass(frozen=True, slots=True)
class Rotated:
    """A rotation that is over: what a leaf of the old root was worth before it."""

    leaf: KeptLeaf
    was_welcome: bool

    async def faults(self, stage: Stage) -> list[str]:
        """What went wrong, in sentences. Presents the old leaf once more: the server counts a failed handshake."""
        found = [] if self.was_welcome else ["a certificate of the root that signed was refused"]
        found += [
            f"Envoy {envoy.name} trusts {len(envoy.sight.roots)} roots, not 1"
            for envoy in (stage.server, stage.client)
            if envoy.sight and len(envoy.sight.roots) != 1
        ]
        if await self.leaf.is_welcome_at(stage.ports["mtls"]):
            return [*found, "a certificate of the removed root is still welcome"]
        say("kept     presents its certificate of the old root once more: the server refuses it")
        return found


async def rotate(stage: Stage, folder: Path) -> Rotated:
    """Rotate the root by the operator's command, and show each phase as it comes. Raises Failed."""
    async with taken_from(stage.workload_socket, folder) as leaf:
        welcome = await leaf.is_welcome_at(stage.ports["mtls"])
        if welcome:
            say(f"kept     has a certificate of the old root for {KEPT_TTL // 60} minutes: the server welcomes it")
        say("citadel root rotate", bold=True)
        began = time.monotonic()
        await _rotate(stage)
        say(f"the root was replaced in {time.monotonic() - began:.1f} s", bold=True)
        await _until_one_root(stage)
    return Rotated(leaf, welcome)


async def _rotate(stage: Stage) -> None:
    """Follow the operator's command to its end, and the Envoys meanwhile."""
    watching = asyncio.create_task(_watch(stage))
    following = asyncio.create_task(_follow(stage))
    try:
        await asyncio.wait([watching, following], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (watching, following):
            task.cancel()
        await asyncio.gather(watching, following, return_exceptions=True)
    for task in (watching, following):
        if not task.cancelled():
            task.result()


async def _follow(stage: Stage) -> None:
    command = ["root", "rotate", "--reason", "the demo", "--timeout", f"{_MOST_SECONDS}"]
    async for line in lines([*command, "--config", stage.config]):
        say(f"rotation {_TIME_OF_DAY.sub('', line)}")


async def _watch(stage: Stage) -> None:
    while True:
        await stage.watch()
        await asyncio.sleep(_LOOK_SECONDS)


async def _until_one_root(stage: Stage) -> None:
    """The bundle without the old root is out; the Envoys take it within milliseconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(5):
            while not all(envoy.sight and len(envoy.sight.roots) == 1 for envoy in (stage.server, stage.client)):
                await asyncio.sleep(0.05)
                await stage.watch()
