"""Workers, as far as it goes without pyvoy: what is published for them, what their Envoy is told, what runs in it."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.extensions.filters.http.buffer.v3 import buffer_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.resource_monitors.downstream_connections.v3 import downstream_connections_pb2  # noqa: F401
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2, tls_pb2
from envoy.service.auth.v3 import external_auth_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.json_format import ParseDict

from citadel.authz.load import SourceText
from citadel.authz.sources import KeptPolicies, kept_in
from citadel.config import Settings
from citadel.config.values import ListenAddress
from citadel.errors import FailedPrecondition, Unavailable
from citadel.registry import Entry
from citadel.server.workers import port
from citadel.server.workers.app import Worker
from citadel.server.workers.envoys import certificate_secret, envoy_config, roots_secret
from citadel.server.workers.published import KnownCallers, Published, written_callers, written_settings
from citadel.server.workers.reports import MOST_BYTES, Report
from citadel.spiffe import SpiffeId, TrustDomain
from citadel.telemetry import logging as our_logging
from citadel.telemetry.decisions import DecisionCounts
from tests.bench.check_server import check_message
from tests.support.certificates import Ca

TD = TrustDomain("example.org")
CART = SpiffeId.parse("spiffe://example.org/ns/shop/sa/cart")
POLICIES = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec:
  selector: {matchLabels: {app: cart}}
  rules: [{to: [{operation: {paths: ["PATH"]}}]}]
"""


def entry(spiffe_id: SpiffeId = CART, **labels: str) -> Entry:
    parent = SpiffeId.parse("spiffe://example.org/spire/agent/x")
    federates = frozenset({TrustDomain("partner.org")})
    return Entry("1", spiffe_id, parent, frozenset(), labels=tuple(sorted(labels.items())), federates_with=federates)


@pytest.fixture
def published(tmp_path: Path) -> Published:
    return Published(tmp_path)


def settings(data_dir: Path, policies: str = "p.yaml") -> Settings:
    given: dict[str, Any] = {"trust_domain": TD.name, "data_dir": str(data_dir)}
    given["store"] = {"url": "postgresql://citadel:secret@db/citadel"}
    given["authorization"] = {
        "tcp": {"address": "127.0.0.1:8477", "workers": 2},
        "default_namespace": "shop",
        "policies": policies,
    }
    return Settings.model_validate(given, context={"base": data_dir, "data_dir": data_dir})


def test_settings_are_the_same_on_the_other_side_but_for_the_database(published: Published, tmp_path: Path) -> None:
    told = settings(tmp_path)
    published.write(published.settings, written_settings(told))
    assert "postgresql" not in published.settings.read_text()
    assert published.settings.stat().st_mode & 0o777 == 0o600
    assert published.read_settings().authorization == told.authorization


def test_callers_are_known_as_they_were_published_last(published: Published) -> None:
    known = KnownCallers(published.callers)
    known.look()
    with pytest.raises(Unavailable):
        known.of(CART)
    published.write(published.callers, written_callers(TD, [b"crl"], [entry(app="cart"), entry(app="other")]))
    known.look()
    assert [dict(one.registered.labels) for one in known.of(CART)] == [{"app": "cart"}, {"app": "other"}]
    assert known.of(CART)[0].federates_with == {TrustDomain("partner.org")}
    assert known.of(SpiffeId.parse("spiffe://example.org/x")) == []
    assert known.trust is not None
    assert (known.trust.trust_domain, known.trust.crls) == (TD, (b"crl",))
    published.write(published.callers, written_callers(TD, [], []))
    known.look()
    assert known.of(CART) == []
    published.callers.write_text("half a")
    known.look()
    assert known.of(CART) == []
    assert known.trust is not None


def test_the_configuration_is_one_that_envoy_knows(published: Published) -> None:
    config = envoy_config(ListenAddress("127.0.0.1", 8477), 7, published, [])
    bootstrap = ParseDict(config, bootstrap_pb2.Bootstrap())
    assert not bootstrap.HasField("admin")  # it would be open to everybody on the machine
    (listener,) = bootstrap.static_resources.listeners
    (chain,) = listener.filter_chains
    tls = tls_pb2.DownstreamTlsContext()
    assert chain.transport_socket.typed_config.Unpack(tls)
    assert tls.require_client_certificate.value
    http = http_connection_manager_pb2.HttpConnectionManager()
    assert chain.filters[0].typed_config.Unpack(http)
    assert http.forward_client_cert_details == http.SANITIZE_SET
    assert http.set_current_client_cert_details.cert
    first = buffer_pb2.Buffer()
    assert http.http_filters[0].typed_config.Unpack(first)
    assert first.max_request_bytes.value == 5 + (256 << 10)
    for secret in (certificate_secret(b"key", b"chain"), roots_secret(b"roots")):
        answer = ParseDict(secret, discovery_pb2.DiscoveryResponse())
        assert answer.resources[0].Is(secret_pb2.Secret.DESCRIPTOR)


