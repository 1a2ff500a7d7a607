"""A real `citadel up` in a process of its own, and a workload that asks it for secrets as Envoy does."""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from envoy.config.core.v3 import base_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.service.discovery.v3 import discovery_pb2
from envoy.service.secret.v3 import sds_pb2_grpc

START_SECONDS = 30.0
STOP_SECONDS = 15.0
SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"


@dataclass(frozen=True)
class Up:
    """A running Citadel: its folder, its process, and what a command line needs in its environment."""

    home: Path
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def config(self) -> Path:
        return self.home / "citadel.toml"

    @property
    def env(self) -> dict[str, str]:
        return {"CITADEL_CONFIG": str(self.config)}

    @property
    def workload_socket(self) -> Path:
        return self.home / "run" / "workload.sock"


def command(*args: object) -> list[str]:
    """The `citadel` program of this interpreter."""
    return [sys.executable, "-c", "from citadel.cli import main; main()", *map(str, args)]


@contextmanager
def running(home: Path, settings: str = "", env: Mapping[str, str] | None = None) -> Iterator[Up]:
    """Make a Citadel in `home` (with `settings` behind its configuration) and run it; on leaving it is stopped."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CITADEL_")} | dict(env or {})
    if not home.exists():
        made = command("init", "--trust-domain", "example.org", "--data-dir", home)
        subprocess.run(made, check=True, capture_output=True, env=clean, timeout=60)
        with (home / "citadel.toml").open("a") as file:
            file.write('[http]\naddress = ""\n' + settings)
    log = home / "log"
    with log.open("ab") as sink:
        process = subprocess.Popen(
            command("up", "--config", home / "citadel.toml"), env=clean, stdout=sink, stderr=sink
        )
    up = Up(home, process, log)
    try:
        _wait_until_listening(up)
        yield up
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def _wait_until_listening(up: Up) -> None:
    """The admin socket is opened last. Raises AssertionError with the log if that does not happen."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if up.process.poll() is not None:
            break
        with socket.socket(socket.AF_UNIX) as knocker:
            try:
                knocker.connect(str(up.home / "run" / "admin.sock"))
            except OSError:
                time.sleep(0.05)
            else:
                return
    raise AssertionError(f"citadel up did not start:\n{up.log.read_text()}")


class Workload:
    """One SDS stream (SotW). `take` waits for the next answer, and acknowledges it."""

    def __init__(self, path: Path, *names: str, node: str = "test-envoy") -> None:
        self._channel = grpc.insecure_channel(f"unix:{path}")
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._node = base_pb2.Node(id=node)
        self._names = names
        self._say()
        stub = sds_pb2_grpc.SecretDiscoveryServiceStub(self._channel)
        self._answers = stub.StreamSecrets(iter(self._requests.get, None), timeout=60)

    def take(self) -> dict[str, Any]:
        """The secrets of the next answer, by name."""
        answer = next(self._answers)
        self._say(version_info=answer.version_info, response_nonce=answer.nonce)
        found = {}
        for resource in answer.resources:
            secret = secret_pb2.Secret()
            resource.Unpack(secret)
            found[secret.name] = secret
        return found

    def _say(self, **more: str) -> None:
        self._requests.put(
            discovery_pb2.DiscoveryRequest(node=self._node, resource_names=self._names, type_url=SECRET, **more)
        )

    def close(self) -> None:
        self._requests.put(None)
        self._answers.cancel()
        self._channel.close()
