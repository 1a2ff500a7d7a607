"""`citadel up` as a process: its limits, its signals, what a reload takes into use, and what systemd is told."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
from collections.abc import Callable

import structlog
import uvloop

from citadel import __version__
from citadel.clock import SystemClock
from citadel.config import Settings, reloadable_changes, with_reloadable
from citadel.errors import CitadelError
from citadel.prctl import leave_no_core
from citadel.server import Server, up
from citadel.telemetry import Systemd
from citadel.telemetry import logging as our_logging

log = structlog.get_logger("citadel")


def run_up(settings: Settings, load_again: Callable[[], Settings]) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP takes a changed configuration into use.

    Raises CitadelErrors for everything that keeps it from starting.
    """
    our_logging.configure(settings.log.level, settings.log.format)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a relayed client costs four descriptors
    os.umask(0o077)
    leave_no_core()
    collect_seldom()
    gc.freeze()  # the modules are here to stay: no collection looks at them again
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_signalled(settings, load_again))


def collect_seldom() -> None:
    """With CPython's own thresholds (700, 10, 10) half of the time in which many entries are read is collecting."""
    gc.set_threshold(50_000, 20, 20)


def settle_memory() -> None:
    """Keep what is in memory now (modules, a registry of many thousand entries) out of garbage collections: they would
    hold up everybody for as long as it takes to look through it, again and again."""
    gc.collect()
    gc.freeze()


async def _until_signalled(settings: Settings, load_again: Callable[[], Settings]) -> None:
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, signals.put_nowait, number)
    systemd = Systemd(os.environ)
    async with up(settings, SystemClock()) as server:
        await server.directory.loaded()
        settle_memory()
        log.info(
            "up",
            version=__version__,
            trust_domain=settings.trust_domain.name,
            admin=str(settings.sockets.admin.path),
            workload=str(settings.sockets.workload.path),
            http=str(settings.http.address or "off"),
        )
        systemd.ready(f"serving {settings.trust_domain}")
        while (number := await signals.get()) is signal.SIGHUP:
            systemd.reloading()
            _reload(server, load_again)
            systemd.ready(f"serving {settings.trust_domain}")
        systemd.stopping()
        log.info("stopping", signal=number.name)
    log.info("stopped")


def _reload(server: Server, load_again: Callable[[], Settings]) -> None:
    """Take into use what may change while we run; say what waits for a restart. With a mistake nothing changes."""
    try:
        new = load_again()
    except CitadelError as error:
        log.error("the changed configuration is not used", error=error.sentence())
        return
    changes = reloadable_changes(server.settings, new)
    server.reconfigure(with_reloadable(server.settings, new), pending=changes.needs_restart)
    for change in changes.reloadable:
        log.info("a setting changed", setting=change.field, old=change.old, new=change.new)
    for change in changes.needs_restart:
        log.warning("a setting waits for a restart", setting=change.field, old=change.old, new=change.new)
    log.info(
        "configuration read again", changed=len(changes.reloadable), waiting_for_restart=len(changes.needs_restart)
    )
