"""What a door is told, and the log with it: the decision, by what it was made, and what becomes of the request."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from citadel.authz.decision import Decision, Reason
from citadel.authz.decision_point.changes import NO_CHANGES, Changes, Headers
from citadel.authz.decision_point.question import Question
from citadel.authz.policyset import PolicySet
from citadel.authz.request import Request
from citadel.authz.tokens import Reason as TokenReason

_STATUS = {Reason.BAD_PATH: 400, Reason.NOT_LOADED: 503, Reason.INTERNAL_ERROR: 503, Reason.PROVIDER_FAILED: 503}


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a provider that denies wants the client to be told."""

    status: int = 403
    headers: Headers = ()
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Ruling:
    """An answer. Every door gives what is in it, in its own words."""

    id: str
    """Names it in the decision log; unique."""
    at: datetime
    """UTC."""
    seconds: float
    """From the question to the answer."""
    door: str
    caller: str
    decision: Decision
    policies: PolicySet | None
    """The set by which it was decided; None: there was none yet."""
    question: Question | None = None
    """None: it came to no question; `decision` says why."""
    request: Request | None = field(default=None, repr=False)
    """The request as it was decided: of several readings the one that decided; with the claims of a verified token
    and no others, and with the headers that providers set. None where `question` is."""
    changes: Changes = NO_CHANGES
    """Of a request that is let through."""
    refusal: Refusal | None = None
    """If a provider denied."""
    token: TokenReason | None = None
    """What was wrong with the token, for BAD_TOKEN."""

    @property
    def version(self) -> str:
        """Of the set of policies; empty: there was none yet."""
        return "" if self.policies is None else self.policies.version

    @property
    def status(self) -> int:
        """The HTTP status that the client gets: 200 stands for whatever the application answers."""
        if self.decision.allowed:
            return 200
        if self.decision.reason is Reason.BAD_TOKEN:
            return 401 if self.token is None else self.token.status
        if self.refusal is not None:
            return self.refusal.status
        return _STATUS.get(self.decision.reason, 403)
