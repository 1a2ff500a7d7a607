"""Explanations: what each policy that applies to the workload said of a request, and why not, where it did not match.

For a rule that did not match: the first of its criteria that failed, with what it wants and what the request has; of
several sources, or operations, the first of each. An explanation shows attributes of the request as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from citadel.authz.criteria import Criterion, reads_peer
from citadel.authz.decision import Decision, Reason
from citadel.authz.evaluate import Answer, Consultation, evaluate
from citadel.authz.model import Action, PolicyName
from citadel.authz.policyset import PolicySet
from citadel.authz.request import JsonValue, Request, Workload
from citadel.authz.rules import CompiledPolicy, CompiledRule
from citadel.authz.subject import Subject

SCHEMA = "citadel.dev/explanation/v1"


@dataclass(frozen=True, slots=True)
class Failure:
    """A criterion that the request did not meet."""

    field: str
    """Its place in the policy's `spec`: `rules[0].from[1].source.principals`."""
    wanted: tuple[str, ...]
    """What the policy lists there, trust-domain aliases expanded."""
    negated: bool
    """The attribute must be none of them; otherwise it must be one."""
    actual: JsonValue
    """What the request has; None: nothing."""
    of_unknown_domain: bool = False
    """It is read off an identity of a trust domain that is not known, which lets nobody in."""

    def __str__(self) -> str:
        wanted = ", ".join(map(_shown, self.wanted))
        must = "none of" if self.negated else "one of"
        actual = "it is missing" if self.actual is None else f"it is {_shown(self.actual)}"
        unknown = ", of a trust domain that is not known here" if self.of_unknown_domain else ""
        return f"{self.field} wants {must} {wanted}; {actual}{unknown}"

    def to_json(self) -> JsonValue:
        return {
            "field": self.field,
            "wanted": list(self.wanted),
            "negated": self.negated,
            "actual": self.actual,
            "of_unknown_domain": self.of_unknown_domain,
        }


