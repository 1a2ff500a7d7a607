"""Waits for what a test means, and for no longer than it takes; and ports that nobody listens on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import ExitStack

_SECONDS = 20  # for a machine that is busy


async def until(look: Callable[[], object]) -> None:
    """Until `look()` is true. Raises TimeoutError."""
    async with asyncio.timeout(_SECONDS):
        while not look():
            await asyncio.sleep(0.005)


def free_ports(count: int) -> list[int]:
    """Different ones, of TCP on loopback."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def free_port() -> int:
    return free_ports(1)[0]
