"""The decision: what the policies of a workload make of a request (Istio, "Authorization Policy", implicit enablement).

In this order: a CUSTOM policy matches and its provider does not allow: deny. A DENY policy matches: deny. No enforced
ALLOW policy applies: allow. One matches: allow. Otherwise: deny. AUDIT and dry-run policies are reported only. An
error of ours is a denial.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from citadel.authz.decision import Decision, Match, Outcome, Reason
from citadel.authz.facts import ExtensionProvider, MeshFacts, ProviderProtocol
from citadel.authz.index import Index
from citadel.authz.model import Action
from citadel.authz.paths import BadPath
from citadel.authz.policyset import PolicySet, WorkloadPolicies
from citadel.authz.request import Request, Workload
from citadel.authz.rules import CompiledRule
from citadel.authz.subject import Subject


class Answer(StrEnum):
    """What an extension provider said of a request."""

    ALLOW = "allow"
    DENY = "deny"
    FAILED = "failed"
    """Nothing, not in time, or something that is no answer."""


@dataclass(frozen=True, slots=True)
class Consultation:
    """A CUSTOM policy matched: its provider has to be asked, and the request evaluated again with the answer."""

    provider: ExtensionProvider
    match: Match


Answers = Mapping[str, Answer]

_NO_ANSWERS: Answers = {}
_NO_ALLOW_POLICY = Decision(Outcome.ALLOW, Reason.NO_ALLOW_POLICY)
_NO_ALLOW_MATCHED = Decision(Outcome.DENY, Reason.NO_ALLOW_MATCHED, Action.ALLOW)


def decide(policies: PolicySet, workload: Workload, request: Request, answers: Answers = _NO_ANSWERS) -> Decision:
    """Decide, with the answers of extension providers by name; one that is missing counts as failed. Never raises."""
    try:
        applying = policies.for_workload(workload)
    except Exception as defect:  # ours; it denies, and never ends who asked
        return _defect(defect)
    return decide_by(applying, policies.facts, request, answers)


def decide_by(
    applying: WorkloadPolicies, facts: MeshFacts, request: Request, answers: Answers = _NO_ANSWERS
) -> Decision:
    """As `decide`, by the policies that apply to the workload. Never raises."""
    found = _evaluated(applying, facts, request, answers)
    if isinstance(found, Consultation):
        return _denied_by_custom(found.match, Reason.PROVIDER_FAILED, f"provider {found.provider.name!r} was not asked")
    return found


def evaluate(
    policies: PolicySet, workload: Workload, request: Request, answers: Answers = _NO_ANSWERS
) -> Decision | Consultation:
    """Decide, or say which provider must be asked before that. Never raises: a defect of ours is a denial."""
    try:
        applying = policies.for_workload(workload)
    except Exception as defect:  # ours; it denies, and never ends who asked
        return _defect(defect)
    return _evaluated(applying, policies.facts, request, answers)


def _evaluated(
    applying: WorkloadPolicies, facts: MeshFacts, request: Request, answers: Answers
) -> Decision | Consultation:
    try:
        return _evaluate(applying, facts, request, answers)
    except BadPath as bad:
        return Decision(Outcome.DENY, Reason.BAD_PATH, detail=bad.message)
    except Exception as defect:  # ours; it denies, and never ends who asked
        return _defect(defect)


def _defect(defect: Exception) -> Decision:
    return Decision(Outcome.DENY, Reason.INTERNAL_ERROR, detail=f"{type(defect).__name__}: {defect}")


def _evaluate(
    applying: WorkloadPolicies, facts: MeshFacts, request: Request, answers: Answers
) -> Decision | Consultation:
    subject = Subject(request, facts)
    custom: list[CompiledRule] = []
    audited: list[Match] = []
    dry_run: list[Match] = []
    decisive: CompiledRule | None = None
    for rule in candidates(applying.tcp if request.http is None else applying.http, subject):
        if not rule.matches(subject):
            continue
        match = rule.match
        if match.dry_run:
            dry_run.append(match)
        elif match.action is Action.CUSTOM:
            custom.append(rule)
        elif match.action is Action.AUDIT:
            audited.append(match)
        elif decisive is None:
            decisive = rule
            if not applying.has_dry_run:
                break  # DENY comes before ALLOW: nothing that follows can change or add anything
    if custom:
        by_custom = _consult(custom, applying, facts, answers, tcp=request.http is None)
        if by_custom is not None:
            return by_custom
    if decisive is not None:
        decision = decisive.decision
    else:
        decision = _NO_ALLOW_MATCHED if applying.has_allow else _NO_ALLOW_POLICY
    if not audited and not applying.has_dry_run:
        return decision
    outcome = _with_dry_run(decision, applying, dry_run) if applying.has_dry_run else None
    return replace(decision, audited=tuple(audited), dry_run=tuple(dry_run), dry_run_outcome=outcome)


def candidates(indexes: tuple[Index, ...], subject: Subject) -> list[CompiledRule]:
    """The rules that could match, in the order in which they count: CUSTOM, AUDIT, DENY, ALLOW, then by name."""
    found: list[CompiledRule] = []
    for index in indexes:
        found += index.candidates(subject)
    if len(found) > 1:
        found = sorted(set(found), key=_rank)
    return found


def _rank(rule: CompiledRule) -> tuple[int, str, str, int]:
    return rule.rank


def _consult(
    matched: list[CompiledRule], applying: WorkloadPolicies, facts: MeshFacts, answers: Answers, *, tcp: bool
) -> Decision | Consultation | None:
    """What CUSTOM policies that matched lead to; None: nothing, go on."""
    if len(applying.providers) > 1 and not facts.several_providers:
        names = ", ".join(applying.providers)
        return _denied_by_custom(matched[0].match, Reason.SEVERAL_PROVIDERS, f"the workload's providers are {names}")
    first = {rule.policy.provider or "": rule.match for rule in reversed(matched)}
    for name, match in sorted(first.items()):
        provider = facts.provider(name)
        if provider is None:
            return _denied_by_custom(match, Reason.PROVIDER_UNKNOWN, f"there is no extension provider {name!r}")
        if tcp and provider.protocol is ProviderProtocol.HTTP:
            continue  # it cannot be asked about a connection; Istio generates no filter for it
        answer = answers.get(name)
        if answer is None:
            return Consultation(provider, match)
        if answer is not Answer.ALLOW:
            reason = Reason.DENIED_BY_PROVIDER if answer is Answer.DENY else Reason.PROVIDER_FAILED
            return _denied_by_custom(match, reason, f"provider {name!r}")
    return None


def _denied_by_custom(match: Match, reason: Reason, detail: str) -> Decision:
    return Decision(Outcome.DENY, reason, Action.CUSTOM, match.policy, match.rule, detail=detail)


def _with_dry_run(decision: Decision, applying: WorkloadPolicies, matches: list[Match]) -> Outcome:
    """The outcome if the dry-run policies were enforced too. What CUSTOM denies does not come so far."""
    actions = {match.action for match in matches}
    if decision.reason is Reason.DENIED_BY_POLICY or Action.DENY in actions:
        return Outcome.DENY
    if decision.reason is Reason.ALLOWED_BY_POLICY or Action.ALLOW in actions:
        return Outcome.ALLOW
    return Outcome.DENY if applying.has_allow or applying.has_dry_run_allow else Outcome.ALLOW
