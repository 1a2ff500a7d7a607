"""What was decided, counted: in a server, and in its workers, whose counts are taken and added to the server's.

A collector of prometheus_client's, with plain dictionaries behind it: looking labels up and counting by its own
counters costs as much as a decision.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Protocol

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

MOST_RULES = 2_000
"""That have series of their own."""
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)  # seconds
_Key = tuple[str, ...]
Described = tuple[str, str, tuple[str, ...], str]
"""Of a metric: its name in full, its kind, its labels, what it says."""
_DECISIONS = ("decisions", ("door", "outcome", "reason"), "Requests that were decided.")
_MATCHES = (
    "policy_matches",
    ("policy", "rule", "as"),
    "Matches of rules: they decided (enforced), would have in earnest (would_deny, would_allow), or only tell "
    "(audit). Of very many rules, those that come late are `other`.",
)
_DRY_RUN = ("dry_run_decisions", ("door", "would"), "Requests that dry-run policies would decide otherwise.")
_SECONDS = ("decision_seconds", ("door",), "From request to answer.")


class Matched(Protocol):
    @property
    def policy(self) -> object: ...
    @property
    def rule(self) -> int: ...
    @property
    def action(self) -> str: ...


class Decided(Protocol):
    """What is counted of an authorization decision (authz.Decision)."""

    @property
    def outcome(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def policy(self) -> object | None: ...
    @property
    def rule(self) -> int | None: ...
    @property
    def audited(self) -> Sequence[Matched]: ...
    @property
    def dry_run(self) -> Sequence[Matched]: ...
    @property
    def dry_run_outcome(self) -> str | None: ...


class DecisionCounts(Collector):
    """Contract: authz.decision_point.DecisionMeter. Not for several threads, but for `collect`."""

    DESCRIBED: tuple[Described, ...] = (
        *((f"{name}_total", "counter", labels, text) for name, labels, text in (_DECISIONS, _MATCHES, _DRY_RUN)),
        (_SECONDS[0], "histogram", _SECONDS[1], _SECONDS[2]),
    )

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._decisions: Counter[_Key] = Counter()
        self._matches: Counter[_Key] = Counter()
        self._dry_run: Counter[_Key] = Counter()
        self._buckets: dict[str, list[int]] = {}  # by door; not cumulative, the last for what took longer than all
        self._sums: dict[str, float] = {}

    def decided(self, door: str, decision: Decided, seconds: float) -> None:
        self._decisions[door, decision.outcome, decision.reason] += 1
        buckets = self._buckets.get(door)
        if buckets is None:
            buckets = self._of_door(door)
        buckets[bisect_left(BUCKETS, seconds)] += 1
        self._sums[door] += seconds
        if decision.policy is not None:
            self._matched(decision.policy, decision.rule, "enforced")
        for match in decision.audited:
            self._matched(match.policy, match.rule, "audit")
        for match in decision.dry_run:
            self._matched(match.policy, match.rule, "would_deny" if match.action == "DENY" else "would_allow")
        if decision.dry_run_outcome is not None and decision.dry_run_outcome != decision.outcome:
            self._dry_run[door, decision.dry_run_outcome] += 1

    def switched(self) -> None:
        """There are other policies: if very many rules have series, they may be of policies that are gone."""
        if len(self._matches) > MOST_RULES // 2:
            self._matches.clear()

    def take(self) -> dict[str, Any]:
        """All that was counted, which is forgotten here; for JSON. Empty: nothing was."""
        if not self._decisions:
            return {}
        taken = {
            "decisions": _listed(self._decisions),
            "matches": _listed(self._matches),
            "dry_run": _listed(self._dry_run),
            "seconds": [[door, self._sums[door], buckets] for door, buckets in self._buckets.items()],
        }
        self._begin()
        return taken

    def add(self, taken: Mapping[str, Any]) -> None:
        """What another process took of its own. Raises ValueError, TypeError or KeyError if it is no such thing."""
        if not taken:
            return
        decisions, matches, dry_run = (
            _unlisted(taken[name], len(labels))
            for name, labels in (("decisions", _DECISIONS[1]), ("matches", _MATCHES[1]), ("dry_run", _DRY_RUN[1]))
        )
        seconds = [
            (str(door), float(total), [int(one) for one in buckets]) for door, total, buckets in taken["seconds"]
        ]
        for _, total, buckets in seconds:
            if len(buckets) != len(BUCKETS) + 1 or min(total, *buckets) < 0:
                raise ValueError("these are other buckets")
        self._decisions.update(decisions)
        self._dry_run.update(dry_run)
        for key, count in matches.items():
            self._matches[self._series(key)] += count
        for door, total, buckets in seconds:
            mine = self._buckets.get(door) or self._of_door(door)
            self._buckets[door] = [one + other for one, other in zip(mine, buckets, strict=True)]
            self._sums[door] += total

    def collect(self) -> Iterator[Metric]:
        for (name, labels, text), counts in (
            (_DECISIONS, self._decisions),
            (_MATCHES, self._matches),
            (_DRY_RUN, self._dry_run),
        ):
            counter = CounterMetricFamily(f"citadel_{name}", text, labels=labels)
            for key, count in list(counts.items()):
                counter.add_metric(key, count)
            yield counter
        histogram = HistogramMetricFamily(f"citadel_{_SECONDS[0]}", _SECONDS[2], labels=_SECONDS[1])
        bounds = [*map(str, BUCKETS), "+Inf"]
        for door, buckets in list(self._buckets.items()):
            cumulative = list(zip(bounds, accumulate(buckets), strict=True))
            histogram.add_metric((door,), cumulative, self._sums[door])
        yield histogram

    def _of_door(self, door: str) -> list[int]:
        buckets = self._buckets[door] = [0] * (len(BUCKETS) + 1)
        self._sums.setdefault(door, 0.0)
        return buckets

    def _matched(self, policy: object, rule: object, how: str) -> None:
        self._matches[self._series((str(policy), str(rule), how))] += 1

    def _series(self, key: _Key) -> _Key:
        return key if key in self._matches or len(self._matches) < MOST_RULES else ("other", "", key[2])


def _listed(counts: Counter[_Key]) -> list[list[Any]]:
    return [[*map(str, key), count] for key, count in counts.items()]


def _unlisted(given: Any, labels: int) -> Counter[_Key]:
    found: Counter[_Key] = Counter()
    for *key, count in given:
        if (
            len(key) != labels
            or not all(isinstance(one, str) for one in key)
            or not isinstance(count, int)
            or count < 0
        ):
            raise ValueError("these are no counts")
        found[tuple(key)] += count
    return found
