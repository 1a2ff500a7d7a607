"""Rulings as a decision point makes them, from a set of policies and a request."""

from __future__ import annotations

from collections.abc import Mapping

from citadel.authz import Answer, PolicySet, Request, Workload, decide
from citadel.authz.decision import Decision
from citadel.authz.decision_point import Question, Ruling
from tests.support.tokens import NOW


def ruling(
    policies: PolicySet | None,
    workload: Workload,
    request: Request | None,
    answers: Mapping[str, Answer] | None = None,
    *,
    decision: Decision | None = None,
    log_id: str = "boot-1",
) -> Ruling:
    """`decision`: what was decided (default: what `policies` say)."""
    if decision is None:
        assert policies is not None
        assert request is not None
        decision = decide(policies, workload, request, answers or {})
    question = None if request is None else Question("ext_authz", "pid 1 uid 2", workload, (request,), request_id="r")
    return Ruling(log_id, NOW, 0.0001, "ext_authz", "pid 1 uid 2", decision, policies, question, request)
