"""Callers who bring an access token of OAuth 2.0 (RFC 6750): a JWT of one issuer, meant for us, that ends some day.

AuthZEN (Authorization API 1.0, 1 and 12.2) recommends OAuth; who fails at it is answered 401 with WWW-Authenticate.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from citadel.api.authzen.callers import Caller
from citadel.authz.model import HeaderLocation, JwtRule
from citadel.authz.request import HttpRequest
from citadel.authz.tokens import NoToken, Rejected, TokenAuthenticator, TokenGate, Verified
from citadel.authz.tokens import Reason as TokenReason
from citadel.authz.tokens.ports import KeySource
from citadel.clock import Clock
from citadel.errors import Unauthenticated, Unavailable

SUBJECT = "sub:"
"""Begins the name of a caller who is known by a token's `sub`."""
_LONGEST = 512  # of a sub


class Bearers(Protocol):
    """Reads callers' tokens. Implementation: AccessTokens."""

    @property
    def challenge(self) -> str:
        """For WWW-Authenticate."""

    async def caller(self, authorization: Iterable[bytes]) -> Caller | None:
        """Who the Authorization headers of a request prove that it is; None: there are none.

        Raises Unauthenticated; Unavailable, where the issuer's keys are not to be had."""


@dataclass(frozen=True, slots=True)
class AccessTokens:
    """Contract: Bearers. `issuer` signs, and `audience` is what we are to it."""

    issuer: str
    audience: str
    keys: KeySource
    clock: Clock
    jwks_url: str = ""
    """Where its keys are; empty: OpenID discovery says so."""

    @property
    def challenge(self) -> str:
        return f'Bearer realm="{self.issuer}"'

    @property
    def rule(self) -> JwtRule:
        places = (HeaderLocation("authorization", "Bearer "),)
        return JwtRule(self.issuer, (self.audience,), self.jwks_url, from_headers=places)

    async def caller(self, authorization: Iterable[bytes]) -> Caller | None:
        values = tuple(one.decode("latin-1") for one in authorization)
        if not values:
            return None
        scheme, _, token = values[0].partition(" ")
        if len(values) > 1 or scheme.lower() != "bearer":
            raise Unauthenticated("Authorization: expected one access token, as Bearer")
        http = HttpRequest("POST", "/", headers={"authorization": (f"Bearer {token}",)})
        match await TokenAuthenticator(self.keys, self.clock).authenticate(TokenGate([self.rule]), http):
            case Verified(claims=claims):
                subject = claims.get("sub")
                if claims.get("exp") is None or not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST:
                    raise Unauthenticated("the access token has no exp, or no sub")
                return Caller(frozenset([SUBJECT + subject]), f"{SUBJECT}{subject}")
            case Rejected(TokenReason.KEYS_UNAVAILABLE, message):
                raise Unavailable(message)
            case Rejected(reason, message):
                raise Unauthenticated(f"{reason}: {message}")
            case NoToken():
                raise Unauthenticated("Authorization: there is no token in it")
