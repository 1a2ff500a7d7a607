"""`citadel up`: server and node in one process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from citadel import __version__
from citadel import agent as node_side
from citadel.api.http import HttpParts, serving
from citadel.audit.notary import Notary
from citadel.authz.decision_point import DecisionPoint
from citadel.ca.kek_place import CredentialPlace, FilePlace, KekPlace
from citadel.clock import Clock
from citadel.config import Settings, TransitKey, database_url, guarded_folders
from citadel.errors import CitadelError
from citadel.folders import refuse_weak
from citadel.server.admin import admin_socket
from citadel.server.decisions import decision_point
from citadel.server.ext_authz import ext_authz_port
from citadel.server.late import looked_at
from citadel.server.mesh_view import MeshView
from citadel.server.server import Server
from citadel.store import Store
from citadel.telemetry.metrics import Metrics
from citadel.vault import Session, TransitKek
from citadel.vault_parts import TransitPlace, vault_session
from citadel.workload.listener import private_folder

if TYPE_CHECKING:
    from citadel.server.authzen import AuthzenPort


async def _keks(settings: Settings, vault: Session | None) -> KekPlace:
    source = settings.keys.kek
    if isinstance(source, TransitKey):
        assert vault is not None  # config.checks says so
        return TransitPlace(await looked_at(TransitKek(vault, source.mount, source.name)))
    if source.kind == "file":
        return FilePlace(Path(source.where))
    return CredentialPlace(source.where, os.environ.get("CREDENTIALS_DIRECTORY"))


@asynccontextmanager
async def up(settings: Settings, clock: Clock) -> AsyncIterator[Server]:
    """Server and node, running inside the context. Raises CitadelErrors; what was begun is ended."""
    refuse_weak(guarded_folders(settings))
    async with AsyncExitStack() as stack:
        server = await _started(settings, clock, stack)
        private = private_folder(settings.sockets.workload.path.parent / ".private")
        point = server.point = await stack.enter_async_context(
            decision_point(
                settings,
                clock,
                server.policy_set,
                meter=server.metrics,
                observer=server.decision_log,
                health=server.health,
                switches=None if server.policies is None else server.policies.switches,
            )
        )
        mesh = MeshView(server)
        ext_authz, authzen = ext_authz_port(server, point), authzen_port(server, point, mesh)
        works = _works(server) | {"decisions": point.run, "mesh view": mesh.follow}
        for port in (ext_authz, authzen):
            works |= port.works() if port is not None else {}
        for name, work in works.items():
            task = asyncio.create_task(server.supervisor.keep(name, work), name=name)
            stack.push_async_callback(_cancelled, task)
        node = await stack.enter_async_context(
            node_side.running(settings, server.upstream, clock, private, point=point, meter=server.metrics)
        )
        server.runs_node(node)
        if ext_authz is not None:
            await stack.enter_async_context(ext_authz.open(private))
        await server.jobs.start()
        stack.push_async_callback(server.jobs.stop)
        if settings.http.address is not None:
            parts = HttpParts(server.health.look, server.exposition)
            await stack.enter_async_context(serving(parts, settings.http.address.host, settings.http.address.port))
        if authzen is not None:
            await stack.enter_async_context(authzen.open(private))
        stack.push_async_callback(server.health.close)
        # The last: who reaches it finds all of us.
        await stack.enter_async_context(admin_socket(server, private, point, mesh))
        yield server


async def _started(settings: Settings, clock: Clock, stack: AsyncExitStack) -> Server:
    """A server that has its keys and its store to itself, and has started; `stack` ends it."""
    url = database_url(settings, os.environ).get_secret_value()
    metrics = Metrics(__version__)
    vault = vault_session(settings, os.environ, clock, meter=metrics)
    if vault is not None:
        stack.push_async_callback(vault.close)
    keks = await _keks(settings, vault)
    keks.load()  # before anything is opened: what is wrong with it is told at once
    store = await stack.enter_async_context(
        Store.open(
            url,
            writer=settings.audit.writer,
            pool_size=settings.store.pool_size,
            timeout=settings.store.timeout,
            meter=metrics,
        )
    )
    await stack.enter_async_context(store.alone())
    server = Server(settings, store, keks, clock, metrics, vault)
    await server.start()
    stack.push_async_callback(server.high_water.last)
    stack.push_async_callback(_last_checkpoint, server.notary)
    return server


def _works(server: Server) -> dict[str, Callable[[], Awaitable[None]]]:
    """What a server does as long as it runs, by name."""
    works: dict[str, Callable[[], Awaitable[None]]] = {
        "authorities": server.follow_authorities,
        "directory": server.directory.run,
        "audit": server.notary.follow,
        "rotation": server.rotation_runner.run,
        "high water": server.high_water.run,
        "decision log": server.decision_log.run,
    }
    if server.vault is not None:
        check = server.settings.vault.check
        works["late start"] = server.late.run
        works["vault"] = server.vault.run
        works["vault watch"] = partial(server.vault.watch, check)
        if server.vault_watch is not None:
            works["vault findings"] = partial(server.vault_watch.run, check)
    if server.policies is not None:
        works["policies"] = server.policies.run
    if (folder := server.entry_folder()) is not None:
        works["entry folder"] = folder.watch
    return works


def authzen_port(server: Server, point: DecisionPoint, mesh: MeshView) -> AuthzenPort | None:
    """None if none is configured: then what it needs is not even imported."""
    told = server.settings.authorization.authzen
    if told.address is None and told.socket is None:
        return None
    from citadel.server.authzen import AuthzenPort

    return AuthzenPort(server, point, mesh)


async def _last_checkpoint(notary: Notary) -> None:
    with suppress(CitadelError):  # the next start goes on from the one before
        await notary.checkpoint()


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
