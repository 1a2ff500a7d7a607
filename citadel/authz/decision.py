"""The answer to a request, as a value that says who decided and why, and who would have."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from citadel.authz.model import Action, PolicyName
from citadel.authz.request import JsonValue


class Outcome(StrEnum):
    ALLOW = "allow"
    DENY = "deny"


class Reason(StrEnum):
    """Why, as a stable code: part of logs, metrics and answers. Never renamed, only added to."""

    NO_ALLOW_POLICY = "no-allow-policy"
    """Allowed: no enforced ALLOW policy applies to the workload."""
    ALLOWED_BY_POLICY = "allowed-by-policy"
    """Allowed: an ALLOW policy matched."""
    DENIED_BY_POLICY = "denied-by-policy"
    """Denied: a DENY policy matched."""
    NO_ALLOW_MATCHED = "no-allow-matched"
    """Denied: ALLOW policies apply, and none matched."""
    DENIED_BY_PROVIDER = "denied-by-provider"
    """Denied: a CUSTOM policy matched, and its provider said no."""
    PROVIDER_FAILED = "provider-failed"
    """Denied: the provider gave no answer."""
    PROVIDER_UNKNOWN = "provider-unknown"
    """Denied: the mesh has no provider of that name."""
    SEVERAL_PROVIDERS = "several-providers"
    """Denied: CUSTOM policies of the workload name different providers."""
    BAD_TOKEN = "bad-token"  # noqa: S105 (a reason, not a password)
    """Denied (401): the token is invalid, expired, or of an issuer that is not accepted."""
    BAD_PATH = "bad-path"
    """Denied (400): the path cannot be normalised, so nothing may be said of it."""
    BAD_REQUEST = "bad-request"
    """Denied: the request contradicts itself, or lacks what every request has."""
    UNKNOWN_WORKLOAD = "unknown-workload"
    """Denied: nobody knows whose policies are asked, or what was said of it contradicts what is known."""
    NOT_LOADED = "not-loaded"
    """Denied: no good set of policies was loaded yet."""
    INTERNAL_ERROR = "internal-error"
    """Denied: a defect of ours; the log has the rest."""


@dataclass(frozen=True, slots=True)
class Match:
    """A rule of a policy that matched, and what it does or would do."""

    policy: PolicyName
    rule: int
    """Which of the policy's rules, counted from 0."""
    action: Action
    dry_run: bool = False

    def to_json(self) -> dict[str, JsonValue]:
        return {"policy": str(self.policy), "rule": self.rule, "action": self.action.value}


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens to the request."""

    outcome: Outcome
    reason: Reason
    action: Action | None = None
    """The kind of policy that decided; None where no policy did. For NO_ALLOW_MATCHED it is ALLOW."""
    policy: PolicyName | None = None
    """The policy whose match decided; None for NO_ALLOW_POLICY, NO_ALLOW_MATCHED and what is no policy's doing."""
    rule: int | None = None
    """Which of its rules, counted from 0."""
    audited: tuple[Match, ...] = ()
    """AUDIT policies that matched; they change nothing."""
    dry_run: tuple[Match, ...] = ()
    """Dry-run policies that matched."""
    dry_run_outcome: Outcome | None = None
    """What the outcome would be if every dry-run policy were enforced; None if none applies to the workload."""
    detail: str = ""
    """One more sentence for the log, where there is more to say. Not for the caller."""

    @property
    def allowed(self) -> bool:
        return self.outcome is Outcome.ALLOW

    def sentence(self) -> str:
        """One line for people: `deny (denied-by-policy): DENY shop/no-writes, rules[0]`."""
        line = f"{self.outcome} ({self.reason})"
        if self.policy is not None:
            line += f": {self.action} {self.policy}, rules[{self.rule}]"
        return f"{line}: {self.detail}" if self.detail else line

    def to_json(self) -> dict[str, JsonValue]:
        """All but the detail, under stable names."""
        return {
            "outcome": self.outcome.value,
            "reason": self.reason.value,
            "action": None if self.action is None else self.action.value,
            "policy": None if self.policy is None else str(self.policy),
            "rule": self.rule,
            "audited": [match.to_json() for match in self.audited],
            "dry_run": [match.to_json() for match in self.dry_run],
            "dry_run_outcome": None if self.dry_run_outcome is None else self.dry_run_outcome.value,
        }
