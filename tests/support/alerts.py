"""Alert rules, evaluated as Prometheus would: as much of its language as our rules speak; else it raises."""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from math import prod

from prometheus_client.parser import text_string_to_metric_families

_COMPARE = {"<": operator.lt, ">": operator.gt, "==": operator.eq}
_SELECTOR = re.compile(r'(?P<name>[a-z_]+)(?:\{(?P<label>[a-z_]+)(?P<how>=~?)"(?P<value>[^"]*)"\})?')
_CALL = re.compile(r"(?P<function>sum|increase)\((?P<selector>[^\[\]()]+)(?:\[\d+m\])?\)")
_RULE = re.compile(r"(?P<left>.+) (?P<compare><|>|==) (?P<right>[\d* ]+)")

Labels = frozenset[tuple[str, str]]
Values = dict[Labels, float]


@dataclass(frozen=True)
class Scrape:
    at: float
    text: str

    def values(self, selector: str) -> Values:
        asked = _SELECTOR.fullmatch(selector)
        assert asked, f"not understood: {selector}"
        samples = [s for family in text_string_to_metric_families(self.text) for s in family.samples]
        named = [s for s in samples if s.name == asked["name"]]
        value = (
            re.compile(asked["value"] or "") if asked["how"] == "=~" else re.compile(re.escape(asked["value"] or ""))
        )
        wanted = [s for s in named if asked["label"] is None or value.fullmatch(s.labels.get(asked["label"], ""))]
        return {frozenset(s.labels.items()): s.value for s in wanted}


def fires(expression: str, now: Scrape, before: Scrape) -> bool:
    """Whether it holds for any series. `before`: the scrape that an increase starts from."""
    return all(bool(_holding(part, now, before)) for part in expression.split(" and on() "))


def _holding(comparison: str, now: Scrape, before: Scrape) -> Values:
    parsed = _RULE.fullmatch(comparison)
    assert parsed, f"not understood: {comparison}"
    bound = prod(float(factor) for factor in parsed["right"].split("*"))
    compare = _COMPARE[parsed["compare"]]
    return {labels: v for labels, v in _vector(parsed["left"], now, before).items() if compare(v, bound)}


def _vector(text: str, now: Scrape, before: Scrape) -> Values:
    first, minus, second = text.partition(" - ")
    if not minus:
        return _term(text, now, before)
    if second == "time()":
        return {labels: value - now.at for labels, value in _term(first, now, before).items()}
    assert first == "time()", f"not understood: {text}"
    return {labels: now.at - value for labels, value in _term(second, now, before).items()}


def _term(text: str, now: Scrape, before: Scrape) -> Values:
    call = _CALL.fullmatch(text)
    if call is None:
        return now.values(text)
    values = now.values(call["selector"])
    if call["function"] == "sum":
        return {frozenset(): sum(values.values())} if values else {}
    old = before.values(call["selector"])
    return {labels: value - old.get(labels, 0.0) for labels, value in values.items()}
