"""A real `citadel up` that a test starts, kills and starts again, and an asyncio client of its SDS."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from envoy.service.discovery.v3 import discovery_pb2

from citadel.sds.stream import SECRET_TYPE

_MAIN = "import sys; from citadel.cli import main; sys.exit(main())"
_QUICK = """
[http]
address = ""
[svid]
min_ttl = "1s"
[attestors.systemd]
enabled = false
[attestors.docker]
enabled = false
"""


class Citadel:
    """A data directory with a Citadel that a test starts, kills and starts again."""

    def __init__(self, folder: Path, trust_domain: str = "example.org") -> None:
        self.folder = folder
        self.config = folder / "citadel.toml"
        self.run("init", "--trust-domain", trust_domain, "--data-dir", str(folder), config=False)
        with open(self.config, "a") as file:
            file.write(_QUICK)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def workload_socket(self) -> Path:
        return self.folder / "run" / "workload.sock"

    def run(self, *arguments: str, config: bool = True, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of the command line to its end."""
        command = [sys.executable, "-c", _MAIN, *arguments, *(("--config", str(self.config)) if config else ())]
        return subprocess.run(command, check=check, capture_output=True, text=True, timeout=60)

    async def start(self) -> None:
        with open(self.folder / "log", "ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", _MAIN, "up", "--config", str(self.config), stdout=log, stderr=log
            )
        async with asyncio.timeout(30):
            while not await self._answers():
                if self._process.returncode is not None:
                    raise RuntimeError((self.folder / "log").read_text()[-2000:])
                await asyncio.sleep(0.05)

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_unix_connection(self.folder / "run" / "admin.sock")
        except OSError:
            return False
        writer.close()
        return True

    async def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(how)
        async with asyncio.timeout(20):
            return await self._process.wait()


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Citadel]:
    citadel = Citadel(folder)
    await citadel.start()
    try:
        yield citadel
    finally:
        await citadel.end()


def me() -> str:
    """A selector of this very process."""
    return f"unix:uid:{os.geteuid()}"


@asynccontextmanager
async def secrets_of(socket: Path, *names: str) -> AsyncIterator[AsyncIterator[discovery_pb2.DiscoveryResponse]]:
    """A StreamSecrets subscription that acknowledges everything; gives each response."""
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        call = channel.stream_stream(
            "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
            request_serializer=discovery_pb2.DiscoveryRequest.SerializeToString,
            response_deserializer=discovery_pb2.DiscoveryResponse.FromString,
        )(None)
        request = discovery_pb2.DiscoveryRequest(type_url=SECRET_TYPE, resource_names=names)
        request.node.id = "a-test"
        await call.write(request)

        async def responses() -> AsyncIterator[discovery_pb2.DiscoveryResponse]:
            while isinstance(answer := await call.read(), discovery_pb2.DiscoveryResponse):
                await call.write(
                    discovery_pb2.DiscoveryRequest(
                        type_url=SECRET_TYPE,
                        resource_names=names,
                        response_nonce=answer.nonce,
                        version_info=answer.version_info,
                    )
                )
                yield answer

        try:
            yield responses()
        finally:
            call.cancel()
