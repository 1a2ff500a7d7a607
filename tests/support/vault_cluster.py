"""Three nodes of a real OpenBao with integrated storage (raft), on loopback: one is active, the others stand by."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from tests.support.vault import Vault, process_of, program
from tests.support.waiting import free_ports

_SECONDS = 40.0


@dataclass
class Node:
    """One of them. `api` is its address."""

    name: str
    api: str
    folder: Path
    command: tuple[str, ...]
    process: subprocess.Popen[bytes]
    unseal_key: str = ""

    def health(self) -> int:
        """200: active; 429: stands by; 501: not initialised; 503: sealed; 0: not there."""
        try:
            return httpx.get(f"{self.api}/v1/sys/health", timeout=2).status_code
        except httpx.TransportError:
            return 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def start(self) -> None:
        self.process = process_of(self.command, self.folder)

    def unseal(self) -> None:
        _until(lambda: self.health() == 503, f"{self.name} waits to be unsealed", self.folder)
        httpx.put(f"{self.api}/v1/sys/unseal", json={"key": self.unseal_key}, timeout=20).raise_for_status()


@dataclass
class Cluster:
    """`operator` speaks to the first node, which forwards to the active one."""

    nodes: list[Node]
    operator: Vault

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(node.api for node in self.nodes)

    def active(self) -> Node:
        """Waits until there is one."""
        _until(lambda: any(node.health() == 200 for node in self.nodes), "a node is active", self.nodes[0].folder)
        return next(node for node in self.nodes if node.health() == 200)

    def standby(self) -> Node:
        return next(node for node in self.nodes if node.health() == 429)


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Skips if there is no `bao` or `vault`."""
    bao = program("a cluster was not tested")
    nodes: list[Node] = []
    try:
        for number in range(3):
            nodes.append(_node(bao, folder / f"n{number}", nodes))
        first = nodes[0]
        _until(lambda: first.health() == 501, "the first node is there", first.folder)
        made = httpx.put(
            f"{first.api}/v1/sys/init", json={"secret_shares": 1, "secret_threshold": 1}, timeout=20
        ).json()
        operator = Vault(first.api, made["root_token"], folder)
        for node in nodes:
            node.unseal_key = made["keys_base64"][0]
            node.unseal()
            wanted = {200} if node is first else {200, 429}
            _until(partial(_is_among, node, wanted), f"{node.name} takes part", node.folder)
            if node is first:  # else the others have no vote for their first ten seconds
                settings = {"server_stabilization_time": "1s"}
                operator.call("POST", "sys/storage/raft/autopilot/configuration", settings)
        _until(lambda: _voters(operator) == len(nodes), "all have a vote", first.folder)
        yield Cluster(nodes, operator)
    finally:
        for node in nodes:
            node.process.send_signal(signal.SIGCONT)
            node.process.kill()
            node.process.wait(10)


def _node(bao: str, folder: Path, others: list[Node]) -> Node:
    folder.mkdir()
    (folder / "raft").mkdir()
    api, own = free_ports(2)
    joins = "".join(f'  retry_join {{ leader_api_addr = "{one.api}" }}\n' for one in others)
    (folder / "bao.hcl").write_text(
        f"""
disable_mlock = true
api_addr = "http://127.0.0.1:{api}"
cluster_addr = "http://127.0.0.1:{own}"
listener "tcp" {{
  address = "127.0.0.1:{api}"
  cluster_address = "127.0.0.1:{own}"
  tls_disable = true
}}
storage "raft" {{
  path = "{folder / "raft"}"
  node_id = "{folder.name}"
  performance_multiplier = 1
{joins}}}
"""
    )
    command = (bao, "server", f"-config={folder / 'bao.hcl'}")
    return Node(folder.name, f"http://127.0.0.1:{api}", folder, command, process_of(command, folder))


def _is_among(node: Node, wanted: set[int]) -> bool:
    return node.health() in wanted


def _voters(operator: Vault) -> int:
    servers = operator.call("GET", "sys/storage/raft/configuration")["data"]["config"]["servers"]
    return sum(one["voter"] for one in servers)


def _until(holds: Callable[[], bool], what: str, folder: Path) -> None:
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        if holds():
            return
        time.sleep(0.1)
    log = (folder / "bao.log").read_text()[-2000:]
    raise AssertionError(f"not within {_SECONDS:.0f} s: {what}\n{log}")
