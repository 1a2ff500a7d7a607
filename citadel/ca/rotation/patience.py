"""Patience: how long quiet hours may hold up a planned rotation. Never until what it replaces has ended. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from citadel.ca.model import AuthorityKind, KeySource
from citadel.ca.rotation.policy import RotationPolicy
from citadel.ca.rotation.world import World
from citadel.quiet_hours import QuietHours

_MARGIN = timedelta(hours=1)  # for leaves to be reissued
_OURS_TO_RENEW = frozenset({KeySource.SEALED, KeySource.VAULT})  # roots under which Citadel makes issuing CAs


def distributed_by(policy: RotationPolicy) -> timedelta:
    """How long a new root takes to be distributed if a client is silent until its grace ends."""
    return max(policy.reconnect_window, policy.assumed_after, policy.grace)


def begin_by(begins: datetime, ends: datetime, policy: RotationPolicy) -> datetime:
    """The last moment at which a root that lives from `begins` to `ends` is waited with: the next one can still be
    distributed, and sign, before it ends."""
    return ends - min(distributed_by(policy) + _MARGIN, (ends - begins) / 4)


def sign_by(begins: datetime, ends: datetime) -> datetime:
    """The last moment at which one that is distributed is kept from signing in its place."""
    return ends - min(_MARGIN, (ends - begins) / 8)


def in_force(world: World) -> tuple[datetime, datetime] | None:
    """From when until when there is something to sign with, if nothing is done: the root in force, or its issuing CA if
    that is not ours to renew."""
    root, signer = world.active(AuthorityKind.ROOT), world.active(AuthorityKind.ISSUING)
    if root is None:
        return None
    lives = [root.certificate]
    if signer is not None and (signer.key_source is KeySource.FILES or root.key_source not in _OURS_TO_RENEW):
        lives.append(signer.certificate)
    first = min(lives, key=lambda c: c.not_after)
    return first.not_before, first.not_after


def held_until(quiet: QuietHours, now: datetime, latest: datetime) -> datetime | None:
    """Until when quiet hours hold up at `now` what must be done by `latest`; None: they do not."""
    until = quiet.until(now)
    return None if until is None or now >= latest else min(until, latest)


def opens(quiet: QuietHours, at: datetime, latest: datetime) -> datetime:
    """The first moment from `at` on at which it is not held up."""
    open_from = quiet.open_from(at)
    return open_from if open_from is not None and open_from <= max(at, latest) else max(at, latest)
