"""The OpenAPI document is what the API does: schemathesis makes requests of it, and looks at every answer.

A few cases in each run; `CITADEL_SCHEMATHESIS=1000 ./test tests/unit/authzen/test_openapi.py` for more.
"""

from __future__ import annotations

import os
from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.unit.authzen.world import World

CASES = int(os.environ.get("CITADEL_SCHEMATHESIS", "5"))


schema = schemathesis.openapi.from_asgi("/openapi.json", World().app())


@schema.parametrize()
@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_one_that_the_document_knows(case: schemathesis.Case[Any]) -> None:
    # A schema cannot say that a page's token is one that we gave, nor that the top has what an evaluation lacks, nor
    # what makes a SPIFFE ID of what begins like one (Hypothesis knows our constants, and tries "spiffe://").
    answer = case.call()
    unsaid = case.path != "/access/v1/evaluation" or "is not a SPIFFE ID" in answer.text
    case.validate_response(answer, excluded_checks=[positive_data_acceptance] if unsaid else [])


def test_every_call_is_in_the_document() -> None:
    paths = schema.raw_schema["paths"]
    assert len(paths) == 6
    for path, operations in paths.items():
        for operation in operations.values():
            assert "403" in operation["responses"], path
            assert "422" not in operation["responses"], path
