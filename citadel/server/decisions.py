"""The decision point of a process: what all its doors share, with the keys and providers that it needs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from citadel.authz import PolicySet
from citadel.authz.decision_point import DecisionMeter, DecisionObserver, DecisionPoint
from citadel.authz.providers import ProviderClients, ProviderTls
from citadel.authz.switches import Switches
from citadel.authz.tokens import CachedKeys, FetchPolicy, HttpFetch
from citadel.clock import Clock
from citadel.config import Settings
from citadel.config.providers import ProviderSettings
from citadel.errors import FailedPrecondition
from citadel.server.checks import token_key_check
from citadel.telemetry.health import Health


@asynccontextmanager
async def decision_point(
    settings: Settings,
    clock: Clock,
    policies: Callable[[], PolicySet | None],
    *,
    meter: DecisionMeter,
    observer: DecisionObserver | None = None,
    health: Health | None = None,
    switches: Switches | None = None,
) -> AsyncIterator[DecisionPoint]:
    """The decision point, usable inside the context; somebody must keep its `run` going.

    `switches`: told whenever `policies` gives another set.

    Raises FailedPrecondition if a provider's CAs cannot be read."""
    told = settings.authorization
    tls = {one.name: _tls(one) for one in told.providers if one.tls}
    fetched = FetchPolicy(frozenset(told.keys.plain_http_hosts), told.keys.refused_networks)
    async with (
        HttpFetch(fetched) as fetch,
        CachedKeys(fetch, clock) as keys,
        ProviderClients(tls) as providers,
    ):
        if health is not None:
            token_key_check(health, keys)
        yield DecisionPoint(policies, clock, keys, providers, meter=meter, observer=observer, switches=switches)


def _tls(provider: ProviderSettings) -> ProviderTls:
    if provider.ca_file is None:
        return ProviderTls()
    try:
        return ProviderTls(provider.ca_file.read_bytes())
    except OSError as error:
        raise FailedPrecondition(
            f"the CAs of provider {provider.name!r} cannot be read from {provider.ca_file}: {error.strerror}",
            mend="set ca_file in [[authorization.providers]] to a PEM file",
        ) from None
