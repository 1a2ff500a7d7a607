"""Coverage: which rules some request met, and which none did."""

from __future__ import annotations

from collections import Counter

from citadel.authz.explain import Explanation
from citadel.authz.model import PolicyName
from citadel.authz.policyset import PolicySet

RulePlace = tuple[PolicyName, int]


class Coverage:
    """Counts, for each rule of the policies that tables were run against, the requests that matched it and those that
    came to it and did not."""

    def __init__(self) -> None:
        self.matched: Counter[RulePlace] = Counter()
        self.missed: Counter[RulePlace] = Counter()
        self._rules: set[RulePlace] = set()

    def expect(self, policies: PolicySet) -> None:
        """These rules count, too."""
        for compiled in policies.compiled:
            self._rules.update((compiled.name, rule.match.rule) for rule in compiled.http)

    def note(self, explanation: Explanation) -> None:
        for policy in explanation.policies:
            for rule in policy.rules:
                (self.matched if rule.matched else self.missed)[policy.policy, rule.index] += 1

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
        return 100.0 if not self._rules else 100.0 * (len(self._rules) - len(self.unmatched)) / len(self._rules)
