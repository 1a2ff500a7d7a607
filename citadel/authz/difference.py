"""Two sets of policies compared: by their documents, and by what they decide of requests. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from citadel.authz.asking import Asked, said_of
from citadel.authz.decision import Decision
from citadel.authz.decision_log import logged_request
from citadel.authz.decision_log.record import SCHEMA as LOGGED
from citadel.authz.evaluate import decide
from citadel.authz.model import Document, Kind, PolicyName
from citadel.authz.policyset import PolicySet
from citadel.authz.request import JsonValue
from citadel.errors import InvalidInput

Key = tuple[Kind, PolicyName]


@dataclass(frozen=True, slots=True)
class DocumentDifference:
    """The documents that are not the same, in order of kind and name."""

    created: tuple[Key, ...]
    changed: tuple[Key, ...]
    deleted: tuple[Key, ...]


def documents_differing(old: Iterable[Document], new: Iterable[Document]) -> DocumentDifference:
    before = {(one.kind, one.name): one for one in old}
    after = {(one.kind, one.name): one for one in new}
    return DocumentDifference(
        tuple(sorted(after.keys() - before.keys())),
        tuple(sorted(key for key in after.keys() & before.keys() if after[key] != before[key])),
        tuple(sorted(before.keys() - after.keys())),
    )


@dataclass(frozen=True, slots=True)
class Changed:
    """A request that is decided otherwise."""

    line: int
    """Where it was read, from 1."""
    id: str | int | None
    asked: Asked
    old: Decision
    new: Decision

    @property
    def turned(self) -> bool:
        """Allowed before and denied now, or the other way around."""
        return self.old.outcome is not self.new.outcome

    def to_json(self) -> dict[str, JsonValue]:
        return {
            "line": self.line,
            "id": self.id,
            "request": self.asked.model_dump(mode="json", by_alias=True, exclude_defaults=True),
            "old": self.old.to_json(),
            "new": self.new.to_json(),
        }

    def sentence(self) -> str:
        """`line 7: allow (no-allow-policy) -> deny (denied-by-policy): DENY shop/p, rules[0]; GET /x of shop by …`"""
        which = f"line {self.line}" if self.id is None else f"line {self.line} ({self.id})"
        return f"{which}: {self.old.sentence()} -> {self.new.sentence()}; {said_of(self.asked)}"


@dataclass(slots=True)
class Tally:
    """How the requests came out. Filled while they are compared."""

    asked: int = 0
    to_deny: int = 0
    to_allow: int = 0
    otherwise: int = 0
    """The same outcome, by another policy or reason, or another dry run."""
    skipped: int = 0
    """Records of the log without a request: it came to none."""
    skipped_lines: list[tuple[int, str]] = field(default_factory=list)
    """The first of them: where, and the reason of the decision."""
    altered: int = 0
    """Records that are not in all as the request was."""
    bad: list[str] = field(default_factory=list)
    """Lines that are no requests: the first of them, as sentences."""
    bad_lines: int = 0
    by: Counter[str] = field(default_factory=Counter)
    """By which policy (or reason) of the new set requests turned."""


_MOST_TOLD = 20


def requests_differing(old: PolicySet, new: PolicySet, lines: Iterable[bytes], tally: Tally) -> Iterator[Changed]:
    """The requests that are decided otherwise, in order. A line is a request as `policy check` takes it, or a record of
    the decision log. What is neither is noted in `tally`."""
    for number, line in enumerate(lines, 1):
        try:
            read = _read(line, number, tally)
        except InvalidInput as error:
            tally.bad_lines += 1
            if len(tally.bad) < _MOST_TOLD:
                tally.bad.append(f"line {number}: {error.message}")
            continue
        if read is None:
            continue
        tally.asked += 1
        asked, name = read
        workload, request, answers = asked.workload.value(), asked.request(), asked.answers()
        before = decide(old, workload, request, answers)
        after = decide(new, workload, request, answers)
        if before is after or before.to_json() == after.to_json():
            continue
        changed = Changed(number, name, asked, before, after)
        _count(changed, tally)
        yield changed


def _read(line: bytes, number: int, tally: Tally) -> tuple[Asked, str | int | None] | None:
    if LOGGED.encode() not in line:
        asked = Asked.parse(line)
        return asked, asked.id
    record = _json(line)
    if record.get("request") is None:
        tally.skipped += 1
        if len(tally.skipped_lines) < _MOST_TOLD:
            tally.skipped_lines.append((number, str(record.get("reason"))))
        return None
    tally.altered += bool(record.get("altered"))
    return logged_request(record), str(record.get("id"))


def _json(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"it is not JSON: {error}") from None
    if not isinstance(record, dict):
        raise InvalidInput("expected an object")
    return record


def _count(changed: Changed, tally: Tally) -> None:
    if not changed.turned:
        tally.otherwise += 1
        return
    if changed.new.allowed:
        tally.to_allow += 1
    else:
        tally.to_deny += 1
    decision = changed.new
    by = decision.reason.value if decision.policy is None else f"{decision.action} {decision.policy}"
    tally.by[f"{decision.outcome.value}: {by}"] += 1
