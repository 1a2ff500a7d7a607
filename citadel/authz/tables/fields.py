"""Which fields of a rule a request puts to the test: those through which it matched, and the one that kept it out.

A field is tested from both sides if some request matches through it, and another fails on it alone: then nobody can
take it out of the policy, or turn it around, without a case that notices. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from citadel.authz.criteria import Criterion
from citadel.authz.policyset import PolicySet
from citadel.authz.request import Request, Workload
from citadel.authz.rules import CompiledRule
from citadel.authz.subject import Subject

Alternatives = tuple[tuple[Criterion, ...], ...]


def fields_of(rule: CompiledRule) -> Iterator[str]:
    """The places of a rule's fields in its policy's `spec`."""
    for alternatives in (rule.sources, rule.operations, (rule.conditions,)):
        for criteria in alternatives:
            yield from (criterion.field for criterion in criteria)


def fields_tried(policies: PolicySet, workload: Workload, request: Request) -> Iterator[tuple[CompiledRule, str, bool]]:
    """For each rule that the request came to: the fields through which it matched (True), and those without which it
    would have (False). Raises BadPath."""
    subject = Subject(request, policies.facts)
    for compiled in policies.for_workload(workload).policies:
        for rule in compiled.tcp if request.http is None else compiled.http:
            for field, matched in _tried(rule, subject):
                yield rule, field, matched


def _tried(rule: CompiledRule, subject: Subject) -> Iterator[tuple[str, bool]]:
    groups: list[Alternatives] = [rule.sources, rule.operations, (rule.conditions,)]
    standing = [_failing(rule, group, subject) for group in groups]
    holding = [not failing or any(not one for one in failing) for failing in standing]
    if all(holding):
        for group, failing in zip(groups, standing, strict=True):
            for criteria, failed in zip(group, failing, strict=True):
                yield from ((criterion.field, True) for criterion in criteria if not failed)
    elif holding.count(False) == 1:
        for failed in standing[holding.index(False)]:
            if len(failed) == 1:
                yield failed[0].field, False


def _failing(rule: CompiledRule, alternatives: Alternatives, subject: Subject) -> list[list[Criterion]]:
    return [[one for one in criteria if not rule.holds(one, subject)] for criteria in alternatives]
