"""Splice: carries bytes between a client's socket and a server's, with bounded memory and in bounded time."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

_BUFFER_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Patience:
    """How long what leads nowhere is borne with, in seconds.

    `first_byte`: until a client says anything at all. `ending`: once one side has ended, until the other one has too,
    and has taken what was left for it.
    """

    first_byte: float = 10.0
    ending: float = 10.0


async def splice(client: socket.socket, server: socket.socket, patience: Patience) -> None:
    """Carry bytes until both have ended. Takes the sockets over, and closes them whatever happens.

    Who does not read is not read for, so only some buffers' worth ever waits. When the server ends, so does all; when
    the client has said its last, the server may finish its answer.
    """
    loop = asyncio.get_running_loop()
    outer, inner = _Side(may_be_half=True), _Side(may_be_half=False)
    outer.other, inner.other = inner, outer
    try:
        await loop.create_unix_connection(lambda: inner, sock=server)
        await loop.connect_accepted_socket(lambda: outer, client)
    except BaseException:
        for side, sock in ((inner, server), (outer, client)):
            side.abort()
            sock.close()
        raise
    inner.resume_reading()
    outer.resume_reading()
    timer = loop.call_later(patience.first_byte, outer.abort_if_silent)
    try:
        await asyncio.wait((outer.said_all, outer.lost, inner.lost), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait((outer.lost, inner.lost), timeout=patience.ending)
    finally:
        timer.cancel()
        outer.abort()
        inner.abort()


class _Side(asyncio.Protocol):
    """One of the two sockets; what it hears goes to the other one.

    `may_be_half`: when it has said all, it may still be told something; else it is closed then.
    """

    other: _Side

    def __init__(self, *, may_be_half: bool) -> None:
        self._may_be_half = may_be_half
        loop = asyncio.get_running_loop()
        self.said_all: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._heard = False
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it
        self._transport.set_write_buffer_limits(high=_BUFFER_BYTES)
        self._transport.pause_reading()  # until the other one is there
        if early := self.other._early:
            self._transport.write(early)

    def data_received(self, data: bytes) -> None:
        self._heard = True
        if self.other._transport is None:  # uvloop reads once before it pauses
            self._early += data
            self.pause_reading()
        elif not self.other._transport.is_closing():
            self.other._transport.write(data)

    def eof_received(self) -> bool:
        _happened(self.said_all)
        if self._may_be_half and self.other._transport is not None and not self.other._transport.is_closing():
            with suppress(OSError, RuntimeError):
                self.other._transport.write_eof()
        return self._may_be_half

    def connection_lost(self, _: Exception | None) -> None:
        _happened(self.lost)
        if self.other._transport is not None:
            self.other._transport.close()  # once it has taken what waits for it

    def pause_writing(self) -> None:
        self.other.pause_reading()

    def resume_writing(self) -> None:
        self.other.resume_reading()

    def pause_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def abort_if_silent(self) -> None:
        if not self._heard:
            self.abort()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _happened(event: asyncio.Future[None]) -> None:
    if not event.done():
        event.set_result(None)
