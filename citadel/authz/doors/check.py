"""One check of Envoy's ext_authz, decided: message in, message out. Pure, and never raises.

The contract, as measured on Envoy 1.40, is in docs/authorization-doors.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from envoy.service.auth.v3 import external_auth_pb2
from google.protobuf.message import DecodeError

from citadel.authz.decision import Decision, Outcome, Reason
from citadel.authz.doors.answers import answer
from citadel.authz.doors.attributes import BadAttributes, read
from citadel.authz.doors.ports import Caller
from citadel.authz.doors.whose import Unknown, whose
from citadel.authz.evaluate import decide
from citadel.authz.model import Attribute, AuthorizationPolicy, JwtRule, RequestAuthentication
from citadel.authz.policyset import PolicySet
from citadel.authz.request import HttpRequest, Workload
from citadel.authz.selection import applies
from citadel.spiffe import SpiffeId


@dataclass(frozen=True, slots=True)
class DoorRules:
    """What the configuration says of doors."""

    default_namespace: str = "default"
    """Of workloads whose SPIFFE ID names none."""
    claims_from: frozenset[SpiffeId] = field(default_factory=frozenset)
    """The local proxies whose dynamic metadata, and with it the claims of tokens that they verified, count."""


@dataclass(frozen=True, slots=True)
class Checked:
    """The answer, and what it was made of."""

    response: external_auth_pb2.CheckResponse
    decision: Decision


class Door:
    """Checks under one set of policies. `policies` is None before the first good set: then all is denied."""

    def __init__(self, policies: PolicySet | None, rules: DoorRules) -> None:
        self.policies = policies
        self.rules = rules
        self._version = "" if policies is None else policies.version
        self._looks = _looked_at(policies)

    def check(self, message: bytes, caller: Caller) -> Checked:
        """Answer a serialised CheckRequest of `caller`. Never raises."""
        try:
            decision = self._decided(message, caller)
        except Exception as defect:  # whatever is wrong with us is no reason to let anybody in
            decision = Decision(Outcome.DENY, Reason.INTERNAL_ERROR, detail=f"{type(defect).__name__}: {defect}")
        return Checked(answer(decision, self._version), decision)

    def _decided(self, message: bytes, caller: Caller) -> Decision:
        policies = self.policies
        if policies is None:
            return Decision(Outcome.DENY, Reason.NOT_LOADED, detail="there is no good set of policies yet")
        try:
            attributes = external_auth_pb2.CheckRequest.FromString(message).attributes
        except DecodeError:
            return Decision(Outcome.DENY, Reason.BAD_REQUEST, detail="this is no CheckRequest")
        try:
            workload, entry = whose(
                caller,
                attributes.context_extensions,
                attributes.destination.labels,
                self._looks.selector_keys,
                self.rules.default_namespace,
            )
            facts = policies.facts
            trusted = entry.spiffe_id in self.rules.claims_from
            readings = read(
                attributes,
                trust_domains=caller.trust_domains | {facts.trust_domain, *facts.aliases},
                trusted_proxies=facts.trusted_proxies,
                header_names=self._looks.headers,
                claims=trusted,
            )
        except Unknown as unknown:
            return Decision(Outcome.DENY, Reason.UNKNOWN_WORKLOAD, detail=str(unknown))
        except BadAttributes as bad:
            return Decision(Outcome.DENY, Reason.BAD_REQUEST, detail=str(bad))
        if not trusted and (unverified := self._unverified(workload, facts.root_namespace, readings[0].http)):
            return Decision(Outcome.DENY, Reason.BAD_TOKEN, detail=unverified)
        return _strictest(decide(policies, workload, one) for one in readings)

    def _unverified(self, workload: Workload, root_namespace: str, http: HttpRequest | None) -> str:
        """Where there is a token that a RequestAuthentication of the workload wants verified, and nobody has; or
        nothing. Without this a request would pass a DENY of its own token's user as one without a token."""
        if http is None:
            return ""
        for authentication in self._looks.authentications:
            if applies(authentication, workload, root_namespace):
                for rule in authentication.jwt_rules:
                    if place := _token_place(rule, http):
                        return f"there is a token in {place}, and no proxy of authorization.claims_from verified it"
        return ""


def refused(reason: Reason, detail: str, version: str = "") -> Checked:
    """The answer where there is nothing to decide."""
    decision = Decision(Outcome.DENY, reason, detail=detail)
    return Checked(answer(decision, version), decision)


def _strictest(decisions: Iterable[Decision]) -> Decision:
    """The first denial; or, if there is none, the first decision."""
    first: Decision | None = None
    for decision in decisions:
        if not decision.allowed:
            return decision
        first = first or decision
    assert first is not None, "a request has at least one reading"
    return first


@dataclass(frozen=True, slots=True)
class _Looks:
    """What a set of policies looks at, that a door must know before it asks."""

    selector_keys: frozenset[str]
    headers: frozenset[str]
    authentications: tuple[RequestAuthentication, ...]


def _looked_at(policies: PolicySet | None) -> _Looks:
    keys: set[str] = set()
    headers: set[str] = set()
    authentications = []
    for document in () if policies is None else policies.documents:
        if document.selector is not None:
            keys.update(name for name, _ in document.selector.match_labels)
        if isinstance(document, RequestAuthentication):
            authentications.append(document)
        elif isinstance(document, AuthorizationPolicy):
            conditions = (condition for rule in document.rules for condition in rule.conditions)
            headers.update(c.key.path[0] for c in conditions if c.key.attribute is Attribute.REQUEST_HEADERS)
    return _Looks(frozenset(keys), frozenset(headers), tuple(authentications))


def _token_place(rule: JwtRule, http: HttpRequest) -> str:
    """Where the request has something that this rule takes for a token (RequestAuthentication, JWTRule).

    Envoy takes a prefix wherever it stands in a header."""
    query = parse_qs(http.path.partition("?")[2], keep_blank_values=True)
    if not (rule.from_headers or rule.from_params or rule.from_cookies):
        if any("bearer " in value.lower() for value in http.headers.get("authorization", ())):
            return "Authorization"
        return "access_token" if "access_token" in query else ""
    for header in rule.from_headers:
        if any(header.prefix in value for value in http.headers.get(header.name.lower(), ())):
            return header.name
    for name in rule.from_params:
        if name in query:
            return name
    cookies = ";".join(http.headers.get("cookie", ()))
    return next((name for name in rule.from_cookies if name in _cookies(cookies)), "")


def _cookies(text: str) -> frozenset[str]:
    return frozenset(part.partition("=")[0].strip() for part in text.split(";"))
