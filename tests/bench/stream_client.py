"""The clients of the streams bench: many connections with two SDS streams each, in one small process.

`python -m tests.bench.stream_client SOCKET CONNECTIONS`. It speaks just enough of HTTP/2 (RFC 9113) and gRPC, so that
its own cost does not hide the server's. It says `{"round": n, "seconds": s}` when every stream has had n answers.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from typing import Any

import uvloop
from envoy.service.discovery.v3 import discovery_pb2

from citadel.sds.stream import SECRET_TYPE

_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7, 0x8
_END_HEADERS, _ACK = 0x4, 0x1
_AT_ONCE = 200  # connections being opened
STREAMS = {1: "ROOTCA", 3: "spiffe://example.org"}


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def message(stream: int, request: discovery_pb2.DiscoveryRequest) -> bytes:
    """In frames of the size that everybody takes (RFC 9113, 4.2)."""
    raw = request.SerializeToString()
    whole = b"\0" + len(raw).to_bytes(4, "big") + raw
    return b"".join(frame(_DATA, 0, stream, whole[i : i + 16384]) for i in range(0, len(whole), 16384))


def _field(name: bytes, value: bytes) -> bytes:
    """A literal header field, never indexed (RFC 7541, 6.2.2)."""
    return bytes((0, len(name))) + name + bytes((len(value),)) + value


_HEAD = b"".join(
    _field(*pair)
    for pair in (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets"),
        (b":authority", b"localhost"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    )
)
_OPENING = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + frame(_SETTINGS, 0, 0, (4).to_bytes(2, "big") + (1 << 24).to_bytes(4, "big"))
    + frame(_WINDOW, 0, 0, (1 << 30).to_bytes(4, "big"))
)


def first(name: str) -> discovery_pb2.DiscoveryRequest:
    """What an Envoy says first: with its node, which has about 61 kB."""
    request = discovery_pb2.DiscoveryRequest(type_url=SECRET_TYPE, resource_names=[name])
    request.node.id = "bench"
    for number in range(700):
        request.node.extensions.add(name=f"envoy.some.extension.of.many.{number}", category="envoy.some.category.x")
    return request


class Board:
    """How many answers the streams have had."""

    def __init__(self, streams: int) -> None:
        self.began = time.monotonic()
        self._streams = streams
        self._rounds: dict[int, int] = {}

    def answered(self, number: int) -> None:
        self._rounds[number] = self._rounds.get(number, 0) + 1
        if self._rounds[number] == self._streams:
            print(json.dumps({"round": number, "seconds": time.monotonic() - self.began}), flush=True)


class Connection(asyncio.Protocol):
    def __init__(self, board: Board, firsts: dict[int, bytes], served: asyncio.Future[None]) -> None:
        self._board = board
        self._firsts = firsts
        self._served = served
        self._input = bytearray()
        self._messages = {stream: bytearray() for stream in STREAMS}
        self._answers = dict.fromkeys(STREAMS, 0)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        heads = b"".join(frame(_HEADERS, _END_HEADERS, stream, _HEAD) for stream in STREAMS)
        transport.write(_OPENING + heads)
        self._window = 65535
        self._outbox = b"".join(self._firsts.values())
        self._send()

    def _send(self) -> None:
        """As much as the connection's window allows (whole frames; the streams' windows are as large)."""
        while self._outbox:
            size = int.from_bytes(self._outbox[:3], "big")
            if size > self._window:
                return
            self._window -= size
            self._transport.write(self._outbox[: 9 + size])
            self._outbox = self._outbox[9 + size :]

    def data_received(self, data: bytes) -> None:
        self._input += data
        while len(self._input) >= 9 and len(self._input) >= 9 + (size := int.from_bytes(self._input[:3], "big")):
            kind, flags, stream = self._input[3], self._input[4], int.from_bytes(self._input[5:9], "big")
            payload = bytes(self._input[9 : 9 + size])
            del self._input[: 9 + size]
            self._frame(kind, flags, stream, payload)

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _DATA:
            self._data(stream, payload)
        elif kind in (_SETTINGS, _PING) and not flags & _ACK:
            self._transport.write(frame(kind, _ACK, 0, payload if kind == _PING else b""))
        elif kind == _WINDOW and stream == 0:
            self._window += int.from_bytes(payload, "big")
            self._send()
        elif kind in (_RST, _GOAWAY):
            self._fail(f"the server ended it: frame {kind} {payload!r}")

    def _data(self, stream: int, payload: bytes) -> None:
        buffer = self._messages[stream]
        buffer += payload
        while len(buffer) >= 5 and len(buffer) >= 5 + (size := int.from_bytes(buffer[1:5], "big")):
            answer = discovery_pb2.DiscoveryResponse.FromString(bytes(buffer[5 : 5 + size]))
            del buffer[: 5 + size]
            acknowledgement = discovery_pb2.DiscoveryRequest(
                type_url=SECRET_TYPE,
                resource_names=[STREAMS[stream]],
                version_info=answer.version_info,
                response_nonce=answer.nonce,
            )
            self._outbox += message(stream, acknowledgement)
            self._send()
            self._answers[stream] += 1
            self._board.answered(self._answers[stream])
            if not self._served.done() and all(self._answers.values()):
                self._served.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(f"the connection was lost: {error}")

    def _fail(self, why: str) -> None:
        print(json.dumps({"failed": why}), flush=True)
        if not self._served.done():
            self._served.set_result(None)


async def main(path: str, connections: int) -> None:
    board = Board(connections * len(STREAMS))
    firsts = {stream: message(stream, first(name)) for stream, name in STREAMS.items()}
    loop = asyncio.get_running_loop()
    slots = asyncio.Semaphore(_AT_ONCE)
    held = []

    async def connect() -> None:
        async with slots:
            served = loop.create_future()
            while True:
                try:
                    held.append(await loop.create_unix_connection(lambda: Connection(board, firsts, served), path))
                except BlockingIOError:  # its backlog is full (unix(7))
                    await asyncio.sleep(0.02)
                else:
                    break
            await served

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(connect())
    await asyncio.Event().wait()


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
