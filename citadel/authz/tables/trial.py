"""Running a table: every request decided, and compared with what the table says. Pure, but for reading the policies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from citadel.authz.decision import Decision
from citadel.authz.evaluate import Consultation, decide
from citadel.authz.explain import Explanation, explain
from citadel.authz.policyset import PolicySet
from citadel.authz.tables.coverage import Coverage
from citadel.authz.tables.table import Case, Expected, Table


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What became of one case."""

    case: Case
    decision: Decision
    differences: tuple[str, ...]
    """In what it is not as expected; empty: it is."""
    explanation: Explanation

    @property
    def passed(self) -> bool:
        return not self.differences


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of a table."""

    table: Table
    results: tuple[CaseResult, ...]

    @property
    def failed(self) -> tuple[CaseResult, ...]:
        return tuple(result for result in self.results if not result.passed)


def run_table(table: Table, policies: PolicySet, coverage: Coverage) -> Trial:
    """Decide every case of `table`, and note in `coverage` which rules were met."""
    workloads = table.workloads
    results = []
    for case in table.block.cases:
        workload, request, answers = workloads[case.workload], case.request(), case.answers()
        decision = decide(policies, workload, request, answers)
        explanation = explain(policies, workload, request, answers)
        assert isinstance(explanation.found, Consultation) or explanation.found == decision
        coverage.note(explanation)
        coverage.note_fields(policies, workload, request)
        results.append(CaseResult(case, decision, tuple(_differences(case.expect, decision)), explanation))
    return Trial(table, tuple(results))


def _differences(expected: Expected, decision: Decision) -> Iterator[str]:
    policy = "none" if decision.policy is None else str(decision.policy)
    found = {
        "outcome": decision.outcome.value,
        "reason": decision.reason.value,
        "policy": policy,
        "rule": decision.rule,
        "dry_run_outcome": None if decision.dry_run_outcome is None else decision.dry_run_outcome.value,
        "dry_run": sorted({str(match.policy) for match in decision.dry_run}),
        "audited": sorted({str(match.policy) for match in decision.audited}),
    }
    for name, wanted in expected.model_dump(mode="json", exclude_unset=True).items():
        if isinstance(wanted, list):
            wanted = sorted(wanted)
        if wanted is not None and wanted != found[name]:
            yield f"{name} is {_shown(found[name])}, expected {_shown(wanted)}"


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(value) or "nothing"
    return "nothing" if value is None else str(value)
