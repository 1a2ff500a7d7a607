"""What Citadel answered, or that it did not."""

from __future__ import annotations

from dataclasses import dataclass

from citadel.api.proto.citadel.v1 import authorization_pb2 as pb

NO_ANSWER = "no-answer"
"""The reason where there was no answer: not one of Citadel's own."""


@dataclass(frozen=True, slots=True)
class Match:
    """A rule that matched."""

    policy: str
    """`namespace/name`."""
    rule: int
    action: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A decision. It is true if the request is allowed, and false in every other case."""

    allowed: bool
    reason: str
    """A stable code (docs/authorization.md), or NO_ANSWER."""
    action: str = ""
    policy: str = ""
    """`namespace/name` of the policy that decided; empty: none did."""
    rule: int | None = None
    audited: tuple[Match, ...] = ()
    dry_run: tuple[Match, ...] = ()
    dry_run_outcome: str = ""
    http_status: int = 503
    """What to answer the client; 200 stands for whatever the application answers."""
    version: str = ""
    """Of the policies in force."""
    id: str = ""
    """Names the decision in the decision log."""
    detail: str = ""
    """One more sentence; where there was no answer, why. For the log, not for the client."""

    def __bool__(self) -> bool:
        return self.allowed

    @classmethod
    def of(cls, message: pb.AuthorizationAnswer) -> Answer:
        return cls(
            allowed=message.allowed,
            reason=message.reason,
            action=message.action,
            policy=message.policy,
            rule=message.rule if message.HasField("rule") else None,
            audited=tuple(Match(one.policy, one.rule, one.action) for one in message.audited),
            dry_run=tuple(Match(one.policy, one.rule, one.action) for one in message.dry_run),
            dry_run_outcome=message.dry_run_outcome,
            http_status=message.http_status,
            version=message.version,
            id=message.id,
            detail=message.detail,
        )

    @classmethod
    def none(cls, detail: str) -> Answer:
        """A denial, since there was no answer."""
        return cls(allowed=False, reason=NO_ANSWER, detail=detail)


@dataclass(frozen=True, slots=True)
class Explained:
    """An answer, and what each policy of the workload made of the request."""

    answer: Answer
    detail: str
    text: str
    tree: str
    json: str
    """Schema `citadel.dev/explanation/v1`; empty where it came to no decision by policies."""
