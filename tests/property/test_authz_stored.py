"""What the store keeps of any policies means what they meant, and what it keeps of that is the same again."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings

from citadel.authz.load import SourceText, load
from citadel.authz.stored.texts import stored_documents
from tests.support import authz_cases as cases


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(cases.policy_lists())
def test_what_is_kept_means_the_same(documents: list[dict[str, Any]]) -> None:
    given_documents = load([SourceText("given.yaml", cases.to_text(documents).encode())], default_namespace="here")
    kept = stored_documents(given_documents)
    again = load([one.text() for one in kept], default_namespace="there")
    assert again == given_documents
    assert stored_documents(again) == kept
