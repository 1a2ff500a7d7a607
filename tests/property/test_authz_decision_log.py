"""A record of the decision log decides as the request did, though most of the request is not in it."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from citadel.authz import Answer, compile, load_text  # noqa: A004  (as in re.compile)
from citadel.authz.decision_log import Recorder, decide_again
from tests.support import authz_cases as cases
from tests.support.rulings import ruling

REQUESTS = 30


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
@given(cases.policy_lists(), cases.meshes, cases.workloads, st.integers(0, 2**32))
def test_a_record_decides_as_the_request_did(
    documents: list[dict[str, Any]], mesh: dict[str, Any], workload: dict[str, Any], seed: int
) -> None:
    policies = compile(load_text(cases.to_text(documents)), cases.to_facts(mesh))
    recorder, dice = Recorder(), cases.Dice((seed, documents))
    for _ in range(REQUESTS):
        given_request = dice.request()
        if given_request["http"] is not None and not given_request["http"]["method"]:
            continue  # no door lets such a one through
        answers = {name: Answer(said) for name, said in dice.answers().items()}
        ruled = ruling(policies, cases.to_workload(workload), cases.to_request(given_request), answers)
        record = json.loads(json.dumps(recorder.record(ruled)))
        again = decide_again(record, policies)
        note(f"{given_request} {record}")
        assert again.decision is not None
        if not record["altered"]:
            assert again.notes == ()
