"""Answers that are put together from bytes mean what `answers.answer` says of the same ruling."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from envoy.service.auth.v3 import external_auth_pb2
from hypothesis import given
from hypothesis import strategies as st

from citadel.authz import MeshFacts
from citadel.authz import compile as compile_policies
from citadel.authz.decision import Decision, Match, Outcome, Reason
from citadel.authz.decision_point import Changes, Refusal, Ruling
from citadel.authz.doors import DenialHeader, written
from citadel.authz.doors.answers import answer
from citadel.authz.doors.written import WrittenAnswers
from citadel.authz.model import Action, PolicyName
from citadel.authz.tokens import Reason as TokenReason
from citadel.spiffe import TrustDomain

FIRST = compile_policies([], MeshFacts(TrustDomain("example.org")))
SECOND = compile_policies([], MeshFacts(TrustDomain("example.com")))
HEADERS = (DenialHeader("x-denied-by", "{policy}"), DenialHeader("x-why", "{reason} {version}"))
names = st.builds(PolicyName, st.text("abc-", min_size=1, max_size=200), st.text("abc-", min_size=1, max_size=9))
actions = st.sampled_from([None, *Action])
matches = st.builds(Match, names, st.integers(0, 9), st.sampled_from(list(Action)), st.booleans())
decisions = st.builds(
    Decision,
    st.sampled_from(list(Outcome)),
    st.sampled_from(list(Reason)),
    actions,
    st.none() | names,
    st.none() | st.integers(0, 300),
    st.tuples() | st.tuples(matches),
    st.tuples() | st.tuples(matches),
    st.none() | st.sampled_from(list(Outcome)),
    st.sampled_from(["", "why"]),
)


def ruling(decision: Decision, name: str = "5f0c2b7a9d3e-1a") -> Ruling:
    return Ruling(name, datetime.now(UTC), 0.0, "door", "somebody", decision, FIRST)


rulings = st.builds(
    replace,
    st.builds(ruling, decisions, st.text("0123456789abcdef-", max_size=300)),
    policies=st.sampled_from([FIRST, SECOND, None]),
    changes=st.sampled_from([Changes(), Changes((("x-user", "ann"),))]),
    refusal=st.sampled_from([None, Refusal(418, (), b"no")]),
    token=st.sampled_from([None, *TokenReason]),
)


@given(st.lists(rulings, max_size=4), st.sampled_from([(), HEADERS, (*HEADERS, DenialHeader("x-id", "{id}"))]))
def test_it_is_the_same_answer_the_first_time_and_each_time_after(
    asked: list[Ruling], headers: tuple[DenialHeader, ...]
) -> None:
    answers = WrittenAnswers(headers)
    for one in (*asked, *asked):
        got = external_auth_pb2.CheckResponse.FromString(answers.of(one))
        assert got == answer(one, headers)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written, "_MOST_REMEMBERED", 3)
    answers = WrittenAnswers()
    for number in range(20):
        one = ruling(Decision(Outcome.DENY, Reason.DENIED_BY_POLICY, Action.DENY, PolicyName("a", "b"), number))
        assert external_auth_pb2.CheckResponse.FromString(answers.of(one)) == answer(one)
        assert len(answers._known) <= 3
