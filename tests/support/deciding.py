"""Decision points for tests: by a set that stands still or changes, with an issuer's keys that nobody serves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from citadel.authz import PolicySet
from citadel.authz.decision_point import DecisionPoint, Providers, Ruling
from citadel.authz.tokens import CachedKeys, KeysUnavailable
from citadel.clock import Clock
from tests.support.clock import ManualClock
from tests.support.tokens import NOW


async def nowhere(url: str, *, timeout: float) -> bytes:
    """Contract: tokens.ports.Fetch, where there is no network."""
    raise KeysUnavailable(f"{url} cannot be reached: there is no network here")


class Observed(list[Ruling]):
    """Contract: decision_point.DecisionObserver."""

    def ruled(self, ruling: Ruling) -> None:
        self.append(ruling)


def deciding(
    policies: PolicySet | Callable[[], PolicySet | None] | None,
    *,
    providers: Providers | None = None,
    clock: Clock | None = None,
    **more: Any,
) -> DecisionPoint:
    """It is NOW in it, for tokens."""
    clock = clock or ManualClock(NOW)
    given = policies if callable(policies) else lambda: policies
    return DecisionPoint(given, clock, CachedKeys(nowhere, clock), providers, **more)
