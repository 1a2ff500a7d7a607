"""By what requests are told apart before a rule is looked at: the index's dimensions, and a rule's keys in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter, methodcaller
from typing import Any

from citadel.authz.patterns import Patterns
from citadel.authz.subject import Subject


@dataclass(frozen=True, slots=True)
class Dimension:
    """An attribute of requests. Equal by name."""

    name: str
    values: Callable[[Subject], Any] = field(compare=False, repr=False)
    """The value, or None; if there may be several, a tuple of them."""
    several: bool = field(default=False, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Keys:
    """What a request must have in a dimension to be able to match: one of `exact`, or a start, or an end."""

    exact: tuple[str | int, ...] = ()
    prefixes: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()

    @classmethod
    def of_patterns(cls, patterns: Patterns) -> Keys:
        return cls(tuple(patterns.exact), patterns.prefixes, patterns.suffixes)

    def __add__(self, other: Keys) -> Keys:
        return Keys(self.exact + other.exact, self.prefixes + other.prefixes, self.suffixes + other.suffixes)


PRINCIPAL = Dimension("principal", attrgetter("principal"))
NAMESPACE = Dimension("namespaces", attrgetter("namespaces"), several=True)
SERVICE_ACCOUNT = Dimension("service_accounts", attrgetter("service_accounts"), several=True)
TRUST_DOMAIN = Dimension("trust_domain", attrgetter("trust_domain"))
SOURCE_IP = Dimension("source_bits", attrgetter("source_bits"))
REMOTE_IP = Dimension("remote_bits", attrgetter("remote_bits"))
DESTINATION_IP = Dimension("destination_bits", attrgetter("destination_bits"))
REQUEST_PRINCIPAL = Dimension("request_principal", attrgetter("request_principal"))
PATH = Dimension("path", attrgetter("path"))
METHOD = Dimension("method", attrgetter("method"))
HOST = Dimension("host", attrgetter("host"))
PORT = Dimension("port", attrgetter("port"))
SNI = Dimension("sni", attrgetter("sni"))


def claim_dimension(path: tuple[str, ...]) -> Dimension:
    return Dimension(f"claim {path!r}", methodcaller("claim", path), several=True)


def header_dimension(name: str) -> Dimension:
    return Dimension(f"header {name}", methodcaller("header", name), several=True)
