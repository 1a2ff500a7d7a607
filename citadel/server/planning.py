"""Planned rotation, and the checks of a rotation, as the settings want them."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path

from citadel.ca.files import read_public, read_secret
from citadel.ca.rotation import RootKind
from citadel.ca.rotation.calendar import Lifetimes
from citadel.ca.rotation.hooks import Checked, Checks, Hook
from citadel.ca.rotation.planner import Planner
from citadel.ca.rotation.rotations import Rotations
from citadel.ca.rotation.schedule import Schedule
from citadel.clock import Clock
from citadel.config import SecretSource, Settings, secret_path
from citadel.errors import FailedPrecondition
from citadel.hooks import CommandHook, LeasedHook, Webhook, signing_key
from citadel.quiet_hours import QuietHours
from citadel.store import Store


def quiet_hours(settings: Settings) -> QuietHours:
    at = settings.rotation.schedule
    return QuietHours(at.quiet_hours, at.time_zone)


def planner(settings: Settings, rotations: Rotations, store: Store, clock: Clock) -> Planner:
    at = settings.rotation.schedule
    schedule = Schedule(
        at.root_at, at.issuing_at, at.approval, quiet_hours(settings), settings.ca.ttl, rotations.policy
    )
    lives = Lifetimes(settings.root.ttl, settings.ca.ttl, settings.svid.max_ttl, settings.rotation.reissue_per_second)
    return Planner(
        rotations,
        store.rotation,
        clock,
        schedule,
        lives,
        RootKind(settings.root.kind),
        makes_roots=settings.root.kind == "disk",
    )


def checks(settings: Settings, store: Store, clock: Clock) -> Checks:
    """Raises what reading the webhook's files does: at a start, and not in the middle of a rotation."""
    told = settings.rotation.hooks
    timeout = told.timeout.total_seconds()
    hooks: list[Hook] = []
    if told.command:
        hooks.append(CommandHook(told.command, timeout=timeout))
    if told.webhook:
        secret = partial(_secret, told.webhook_secret) if told.webhook_secret is not None else None
        tls: Callable[[], ssl.SSLContext] = partial(_tls, told.webhook_ca)
        if secret is not None:
            signing_key(secret())
        tls()
        hooks.append(Webhook(told.webhook, timeout=timeout, secret=secret, tls=tls))
    leased = [LeasedHook(hook, store.leases, settings.audit.writer, clock, told.timeout) for hook in hooks]
    steps = [Checked(step) for step in told.steps]
    return Checks(leased, clock, steps=steps, again=told.again.total_seconds())


def _secret(source: SecretSource) -> bytes:
    path = secret_path(source, os.environ)
    return read_secret(path, what="webhook secret", links=True, group_reads=source.kind == "credential")


def _tls(file: Path | None) -> ssl.SSLContext:
    if file is None:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cadata=read_public(file, what="file of CAs").decode())
    except (ssl.SSLError, UnicodeDecodeError) as error:
        raise FailedPrecondition(f"{file} holds no CA certificates in PEM: {error}") from error
