"""JWTs in compact form (RFC 7515, 7.1; RFC 7519): taken apart and checked as far as that goes without keys.

The registered claims are held to their types as Envoy's jwt_verify_lib does it: `iss`, `sub`, `jti` are strings, `aud`
a string or a list of strings, `exp`, `nbf`, `iat` numbers that are not negative. A key that the token itself carries or
points to (`jwk`, `jku`, `x5c`, `x5u`) is never looked at.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from citadel.authz.request import JsonValue
from citadel.authz.tokens.refusals import Reason, TokenRefused, shown
from citadel.authz.tokens.strict_json import parse_object

LONGEST_TOKEN = 16 * 1024  # bytes
LONGEST_KEY_ID = 1024
ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
"""Signatures by a key pair. None by a shared secret: a policy is no place for one."""

_SEGMENT = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, eq=False)
class UnverifiedToken:
    """A token that is well-formed, and not yet more than that."""

    text: str = field(repr=False)
    algorithm: str
    kid: str
    """Empty: the token names no key."""
    claims: Mapping[str, JsonValue] = field(repr=False)
    payload: str = field(repr=False)
    """The middle segment as it came: base64url of the claims."""

    @classmethod
    def parse(cls, text: str, longest: int = LONGEST_TOKEN) -> UnverifiedToken:
        """Raises TokenRefused: TOO_LARGE, MALFORMED or ALGORITHM."""
        if len(text) > longest:
            raise TokenRefused(Reason.TOO_LARGE, f"the token has more than {longest} bytes")
        segments = text.split(".")
        if len(segments) != 3:
            what = "it is encrypted (JWE)" if len(segments) == 5 else f"it has {len(segments)} parts"
            raise _malformed(f"expected three parts with dots between them; {what}")
        header, claims = (
            _object(segment, name) for segment, name in zip(segments, ("header", "payload"), strict=False)
        )
        _decoded(segments[2], "signature")
        _check_header(header)
        _check_claims(claims)
        return cls(text, header["alg"], header.get("kid", ""), claims, segments[1])

    @property
    def issuer(self) -> str:
        return _string(self.claims.get("iss", ""))

    @property
    def subject(self) -> str:
        return _string(self.claims.get("sub", ""))

    @property
    def audiences(self) -> tuple[str, ...]:
        value = self.claims.get("aud", [])
        items = value if isinstance(value, list) else [value]
        return tuple(_string(item) for item in items)

    def time(self, claim: str) -> float | None:
        """`exp` or `nbf`, in seconds since 1970; None: not there."""
        value = self.claims.get(claim)
        return value if isinstance(value, int | float) else None


def _string(value: JsonValue) -> str:
    assert isinstance(value, str)  # _check_claims has seen to that
    return value


def _malformed(why: str) -> TokenRefused:
    return TokenRefused(Reason.MALFORMED, f"this is no JSON Web Token: {why}")


def _decoded(segment: str, name: str) -> bytes:
    if not _SEGMENT.fullmatch(segment):
        raise _malformed(f"its {name} is not base64url without padding")
    try:
        found = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except binascii.Error:
        raise _malformed(f"its {name} is not base64url") from None
    if base64.urlsafe_b64encode(found).rstrip(b"=").decode() != segment:
        raise _malformed(f"its {name} is not base64url in its one form")
    return found


def _object(segment: str, name: str) -> dict[str, Any]:
    try:
        return parse_object(_decoded(segment, name))
    except ValueError as error:
        raise _malformed(f"its {name}: {error}") from None


def _check_header(header: dict[str, Any]) -> None:
    algorithm, kid = header.get("alg"), header.get("kid", "")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise TokenRefused(
            Reason.ALGORITHM, f"alg is {shown(str(algorithm))}; expected one of {', '.join(sorted(ALGORITHMS))}"
        )
    if not isinstance(kid, str) or len(kid) > LONGEST_KEY_ID:
        raise _malformed(f"kid is not a text of at most {LONGEST_KEY_ID} characters")
    if "crit" in header or "b64" in header:
        raise _malformed("its header demands an extension that is not known here (crit, b64)")
    if "cty" in header:
        raise _malformed("a token inside of a token (cty) is not accepted")


def _check_claims(claims: dict[str, Any]) -> None:
    for name in ("iss", "sub", "jti"):
        if not isinstance(claims.get(name, ""), str):
            raise _malformed(f"{name} is not a string")
    for name in ("exp", "nbf", "iat"):
        value = claims.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise _malformed(f"{name} is not a number of seconds since 1970")
    audience = claims.get("aud", [])
    if not all(isinstance(one, str) for one in (audience if isinstance(audience, list) else [audience])):
        raise _malformed("aud is neither a string nor a list of strings")
