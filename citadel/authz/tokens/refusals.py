"""Why a token, or a set of keys, is refused: one error each, with a reason that machines can count."""

from __future__ import annotations

from enum import StrEnum

from citadel.errors import InvalidInput, Unauthenticated, Unavailable


class Reason(StrEnum):
    """What was wrong with the token; a stable word for logs and metrics."""

    MALFORMED = "token-malformed"
    TOO_LARGE = "token-too-large"
    ALGORITHM = "token-algorithm"
    UNKNOWN_ISSUER = "token-issuer"
    EXPIRED = "token-expired"
    NOT_YET_VALID = "token-not-yet-valid"
    AUDIENCE = "token-audience"
    UNKNOWN_KEY = "token-key-unknown"
    BAD_SIGNATURE = "token-signature"
    KEYS_UNAVAILABLE = "token-keys-unavailable"

    @property
    def status(self) -> int:
        """The HTTP status that Envoy's jwt_authn answers with: 403 for the audience alone (its filter.cc)."""
        return 403 if self is Reason.AUDIENCE else 401


class TokenRefused(Unauthenticated):
    """The token proves nothing. The message never holds the token, nor more than a few characters out of it."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class BadKeySet(InvalidInput):
    """What should be a JSON Web Key Set is none (RFC 7517, 5)."""


class KeysUnavailable(Unavailable):
    """There are no keys, and none to be had just now: whoever needs them is denied."""


def shown(text: str, most: int = 80) -> str:
    """Text that a stranger wrote, for a message: quoted, escaped, and cut."""
    return ascii(text if len(text) <= most else text[:most] + "...")
