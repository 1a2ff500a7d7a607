"""Notices that a folder of files may have changed: from the kernel's events, however the change is made."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

import structlog
from watchfiles import awatch
from watchfiles._rust_notify import WatchfilesRustInternalError

HEARTBEAT = 2.0  # seconds; for what happens behind links that lead elsewhere
_GATHER = 50  # milliseconds: events that come together are one
_STEP = 20  # milliseconds without an event end the gathering
_MOST_LINKS = 16
_MOST_FOLDERS = 1_000
log = structlog.get_logger("citadel.stir")


async def stirrings(folder: Path, *, heartbeat: float = HEARTBEAT, deep: bool = False) -> AsyncGenerator[None]:
    """Yields once the folder is watched, whenever something in it, or the folder itself, may have changed, and at each
    heartbeat. Who looks at each of them misses no change.

    It may be a folder that comes later, or a link that is swapped (so Kubernetes mounts a ConfigMap). Where the kernel
    gives no events (a network file system, or a user who has used up all watches) the heartbeat is what is left.
    `deep`: the folders below it are watched as well.
    """
    told = ""
    while True:
        watched = await asyncio.to_thread(_places, folder, deep)
        events = awatch(
            *watched,
            watch_filter=None,
            recursive=False,
            debounce=_GATHER,
            step=_STEP,
            rust_timeout=int(heartbeat * 1000),
            yield_on_timeout=True,
        )
        coming = asyncio.ensure_future(anext(events))
        try:
            await asyncio.sleep(0)  # now the watch is set up
            while await asyncio.to_thread(_places, folder, deep) == watched:
                yield
                await asyncio.wait([coming])
                coming.result()
                coming = asyncio.ensure_future(anext(events))
        except (OSError, WatchfilesRustInternalError) as error:
            if told != (told := str(error)):
                log.warning("the kernel gives no events of the folder; it is looked at instead", why=told)
            await asyncio.sleep(heartbeat)
        finally:
            coming.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration, OSError, WatchfilesRustInternalError):
                await coming
            await events.aclose()


def _places(folder: Path, deep: bool = False) -> dict[Path, tuple[int, int]]:
    """The folders in which something happens when `folder` changes or is replaced, with what tells them apart: itself,
    the one that it is in, and where the links lead that it is reached by."""
    found: dict[Path, tuple[int, int]] = {}
    place = folder
    for _ in range(_MOST_LINKS):
        for one in (place, place.parent):
            try:
                facts = one.stat()
            except OSError:
                continue
            if one.is_dir():
                found[one] = (facts.st_dev, facts.st_ino)
        try:
            place = place.parent / place.readlink()
        except OSError:  # no link, or nothing at all
            break
    for below, folders, _ in os.walk(folder) if deep else ():
        folders.sort()
        for name in folders:
            with suppress(OSError):
                facts = (Path(below) / name).stat()
                found[Path(below) / name] = (facts.st_dev, facts.st_ino)
        if len(found) > _MOST_FOLDERS:  # the heartbeat sees the rest
            break
    return found
