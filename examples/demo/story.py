"""The demo's story: start everything, register two Envoys and not the third, load, watch, judge."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx

from examples.demo import envoys, traffic
from examples.demo.envoys import Admin, Sight
from examples.demo.processes import Processes, run
from examples.demo.show import say

TRUST_DOMAIN = "demo.citadel"
SERVER_ID = f"spiffe://{TRUST_DOMAIN}/shop/server"
CLIENT_ID = f"spiffe://{TRUST_DOMAIN}/shop/client"
_READY_SECONDS = 30
_LOOK_SECONDS = 0.5
_MOST_SECONDS = 180


@dataclass(frozen=True)
class Wishes:
    """What the command line asks for. `ttl` is a certificate's life in seconds."""

    folder: Path
    ttl: int
    renewals: int
    per_second: float


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
        self.sight = await self.admin.look()
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
    client_port: int
    intruder_port: int
    tally: traffic.Tally = field(default_factory=traffic.Tally)

    async def watch(self) -> None:
        for envoy in (self.server, self.client, self.intruder):
            await envoy.look()
        if dead := self.processes.died():
            raise RuntimeError(f"{dead} ended by itself; its log tells why")


def citadel(*arguments: str | Path) -> list[str | Path]:
    return [sys.executable, "-c", "import sys; from citadel.cli import main; sys.exit(main())", *arguments]


async def wait_for(what: str, ready: object, seconds: float = _READY_SECONDS) -> None:
    """Ask `ready()` again and again until it says yes. Raises RuntimeError after `seconds`."""
    assert callable(ready)
    try:
        async with asyncio.timeout(seconds):
            while not await ready():
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise RuntimeError(f"{what} was not ready after {seconds:.0f} s") from None


@asynccontextmanager
async def staged(wishes: Wishes) -> AsyncIterator[Stage]:
    """Citadel, the service, three Envoys; all of it ended on leaving."""
    folder = wishes.folder
    for name in ("logs", "bin"):
        (folder / name).mkdir()
    async with AsyncExitStack() as stack:
        processes = Processes(folder / "logs")
        stack.push_async_callback(processes.end)
        client = await stack.enter_async_context(httpx.AsyncClient())
        config = await _start_citadel(wishes, processes)
        ports = {n: traffic.free_port() for n in ("service", "mtls", "client", "intruder", "a1", "a2", "a3")}
        service = await traffic.serve_upstream(ports["service"])
        stack.callback(service.close)
        watched = {}
        for name, admin in (("server", "a1"), ("client", "a2"), ("intruder", "a3")):
            program = envoys.own_copy(folder / "bin", f"envoy-{name}")
            if name != "intruder":
                await _register(config, name, program, wishes.ttl)
            await _start_envoy(processes, config, folder, name, program, ports, admin)
            watched[name] = Watched(name, Admin(client, ports[admin]))
        say(f"{'intruder':8} runs without a registration entry")
        for name in ("server", "client"):
            await wait_for(f"Envoy {name}", watched[name].admin.ready)
        yield Stage(
            processes,
            config,
            watched["server"],
            watched["client"],
            watched["intruder"],
            ports["client"],
            ports["intruder"],
        )


async def _start_citadel(wishes: Wishes, processes: Processes) -> Path:
    home = wishes.folder / "citadel"
    await run(citadel("init", "--trust-domain", TRUST_DOMAIN, "--data-dir", home), {})
    config = home / "citadel.toml"
    with open(config, "a") as file:
        file.write(
            '\n[http]\naddress = ""\n\n[svid]\nmin_ttl = "1s"\n\n[attestors.unix]\ndiscover_path = true  # unix:path\n'
            "\n[attestors.systemd]\nenabled = false\n\n[attestors.docker]\nenabled = false\n"
        )
    await processes.start("citadel", citadel("up", "--config", config), {})

    async def answers() -> bool:
        try:
            await run(citadel("status", "--config", config), {})
        except RuntimeError:
            if processes.died():
                raise
            return False
        return True

    await wait_for("Citadel", answers)
    say(f"Citadel is up: trust domain {TRUST_DOMAIN}, SQLite in {home / 'db'}", bold=True)
    return config


async def _register(config: Path, name: str, program: Path, ttl: int) -> None:
    spiffe_id = SERVER_ID if name == "server" else CLIENT_ID
    selector = f"unix:path:{program}"
    command = ("entry", "create", "--spiffe-id", spiffe_id, "--selector", selector, "--ttl", f"{ttl}s")
    await run(citadel(*command, "--config", config), {})
    say(f"{name:8} registered: {spiffe_id} for {selector}")


async def _start_envoy(
    processes: Processes, config: Path, folder: Path, name: str, program: Path, ports: dict[str, int], admin: str
) -> None:
    command: list[str | Path] = ["envoy", "bootstrap", "--node-id", name, "--admin", f"127.0.0.1:{ports[admin]}"]
    if name == "server":
        command += ["--listen", f"127.0.0.1:{ports['mtls']}", "--app", f"127.0.0.1:{ports['service']}"]
    else:
        command += ["--upstream", f"shop=127.0.0.1:{ports[name]},127.0.0.1:{ports['mtls']}"]
        command += ["--upstream-id", f"shop={SERVER_ID}"]
    target = folder / f"{name}.yaml"
    command += ["--max-connection-duration", "2s"]  # so that there are many handshakes to see
    await run(citadel(*command, "--out", target, "--config", config), {})
    options = ["--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warn"]
    await processes.start(f"envoy-{name}", [program, "-c", target, *options], {"HOME": os.fspath(folder)})


async def tell(stage: Stage, wishes: Wishes) -> list[str]:
    """Load until both Envoys have renewed often enough; what went wrong, in sentences."""
    say("load starts: each request on a connection of its own, connections between the Envoys renewed every 2 s")
    load = asyncio.create_task(traffic.load(stage.client_port, stage.tally, per_second=wishes.per_second))
    loop = asyncio.get_running_loop()
    end, next_line = loop.time() + _MOST_SECONDS, loop.time() + 5
    try:
        while loop.time() < end and min(stage.server.renewals, stage.client.renewals) < wishes.renewals:
            await asyncio.sleep(_LOOK_SECONDS)
            await stage.watch()
            if loop.time() >= next_line:
                next_line = loop.time() + 5
                handshakes = stage.server.sight.handshakes if stage.server.sight else 0
                say(f"requests {stage.tally.ok} ok, {stage.tally.failed} failed; mTLS handshakes {handshakes}")
    finally:
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
    await stage.watch()
    return await _faults(stage, wishes)


async def _faults(stage: Stage, wishes: Wishes) -> list[str]:
    faults = []
    if stage.tally.failed or not stage.tally.ok:
        faults.append(
            f"{stage.tally.failed} of {stage.tally.ok + stage.tally.failed} requests failed: {stage.tally.faults}"
        )
    for envoy in (stage.server, stage.client):
        if envoy.renewals < wishes.renewals:
            faults.append(f"Envoy {envoy.name} renewed only {envoy.renewals} times")
        if envoy.sight and envoy.sight.failed_handshakes:
            faults.append(f"Envoy {envoy.name} saw {envoy.sight.failed_handshakes} failed handshakes")
    if stage.intruder.serials or (stage.intruder.sight and stage.intruder.sight.secrets_accepted):
        faults.append("the intruder was given a certificate")
    try:
        status = await traffic.get(stage.intruder_port)
        if status == 200:
            faults.append("the intruder reached the service")
    except (OSError, TimeoutError, EOFError):
        pass  # refused, as it should be
    return faults