@dataclass(frozen=True, slots=True)
class RuleExplanation:
    """What became of one rule."""

    index: int
    matched: bool
    failures: tuple[Failure, ...] = ()
    """The first failure; where each of several sources or operations failed, the first of each."""
    note: str = ""
    """How the rule was read, where that is not as it is written."""

    def to_json(self) -> JsonValue:
        return {
            "rule": self.index,
            "matched": self.matched,
            "failures": [failure.to_json() for failure in self.failures],
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class PolicyExplanation:
    """What one policy said."""

    policy: PolicyName
    action: Action
    dry_run: bool
    provider: str | None
    rules: tuple[RuleExplanation, ...]

    @property
    def matched(self) -> bool:
        return any(rule.matched for rule in self.rules)

    def __str__(self) -> str:
        marks = [f"asks {self.provider}"] if self.provider is not None else []
        marks += ["dry run"] if self.dry_run else []
        said = "matched" if self.matched else "did not match" if self.rules else "has no rules, so it never matches"
        return " ".join([self.action, f"{self.policy}:", said, *(f"({mark})" for mark in marks)])

    def to_json(self) -> JsonValue:
        return {
            "policy": str(self.policy),
            "action": self.action.value,
            "dry_run": self.dry_run,
            "provider": self.provider,
            "matched": self.matched,
            "rules": [rule.to_json() for rule in self.rules],
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision, and what every applicable policy contributed, in the order in which they count."""

    found: Decision | Consultation
    policies: tuple[PolicyExplanation, ...]
    version: str
    """Of the policy set."""
    path: str | None
    """The path that policies were matched with: normalised, without query."""

    def to_json(self) -> dict[str, JsonValue]:
        """With `schema`, which changes when a field changes its meaning or goes; fields may be added."""
        found: JsonValue
        if isinstance(self.found, Consultation):
            found = {"ask": self.found.provider.name, "policy": str(self.found.match.policy)}
        else:
            found = self.found.to_json()
        return {
            "schema": SCHEMA,
            "version": self.version,
            "path": self.path,
            "decision": found,
            "policies": [policy.to_json() for policy in self.policies],
        }

    def to_text(self) -> str:
        """Lines: the decision, then a line for each policy, and the rules of those that did not match."""
        lines = [self._headline()]
        for policy, rules in self._told():
            lines.append(policy)
            lines += [f"  {line}" for rule in rules for line in rule]
        return "\n".join(lines)

    def to_tree(self) -> str:
        """The same, drawn as a tree."""
        lines = [self._headline()]
        told = list(self._told())
        for number, (policy, rules) in enumerate(told):
            last = number == len(told) - 1
            lines.append(f"{'└' if last else '├'}── {policy}")
            stem = "    " if last else "│   "
            leaves = [line for rule in rules for line in rule]
            lines += [f"{stem}{'└' if leaf is leaves[-1] else '├'}── {leaf}" for leaf in leaves]
        return "\n".join(lines)

    def _headline(self) -> str:
        if isinstance(self.found, Consultation):
            return f"ask {self.found.provider.name}: CUSTOM {self.found.match.policy} matched"
        return self.found.sentence()

    def _told(self) -> Iterator[tuple[str, list[list[str]]]]:
        for policy in self.policies:
            yield str(policy), [_lines(rule) for rule in policy.rules]


def explain(
    policies: PolicySet, workload: Workload, request: Request, answers: Mapping[str, Answer] | None = None
) -> Explanation:
    """Evaluate the request, and say what each applicable policy made of it. `answers` as for `evaluate`."""
    found = evaluate(policies, workload, request, answers or {})
    if isinstance(found, Decision) and found.reason in (Reason.BAD_PATH, Reason.INTERNAL_ERROR):
        return Explanation(found, (), policies.version, None)
    subject = Subject(request, policies.facts)
    applying = policies.for_workload(workload).policies
    ordered = sorted(applying, key=lambda compiled: (_PHASES.index(compiled.policy.action), compiled.name))
    return Explanation(
        found, tuple(_explain(compiled, subject) for compiled in ordered), policies.version, subject.path
    )


_PHASES = (Action.CUSTOM, Action.AUDIT, Action.DENY, Action.ALLOW)


def _explain(compiled: CompiledPolicy, subject: Subject) -> PolicyExplanation:
    policy = compiled.policy
    if subject.http is None:
        standing = {rule.match.rule: rule for rule in compiled.tcp}
        rules = tuple(_explain_tcp(http, standing.get(http.match.rule), subject) for http in compiled.http)
    else:
        rules = tuple(_explain_rule(rule, subject) for rule in compiled.http)
    return PolicyExplanation(policy.name, policy.action, policy.dry_run, policy.provider, rules)


def _explain_tcp(http: CompiledRule, tcp: CompiledRule | None, subject: Subject) -> RuleExplanation:
    if tcp is None:
        note = "dropped: an ALLOW rule that uses fields of HTTP does not count for a TCP connection"
        return RuleExplanation(http.match.rule, matched=False, note=note)
    if tcp is http:
        return _explain_rule(tcp, subject)
    note = "its fields of HTTP do not count for a TCP connection: it matches more than is written"
    return _explain_rule(tcp, subject, note)


def _explain_rule(rule: CompiledRule, subject: Subject, note: str = "") -> RuleExplanation:
    failures = (
        _failures(rule, rule.sources, subject)
        or _failures(rule, rule.operations, subject)
        or _failures(rule, (rule.conditions,), subject)
    )
    return RuleExplanation(rule.match.rule, not failures, failures, note)


def _failures(
    rule: CompiledRule, alternatives: tuple[tuple[Criterion, ...], ...], subject: Subject
) -> tuple[Failure, ...]:
    """The first failure of each alternative, or nothing if one of them holds."""
    found = []
    for criteria in alternatives:
        failed = next((criterion for criterion in criteria if not rule.holds(criterion, subject)), None)
        if failed is None:
            return ()
        unknown = subject.unknown and reads_peer(failed)
        found.append(Failure(failed.field, failed.values, failed.negated, failed.actual(subject), unknown))
    return tuple(found)


def _lines(rule: RuleExplanation) -> list[str]:
    lines = [f"rules[{rule.index}] matched"] if rule.matched else [str(failure) for failure in rule.failures]
    return lines + ([f"rules[{rule.index}]: {rule.note}"] if rule.note else [])


def _shown(value: JsonValue) -> str:
    return json.dumps(value, ensure_ascii=False)
