"""From a registration to the secret on a stream that waits for it, with twenty thousand entries present.

In process: `citadel up` in this very process, and a gRPC client of its workload socket beside it. With Envoy: `citadel
up` in a process of its own, registered over the admin socket, until a real Envoy completes a TLS handshake with the
certificate.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import ssl
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import grpc
import uvloop
import yaml
from cryptography import x509

from citadel import config
from citadel.api.proto.citadel.v1 import admin_pb2, admin_pb2_grpc
from citadel.api.proto.spire.api.types import entry_pb2, selector_pb2, spiffeid_pb2
from citadel.cli.process import collect_seldom, settle_memory
from citadel.clock import SystemClock
from citadel.demo.envoys import binary
from citadel.demo.traffic import free_port
from citadel.registry import Entry, Selector
from citadel.server import Server, up
from citadel.spiffe import SpiffeId, TrustDomain
from citadel.telemetry import logging
from tests.bench.row import Row
from tests.bench.sds import secrets_of
from tests.support.up import command, running

PRESENT = 20_000
_TD = TrustDomain("example.org")
_TIMES = 200
_WARM_UP = 10
_LISTENERS = 40
_MINE = Selector("unix", f"uid:{os.geteuid()}")


def rows() -> list[Row]:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # as `citadel up` does
    collect_seldom()
    with tempfile.TemporaryDirectory(prefix="citadel-") as folder:
        inside, cpu = uvloop.run(_in_process(Path(folder) / "a"))
        beside = _with_envoy(Path(folder) / "b")
    return [
        *_percentiles(f"registration to secret, in process, {PRESENT} entries", inside, goal=50),
        Row("the same: CPU time of server and client", cpu * 1000, "ms"),
        *_percentiles(f"registration to a real Envoy serving it, {PRESENT} entries", beside, goal=250),
    ]


def _percentiles(name: str, seconds: Sequence[float], *, goal: float) -> list[Row]:
    cuts = statistics.quantiles(seconds, n=100)
    middle, high = cuts[49] * 1000, cuts[98] * 1000
    return [
        Row(f"{name}: p50", middle, "ms"),
        Row(f"{name}: p99", high, "ms", goal=f"under {goal:g} ms", met=high < goal),
    ]


def path_of(number: int) -> SpiffeId:
    return SpiffeId.of(_TD, "bench", f"w{number}")


@asynccontextmanager
async def _server(home: Path) -> AsyncIterator[Server]:
    subprocess.run(command("init", "--trust-domain", _TD, "--data-dir", home), check=True, capture_output=True)
    with (home / "citadel.toml").open("a") as file:
        file.write('[http]\naddress = ""\n')
    with Path(os.devnull).open("w") as nowhere:
        logging.configure("info", "json", nowhere)
        async with up(config.load(home / "citadel.toml", {}), SystemClock()) as server:
            yield server


async def _in_process(home: Path) -> tuple[list[float], float]:
    """How long each took, and the CPU time of one: the opening of its stream and its deletion included."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(_server(home))
        others = [
            Entry(f"other{n}", SpiffeId.of(_TD, f"o{n}"), server.node_id, frozenset({Selector("unix", f"uid:{n + 9}")}))
            for n in range(PRESENT)
        ]
        await server.registry.create(others, "bench")
        known = server.directory.node(server.node_id)
        while len(known.entries) < PRESENT:
            await asyncio.sleep(0.01)
        settle_memory()
        taken = []
        for number in range(-_WARM_UP, _TIMES):
            if not number:
                cpu = time.process_time()
            socket_path = home / "run" / "workload.sock"
            async with secrets_of(socket_path, path_of(number).uri, node="bench") as answers:
                coming = asyncio.ensure_future(anext(answers))
                while not server.situation.streams():
                    await asyncio.sleep(0.001)
                await asyncio.sleep(0.02)  # the request is read: what is measured is a stream that waits
                entry = Entry("", path_of(number), server.node_id, frozenset({_MINE}))
                began = time.perf_counter()
                [made] = await server.registry.create([entry], "bench")
                await coming
                taken.append(time.perf_counter() - began)
            await server.registry.delete([made.id], "bench")
            while server.situation.streams():
                await asyncio.sleep(0.001)
        return taken[_WARM_UP:], (time.process_time() - cpu) / _TIMES


