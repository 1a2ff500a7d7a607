"""What is asked for, and over what: texts, paths, ports, addresses, headers, metadata."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter

from citadel.authz.criteria.criterion import NO_KEYS, IndexKeys, one_or_all
from citadel.authz.dimensions import PATH, PORT, Dimension, Keys, header_dimension
from citadel.authz.patterns import Patterns
from citadel.authz.request import JsonValue
from citadel.authz.subject import Subject
from citadel.authz.template import PathTemplate


@dataclass(frozen=True, slots=True)
class TextCriterion:
    """An attribute with at most one value: principals, methods, hosts, SNI."""

    field: str
    values: tuple[str, ...]
    negated: bool
    dimension: Dimension
    patterns: Patterns
    empty_is_present: bool = False
    """`*` matches also an empty text, as long as there is one (methods, hosts)."""

    def holds(self, subject: Subject) -> bool:
        text = self.dimension.values(subject)
        patterns = self.patterns
        if text is None:
            return self.negated
        return (
            text in patterns.exact
            or text.startswith(patterns.prefixes)
            or text.endswith(patterns.suffixes)
            or (patterns.present and (text != "" or self.empty_is_present))
        ) is not self.negated

    def actual(self, subject: Subject) -> JsonValue:
        value: JsonValue = self.dimension.values(subject)
        return value

    def keys(self) -> IndexKeys:
        if self.negated or self.patterns.present:
            return NO_KEYS
        return {self.dimension: Keys.of_patterns(self.patterns)}


@dataclass(frozen=True, slots=True)
class PathCriterion:
    """`paths`: texts and templates against the normalised path."""

    field: str
    values: tuple[str, ...]
    negated: bool
    patterns: Patterns
    templates: tuple[PathTemplate, ...]

    def holds(self, subject: Subject) -> bool:
        path = subject.path
        if path is None:
            return self.negated
        return (
            self.patterns.match(path) or any(template.match(path) for template in self.templates)
        ) is not self.negated

    def actual(self, subject: Subject) -> JsonValue:
        return subject.path

    def keys(self) -> IndexKeys:
        if self.negated or self.patterns.present:
            return NO_KEYS
        keys = Keys.of_patterns(self.patterns)
        starts = tuple(template.literal_start for template in self.templates)
        return {PATH: Keys(keys.exact, keys.prefixes + starts, keys.suffixes)}


@dataclass(frozen=True, slots=True)
class PortCriterion:
    """`ports`, `destination.port`."""

    field: str
    values: tuple[str, ...]
    negated: bool
    numbers: frozenset[int]

    def holds(self, subject: Subject) -> bool:
        return (subject.port in self.numbers) is not self.negated

    def actual(self, subject: Subject) -> JsonValue:
        return subject.port

    def keys(self) -> IndexKeys:
        return NO_KEYS if self.negated else {PORT: Keys(exact=tuple(self.numbers))}


@dataclass(frozen=True, slots=True)
class AddressCriterion:
    """`ipBlocks`, `remoteIpBlocks`, `destination.ip`: networks as the bits that their members start with."""

    field: str
    values: tuple[str, ...]
    negated: bool
    dimension: Dimension
    networks: tuple[str, ...]

    def holds(self, subject: Subject) -> bool:
        bits = self.dimension.values(subject)
        if bits is None:
            return self.negated
        matched: bool = bits.startswith(self.networks)
        return matched is not self.negated

    def actual(self, subject: Subject) -> JsonValue:
        address = _ADDRESS[self.dimension.name](subject)
        return None if address is None else str(address)

    def keys(self) -> IndexKeys:
        return NO_KEYS if self.negated else {self.dimension: Keys(prefixes=self.networks)}


_ADDRESS = {
    "source_bits": attrgetter("request.source_ip"),
    "remote_bits": attrgetter("request.remote_ip"),
    "destination_bits": attrgetter("request.destination_ip"),
}


@dataclass(frozen=True, slots=True)
class HeaderCriterion:
    """`request.headers[…]`: each of repeated values by itself; `*` wants the header, even if it is empty."""

    field: str
    values: tuple[str, ...]
    negated: bool
    name: str
    patterns: Patterns

    def holds(self, subject: Subject) -> bool:
        texts = subject.header(self.name)
        matched = bool(texts) and (self.patterns.present or any(map(self.patterns.match, texts)))
        return matched is not self.negated

    def actual(self, subject: Subject) -> JsonValue:
        return one_or_all(subject.header(self.name))

    def keys(self) -> IndexKeys:
        if self.negated or self.patterns.present:
            return NO_KEYS
        return {header_dimension(self.name): Keys.of_patterns(self.patterns)}


@dataclass(frozen=True, slots=True)
class MetadataCriterion:
    """`experimental.envoy.filters.X[k]`: dynamic metadata, a text; or, for values in brackets, one of a list."""

    field: str
    values: tuple[str, ...]
    negated: bool
    filter: str
    key: str
    texts: Patterns
    items: Patterns

    @classmethod
    def parse(cls, field: str, values: tuple[str, ...], negated: bool, filter_name: str, key: str) -> MetadataCriterion:
        listed = [value for value in values if value.startswith("[") and value.endswith("]")]
        texts = Patterns.parse(value for value in values if value not in listed)
        return cls(
            field, values, negated, filter_name, key, texts, Patterns.parse(value.strip("[]") for value in listed)
        )

    def holds(self, subject: Subject) -> bool:
        value = subject.metadata(self.filter, self.key)
        if isinstance(value, str):
            matched = self.texts.match(value)
        else:
            matched = isinstance(value, list) and any(self.items.match(item) for item in value if isinstance(item, str))
        return matched is not self.negated

    def actual(self, subject: Subject) -> JsonValue:
        return subject.metadata(self.filter, self.key)

    def keys(self) -> IndexKeys:
        return NO_KEYS
