"""What the linter is sure of is so: removing what never matches, or what is shadowed, changes no decision."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from citadel.authz.lint.finding import Strike
from citadel.authz.lint.linting import strikes
from citadel.authz.load import load_text
from citadel.authz.load.tree import Path
from citadel.authz.model import AuthorizationPolicy, Document, Rule
from citadel.authz.policyset import compile_documents
from tests.support.authz_cases import Dice, Doc, engine_decision, meshes, policy_lists, to_facts, to_text, workloads

REQUESTS = 30
NEVER = (
    "principal-with-scheme",
    "principal-impossible",
    "path-with-query",
    "path-without-slash",
    "path-not-normal",
    "host-with-scheme",
    "sni-upper-case",
    "claim-with-space",
)
"""Checks that say of a value that it never matches."""


@settings(max_examples=60, deadline=None)
@given(policy_lists(), meshes, workloads, st.integers(0, 2**32))
def test_removing_what_lint_is_sure_of_changes_no_outcome(
    documents: list[Doc], mesh: Doc, workload: Doc, seed: int
) -> None:
    dice = Dice(seed)
    asked = [(dice.request(), dice.answers()) for _ in range(REQUESTS)]
    loaded, facts = load_text(to_text(documents)), to_facts(mesh)

    def outcomes(policies: Iterable[Document], *, tcp: bool) -> list[object]:
        compiled = compile_documents(policies, facts)
        found = [engine_decision(compiled, workload, one, answers) for one, answers in asked if tcp or one["http"]]
        return [(one.get("outcome"), one.get("ask"), one.get("dry_run_outcome")) for one in found]

    for policy, strike, reduced in _reduced(strikes(loaded, facts, ())):
        # that something of HTTP is in a rule decides what becomes of it on TCP, whether it matches or not
        tcp = strike.code == "shadowed"
        after = outcomes((reduced if one is policy else one for one in loaded), tcp=tcp)
        assert after == outcomes(loaded, tcp=tcp), (strike, policy)


def _reduced(
    struck: Iterable[tuple[Document, Strike]],
) -> Iterator[tuple[AuthorizationPolicy, Strike, AuthorizationPolicy]]:
    """Each policy without the rule, the source, the operation or the value that was struck."""
    for policy, strike in struck:
        if not isinstance(policy, AuthorizationPolicy):
            continue
        if strike.code == "shadowed":
            yield policy, strike, _with_rule(policy, strike.path, None)
        elif strike.code == "never-matches" or (strike.code in NEVER and not _is_negative(strike.path)):
            yield policy, strike, _without_part(policy, strike.path)


def _is_negative(path: Path) -> bool:
    return str(path[-2]).startswith("not")


def _with_rule(policy: AuthorizationPolicy, path: Path, rule: Rule | None) -> AuthorizationPolicy:
    index = path[2]
    assert isinstance(index, int)
    return replace(policy, rules=(*policy.rules[:index], *([] if rule is None else [rule]), *policy.rules[index + 1 :]))


def _without_part(policy: AuthorizationPolicy, path: Path) -> AuthorizationPolicy:
    """Without the alternative that never matches; where a list has other values, only the value goes."""
    number = path[2]
    assert isinstance(number, int)
    rule, (kind, *rest) = policy.rules[number], path[3:]
    if kind == "when":
        if rest and len(rule.conditions[int(rest[0])].values) > 1:
            condition = rule.conditions[int(rest[0])]
            values = tuple(v for n, v in enumerate(condition.values) if n != rest[2])
            kept = replace(condition, values=values)
            conditions = tuple(kept if one is condition else one for one in rule.conditions)
            return _with_rule(policy, path, replace(rule, conditions=conditions))
        return _with_rule(policy, path, None)
    name = "sources" if kind == "from" else "operations"
    parts = getattr(rule, name)
    index = int(rest[0])
    part = parts[index]
    if len(rest) > 2:
        field = "".join("_" + c.lower() if c.isupper() else c for c in str(rest[2]))
        values = tuple(v for n, v in enumerate(getattr(part, field)) if n != rest[3])
        if values:
            return _with_rule(
                policy,
                path,
                replace(rule, **{name: (*parts[:index], replace(part, **{field: values}), *parts[index + 1 :])}),
            )
    left = (*parts[:index], *parts[index + 1 :])
    return _with_rule(policy, path, replace(rule, **{name: left}) if left else None)
