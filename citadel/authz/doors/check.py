"""One check of Envoy's ext_authz: from the message to a question, and from the ruling to the answer. Never raises.

The contract, as measured on Envoy 1.40, is in docs/authorization-doors.md.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import structlog
from envoy.service.auth.v3 import external_auth_pb2
from google.protobuf.message import DecodeError

from citadel.authz.decision import Decision, Reason
from citadel.authz.decision_point import DecisionPoint, Question, Ruling, Standing
from citadel.authz.doors.attributes import read
from citadel.authz.doors.denials import DenialHeader
from citadel.authz.doors.joined import BadAttributes
from citadel.authz.doors.ports import Caller
from citadel.authz.doors.whose import Unknown, whose
from citadel.authz.doors.written import WrittenAnswers
from citadel.authz.facts import MeshFacts
from citadel.spiffe import SpiffeId, TrustDomain

_MOST_CALLERS = 4096  # whose trust domains are remembered
log = structlog.get_logger("citadel.authz")


@dataclass(frozen=True, slots=True)
class DoorRules:
    """What the configuration says of doors."""

    default_namespace: str = "default"
    """Of workloads whose SPIFFE ID names none."""
    claims_from: frozenset[SpiffeId] = field(default_factory=frozenset)
    """The local proxies whose dynamic metadata, and with it the claims of tokens that they verified, count."""
    path_normalized: bool = False
    """The listeners that ask have normalised the paths."""
    denial_headers: tuple[DenialHeader, ...] = ()


@dataclass(frozen=True, slots=True)
class Checked:
    """The answer, and what it was made of."""

    serialized: bytes
    """A CheckResponse."""
    ruling: Ruling

    @property
    def response(self) -> external_auth_pb2.CheckResponse:
        return external_auth_pb2.CheckResponse.FromString(self.serialized)

    @property
    def decision(self) -> Decision:
        return self.ruling.decision


class Door:
    """Answers checks. `name` is what metrics and the log call it."""

    def __init__(self, point: DecisionPoint, rules: DoorRules, name: str = "ext_authz") -> None:
        self._point = point
        self._rules = rules
        self._name = name
        self._written = WrittenAnswers(rules.denial_headers)
        self._facts: MeshFacts | None = None
        self._domains: dict[frozenset[TrustDomain], frozenset[TrustDomain]] = {}

    async def check(self, message: bytes, caller: Caller, *, began: float | None = None) -> Checked:
        """Answer a serialised CheckRequest of `caller`."""
        began = time.perf_counter() if began is None else began
        standing = self._point.standing()
        try:
            asked = self._question(message, caller, standing)
        except _NoQuestion as error:
            return self._checked(
                self._point.refuse(self._name, caller.name, error.reason, str(error), standing, began=began)
            )
        except Exception as defect:  # whatever is wrong with us is no reason to let anybody in
            log.error("a check could not be read", exc_info=defect)
            return self.refused(caller.name, Reason.INTERNAL_ERROR, type(defect).__name__, began=began)
        ruling = self._point.decide_at_once(asked, standing, began=began)
        return self._checked(ruling or await self._point.decide(asked, standing, began=began))

    def refused(self, caller: str, reason: Reason, detail: str, *, began: float) -> Checked:
        """The answer where there is nothing to decide."""
        return self._checked(self._point.refuse(self._name, caller, reason, detail, began=began))

    def _checked(self, ruling: Ruling) -> Checked:
        return Checked(self._written.of(ruling), ruling)

    def _trusted(self, domains: frozenset[TrustDomain], facts: MeshFacts) -> frozenset[TrustDomain]:
        """Whose identities count for a caller of these: the mesh's own, too."""
        if facts is not self._facts or len(self._domains) >= _MOST_CALLERS:
            self._facts, self._domains = facts, {}
        found = self._domains.get(domains)
        if found is None:
            found = self._domains[domains] = domains | {facts.trust_domain, *facts.aliases}
        return found

    def _question(self, message: bytes, caller: Caller, standing: Standing) -> Question:
        """Raises _NoQuestion."""
        policies = standing.policies
        if policies is None:
            raise _NoQuestion(Reason.NOT_LOADED, "there is no good set of policies yet")
        try:
            attributes = external_auth_pb2.CheckRequest.FromString(message).attributes
        except DecodeError:
            raise _NoQuestion(Reason.BAD_REQUEST, "this is no CheckRequest") from None
        facts = policies.facts
        try:
            asks_for = whose(
                caller,
                attributes.context_extensions,
                attributes.destination.labels,
                standing.looks.selector_keys,
                self._rules.default_namespace,
            )
            trusted = caller.local and asks_for.entry.spiffe_id in self._rules.claims_from
            readings = read(
                attributes,
                trust_domains=self._trusted(asks_for.trust_domains, facts),
                trusted_proxies=facts.trusted_proxies,
                header_names=standing.looks.headers,
                claims=trusted,
                path_normalized=self._rules.path_normalized,
            )
        except Unknown as unknown:
            raise _NoQuestion(Reason.UNKNOWN_WORKLOAD, str(unknown)) from None
        except BadAttributes as bad:
            raise _NoQuestion(Reason.BAD_REQUEST, str(bad)) from None
        http = readings[0].http
        request_id = "" if http is None else http.headers.get("x-request-id", ("",))[0]  # raw headers, too
        return Question(self._name, caller.name, asks_for.workload, readings, trusted, request_id)


class _NoQuestion(Exception):
    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
