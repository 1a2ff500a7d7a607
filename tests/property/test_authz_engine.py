"""The engine decides what the naive evaluator decides: over generated policies and requests whose values collide.

The long run, with as many pairs of a policy set and a request as you like:
CITADEL_AUTHZ_PAIRS=200000 pytest tests/property/test_authz_engine.py --timeout 0
"""

from __future__ import annotations

import os
from typing import Any
from unittest.mock import patch

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from citadel.authz import index, policyset
from citadel.authz.load import load_text
from citadel.authz.policyset import PolicySet, compile_documents
from tests.support import authz_cases as cases
from tests.support import naive_authz

PAIRS = int(os.environ.get("CITADEL_AUTHZ_PAIRS", "3000"))
REQUESTS = 10
THOROUGH = settings(
    max_examples=max(1, PAIRS // REQUESTS),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


def compiled(documents: list[dict[str, Any]], mesh: dict[str, Any]) -> PolicySet:
    loaded = load_text(cases.to_text(documents))
    return compile_documents(loaded.authorization_policies, cases.to_facts(mesh))


@THOROUGH
@given(
    cases.policy_lists(),
    cases.meshes,
    cases.workloads,
    st.lists(st.tuples(cases.requests, cases.answers), min_size=REQUESTS, max_size=REQUESTS),
    st.booleans(),
)
def test_the_engine_decides_as_the_specification_says(
    documents: list[dict[str, Any]],
    mesh: dict[str, Any],
    workload: dict[str, Any],
    asked: list[tuple[dict[str, Any], dict[str, str]]],
    indexed: bool,
) -> None:
    with patch.object(index, "FEW", 0 if indexed else 4), patch.object(policyset, "SMALL_GROUP", 1 if indexed else 64):
        policies = compiled(documents, mesh)  # with every rule in the index, or with few enough to be tried one by one
        for request, answers in asked:
            expected = naive_authz.decide(documents, mesh, workload, request, answers)
            note(f"{request} {answers}")
            assert cases.engine_decision(policies, workload, request, answers) == expected
