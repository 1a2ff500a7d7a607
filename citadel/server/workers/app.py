"""What runs in the Envoy of a worker: the ext_authz door, by the policies and registrations that the server publishes.

pyvoy imports `app`. Its lifespan reads everything once before a request is taken, then follows it. Without its server,
which publishes, a worker ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import structlog

from citadel.agent import door_rules
from citadel.authz.decision_log import DecisionLog, LogFiles, Recorder, Share
from citadel.authz.doors import AuthorizationService, Door, RemoteCallers, Trust
from citadel.authz.doors.over_asgi import CheckOverAsgi, ForwardedCertificate, Scope
from citadel.clock import SystemClock
from citadel.config import Settings
from citadel.server.decisions import decision_point
from citadel.server.ext_authz import DOOR
from citadel.server.told import mesh_facts
from citadel.server.workers.policies import PublishedPolicies
from citadel.server.workers.published import KnownCallers, Published
from citadel.telemetry import logging as our_logging
from citadel.telemetry.metrics import Metrics

FOLDER, NAME, SERVER = "CITADEL_WORKER_FOLDER", "CITADEL_WORKER_NAME", "CITADEL_WORKER_SERVER"
_LOOK_SECONDS = 0.2
log = structlog.get_logger("citadel.worker")


class Worker:
    """The door of one process."""

    def __init__(self, published: Published, name: str) -> None:
        self._published = published
        self._name = name
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._check: CheckOverAsgi | None = None

    async def start(self) -> None:
        """Returns when it can answer; if there are policies, by them."""
        settings = await asyncio.to_thread(self._published.read_settings)
        our_logging.configure(settings.log.level, settings.log.format)
        clock, metrics = SystemClock(), Metrics(self._name)
        callers = KnownCallers(self._published.callers)
        await asyncio.to_thread(callers.look)
        kept = settings.data_dir / "policies" / "last-good.json"
        followed = PublishedPolicies(kept, mesh_facts(settings), settings.authorization.default_namespace)
        await followed.look()
        decisions = _decision_log(settings, self._name, metrics)
        point = await self._stack.enter_async_context(
            decision_point(settings, clock, lambda: followed.policies, meter=metrics, observer=decisions)
        )

        def trust() -> Trust:
            return callers.trust or Trust(settings.trust_domain)

        remote = RemoteCallers(callers, trust, clock, lambda peer: peer)
        service = AuthorizationService(Door(point, door_rules(settings), DOOR), remote)
        works: list[Callable[[], Awaitable[None]]] = [followed.run, point.run, decisions.run, _until_orphaned]
        works.append(lambda: _look_at(callers))
        self._tasks = [asyncio.create_task(_kept_going(work)) for work in works]
        self._check = CheckOverAsgi(service, ForwardedCertificate)

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    async def __call__(self, scope: Scope, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._check is not None:
            await self._check(scope, receive, send)

    async def _live(self, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        while True:
            event = await receive()
            if event["type"] == "lifespan.startup":
                try:
                    await self.start()
                except Exception as error:
                    log.error("the worker cannot start", exc_info=error)
                    await send({"type": "lifespan.startup.failed", "message": type(error).__name__})
                    return
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.end()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _decision_log(settings: Settings, name: str, metrics: Metrics) -> DecisionLog:
    """As the server's, in a file of its own: two processes cannot rotate one."""
    told = settings.authorization.decision_log
    files = None
    if told.path is not None:
        path = told.path.with_name(f"{told.path.stem}.{name}{told.path.suffix}")
        files = LogFiles(path, mode=told.mode, size=int(told.size), files=told.files)
    return DecisionLog(
        Recorder(told.masked_headers, told.masked_claims), Share(told.allows), files, stream=told.stream, meter=metrics
    )


async def _look_at(callers: KnownCallers) -> None:
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        await asyncio.to_thread(callers.look)


async def _until_orphaned() -> None:
    """Nobody would tell us of changes any more: then it is better not to answer."""
    server = os.environ.get(SERVER, "")
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        if str(os.getppid()) != server:
            break
    log.error("the server has ended, and so does its worker")
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(_LOOK_SECONDS * 10)
    os._exit(1)


async def _kept_going(work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await work()
        except Exception as error:  # the last line of defence: without it we would go on half-dead, in silence
            log.error("a task of the worker failed and is begun again", exc_info=error)
        await asyncio.sleep(1)


if FOLDER in os.environ:
    app = Worker(Published(Path(os.environ[FOLDER])), os.environ.get(NAME, "worker"))
