"""The relay in front of a server that a test plays: who is let in, what is carried, and what ends in bounded time."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from citadel.errors import PermissionDenied
from citadel.workload.allowance import Allowances
from citadel.workload.peer import PeerTable
from citadel.workload.relay import Relay, RelayLimits
from citadel.workload.splice import Patience

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Meter:
    def __init__(self) -> None:
        self.refusals: list[str] = []

    def attestation(self, attestor: str, outcome: str, seconds: float) -> None: ...

    def renewal(self, outcome: str) -> None: ...

    def identities(self, held: int, soonest: Any) -> None: ...

    def refused(self, quota: str) -> None:
        self.refusals.append(quota)


class Side:
    def __init__(self, folder: Path, relay: Relay, table: PeerTable, meter: Meter, serve: Serve) -> None:
        self._serve = serve
        self.path = folder / "public.sock"
        self.relay, self.table, self.meter = relay, table, meter
        self.seen: list[bytes] = []
        self.inner: asyncio.Server | None = None

    async def accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen.append(writer.get_extra_info("peername"))
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(self.path)

    async def until(self, true: Callable[[], Any]) -> None:
        async with asyncio.timeout(10):
            while not true():
                await asyncio.sleep(0.005)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65536):
        writer.write(chunk)
        await writer.drain()


@asynccontextmanager
async def relaying(
    folder: Path,
    serve: Serve = echo,
    *,
    limits: RelayLimits | None = None,
    patience: Patience | None = None,
) -> AsyncIterator[Side]:
    table, meter = PeerTable(), Meter()

    relay = Relay(
        folder / "public.sock",
        folder / "private.sock",
        table,
        mode=0o600,
        limits=limits,
        patience=patience,
        meter=meter,
    )
    side = Side(folder, relay, table, meter, serve)
    inner = side.inner = await asyncio.start_unix_server(side.accepted, folder / "private.sock", backlog=1024)
    try:
        async with relay:
            yield side
    finally:
        inner.close()
    assert len(table) == 0
    assert not relay._per_uid
    for _ in range(3):
        await asyncio.sleep(0)


async def closed(reader: asyncio.StreamReader) -> None:
    """Read until the other end has hung up."""
    async with asyncio.timeout(5):
        try:
            while await reader.read(65536):
                pass
        except ConnectionError:
            pass


async def test_bytes_go_both_ways_whole_and_the_server_knows_who_calls(tmp_path: Path) -> None:
    async with relaying(tmp_path) as side:
        reader, writer = await side.connect()
        sent = os.urandom(3 << 20)
        writing = asyncio.ensure_future(_write(writer, sent))
        async with asyncio.timeout(10):
            assert await reader.readexactly(len(sent)) == sent
            await writing
        [name] = side.seen
        peer = side.table.lookup(f"unix-abstract:{name[1:].decode()}")
        assert (peer.pid, peer.uid) == (os.getpid(), os.geteuid())
        writer.close()
        await side.until(lambda: len(side.table) == 0)
        with pytest.raises(PermissionDenied):
            side.table.lookup(f"unix-abstract:{name[1:].decode()}")


async def _write(writer: asyncio.StreamWriter, sent: bytes) -> None:
    writer.write(sent)
    await writer.drain()


async def test_who_is_done_talking_still_hears_the_answer(tmp_path: Path) -> None:
    async def answer_at_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.read()
        writer.write(asked.upper())

    async with relaying(tmp_path, answer_at_the_end) as side:
        reader, writer = await side.connect()
        writer.write(b"hello")
        writer.write_eof()
        async with asyncio.timeout(5):
            assert await reader.read() == b"HELLO"
        writer.close()


async def test_who_says_nothing_is_hung_up_on(tmp_path: Path) -> None:
    async with relaying(tmp_path, patience=Patience(first_byte=0.1)) as side:
        silent, silent_writer = await side.connect()
        speaking, speaking_writer = await side.connect()
        speaking_writer.write(b"x")
        await closed(silent)
        await asyncio.sleep(0.2)
        speaking_writer.write(b"y")
        assert await speaking.readexactly(2) == b"xy"
        silent_writer.close()
        speaking_writer.close()


async def test_a_half_closed_connection_ends_in_bounded_time_though_the_server_does_not_end_it(tmp_path: Path) -> None:
    async def deaf(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()
        await asyncio.Event().wait()

    async with relaying(tmp_path, deaf, patience=Patience(ending=0.1)) as side:
        reader, writer = await side.connect()
        writer.write_eof()
        await closed(reader)
        await side.until(lambda: len(side.table) == 0)
        writer.close()


async def test_when_the_server_ends_a_client_that_keeps_its_end_open_is_not_kept(tmp_path: Path) -> None:
    async def short(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")

    async with relaying(tmp_path, short, patience=Patience(ending=0.1)) as side:
        reader, writer = await side.connect()
        assert await reader.readexactly(3) == b"bye"
        await side.until(lambda: len(side.table) == 0)
        writer.close()


async def test_who_reads_nothing_is_not_read_for_and_holds_up_nobody(tmp_path: Path) -> None:
    written = 0

    async def gush(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        if await reader.read(1) == b"e":
            return await echo(reader, writer)
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            written += 65536

    async with relaying(tmp_path, gush, patience=Patience(ending=0.1)) as side:
        stalled = socket.socket(socket.AF_UNIX)
        stalled.connect(str(side.path))
        stalled.send(b"g")
        before = -1
        async with asyncio.timeout(10):
            while written != before:  # until nothing moves any more
                before = written
                await asyncio.sleep(0.3)
        assert 0 < written < 4 << 20
        reader, writer = await side.connect()
        writer.write(b"ehello")
        async with asyncio.timeout(5):
            assert await reader.readexactly(5) == b"hello"
        writer.close()
        stalled.close()


async def test_when_the_servers_side_dies_callers_are_hung_up_on_and_served_again_when_it_is_back(
    tmp_path: Path,
) -> None:
    async with relaying(tmp_path) as side:
        assert side.inner is not None
        side.inner.close()
        (tmp_path / "private.sock").unlink()
        reader, writer = await side.connect()
        await closed(reader)
        writer.close()
        again = await asyncio.start_unix_server(side.accepted, tmp_path / "private.sock")
        reader, writer = await side.connect()
        writer.write(b"x")
        async with asyncio.timeout(5):
            assert await reader.readexactly(1) == b"x"
        writer.close()
        await side.until(lambda: len(side.table) == 0)
        again.close()


async def test_a_private_socket_without_room_for_now_loses_nobody(tmp_path: Path) -> None:
    """Of a full backlog the kernel gives no notice: a connection that only seems made would be lost."""
    table = PeerTable()
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(tmp_path / "private.sock"))
        busy.listen(1)
        busy.setblocking(False)
        async with Relay(tmp_path / "public.sock", tmp_path / "private.sock", table, mode=0o600) as relay:
            clients = [await asyncio.open_unix_connection(tmp_path / "public.sock") for _ in range(10)]
            for _, writer in clients:
                writer.write(b"x")
            loop, taken = asyncio.get_running_loop(), []
            async with asyncio.timeout(10):
                for _ in clients:
                    await asyncio.sleep(0.05)
                    taken.append((await loop.sock_accept(busy))[0])
                    assert await loop.sock_recv(taken[-1], 1) == b"x"
            for connection in taken:
                connection.close()
            for _, writer in clients:
                writer.close()
            assert relay.limits == RelayLimits()


async def test_one_user_may_hold_so_many_connections_and_a_reload_changes_that(tmp_path: Path) -> None:
    async with relaying(tmp_path, limits=RelayLimits(per_uid=3)) as side:
        held = [await side.connect() for _ in range(3)]
        reader, extra = await side.connect()
        await closed(reader)
        assert side.meter.refusals == ["connections_per_uid"]
        side.relay.limits = replace(side.relay.limits, per_uid=20)
        more = [await side.connect()]
        more[0][1].write(b"x")
        async with asyncio.timeout(5):
            assert await more[0][0].readexactly(1) == b"x"
        for _, writer in [*held, *more, (reader, extra)]:
            writer.close()


async def test_all_together_may_hold_so_many(tmp_path: Path) -> None:
    async with relaying(tmp_path, limits=RelayLimits(connections=2)) as side:
        held = [await side.connect() for _ in range(2)]
        await side.until(lambda: len(side.table) == 2)
        reader, extra = await side.connect()
        await closed(reader)
        assert side.meter.refusals == ["connections"]
        for _, writer in [*held, (reader, extra)]:
            writer.close()


async def test_who_hangs_up_and_connects_without_end_is_refused_for_a_while(tmp_path: Path) -> None:
    async with relaying(tmp_path, limits=RelayLimits(per_uid=50)) as side:
        for _ in range(200):
            _, writer = await side.connect()
            writer.close()
            await asyncio.sleep(0)
        await side.until(lambda: side.meter.refusals)
        assert set(side.meter.refusals) == {"connections_per_uid"}


async def test_without_descriptors_it_pauses_and_goes_on(tmp_path: Path) -> None:
    async with relaying(tmp_path) as side:
        kept = resource.getrlimit(resource.RLIMIT_NOFILE)
        client = socket.socket(socket.AF_UNIX)
        spare = os.dup(0)
        resource.setrlimit(resource.RLIMIT_NOFILE, (spare, kept[1]))
        os.close(spare)
        filled = []
        try:
            while True:
                filled.append(os.dup(0))
        except OSError:
            pass
        try:
            client.connect(str(side.path))
            await asyncio.sleep(0.1)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, kept)
            for one in filled:
                os.close(one)
        client.send(b"x")
        client.setblocking(False)
        async with asyncio.timeout(5):
            assert await asyncio.get_running_loop().sock_recv(client, 1) == b"x"
        client.close()


def test_an_allowance_fills_again_and_is_forgotten() -> None:
    allowances = Allowances(refill=10)
    assert sum(allowances.take(1, 100, now=0) for _ in range(200)) == 100
    assert allowances.take(2, 100, now=0)
    assert sum(allowances.take(1, 100, now=1) for _ in range(200)) == 10
    assert allowances.take(3, 100, now=100)
    assert len(allowances) == 1