class Living:
    """A worker, and what it reports."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.reports: list[Report] = []

    @property
    def records(self) -> list[dict[str, Any]]:
        return [record for report in self.reports for record in report.records]

    async def listen(self, link: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=link, limit=MOST_BYTES)
        while line := await reader.readline():
            self.reports.append(Report.parse(line))
        writer.close()


@asynccontextmanager
async def living(published: Published) -> AsyncIterator[Living]:
    ours, theirs = socket.socketpair()
    worker = Living(Worker(published, "worker-1", theirs))
    listening = asyncio.create_task(worker.listen(ours))
    await worker.worker.start()
    try:
        yield worker
    finally:
        await worker.worker.end()
        await listening


async def asked(worker: Worker, certificate: bytes, path: str) -> Any:
    """The answer to a check."""
    message = check_message("web", path)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"\0" + len(message).to_bytes(4, "big") + message}

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    headers = [(b"content-type", b"application/grpc")]
    headers.append((b"x-forwarded-client-cert", b'Cert="' + quote(certificate).encode() + b'"'))
    scope = {"type": "http", "method": "POST", "path": "/envoy.service.auth.v3.Authorization/Check"}
    await worker({**scope, "headers": headers, "client": ("127.0.0.1", 7)}, receive, send)
    assert (b"grpc-status", b"0") in sent[-1]["headers"]
    return external_auth_pb2.CheckResponse.FromString(sent[1]["body"][5:])


async def reason(worker: Worker, certificate: bytes, path: str) -> str:
    return str((await asked(worker, certificate, path)).dynamic_metadata["reason"])


async def test_a_worker_decides_by_what_is_published(published: Published, tmp_path: Path) -> None:
    told = settings(tmp_path)
    kept = KeptPolicies(kept_in(told.data_dir))
    kept.save([SourceText("p.yaml", POLICIES.replace("PATH", "/cart/*").encode())])
    published.write(published.settings, written_settings(told))
    published.write(published.callers, written_callers(TD, [], [entry(app="cart")]))
    ca = Ca("citadel")
    cart = ca.issue(tmp_path / "a", CART.uri)[0].read_bytes()
    nobody = ca.issue(tmp_path / "b", "spiffe://example.org/x")[0].read_bytes()
    foreign = ca.issue(tmp_path / "c", "spiffe://partner.org/x")[0].read_bytes()
    over = ca.issue(tmp_path / "d", CART.uri, timedelta(seconds=-1))[0].read_bytes()
    async with living(published) as lived:
        worker = lived.worker
        assert await reason(worker, cart, "/cart/7") == "allowed-by-policy"
        assert await reason(worker, cart, "/x") == "no-allow-matched"
        for other in (nobody, foreign, over, b"x"):
            assert await reason(worker, other, "/cart/7") == "unknown-workload"
        kept.save([SourceText("p.yaml", POLICIES.replace("PATH", "/basket/*").encode())])
        while await reason(worker, cart, "/basket/7") != "allowed-by-policy":
            await asyncio.sleep(0.01)
        published.write(published.callers, written_callers(TD, [], []))
        while await reason(worker, cart, "/basket/7") != "unknown-workload":
            await asyncio.sleep(0.01)
    assert {record["door"] for record in lived.records} == {"ext_authz_tcp"}
    assert not (told.data_dir / "decisions").exists()
    counts = DecisionCounts()
    for report in lived.reports:
        counts.add(report.counts)
    decided = {reason: count for _, _, reason, count in counts.take()["decisions"]}
    assert decided["unknown-workload"] >= 5
    assert decided["no-allow-matched"] == sum(one["reason"] == "no-allow-matched" for one in lived.records)
    last = lived.reports[-1]
    assert last.answers
    assert last.version == lived.records[-1]["version"]
    assert last.callers == published.callers.stat().st_mtime_ns


async def test_before_there_are_policies_a_worker_denies(published: Published, tmp_path: Path) -> None:
    published.write(published.settings, written_settings(settings(tmp_path)))
    published.write(published.callers, written_callers(TD, [], [entry(app="cart")]))
    certificate = Ca("citadel").issue(tmp_path / "a", CART.uri)[0].read_bytes()
    async with living(published) as lived:
        worker = lived.worker
        assert await reason(worker, certificate, "/cart/7") == "not-loaded"


def test_of_the_environment_a_worker_gets_no_secrets() -> None:
    ours = {"PATH": "/bin", "https_proxy": "http://proxy", "LC_ALL": "C", "SSL_CERT_FILE": "/ca.pem"}
    secrets = ("CITADEL_STORE__URL", "VAULT_TOKEN", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "CREDENTIALS_DIRECTORY")
    assert port.handed_on(ours | dict.fromkeys(secrets, "x")) == ours


def test_without_pyvoy_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(FailedPrecondition, match="needs pyvoy, which is not installed"):
        port._pyvoy(None)


async def test_policies_of_former_times_are_none_where_the_server_follows_none(
    published: Published, tmp_path: Path
) -> None:
    told = settings(tmp_path, policies="")
    KeptPolicies(kept_in(told.data_dir)).save([SourceText("p.yaml", POLICIES.replace("PATH", "/cart/*").encode())])
    published.write(published.settings, written_settings(told))
    published.write(published.callers, written_callers(TD, [], [entry(app="cart")]))
    certificate = Ca("citadel").issue(tmp_path / "a", CART.uri)[0].read_bytes()
    async with living(published) as lived:
        assert await reason(lived.worker, certificate, "/cart/7") == "not-loaded"


async def test_a_worker_logs_as_a_reload_says(published: Published, tmp_path: Path) -> None:
    told = settings(tmp_path)
    published.write(published.settings, written_settings(told))
    async with living(published):
        try:
            changed = told.model_copy(update={"log": told.log.model_copy(update={"level": "error"})})
            published.write(published.settings, written_settings(changed))
            while logging.getLogger().level != logging.ERROR:
                await asyncio.sleep(0.01)
        finally:
            our_logging.configure(told.log.level, told.log.format)
