"""The demo's stage: Citadel, a service, an Envoy before it, one that calls it, and one that nobody registered."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx

from citadel.demo import envoys, traffic
from citadel.demo.envoys import Admin, Sight
from citadel.demo.processes import Failed, Processes, citadel, run
from citadel.demo.show import say

TRUST_DOMAIN = "demo.citadel"
SERVER_ID = f"spiffe://{TRUST_DOMAIN}/shop/server"
CLIENT_ID = f"spiffe://{TRUST_DOMAIN}/shop/client"
KEPT_ID = f"spiffe://{TRUST_DOMAIN}/kept"
KEPT_TTL = 600  # seconds: when it is refused, then not because it has expired
_READY_SECONDS = 30.0
_LONGEST_CONNECTION = "2s"  # between the Envoys, so that there are many handshakes to see
_SETTINGS = """
[http]
address = ""

[svid]
min_ttl = "1s"

[rotation]  # times for a mesh in which everybody is near, and connections live for two seconds
reconnect_window = "2s"
session_life = "3s"
clock_skew = "1s"
assumed_after = "2s"

[attestors.unix]
discover_path = true  # unix:path

[attestors.systemd]
enabled = false

[attestors.docker]
enabled = false
"""


@dataclass(frozen=True)
class Wishes:
    """What the command line asks for. `ttl` is a certificate's life in seconds."""

    folder: Path
    ttl: int = 10
    renewals: int = 3
    per_second: float = 50
    rotation: bool = True
    keep: bool = False


@dataclass
class Watched:
    """One Envoy as the demo sees it."""

    name: str
    admin: Admin
    serials: list[str] = field(default_factory=list)
    sight: Sight | None = None

    @property
    def renewals(self) -> int:
        return max(0, len(self.serials) - 1)

    async def look(self) -> None:
        before, self.sight = self.sight, await self.admin.look()
        if before and before.roots and self.sight.roots != before.roots:
            say(f"{self.name:8} trusts {len(self.sight.roots)} root{'s' * (len(self.sight.roots) != 1)}")
        leaf = self.sight.leaf
        if leaf is None or leaf.serial in self.serials:
            return
        self.serials.append(leaf.serial)
        left = (leaf.not_after - datetime.now(UTC)).total_seconds()
        what = "got" if len(self.serials) == 1 else f"renewed ({self.renewals}) to"
        say(f"{self.name:8} {what} {leaf.spiffe_id}  serial {leaf.serial[:12]}..  {left:.0f} s left")


@dataclass
class Stage:
    """Everything that runs."""

    processes: Processes
    config: Path
    server: Watched
    client: Watched
    intruder: Watched
    ports: dict[str, int]
    tally: traffic.Tally = field(default_factory=traffic.Tally)

    @property
    def workload_socket(self) -> Path:
        return self.config.parent / "run" / "workload.sock"

    @property
    def handshakes(self) -> int:
        return self.server.sight.handshakes if self.server.sight else 0

    async def watch(self) -> None:
        """Look at all; raises Failed if one of them ended."""
        for envoy in (self.server, self.client, self.intruder):
            try:
                await envoy.look()
            except httpx.TransportError as error:
                raise Failed(f"Envoy {envoy.name} does not answer: {self.processes.died() or error}") from error
        if dead := self.processes.died():
            raise Failed(f"{dead} ended by itself; its log tells why")


async def wait_for(what: str, ready: Callable[[], Awaitable[bool]], seconds: float = _READY_SECONDS) -> None:
    """Ask `ready()` again and again until it says yes. Raises Failed after `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            while not await ready():
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise Failed(f"{what} was not ready after {seconds:.0f} s") from None


@asynccontextmanager
async def staged(wishes: Wishes) -> AsyncIterator[Stage]:
    """All of it, registered and ready; ended on leaving. Raises Failed."""
    folder = wishes.folder
    envoys.binary()  # first of all: without one there is nothing to show
    for name in ("logs", "bin"):
        (folder / name).mkdir()
    async with AsyncExitStack() as stack:
        processes = Processes(folder / "logs")
        stack.push_async_callback(processes.end)
        client = await stack.enter_async_context(httpx.AsyncClient())
        config = folder / "citadel" / "citadel.toml"
        ports = {n: traffic.free_port() for n in ("service", "mtls", "client", "intruder", "a1", "a2", "a3")}
        service = await traffic.serve_upstream(ports["service"])
        stack.callback(service.close)
        admins = {"server": ports["a1"], "client": ports["a2"], "intruder": ports["a3"]}
        programs = {name: envoys.own_copy(folder / "bin", f"envoy-{name}") for name in admins}
        await _start_citadel(folder, config, processes, ports, admins)
        async with asyncio.TaskGroup() as group:
            for name, spiffe_id in (("server", SERVER_ID), ("client", CLIENT_ID)):
                group.create_task(_register(config, name, spiffe_id, programs[name], wishes.ttl))
            if wishes.rotation:
                me = Path("/proc/self/exe").readlink()
                group.create_task(_register(config, "kept", KEPT_ID, me, KEPT_TTL))
        for name, program in programs.items():
            options = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "warn"]
            bootstrap = folder / f"{name}.yaml"
            await processes.start(f"envoy-{name}", [program, "-c", bootstrap, *options], {"HOME": os.fspath(folder)})
        say("intruder runs without a registration entry")
        watched = {name: Watched(name, Admin(client, port)) for name, port in admins.items()}
        for name in ("server", "client"):
            await wait_for(f"Envoy {name}", watched[name].admin.ready)
        yield Stage(processes, config, watched["server"], watched["client"], watched["intruder"], ports)


async def _register(config: Path, name: str, spiffe_id: str, program: Path, ttl: int) -> None:
    """An entry for whoever runs `program`. Raises Failed."""
    selector = f"unix:path:{program}"
    command = ("entry", "create", "--spiffe-id", spiffe_id, "--selector", selector, "--ttl", f"{ttl}s")
    await run([*command, "--config", config])
    say(f"{name:8} registered: {spiffe_id} for {selector}")


async def _start_citadel(
    folder: Path, config: Path, processes: Processes, ports: Mapping[str, int], admins: Mapping[str, int]
) -> None:
    """Until it is ready; and what the Envoys read, meanwhile."""
    await run(["init", "--trust-domain", TRUST_DOMAIN, "--data-dir", config.parent])
    with config.open("a") as file:
        file.write(_SETTINGS)
    await processes.start("citadel", citadel("up", "--config", config), {})
    async with asyncio.TaskGroup() as group:
        for name, port in admins.items():
            command = ["envoy", "bootstrap", "--node-id", name, "--admin", f"127.0.0.1:{port}", *_role(name, ports)]
            command += ["--max-connection-duration", _LONGEST_CONNECTION, "--out", str(folder / f"{name}.yaml")]
            group.create_task(run([*command, "--config", config]))
        group.create_task(run(["status", "--wait", f"{_READY_SECONDS:.0f}s", "--config", config]))
    say(f"Citadel is up: trust domain {TRUST_DOMAIN}, SQLite in {config.parent / 'db'}", bold=True)


def _role(name: str, ports: Mapping[str, int]) -> list[str]:
    if name == "server":
        return ["--listen", f"127.0.0.1:{ports['mtls']}", "--app", f"127.0.0.1:{ports['service']}"]
    upstream = f"shop=127.0.0.1:{ports[name]},127.0.0.1:{ports['mtls']}"
    return ["--upstream", upstream, "--upstream-id", f"shop={SERVER_ID}"]
