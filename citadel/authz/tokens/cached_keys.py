"""The keys of rules: written in the rule, fetched from its `jwksUri`, or found by OpenID Connect discovery; and cached.

One attempt at a time for each issuer, whoever waits for it; when, is `schedule`'s to say.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Self

from citadel.authz.model import JwtRule
from citadel.authz.tokens.keys import KeySet
from citadel.authz.tokens.ports import Fetch
from citadel.authz.tokens.refusals import BadKeySet, KeysUnavailable, shown
from citadel.authz.tokens.schedule import KeySchedule, KeyState, Need
from citadel.authz.tokens.strict_json import parse_object
from citadel.clock import Clock

DEFAULT_TIMEOUT = 5.0  # seconds, as in Istio
_DISCOVERY = "/.well-known/openid-configuration"


@dataclass(frozen=True, slots=True)
class KeyLocation:
    """Where a rule's keys are fetched: `jwks_uri`, or without one at what `issuer` says of itself."""

    jwks_uri: str
    issuer: str
    timeout: float

    @classmethod
    def of(cls, rule: JwtRule) -> KeyLocation:
        timeout = DEFAULT_TIMEOUT if rule.timeout is None else rule.timeout.total_seconds()
        return cls(rule.jwks_uri, "" if rule.jwks_uri else rule.issuer, timeout)


def _chance() -> float:
    return secrets.randbelow(1 << 20) / (1 << 20)


class _Cached:
    def __init__(self, location: KeyLocation, schedule: KeySchedule) -> None:
        self.location = location
        self.state = KeyState(schedule)
        self.attempt: asyncio.Task[None] | None = None


class CachedKeys:
    """Contract: ports.KeySource. An async context manager: at the end no attempt goes on, and keys are refused."""

    def __init__(
        self,
        fetch: Fetch,
        clock: Clock,
        schedule: KeySchedule | None = None,
        chance: Callable[[], float] = _chance,
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._schedule = schedule or KeySchedule()
        self._chance = chance
        self._cached: dict[KeyLocation, _Cached] = {}
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        self._closed = True
        await self._forget(list(self._cached))

    async def retain(self, rules: Iterable[JwtRule]) -> None:
        """Forget the keys of all other rules: called when the policies have changed."""
        wanted = {KeyLocation.of(rule) for rule in rules if not rule.jwks}
        await self._forget([location for location in self._cached if location not in wanted])

    async def keys(self, rule: JwtRule, kid: str) -> KeySet:
        """Contract: ports.KeySource."""
        if rule.jwks:
            return _inline(rule.jwks)
        if self._closed:
            raise KeysUnavailable("the keys of issuers are no longer fetched: Citadel is stopping")
        cached = self._at(KeyLocation.of(rule))
        need = cached.state.need(kid, self._clock.monotonic())
        if need is not Need.NOTHING:
            attempt = self._attempt(cached)
            if need is Need.NOW:
                await asyncio.wait({attempt})  # which is not cancelled with whoever waits
        now = self._clock.monotonic()
        found = cached.state.usable(now)
        if found is None:
            raise KeysUnavailable(
                f"there are no keys of {shown(rule.issuer or rule.jwks_uri)}: {cached.state.problem}",
                retry_after=cached.state.pause(now),
            )
        return found

    def problems(self) -> dict[str, str]:
        """Of each issuer or `jwksUri` whose last attempt failed, why; for status pages."""
        failed = (one for one in self._cached.values() if one.state.problem)
        return {one.location.jwks_uri or one.location.issuer: one.state.problem for one in failed}

    def _at(self, location: KeyLocation) -> _Cached:
        if location not in self._cached:
            self._cached[location] = _Cached(location, self._schedule)
        return self._cached[location]

    def _attempt(self, cached: _Cached) -> asyncio.Task[None]:
        """The attempt that is under way, or a new one."""
        if cached.attempt is None or cached.attempt.done():
            cached.attempt = asyncio.create_task(self._refresh(cached))
        return cached.attempt

    async def _refresh(self, cached: _Cached) -> None:
        """Never raises: what went wrong is in the state."""
        try:
            keys = await self._fetched(cached.location)
        except (KeysUnavailable, BadKeySet) as error:
            cached.state.failed(error.message, self._clock.monotonic(), self._chance())
        except Exception as error:  # a defect: denied like an outage, never let through
            cached.state.failed(f"internal error ({type(error).__name__})", self._clock.monotonic(), self._chance())
        else:
            cached.state.succeeded(keys, self._clock.monotonic())

    async def _fetched(self, location: KeyLocation) -> KeySet:
        uri = location.jwks_uri or await self._discovered(location)
        return KeySet.parse(await self._fetch(uri, timeout=location.timeout))

    async def _discovered(self, location: KeyLocation) -> str:
        """The `jwks_uri` of an issuer (OpenID Connect Discovery 1.0, 4). Raises KeysUnavailable."""
        url = location.issuer.rstrip("/") + _DISCOVERY
        text = await self._fetch(url, timeout=location.timeout)
        try:
            document = parse_object(text)
        except ValueError as error:
            raise KeysUnavailable(f"{shown(url)}: {error}") from None
        if document.get("issuer") != location.issuer:
            raise KeysUnavailable(f"{shown(url)} speaks of another issuer: {shown(str(document.get('issuer')))}")
        uri = document.get("jwks_uri")
        if not isinstance(uri, str):
            raise KeysUnavailable(f"{shown(url)} names no jwks_uri")
        return uri

    async def _forget(self, locations: list[KeyLocation]) -> None:
        gone = [self._cached.pop(location) for location in locations]
        attempts = {one.attempt for one in gone if one.attempt is not None}
        for attempt in attempts:
            attempt.cancel()
        if attempts:
            await asyncio.wait(attempts)


@lru_cache(maxsize=4096)
def _parsed(text: str) -> KeySet | BadKeySet:
    try:
        return KeySet.parse(text.encode("utf-8", "replace"))
    except BadKeySet as error:
        return error


def _inline(text: str) -> KeySet:
    found = _parsed(text)
    if isinstance(found, BadKeySet):
        raise KeysUnavailable(f"the rule's own jwks: {found.message}")
    return found
