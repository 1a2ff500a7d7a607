"""What decisions need of the world besides policies: providers to ask, keys for tokens, somebody who listens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from citadel.authz.decision import Decision
from citadel.authz.decision_point.changes import NO_CHANGES, Changes
from citadel.authz.decision_point.ruling import Refusal, Ruling
from citadel.authz.evaluate import Answer
from citadel.authz.facts import ExtensionProvider
from citadel.authz.model import JwtRule
from citadel.authz.request import Request
from citadel.authz.tokens.ports import KeySource


@dataclass(frozen=True, slots=True)
class ProviderReply:
    """What came of asking a provider."""

    answer: Answer
    changes: Changes = NO_CHANGES
    """For ALLOW."""
    refusal: Refusal | None = None
    """For DENY."""
    why: str = ""
    """For the log: why it FAILED."""


class Providers(Protocol):
    """Asks extension providers. Implementation: authz.providers (tests/unit/authz/test_providers.py)."""

    async def ask(self, provider: ExtensionProvider, request: Request) -> ProviderReply:
        """What `provider` says of `request`, whose path is already normalised.

        Returns within the provider's timeout and a little. Raises nothing: what goes wrong is FAILED. Safe to call
        from many tasks at once."""


class NoProviders:
    """Nobody to ask: each of them fails."""

    async def ask(self, provider: ExtensionProvider, request: Request) -> ProviderReply:  # noqa: ARG002
        return ProviderReply(Answer.FAILED, why="this program asks no providers")


class RetainedKeys(KeySource, Protocol):
    """Keys that are cached. Implementation: tokens.CachedKeys."""

    async def retain(self, rules: Iterable[JwtRule]) -> None:
        """Forget the keys of all other rules."""


class DecisionObserver(Protocol):
    """Is told every ruling, denials before there is a question too: for the decision log, and to count.

    `ruled` is called on the event loop, before the answer goes out: it must not wait for anything, and bounds what it
    keeps. It should not raise; if it does, that is logged and changes no answer."""

    def ruled(self, ruling: Ruling) -> None: ...


class DecisionMeter(Protocol):
    """Counts decisions. Implementation: telemetry.metrics. Never blocks, never raises."""

    def decided(self, door: str, decision: Decision, seconds: float) -> None: ...


class NoMeter:
    """Counts nothing."""

    def decided(self, door: str, decision: Decision, seconds: float) -> None: ...
