"""What runs in the Envoy of a worker: the ext_authz door, by the policies and registrations that the server publishes.

pyvoy imports `app`. Its lifespan reads everything once before a request is taken, then follows it, and reports to the
server all the while. Without its server, which publishes, a worker ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import structlog

from citadel.agent import door_rules
from citadel.authz.decision_log import Recorder, Share
from citadel.authz.doors import AuthorizationService, Door, RemoteCallers, Trust
from citadel.authz.doors.over_asgi import CALLS_AT_ONCE, CheckOverAsgi, ForwardedCertificate, Scope
from citadel.clock import SystemClock
from citadel.prctl import end_with_parent, leave_no_core
from citadel.server.decisions import decision_point
from citadel.server.ext_authz import DOOR
from citadel.server.told import mesh_facts
from citadel.server.workers.policies import PublishedPolicies, published_policies
from citadel.server.workers.published import KnownCallers, Published
from citadel.server.workers.reports import Reporter
from citadel.telemetry import logging as our_logging
from citadel.telemetry.decisions import DecisionCounts

FOLDER, NAME, LINK = "CITADEL_WORKER_FOLDER", "CITADEL_WORKER_NAME", "CITADEL_WORKER_LINK"
_LOOK_SECONDS = 0.2
_GRACE_SECONDS = 2.0
log = structlog.get_logger("citadel.worker")


class Worker:
    """The door of one process. `link`: to the server, which alone has the other end."""

    def __init__(self, published: Published, name: str, link: socket.socket) -> None:
        self._published = published
        self._name = name
        self._link = link
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._reporter: Reporter | None = None
        self._check: CheckOverAsgi | None = None

    async def start(self) -> None:
        """Returns when it can answer; if there are policies, by them."""
        settings = await asyncio.to_thread(self._published.read_settings)
        our_logging.configure(settings.log.level, settings.log.format)
        clock, counts = SystemClock(), DecisionCounts()
        callers = KnownCallers(self._published.callers)
        kept = published_policies(settings)
        followed = PublishedPolicies(kept, mesh_facts(settings), settings.authorization.default_namespace)

        def standing() -> tuple[bool, str, int]:
            version = "" if followed.policies is None else followed.policies.version
            return self._check is not None, version, callers.edition

        told = settings.authorization.decision_log
        reporter = Reporter(
            self._link, counts, Recorder(told.masked_headers, told.masked_claims), Share(told.allows), standing
        )
        self._reporter = reporter
        self._tasks = [asyncio.create_task(_as_long_as_there_is_a_server(reporter))]  # it is heard of from now on
        await asyncio.to_thread(callers.look)
        await followed.look()
        point = await self._stack.enter_async_context(
            decision_point(settings, clock, lambda: followed.policies, meter=counts, observer=reporter)
        )

        def trust() -> Trust:
            return callers.trust or Trust(settings.trust_domain)

        remote = RemoteCallers(callers, trust, clock, lambda peer: peer)
        service = AuthorizationService(Door(point, door_rules(settings), DOOR), remote)
        works: list[Callable[[], Awaitable[None]]] = [followed.run, point.run]
        works.append(lambda: self._follow(callers))
        self._tasks += [asyncio.create_task(_kept_going(work)) for work in works]
        each = max(1, CALLS_AT_ONCE // settings.authorization.tcp.workers)
        self._check = CheckOverAsgi(service, ForwardedCertificate, calls_at_once=each)

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._reporter is not None:
            with suppress(OSError):  # nobody listens any more
                await self._reporter.close()
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

    async def _follow(self, callers: KnownCallers) -> None:
        """Who is registered, and of the settings those that SIGHUP takes into use: of ours, how we log."""
        known = 0
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await asyncio.to_thread(callers.look)
            if (state := await asyncio.to_thread(self._published.settings_state)) == known:
                continue
            now, known = await asyncio.to_thread(self._published.read_settings), state
            our_logging.configure(now.log.level, now.log.format)


async def _as_long_as_there_is_a_server(reporter: Reporter) -> None:
    """Nobody would tell us of changes any more: then it is better not to answer."""
    try:
        await reporter.run()
        log.error("the server has ended, and so does its worker")
    except Exception as error:  # the server will not hear of us, and ends us as well
        log.error("the worker cannot report, and ends", exc_info=error)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(_GRACE_SECONDS)
    os._exit(1)


async def _kept_going(work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await work()
        except Exception as error:  # the last line of defence: without it we would go on half-dead, in silence
            log.error("a task of the worker failed and is begun again", exc_info=error)
        await asyncio.sleep(1)


if FOLDER in os.environ:
    end_with_parent()  # of the thread that starts workers, which ends last
    leave_no_core()
    app = Worker(Published(Path(os.environ[FOLDER])), os.environ[NAME], socket.socket(fileno=int(os.environ[LINK])))
