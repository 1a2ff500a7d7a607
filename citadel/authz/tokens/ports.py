"""What the verification of tokens needs from the world."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from citadel.authz.model import JwtRule
from citadel.authz.tokens.keys import KeySet


class KeySource(Protocol):
    """Where the keys of a rule come from: the rule itself, its `jwksUri`, or OpenID Connect discovery at its issuer.

    Implementation: CachedKeys (tests/unit/authz_tokens/test_cached_keys.py).
    """

    async def keys(self, rule: JwtRule, kid: str) -> KeySet:
        """The keys for a token of `rule` whose header names `kid` (empty: it names none).

        The set may lack that key: nobody who sends made-up names can make the source ask more often than its
        configuration allows. What is returned was had from the issuer as its configuration demands, and is not older
        than that allows. Returns within a bounded time. Safe to call from many tasks at once; that one of them is
        cancelled does not disturb the others. Raises KeysUnavailable, and nothing else.
        """


class Fetch(Protocol):
    """Reads one document over HTTP. Implementation: HttpFetch (tests/unit/authz_tokens/test_fetching.py)."""

    async def __call__(self, url: str, *, timeout: float) -> bytes:
        """The body of a 200 answer, whole, within `timeout` seconds; nothing else counts as an answer.

        Raises KeysUnavailable; the message names the URL without its query, and the reason.
        """


class Resolver(Protocol):
    """Finds the addresses of a host."""

    async def __call__(self, host: str, port: int) -> Sequence[IPv4Address | IPv6Address]:
        """The addresses, best first; at least one. Raises OSError."""
