"""A real `citadel up` in a process of its own, which a test may kill and start again; and a workload that asks it for
secrets as Envoy does."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
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
#: Settings for tests in which certificates live for seconds and programs are told apart by their path.
QUICK = """
[svid]
min_ttl = "1s"
[attestors.unix]
discover_path = true
[attestors.systemd]
enabled = false
[attestors.docker]
enabled = false
"""


def command(*args: object) -> list[str]:
    """The `citadel` program of this interpreter."""
    return [sys.executable, "-c", "from citadel.cli import main; main()", *map(str, args)]


class Up:
    """A Citadel's folder, and its process while it runs. Makes the folder, with `settings` behind its configuration."""

    def __init__(self, home: Path, settings: str = "", env: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.log = home / "log"
        self.config = home / "citadel.toml"
        self.admin_socket = home / "run" / "admin.sock"
        self.workload_socket = home / "run" / "workload.sock"
        #: What a command line needs in its environment.
        self.env = {"CITADEL_CONFIG": str(self.config)}
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CITADEL_")}
        self._env = clean | dict(env or {})
        self._process: subprocess.Popen[bytes] | None = None
        if not home.exists():
            self.run("init", "--trust-domain", "example.org", "--data-dir", home)
            with self.config.open("a") as file:
                file.write('[http]\naddress = ""\n' + settings)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it was never started"
        return self._process

    def start(self, failpoint: str = "") -> None:
        """Returns when it listens. Raises AssertionError with the log if that does not happen. `failpoint`: where it
        is to die (citadel.failpoints)."""
        env = self._env | ({"FAILPOINT": failpoint} if failpoint else {})
        with self.log.open("ab") as sink:
            self._process = subprocess.Popen(command("up", "--config", self.config), env=env, stdout=sink, stderr=sink)
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            with socket.socket(socket.AF_UNIX) as knocker:
                try:
                    knocker.connect(str(self.admin_socket))  # it is opened last
                except OSError:
                    time.sleep(0.05)
                else:
                    return
        raise AssertionError(f"citadel up did not start:\n{self.log.read_text()}")

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Stop it; its exit status. Raises TimeoutExpired (and kills it) if it does not."""
        self.process.send_signal(how)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def run(self, *args: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of the command line to its end."""
        env = self._env if args[0] == "init" else self._env | self.env
        return subprocess.run(command(*args), check=check, capture_output=True, text=True, timeout=60, env=env)

    def json(self, *args: object) -> Any:
        """What a reading command answers."""
        return json.loads(self.run(*args, "-o", "json").stdout)

    def register(self, path: str, selector: str, *more: object) -> str:
        """Make an entry for `path` below the trust domain; its id."""
        (entry,) = self.json("entry", "create", "--spiffe-id", f"spiffe://example.org{path}", "--selector", selector,
                             *more)  # fmt: skip
        return str(entry["id"])


@contextmanager
def running(home: Path, settings: str = "", env: Mapping[str, str] | None = None) -> Iterator[Up]:
    """Make a Citadel in `home` and run it; on leaving it is stopped."""
    up = Up(home, settings, env)
    up.start()
    try:
        yield up
    finally:
        up.end()


def me() -> str:
    """A selector of this very process."""
    return f"unix:uid:{os.geteuid()}"


class Workload:
    """One SDS stream (SotW) that is read all the time. `take` waits for the next answer, and acknowledges it."""

    def __init__(self, path: Path, *names: str, node: str = "test-envoy") -> None:
        self._channel = grpc.insecure_channel(f"unix:{path}")
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._node = base_pb2.Node(id=node)
        self._names = names
        self._say()
        stub = sds_pb2_grpc.SecretDiscoveryServiceStub(self._channel)
        self._call = stub.StreamSecrets(iter(self._requests.get, None))
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def take(self, seconds: float = 30) -> dict[str, Any]:
        """The secrets of the next answer, by name. Raises queue.Empty if there is none within `seconds`, RpcError if
        the stream was ended."""
        answer = self._answers.get(timeout=seconds)
        if isinstance(answer, grpc.RpcError):
            raise answer
        self._say(version_info=answer.version_info, response_nonce=answer.nonce)
        found = {}
        for resource in answer.resources:
            secret = secret_pb2.Secret()
            resource.Unpack(secret)
            found[secret.name] = secret
        return found

    def nothing_comes(self, seconds: float) -> bool:
        with suppress(queue.Empty):
            self.take(seconds)
            return False
        return True

    def _read(self) -> None:
        try:
            for answer in self._call:
                self._answers.put(answer)
        except grpc.RpcError as error:
            self._answers.put(error)

    def _say(self, **more: str) -> None:
        self._requests.put(
            discovery_pb2.DiscoveryRequest(node=self._node, resource_names=self._names, type_url=SECRET, **more)
        )

    def __enter__(self) -> Workload:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._requests.put(None)
        self._call.cancel()
        self._reader.join()
        self._channel.close()
