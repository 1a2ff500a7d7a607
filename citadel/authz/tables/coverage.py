"""Coverage: which rules and fields some request met, and which none did."""

from __future__ import annotations

from collections import Counter

from citadel.authz.explain import Explanation
from citadel.authz.model import PolicyName
from citadel.authz.paths import BadPath
from citadel.authz.policyset import PolicySet
from citadel.authz.request import Request, Workload
from citadel.authz.tables.fields import fields_of, fields_tried

RulePlace = tuple[PolicyName, int]
FieldPlace = tuple[PolicyName, str]


class Coverage:
    """Counts, for each rule of the policies that tables were run against, the requests that matched it and those that
    came to it and did not; and for each field, those that matched through it and those that failed on it alone."""

    def __init__(self) -> None:
        self.matched: Counter[RulePlace] = Counter()
        self.missed: Counter[RulePlace] = Counter()
        self._rules: set[RulePlace] = set()
        self._fields: set[FieldPlace] = set()
        self._through: set[FieldPlace] = set()
        self._alone: set[FieldPlace] = set()

    def expect(self, policies: PolicySet) -> None:
        """These rules count, too."""
        for compiled in policies.compiled:
            self._rules.update((compiled.name, rule.match.rule) for rule in compiled.http)
            self._fields.update((compiled.name, field) for rule in compiled.http for field in fields_of(rule))

    def note(self, explanation: Explanation) -> None:
        for policy in explanation.policies:
            for rule in policy.rules:
                (self.matched if rule.matched else self.missed)[policy.policy, rule.index] += 1

    def note_fields(self, policies: PolicySet, workload: Workload, request: Request) -> None:
        try:
            for rule, field, matched in fields_tried(policies, workload, request):
                (self._through if matched else self._alone).add((rule.match.policy, field))
        except BadPath:  # no field was looked at
            return

    @property
    def rules(self) -> int:
        return len(self._rules)

    @property
    def unmatched(self) -> list[RulePlace]:
        """The rules that no request matched."""
        return sorted(self._rules - self.matched.keys())

    @property
    def never_missed(self) -> list[RulePlace]:
        """The rules that every request matched that came to them: what they exclude is not tested."""
        return sorted((self._rules & self.matched.keys()) - self.missed.keys())

    @property
    def percent(self) -> float:
        """How many of the rules some request matched."""
        return _percent(len(self._rules) - len(self.unmatched), len(self._rules))

    @property
    def fields(self) -> int:
        return len(self._fields)

    @property
    def fields_unmatched(self) -> list[FieldPlace]:
        """The fields through which no request matched."""
        return sorted(self._fields - self._through)

    @property
    def fields_untold(self) -> list[FieldPlace]:
        """The fields that no request failed on alone: without them, every case would come out the same."""
        return sorted((self._fields & self._through) - self._alone)

    @property
    def fields_percent(self) -> float:
        """How many of the fields are tested from both sides."""
        return _percent(len(self._fields & self._through & self._alone), len(self._fields))


def _percent(part: int, whole: int) -> float:
    return 100.0 * part / whole if whole else 100.0
