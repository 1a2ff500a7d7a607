"""SPIFFE identities as values: TrustDomain and SpiffeId parse or raise (SPIFFE-ID.md, sections 2.1 to 2.4)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from citadel.errors import BadSpiffeId

SCHEME = "spiffe://"
MAX_ID_BYTES = 2048  # SPIFFE-ID 2.3: generators must not make longer ones, and validators must take this much
MAX_TRUST_DOMAIN_BYTES = 255

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+")
# The whole ID at once, for the common case: no segment is empty, and dots alone never make one.
_WHOLE = re.compile(r"spiffe://([a-z0-9._-]{1,255})((?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+)*)")


@dataclass(frozen=True, slots=True, order=True)
class TrustDomain:
    """A trust domain name: lower-case letters, digits, dots, dashes, underscores; 1 to 255 bytes."""

    name: str

    @classmethod
    def parse(cls, text: str) -> TrustDomain:
        """Read a trust domain name, or the `spiffe://name` form of it.

        Raises BadSpiffeId with the first thing that is wrong.
        """
        name = text.removeprefix(SCHEME)
        if _TRUST_DOMAIN.fullmatch(name):
            return cls(name)
        raise BadSpiffeId(text, _trust_domain_fault(name), what="trust domain")

    @property
    def id(self) -> SpiffeId:
        """The trust domain's own SPIFFE ID, which has no path."""
        return SpiffeId(self, "")

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, order=True)
class SpiffeId:
    """A SPIFFE ID: a trust domain and a path that is empty or starts with a slash and never ends with one."""

    trust_domain: TrustDomain
    path: str
    uri: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "uri", f"{SCHEME}{self.trust_domain.name}{self.path}")

    def __hash__(self) -> int:  # once a string, not the parts each time
        return hash(self.uri)

    @classmethod
    def parse(cls, text: str) -> SpiffeId:
        """Read a SPIFFE ID in its one form, `spiffe://trust-domain/path`; nothing is normalised.

        Raises BadSpiffeId with the first thing that is wrong.
        """
        match = _WHOLE.fullmatch(text)
        if match is None or len(text) > MAX_ID_BYTES:
            raise BadSpiffeId(text, _id_fault(text))
        return cls(TrustDomain(match[1]), match[2])

    @classmethod
    def of(cls, trust_domain: TrustDomain, *segments: str) -> SpiffeId:
        """The ID of `trust_domain` with these path segments. Raises BadSpiffeId."""
        return cls.parse(SCHEME + "/".join((trust_domain.name, *segments)))

    def is_member_of(self, trust_domain: TrustDomain) -> bool:
        return self.trust_domain == trust_domain

    def __str__(self) -> str:
        return self.uri


def _trust_domain_fault(name: str) -> str:
    if not name:
        return "the trust domain is empty"
    if "@" in name:
        return "user info is not allowed"
    if ":" in name:
        return "a port is not allowed"
    if "/" in name:
        return "a trust domain has no path"
    if len(name) > MAX_TRUST_DOMAIN_BYTES:
        return f"the trust domain is longer than {MAX_TRUST_DOMAIN_BYTES} bytes"
    bad = next(c for c in name if not _TRUST_DOMAIN.fullmatch(c))
    return f"{bad!r} is not allowed in a trust domain, only lower-case letters, digits, '.', '-' and '_'"


def _id_fault(text: str) -> str:
    if not text.startswith(SCHEME):
        return "it must start with 'spiffe://', in lower case"
    if len(text.encode("utf-8", "surrogatepass")) > MAX_ID_BYTES:
        return f"it is longer than {MAX_ID_BYTES} bytes"
    for mark, name in (("?", "a query"), ("#", "a fragment"), ("%", "percent-encoding"), (",", "a comma")):
        if mark in text:
            return f"{name} is not allowed"
    name, slash, path = text.removeprefix(SCHEME).partition("/")
    if not _TRUST_DOMAIN.fullmatch(name):
        return _trust_domain_fault(name)
    if slash and not path:
        return "it must not end with a slash"
    if path.endswith("/"):
        return "it must not end with a slash"
    for segment in path.split("/"):
        if not segment:
            return "a path segment is empty"
        if segment in (".", ".."):
            return "dot segments are not allowed"
        if not _SEGMENT.fullmatch(segment):
            bad = next(c for c in segment if not _SEGMENT.fullmatch(c))
            return f"{bad!r} is not allowed in a path, only letters, digits, '.', '-' and '_'"
    return "it is malformed"
