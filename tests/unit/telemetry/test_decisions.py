"""Counts of decisions: what several processes counted is what one would have counted."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from citadel.authz.decision import Decision, Match, Outcome, Reason
from citadel.authz.model import Action, PolicyName
from citadel.telemetry import decisions
from citadel.telemetry.decisions import DecisionCounts

matches = st.builds(
    Match,
    st.builds(PolicyName, st.just("shop"), st.sampled_from("ab")),
    st.integers(0, 1),
    st.sampled_from(list(Action)),
)
decided = st.tuples(
    st.sampled_from(["ext_authz", "authzen"]),
    st.builds(
        Decision,
        st.sampled_from(list(Outcome)),
        st.sampled_from(list(Reason)),
        st.none() | st.just(Action.DENY),
        st.none() | st.builds(PolicyName, st.just("shop"), st.sampled_from("ab")),
        st.integers(0, 1),
        st.just(()) | st.tuples(matches),
        st.just(()) | st.tuples(matches),
        st.none() | st.sampled_from(list(Outcome)),
    ),
    st.sampled_from([0.0, 2**-10, 0.25, 128.0]),  # their sums are exact
)


def shown(counts: DecisionCounts) -> list[bytes]:
    registry = CollectorRegistry()
    registry.register(counts)
    return sorted(generate_latest(registry).splitlines())


@given(st.lists(st.lists(decided, max_size=6), max_size=4))
def test_what_workers_counted_adds_up_to_what_one_process_would_have_counted(parts: list[list[object]]) -> None:
    whole, server, worker = DecisionCounts(), DecisionCounts(), DecisionCounts()
    for part in parts:
        for one in part:
            whole.decided(*one)  # type: ignore[misc]
            worker.decided(*one)  # type: ignore[misc]
        server.add(json.loads(json.dumps(worker.take())))
        assert worker.take() == {}
    assert shown(server) == shown(whole)


def test_very_many_rules_share_a_series(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "MOST_RULES", 2)
    server, worker = DecisionCounts(), DecisionCounts()
    for number in range(5):
        worker.decided(
            "d", Decision(Outcome.DENY, Reason.DENIED_BY_POLICY, Action.DENY, PolicyName("a", "b"), number), 0
        )
    server.add(worker.take())
    assert sum(b"policy_matches_total" in one and b'as="enforced"' in one for one in shown(server)) == 3
    assert b'citadel_policy_matches_total{as="enforced",policy="other",rule=""} 3.0' in shown(server)
    server.switched()
    assert not any(b"policy_matches_total{" in one for one in shown(server))


@pytest.mark.parametrize(
    "change",
    [
        {"decisions": [["d", "allow", 1]]},
        {"decisions": [["d", "allow", "r", "x"]]},
        {"decisions": [["d", [], "r", 1]]},
        {"decisions": [["d", "allow", "r", -1]]},
        {"seconds": [["d", -1.0, [1] * 14]]},
        {"matches": 7},
        {"seconds": [["d", 1.0, [1, 2]]]},
        {"seconds": [["d"]]},
    ],
)
def test_what_is_no_count_changes_nothing(change: dict[str, object]) -> None:
    counts, good = DecisionCounts(), DecisionCounts()
    good.decided("d", Decision(Outcome.ALLOW, Reason.NO_ALLOW_POLICY), 0.1)
    with pytest.raises((ValueError, TypeError, KeyError)):
        counts.add(good.take() | change)
    assert counts.take() == {}
