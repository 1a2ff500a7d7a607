"""SDS and ADS over real gRPC: what streams are given, how they end, and what is counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import grpc
import pytest
import pytest_asyncio
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import Message

from citadel.clock import SystemClock
from citadel.errors import PermissionDenied
from citadel.held import HeldBundle, View
from citadel.sds import service
from citadel.sds.ports import Acknowledgement
from citadel.sds.service import SERVER_OPTIONS, SecretService
from citadel.sds.stream import SECRET_TYPE
from tests.unit.sds.test_resources import FULL, OURS, bundle, identity, view

SDS, ADS = "envoy.service.secret.v3.SecretDiscoveryService", "envoy.service.discovery.v3.AggregatedDiscoveryService"
EMPTY = view()


@dataclass(frozen=True)
class Someone:
    uid: int = 1000
    gid: int = 1000
    name: str = "pid 1 uid 1000"
    process: str = "1.7"


class MemoryFeed:
    def __init__(self) -> None:
        self._view: View | None = EMPTY
        self._told: Callable[[], None] | None = None

    @property
    def view(self) -> View:
        if self._view is None:
            raise PermissionDenied("pid 1 is not who it was")
        return self._view

    def follow(self, told: Callable[[], None] | None) -> None:
        self._told = told

    def put(self, view: View | None) -> None:
        self._view = view
        if self._told is not None:
            self._told()


@dataclass
class Served:
    """A service in memory: all streams share one view; what was acknowledged and counted is kept."""

    channel: grpc.aio.Channel
    feeds: list[MemoryFeed] = field(default_factory=list)
    present: View = EMPTY
    refuse: bool = False
    acknowledged: list[Acknowledgement] = field(default_factory=list)
    counted: Counter[tuple[str, str]] = field(default_factory=Counter)

    def publish(self, view: View | None) -> None:
        self.present = view or EMPTY
        for feed in self.feeds:
            feed.put(view)

    @asynccontextmanager
    async def open(self, peer: str) -> AsyncIterator[tuple[Someone, MemoryFeed]]:
        if self.refuse:
            raise PermissionDenied("who are you?")
        feed = MemoryFeed()
        feed.put(self.present)
        self.feeds.append(feed)
        yield Someone(), feed
        self.feeds.remove(feed)

    def put(self, item: Acknowledgement) -> None:
        self.acknowledged.append(item)

    def stream_opened(self, method: str) -> None:
        self.counted["opened", method] += 1

    def stream_closed(self, method: str) -> None:
        self.counted["closed", method] += 1

    def stream_refused(self, reason: str) -> None:
        self.counted["refused", reason] += 1

    def response(self, kind: str) -> None:
        self.counted["response", kind] += 1

    def report_lost(self) -> None:
        self.counted["lost", ""] += 1

    def stream(self, method: str = "StreamSecrets", service: str = SDS) -> Stream:
        open_: Any = self.channel.stream_stream  # messages are bytes here
        return Stream(open_(f"/{service}/{method}")(), delta=method.startswith("Delta"))


class Stream:
    def __init__(self, call: Any, *, delta: bool) -> None:
        self.call = call
        self._delta = delta

    async def ask(self, *names: str, answer: Any = None, error: str = "", type_url: str = SECRET_TYPE) -> None:
        request: Any
        if self._delta:
            new = names if answer is None else ()
            request = discovery_pb2.DeltaDiscoveryRequest(resource_names_subscribe=new, type_url=type_url)
        else:
            request = discovery_pb2.DiscoveryRequest(resource_names=names, type_url=type_url)
        request.node.id = "one"
        if answer is not None:
            request.response_nonce = answer.nonce
        if error:
            request.error_detail.message = error
        await self.call.write(request.SerializeToString())

    async def answer(self, seconds: float = 5) -> Any:
        async with asyncio.timeout(seconds):
            raw = await self.call.read()
        kind = discovery_pb2.DeltaDiscoveryResponse if self._delta else discovery_pb2.DiscoveryResponse
        assert isinstance(raw, bytes), await self.call.details()
        return kind.FromString(raw)

    async def silent(self) -> bool:
        reading = asyncio.ensure_future(self.call.read())
        done, _ = await asyncio.wait((reading,), timeout=0.2)
        reading.cancel()
        return not done


def names(answer: Any) -> set[str]:
    if isinstance(answer, discovery_pb2.DiscoveryResponse):
        return {secret_pb2.Secret.FromString(one.value).name for one in answer.resources}
    assert {one.name for one in answer.resources} == {
        secret_pb2.Secret.FromString(one.resource.value).name for one in answer.resources
    }
    return {one.name for one in answer.resources}


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    server = grpc.aio.server(options=SERVER_OPTIONS)
    path = f"unix:{tmp_path}/s"
    async with grpc.aio.insecure_channel(path) as channel:
        memory = Served(channel)
        SecretService(memory, memory, SystemClock(), meter=memory, max_names=4).add_to(server)
        server.add_insecure_port(path)
        await server.start()
        try:
            yield memory
        finally:
            await server.stop(None)


METHODS = [
    ("StreamSecrets", SDS), ("DeltaSecrets", SDS), ("StreamAggregatedResources", ADS), ("DeltaAggregatedResources", ADS)
]  # fmt: skip


@pytest.mark.parametrize(("method", "service"), METHODS)
async def test_names_are_held_served_when_they_are_there_and_acknowledged(
    served: Served, method: str, service: str
) -> None:
    stream = served.stream(method, service)
    await stream.ask("default", "no such name", "ROOTCA")
    while not served.feeds:
        await asyncio.sleep(0.01)
    served.publish(FULL)
    answer = await stream.answer()
    assert names(answer) == {"default", "ROOTCA"}
    await stream.ask("default", "ROOTCA", answer=answer)
    while not any(item.kind == "ack" for item in served.acknowledged):
        await asyncio.sleep(0.01)
    acked = {item.resource: item for item in served.acknowledged if item.kind == "ack"}
    assert acked["default"].client == "one@uid:1000/pid:1.7"
    assert (acked["default"].serial, acked["ROOTCA"].sequence) == (f"{1:032x}", 7)
    assert served.counted["opened", method] == 1
    assert (served.counted["response", "sent"], served.counted["response", "ack"]) == (2, 2)
    stream.call.cancel()
    while not served.counted["closed", method]:
        await asyncio.sleep(0.01)
    assert {item.resource for item in served.acknowledged if item.kind == "gone"} == {"default", "ROOTCA"}


async def test_a_rejection_is_recorded_and_not_argued_with(served: Served) -> None:
    served.publish(FULL)
    stream = served.stream()
    await stream.ask("default")
    await stream.ask("default", answer=await stream.answer(), error="no good")
    assert await stream.silent()
    nack = next(item for item in served.acknowledged if item.kind == "nack")
    assert (nack.detail, served.counted["response", "nack"]) == ("no good", 1)


async def test_who_does_not_read_holds_up_nobody_else(served: Served) -> None:
    large = HeldBundle(OURS, (b"x" * 3_000_000,), 1)  # more than the transport takes on
    served.publish(View(OURS, (identity("web"),), {OURS: large}))
    slow, quick = served.stream(), served.stream()
    await slow.ask("ROOTCA")
    for number in range(5):
        served.publish(view(identity("web", serial=number), identity(f"n{number}"), bundles=(bundle(OURS, b"r"),)))
        await quick.ask(f"spiffe://example.org/n{number}")
        assert names(await quick.answer()) == {f"spiffe://example.org/n{number}"}
        quick = served.stream()


@pytest.mark.parametrize(
    ("raw", "code", "says"),
    [
        (b"\xff\xff\xff", grpc.StatusCode.INVALID_ARGUMENT, "no request"),
        (discovery_pb2.DiscoveryRequest(type_url="x/y.Z"), grpc.StatusCode.INVALID_ARGUMENT, "serves secrets"),
        (
            discovery_pb2.DiscoveryRequest(resource_names=[f"name{n}" for n in range(10_000)]),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "4 resources at the most",
        ),
        (discovery_pb2.DiscoveryRequest(resource_names=["n" * 5000]), grpc.StatusCode.INVALID_ARGUMENT, "longer than"),
    ],
)
async def test_what_is_asked_wrongly_ends_the_stream_with_one_short_line(
    served: Served, raw: bytes | Message, code: grpc.StatusCode, says: str
) -> None:
    stream = served.stream()
    await stream.call.write(raw if isinstance(raw, bytes) else raw.SerializeToString())
    async with asyncio.timeout(5):
        assert await stream.call.code() == code
    details = await stream.call.details()
    assert says in details
    assert len(details) <= 300
    assert len(details.splitlines()) == 1
    assert served.counted["refused", code.name.lower()] == 1


async def test_a_message_without_measure_is_refused(served: Served) -> None:
    stream = served.stream()
    await stream.call.write(b"x" * 2_000_000)
    async with asyncio.timeout(5):
        assert await stream.call.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_other_types_on_ads_are_left_to_others(served: Served) -> None:
    served.publish(FULL)
    stream = served.stream("StreamAggregatedResources", ADS)
    await stream.ask(type_url="type.googleapis.com/envoy.config.cluster.v3.Cluster")
    await stream.ask("default")
    assert names(await stream.answer()) == {"default"}


async def test_a_caller_that_is_not_who_it_was_is_cut_off(served: Served) -> None:
    served.publish(FULL)
    stream = served.stream()
    await stream.ask("default")
    await stream.answer()
    served.publish(None)
    async with asyncio.timeout(5):
        assert await stream.call.code() == grpc.StatusCode.PERMISSION_DENIED


async def test_who_cannot_be_attested_is_refused_and_counted(served: Served) -> None:
    served.refuse = True
    stream = served.stream()
    async with asyncio.timeout(5):
        assert await stream.call.code() == grpc.StatusCode.PERMISSION_DENIED
    assert served.counted["refused", "permission_denied"] == 1


async def test_fetch_answers_what_there_is_now(served: Served) -> None:
    served.publish(FULL)
    unary: Any = served.channel.unary_unary
    fetch = unary(f"/{SDS}/FetchSecrets")
    request = discovery_pb2.DiscoveryRequest(resource_names=["default", "none"])
    assert names(discovery_pb2.DiscoveryResponse.FromString(await fetch(request.SerializeToString()))) == {"default"}
    with pytest.raises(grpc.aio.AioRpcError, match="no request"):
        await fetch(b"\xff\xff")


async def test_a_flood_of_streams_that_end_is_no_flood_of_log_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended:
        async def abort(self, code: grpc.StatusCode, text: str) -> None: ...

    class Log:
        counts: ClassVar[list[int]] = []

        def info(self, event: str, *, why: str, count: int) -> None:
            self.counts.append(count)

    monkeypatch.setattr(service, "log", Log())
    flooded = SecretService(None, None, SystemClock())  # type: ignore[arg-type]  # it is asked for nothing
    for _ in range(1000):
        await flooded._refuse(Ended(), PermissionDenied("nobody"))
    assert 1 <= len(Log.counts) <= 3
    assert Log.counts[0] == 1