def _with_envoy(home: Path) -> list[float]:
    with ExitStack() as stack:
        citadel = stack.enter_context(running(home))
        fill(citadel.admin_socket, PRESENT)
        channel = stack.enter_context(grpc.insecure_channel(f"unix:{citadel.admin_socket}"))
        admin = admin_pb2_grpc.AdminStub(channel)
        ports = stack.enter_context(_envoy(home, citadel.workload_socket))
        taken = []
        for number, port in enumerate(ports):
            began = time.perf_counter()
            create(admin, [(f"bench/w{number}", _MINE)])
            _handshake(port, path_of(number).uri)
            taken.append(time.perf_counter() - began)
        return taken


def fill(admin_socket: Path, count: int) -> None:
    """Register workloads that are none of ours, as many as this."""
    with grpc.insecure_channel(f"unix:{admin_socket}") as channel:
        admin = admin_pb2_grpc.AdminStub(channel)
        for start in range(0, count, 5000):
            numbers = range(start, min(count, start + 5000))
            create(admin, [(f"o{n}", Selector("unix", f"uid:{n + 100_000}")) for n in numbers])


def create(admin: admin_pb2_grpc.AdminStub, entries: Sequence[tuple[str, Selector]]) -> None:
    request = admin_pb2.CreateEntriesRequest()
    for path, selector in entries:
        one = entry_pb2.Entry(spiffe_id=spiffeid_pb2.SPIFFEID(trust_domain=_TD.name, path=f"/{path}"))
        one.selectors.append(selector_pb2.Selector(type=selector.type, value=selector.value))
        request.entries.add(entry=one)
    admin.CreateEntries(request, timeout=120)


@contextmanager
def _envoy(home: Path, workload_socket: Path) -> Iterator[list[int]]:
    """A real Envoy with a listener for each certificate that it does not have yet; their ports."""
    ports = [free_port() for _ in range(_LISTENERS)]
    file = home / "envoy.yaml"
    file.write_text(yaml.safe_dump(_bootstrap(ports, workload_socket)))
    with (home / "envoy.log").open("wb") as log:
        options = ["--base-id-path", str(home / "base-id"), "--use-dynamic-base-id", "--concurrency", "1", "-l", "warn"]
        process = subprocess.Popen([binary(), "-c", str(file), *options], stdout=log, stderr=log)
    try:
        for port in ports:
            _connect(port).close()
        yield ports
    finally:
        process.terminate()
        process.wait(20)


def _bootstrap(ports: Sequence[int], workload_socket: Path) -> object:
    def listener(number: int, port: int) -> object:
        source = {
            "resource_api_version": "V3",
            "initial_fetch_timeout": "0.1s",  # then it listens, and resets what comes until the certificate does
            "api_config_source": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "citadel"}}],
            },
        }
        secret = {"name": path_of(number).uri, "sds_config": source}
        tls = {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {"tls_certificate_sds_secret_configs": [secret]},
        }
        proxy = {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "t",
            "cluster": "citadel",
        }
        return {
            "name": f"l{number}",
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
            "filter_chains": [
                {
                    "filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}],
                    "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
                }
            ],
        }

    http2 = {"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
             "explicit_http_config": {"http2_protocol_options": {}}}  # fmt: skip
    cluster = {
        "name": "citadel",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
        "load_assignment": {
            "cluster_name": "citadel",
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": str(workload_socket)}}}}]},
            ],
        },
    }
    return {
        "node": {"id": "bench", "cluster": "bench"},
        "static_resources": {"listeners": [listener(n, p) for n, p in enumerate(ports)], "clusters": [cluster]},
    }


def _connect(port: int) -> socket.socket:
    end = time.monotonic() + 30
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=5)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


def _handshake(port: int, uri: str) -> None:
    """Returns when a handshake shows `uri`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    end = time.monotonic() + 30
    while True:
        try:
            with _connect(port) as plain, context.wrap_socket(plain) as secure:
                der = secure.getpeercert(binary_form=True)
        except (OSError, ssl.SSLError):
            if time.monotonic() > end:
                raise
            time.sleep(0.001)
            continue
        assert der is not None
        names = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName)
        assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == [uri]
        return
