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

from citadel.authz import PolicySet, compile, index, load_text, policyset  # noqa: A004  (as in re.compile)
from tests.support import authz_cases as cases
from tests.support import naive_authz

PAIRS = int(os.environ.get("CITADEL_AUTHZ_PAIRS", "16000"))
REQUESTS = 40
THOROUGH = settings(
    max_examples=max(1, PAIRS // REQUESTS // 2),  # for each of two tests
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
SEEDS = st.integers(0, 2**32)


def compiled(documents: list[dict[str, Any]], mesh: dict[str, Any]) -> PolicySet:
    return compile(load_text(cases.to_text(documents)), cases.to_facts(mesh))


def compare(
    documents: list[dict[str, Any]], mesh: dict[str, Any], workload: dict[str, Any], seed: int, indexed: bool
) -> None:
    # with every rule in the index, or with few enough to be tried one by one
    with patch.object(index, "FEW", -1 if indexed else 4), patch.object(policyset, "SMALL_GROUP", 1 if indexed else 64):
        policies = compiled(documents, mesh)
        _compare(documents, policies, mesh, workload, seed)


def _compare(
    documents: list[dict[str, Any]], policies: PolicySet, mesh: dict[str, Any], workload: dict[str, Any], seed: int
) -> None:
    dice = cases.Dice((seed, documents))  # Hypothesis likes few numbers best: alone they would repeat the requests
    for _ in range(REQUESTS):
        request, answers = dice.request(), dice.answers()
        expected = naive_authz.decide(documents, mesh, workload, request, answers)
        found = cases.engine_decision(policies, workload, request, answers)
        if found != expected:
            note(f"{request} {answers}")
        assert found == expected


@THOROUGH
@given(cases.policy_lists(), cases.meshes, cases.workloads, SEEDS, st.booleans())
def test_the_engine_decides_as_the_specification_says(
    documents: list[dict[str, Any]], mesh: dict[str, Any], workload: dict[str, Any], seed: int, indexed: bool
) -> None:
    compare(documents, mesh, workload, seed, indexed)


WORKLOAD = {"namespace": "a", "labels": {}, "kind": "workload", "gateway": "", "services": []}


@THOROUGH
@given(cases.single_field_policies(), cases.meshes, SEEDS, st.booleans())
def test_each_field_matches_what_the_specification_says(
    document: dict[str, Any], mesh: dict[str, Any], seed: int, indexed: bool
) -> None:
    compare([document], mesh, WORKLOAD, seed, indexed)
