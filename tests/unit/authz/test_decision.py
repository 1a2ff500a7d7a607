"""The order in which policies count, and what is said of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from citadel.authz.decision import Match, Outcome, Reason
from citadel.authz.evaluate import Answer, Consultation, decide, evaluate
from citadel.authz.model import Action, Operation, PolicyName, Rule, Source
from citadel.authz.request import HttpRequest
from tests.unit.authz.world import FACTS, SHOP, compiled, decided, get, policy, tcp

ANY = Rule()
READ = Rule(operations=(Operation(methods=("GET",)),))
WRITE = Rule(operations=(Operation(methods=("POST",)),))
FROM_JWT = Rule(sources=(Source(request_principals=("*",)),))
ON_8080 = Rule(operations=(Operation(ports=(8080,)),))


def test_without_policies_everything_is_allowed() -> None:
    decision = decided(get())
    assert (decision.outcome, decision.reason, decision.policy) == (Outcome.ALLOW, Reason.NO_ALLOW_POLICY, None)


def test_an_allow_policy_without_rules_denies_everything() -> None:
    decision = decided(get(), policy(Action.ALLOW))
    assert (decision.outcome, decision.reason) == (Outcome.DENY, Reason.NO_ALLOW_MATCHED)


def test_what_no_allow_policy_matches_is_denied() -> None:
    assert decided(get(), policy(Action.ALLOW, READ)).reason is Reason.ALLOWED_BY_POLICY
    assert decided(get(method="POST"), policy(Action.ALLOW, READ)).reason is Reason.NO_ALLOW_MATCHED


def test_deny_wins_over_allow_and_the_first_policy_by_name_is_named() -> None:
    decision = decided(
        get(),
        policy(Action.ALLOW, ANY, name="a"),
        policy(Action.DENY, WRITE, READ, name="z"),
        policy(Action.DENY, READ, name="y"),
    )
    assert decision.reason is Reason.DENIED_BY_POLICY
    assert (decision.action, decision.policy, decision.rule) == (Action.DENY, PolicyName("shop", "y"), 0)
    assert not decision.allowed


def test_audit_policies_are_reported_and_change_nothing() -> None:
    audit = policy(Action.AUDIT, WRITE, READ, name="watch")
    match = Match(PolicyName("shop", "watch"), 1, Action.AUDIT)
    assert decided(get(), audit).audited == (match,)
    assert decided(get(), audit, policy(Action.DENY, ANY)).audited == (match,)
    assert decided(get(), audit).reason is Reason.NO_ALLOW_POLICY


@pytest.mark.parametrize(
    ("policies", "outcome", "would"),
    [
        ([policy(Action.DENY, READ, dry_run=True)], Outcome.ALLOW, Outcome.DENY),
        ([policy(Action.ALLOW, WRITE, dry_run=True)], Outcome.ALLOW, Outcome.DENY),
        ([policy(Action.ALLOW, READ, dry_run=True)], Outcome.ALLOW, Outcome.ALLOW),
        (
            [policy(Action.ALLOW, WRITE), policy(Action.ALLOW, READ, name="q", dry_run=True)],
            Outcome.DENY,
            Outcome.ALLOW,
        ),
        ([policy(Action.DENY, ANY), policy(Action.ALLOW, READ, name="q", dry_run=True)], Outcome.DENY, Outcome.DENY),
        ([policy(Action.DENY, WRITE, dry_run=True)], Outcome.ALLOW, Outcome.ALLOW),
    ],
)
def test_dry_run_policies_are_reported_and_never_enforced(policies: list, outcome: Outcome, would: Outcome) -> None:  # type: ignore[type-arg]
    decision = decided(get(), *policies)
    assert (decision.outcome, decision.dry_run_outcome) == (outcome, would)
    assert all(match.dry_run for match in decision.dry_run)


def test_without_dry_run_policies_there_is_no_dry_run_outcome() -> None:
    assert decided(get(), policy(Action.DENY, ANY)).dry_run_outcome is None


# --- CUSTOM


def test_a_matching_custom_policy_must_be_asked_for_before_anything_else_is_said() -> None:
    policies = compiled(policy(Action.CUSTOM, READ, name="ask"), policy(Action.DENY, READ))
    found = evaluate(policies, SHOP, get())
    assert isinstance(found, Consultation)
    assert (found.provider.name, found.match.policy) == ("grpc", PolicyName("shop", "ask"))
    assert evaluate(policies, SHOP, get(), {"grpc": Answer.ALLOW}).reason is Reason.DENIED_BY_POLICY  # type: ignore[union-attr]
    assert evaluate(policies, SHOP, get(method="POST")).reason is Reason.NO_ALLOW_POLICY  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("answer", "reason"), [(Answer.DENY, Reason.DENIED_BY_PROVIDER), (Answer.FAILED, Reason.PROVIDER_FAILED)]
)
def test_a_provider_that_denies_or_fails_denies(answer: Answer, reason: Reason) -> None:
    decision = decided(
        get(), policy(Action.CUSTOM, READ), policy(Action.ALLOW, READ, name="q"), answers={"grpc": answer}
    )
    assert (decision.outcome, decision.reason, decision.action) == (Outcome.DENY, reason, Action.CUSTOM)


def test_a_provider_that_was_not_asked_denies() -> None:
    assert decided(get(), policy(Action.CUSTOM, READ)).reason is Reason.PROVIDER_FAILED


def test_an_unknown_provider_denies_what_its_policy_matches_and_nothing_else() -> None:
    custom = policy(Action.CUSTOM, READ, provider="nobody")
    assert decided(get(), custom).reason is Reason.PROVIDER_UNKNOWN
    assert decided(get(method="POST"), custom).reason is Reason.NO_ALLOW_POLICY


def test_several_providers_on_one_workload_deny_whatever_their_policies_match() -> None:
    policies = [policy(Action.CUSTOM, READ), policy(Action.CUSTOM, WRITE, name="q", provider="http")]
    allow = {"grpc": Answer.ALLOW, "http": Answer.ALLOW}
    assert decided(get(), *policies, answers=allow).reason is Reason.SEVERAL_PROVIDERS
    assert decided(get(method="PUT"), *policies, answers=allow).reason is Reason.NO_ALLOW_POLICY


def test_where_the_mesh_permits_several_providers_all_of_them_must_allow() -> None:
    facts = replace(FACTS, several_providers=True)
    policies = [policy(Action.CUSTOM, READ), policy(Action.CUSTOM, READ, name="q", provider="http")]
    answers = {"grpc": Answer.ALLOW, "http": Answer.DENY}
    assert decided(get(), *policies, facts=facts, answers=answers).reason is Reason.DENIED_BY_PROVIDER
    answers["http"] = Answer.ALLOW
    assert decided(get(), *policies, facts=facts, answers=answers).reason is Reason.NO_ALLOW_POLICY


def test_an_http_provider_has_no_say_over_tcp_connections() -> None:
    assert decided(tcp(), policy(Action.CUSTOM, ANY, provider="http")).reason is Reason.NO_ALLOW_POLICY
    assert decided(tcp(), policy(Action.CUSTOM, ANY)).reason is Reason.PROVIDER_FAILED


# --- TCP


def test_on_tcp_an_allow_rule_with_a_field_of_http_does_not_count() -> None:
    both = Rule(operations=(Operation(methods=("GET",)), Operation(ports=(8080,))))
    assert decided(tcp(), policy(Action.ALLOW, both)).reason is Reason.NO_ALLOW_MATCHED
    assert decided(tcp(), policy(Action.ALLOW, both, ON_8080)).rule == 1
    assert decided(tcp(), policy(Action.ALLOW, FROM_JWT)).reason is Reason.NO_ALLOW_MATCHED


@pytest.mark.parametrize("rule", [READ, FROM_JWT, Rule(operations=(Operation(paths=("/x",), ports=(8080,)),))])
def test_on_tcp_a_deny_rule_loses_its_fields_of_http_and_widens(rule: Rule) -> None:
    assert decided(tcp(), policy(Action.DENY, rule)).reason is Reason.DENIED_BY_POLICY


def test_on_tcp_what_is_left_of_a_deny_rule_still_counts() -> None:
    rule = Rule(operations=(Operation(paths=("/x",), ports=(9090,)),))
    assert decided(tcp(), policy(Action.DENY, rule)).reason is Reason.NO_ALLOW_POLICY


# --- what must never happen


def test_a_path_of_which_nothing_may_be_said_is_denied() -> None:
    decision = decided(get("/a%00"))
    assert (decision.outcome, decision.reason) == (Outcome.DENY, Reason.BAD_PATH)
    assert "%00" in decision.detail


def test_a_defect_of_ours_is_a_denial_with_a_reason_of_its_own() -> None:
    broken = replace(get(), http=HttpRequest("GET", None))  # type: ignore[arg-type]  # what must not be
    decision = decide(compiled(policy(Action.ALLOW, ANY)), SHOP, broken)
    assert (decision.outcome, decision.reason) == (Outcome.DENY, Reason.INTERNAL_ERROR)
    assert decision.detail.startswith("AttributeError")
