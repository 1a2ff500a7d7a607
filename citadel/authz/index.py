"""The index of many rules: a tree that tells, for a request, the few rules that could match it.

A node looks at one dimension. Rules that name values there stand under these values (exact, as a start, as an end);
those that do not stand under `rest`, which looks at another dimension. What is found is a superset of what matches, and
independent of how many rules there are that cannot. Branches grow when a request first comes to them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from citadel.authz.dimensions import Dimension
from citadel.authz.rules import CompiledRule, Entry
from citadel.authz.subject import Subject

FEW = 4
"""So few rules are tried one by one: a look at a dimension costs about as much."""

Entries = list[tuple[CompiledRule, Entry]]


class Index:
    """The rules of one or several policies. Looking things up is safe from many threads at once."""

    def __init__(self, rules: Iterable[CompiledRule]) -> None:
        self.rules = tuple(rules)
        self._root = _Node([(rule, entry) for rule in self.rules for entry in rule.entries])
        node: _Node | None = self._root
        while node is not None:  # the large nodes at once, so that no request has to wait for them
            node.grow()
            node = node.rest

    def candidates(self, subject: Subject) -> list[CompiledRule]:
        """Every rule that could match, in no order, some perhaps more than once."""
        found: list[CompiledRule] = []
        _collect(self._root, subject, found)
        return found


class _Node:
    """Rules that are always candidates here, and a choice by the values of one dimension."""

    __slots__ = ("dimension", "ends", "entries", "exact", "rest", "rules", "several", "starts", "values")

    def __init__(self, entries: Entries) -> None:
        self.entries: Entries | None = entries
        self.rules: tuple[CompiledRule, ...] = ()
        self.values: Any = None
        self.several = False
        self.exact: dict[Any, _Node] = {}
        self.starts: _Starts | None = None
        self.ends: _Starts | None = None
        self.rest: _Node | None = None

    def grow(self) -> None:
        """Become a choice, if that helps. Two threads may do so at once: both build the same, and one wins."""
        entries = self.entries
        if entries is None:
            return
        dimension = _best_dimension(entries) if len(entries) > FEW else None
        if dimension is None:
            self.rules = tuple(dict.fromkeys(rule for rule, _ in entries))
        else:
            self._split(entries, dimension)
        self.entries = None  # last: whoever sees this sees all of the above

    def _split(self, entries: Entries, dimension: Dimension) -> None:
        exact: dict[Any, Entries] = defaultdict(list)
        starts: dict[str, Entries] = defaultdict(list)
        ends: dict[str, Entries] = defaultdict(list)
        rest: Entries = []
        for rule, entry in entries:
            keys = entry.get(dimension)
            if keys is None:
                rest.append((rule, entry))
                continue
            left = rule, {other: keys for other, keys in entry.items() if other != dimension}
            for group, names in ((exact, keys.exact), (starts, keys.prefixes), (ends, keys.suffixes)):
                for name in dict.fromkeys(names):
                    group[name].append(left)  # type: ignore[index]  # exact keys may be numbers, the others are texts
        self.exact = {key: _Node(under) for key, under in exact.items()}
        self.starts = _Starts(starts) if starts else None
        self.ends = _Starts({key[::-1]: under for key, under in ends.items()}) if ends else None
        self.rest = _Node(rest) if rest else None
        self.several = dimension.several
        self.values = dimension.values


def _collect(node: _Node | None, subject: Subject, found: list[CompiledRule]) -> None:
    while node is not None:
        if node.entries is not None:
            node.grow()
        if node.values is None:
            found += node.rules
            return
        value = node.values(subject)
        if value is not None:
            for one in value if node.several else (value,):
                under = node.exact.get(one)
                if under is not None:
                    _collect(under, subject, found)
                if node.starts is not None:
                    for under in node.starts.of(one):
                        _collect(under, subject, found)
                if node.ends is not None:
                    for under in node.ends.of(one[::-1]):
                        _collect(under, subject, found)
        node = node.rest


class _Starts:
    """Nodes by the text that a value starts with, sorted: all that fit a value are one chain of ever shorter starts."""

    __slots__ = ("keys", "nodes", "shorter")

    def __init__(self, entries: dict[str, Entries]) -> None:
        self.keys = sorted(entries)
        self.nodes = [_Node(entries[key]) for key in self.keys]
        self.shorter: list[int] = []
        """Per key, the longest other key that it starts with; -1: none."""
        chain: list[int] = []
        for position, key in enumerate(self.keys):
            while chain and not key.startswith(self.keys[chain[-1]]):
                chain.pop()
            self.shorter.append(chain[-1] if chain else -1)
            chain.append(position)

    def of(self, value: str) -> Iterator[_Node]:
        at = bisect_right(self.keys, value) - 1
        while at >= 0 and not value.startswith(self.keys[at]):
            at = self.shorter[at]
        while at >= 0:
            yield self.nodes[at]
            at = self.shorter[at]


def _best_dimension(entries: Entries) -> Dimension | None:
    """The dimension that spares the most rules, if it spares more than a few. None of those that do not name it."""
    best, most = None, float(FEW)
    for dimension, number in Counter(dimension for _, entry in entries for dimension in entry).most_common():
        if number <= most:
            break
        spared = number - _expected(entries, dimension)
        if spared > most:
            best, most = dimension, spared
    return best


def _expected(entries: Entries, dimension: Dimension) -> float:
    """How many rules stand under a value, if requests ask for values as often as rules name them."""
    named = [entry[dimension] for _, entry in entries if dimension in entry]
    groups = ((keys.exact for keys in named), (keys.prefixes for keys in named), (keys.suffixes for keys in named))
    sizes = [size for group in groups for size in Counter[Any](chain.from_iterable(group)).values()]
    return sum(size * size for size in sizes) / max(1, sum(sizes))
