"""ext_authz over HTTP: the request that is to be decided, sent once more. From it to a question, and to an answer.

Envoy's HTTP mode sends no attributes: method, path, Host and those headers that it is told to. What else policies refer
to, a configured proxy states in headers; what it does not state is not known, and where a policy of the workload refers
to it, the request is denied. Only 200 allows. A denial is never a 5xx, which an Envoy with `failure_mode_allow` lets
pass; only a fault of ours is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

import structlog

from citadel.authz.decision import Reason
from citadel.authz.decision_point import Changes, DecisionPoint, Question, Ruling, Standing
from citadel.authz.doors.attributes import MAX_HEADERS, original_client, peer_id
from citadel.authz.doors.check import DoorRules
from citadel.authz.doors.denials import denial
from citadel.authz.doors.joined import BadAttributes, readings
from citadel.authz.doors.ports import Caller
from citadel.authz.doors.whose import Unknown, whose
from citadel.authz.doors.xfcc import HEADER as XFCC
from citadel.authz.doors.xfcc import only_uri
from citadel.authz.model import Attribute
from citadel.authz.request import HttpRequest, IpAddress, Request, Workload, known_or_unknown
from citadel.spiffe import SpiffeId, TrustDomain

CONNECTION = "x-citadel-connection"
"""All of the connection in one header, so that no part of it can be the client's. Envoy writes it over what a client
sent (measured, 1.40); two of them, joined or not, are a denial."""
_CONNECTION = re.compile(
    r"source=(?P<source>[0-9A-Fa-f.:]+);destination=\[?(?P<destination>[0-9A-Fa-f.:]+?)\]?:(?P<port>[0-9]{1,5});sni=(?P<sni>[^,;\s]*)",
)
VERSION, DECISION = "citadel-policy-version", "citadel-decision-id"
_OF_THE_CHECK = ("content-length", "x-envoy-internal", "x-envoy-expected-rq-timeout-ms")
"""What Envoy writes anew for the check: not what the request has."""
WITNESS = "x-forwarded-proto"
"""Every request in Envoy has it (HTTP header manipulation). Where the check has not, the filter is not set to send all
headers, and that one is missing says nothing of what the client sent."""
REMOVE = "x-envoy-auth-headers-to-remove"
_STATED = f"its proxy must state it in {CONNECTION}"
_OF_CONNECTION = frozenset(
    [
        Attribute.SOURCE_IP,
        Attribute.REMOTE_IP,
        Attribute.DESTINATION_IP,
        Attribute.DESTINATION_PORT,
        Attribute.CONNECTION_SNI,
    ]
)
_MEND = {
    Attribute.SOURCE_PRINCIPAL: "its proxy must be one of authorization.http.xfcc_from",
    Attribute.SOURCE_IP: _STATED,
    Attribute.REMOTE_IP: _STATED,
    Attribute.DESTINATION_IP: _STATED,
    Attribute.DESTINATION_PORT: _STATED,
    Attribute.CONNECTION_SNI: _STATED,
    Attribute.REQUEST_HEADERS: "its proxy must send all of them: allowed_headers",
    Attribute.ENVOY_FILTERS: "HTTP carries no metadata; use ext_authz over gRPC",
}
log = structlog.get_logger("citadel.authz")


@dataclass(frozen=True, slots=True)
class HttpRules:
    """What the configuration says of this door."""

    xfcc_from: frozenset[SpiffeId] = field(default_factory=frozenset)
    """The local proxies that write X-Forwarded-Client-Cert themselves and alone (SANITIZE_SET)."""
    connection_headers: bool = False
    """These proxies state the connection in `x-citadel-connection`."""
    path_prefix: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to the door as it came: the target and values as bytes in UTF-8, others with `surrogateescape`."""

    method: str
    target: str
    headers: Sequence[tuple[str, str]]
    """Names in lower case."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    ruling: Ruling


class HttpDoor:
    """Answers checks over HTTP. `name` is what metrics and the log call it."""

    def __init__(self, point: DecisionPoint, rules: DoorRules, http: HttpRules, name: str = "ext_authz_http") -> None:
        self._point = point
        self._rules = rules
        self._http = http
        self._name = name

    async def check(self, asked: Asked, caller: Caller, *, began: float) -> HttpAnswer:
        """Never raises."""
        standing = self._point.standing()
        try:
            question = self._question(asked, caller, standing)
        except Unknown as unknown:
            return self.refused(caller.name, Reason.UNKNOWN_WORKLOAD, str(unknown), began=began)
        except BadAttributes as bad:
            return self.refused(caller.name, Reason.BAD_REQUEST, str(bad), began=began)
        except Exception as defect:  # whatever is wrong with us is no reason to let anybody in
            log.error("a check could not be read", exc_info=defect)
            return self.refused(caller.name, Reason.INTERNAL_ERROR, type(defect).__name__, began=began)
        if question is None:
            return self.refused(caller.name, Reason.NOT_LOADED, "there is no good set of policies yet", began=began)
        return self._answer(await self._point.decide(question, standing, began=began))

    def refused(self, caller: str, reason: Reason, detail: str, *, began: float) -> HttpAnswer:
        """The answer where there is nothing to decide."""
        return self._answer(self._point.refuse(self._name, caller, reason, detail, began=began))

    def _answer(self, ruling: Ruling) -> HttpAnswer:
        common = ((VERSION, ruling.version), (DECISION, ruling.id))
        if ruling.decision.allowed:
            return HttpAnswer(200, (*_changed(ruling.changes), *common), b"", ruling)
        told = denial(ruling, self._rules.denial_headers)
        status = told.status
        if status >= 500 and ruling.decision.reason is not Reason.INTERNAL_ERROR:
            status = 403
        return HttpAnswer(status, (*told.headers, *common), told.body, ruling)

    def _question(self, asked: Asked, caller: Caller, standing: Standing) -> Question | None:
        """None: there is nothing to decide by. Raises Unknown, BadAttributes."""
        policies = standing.policies
        if policies is None:
            return None
        headers = _by_name(asked.headers)
        # nothing that a client could send as well says whose policies are asked
        asks_for = whose(caller, {}, {}, standing.looks.selector_keys, self._rules.default_namespace)
        workload, name = asks_for.workload, asks_for.entry.spiffe_id
        trusted = caller.local and name in self._http.xfcc_from
        if not trusted and XFCC in headers:
            raise BadAttributes(f"{name} sends {XFCC}, and authorization.http.xfcc_from does not name it")
        request, known = self._request(asked, headers, asks_for.trust_domains, standing, trusted=trusted)
        _check_known(standing, workload, known)
        assert request.http is not None
        http = request.http
        ways = tuple(
            replace(request, http=replace(http, headers=one)) for one in readings(http.headers, standing.looks.headers)
        )
        request_id = headers.get("x-request-id", ("",))[0]
        return Question(self._name, caller.name, workload, ways, request_id=request_id)

    def _request(
        self,
        asked: Asked,
        headers: dict[str, tuple[str, ...]],
        trust_domains: frozenset[TrustDomain],
        standing: Standing,
        *,
        trusted: bool,
    ) -> tuple[Request, frozenset[Attribute]]:
        """The request, and what is known of its connection. Takes out of `headers` what is not the request's own."""
        assert standing.policies is not None
        facts = standing.policies.facts
        known = {Attribute.REQUEST_HEADERS} if WITNESS in headers else set[Attribute]()
        request = Request(None)
        if trusted:
            if known:  # else the peer's may be a header that was not sent
                known.add(Attribute.SOURCE_PRINCIPAL)
            domains = trust_domains | {facts.trust_domain, *facts.aliases}
            if xfcc := ",".join(headers.get(XFCC, ())):
                peer, unknown = known_or_unknown(peer_id(only_uri(xfcc)), domains)
                request = replace(request, peer=peer, unknown_peer=unknown)
        if trusted and self._http.connection_headers:
            request, stated = _connection(request, headers)
            known |= stated
        if request.source_ip is None:  # whether the last hop is the direct peer's cannot be told then
            known.discard(Attribute.REMOTE_IP)
            remote = None
        else:
            remote = original_client(headers.get("x-forwarded-for", ()), request.source_ip, facts.trusted_proxies)
        own = {name: values for name, values in headers.items() if name != CONNECTION}
        authority = _only(own, "host") if "host" in own else None
        own.pop("host", None)
        for name in _OF_THE_CHECK:
            if name in standing.looks.headers:
                raise BadAttributes(f"a policy looks at {name}, which ext_authz over HTTP does not tell")
            own.pop(name, None)
        if not asked.method:
            raise BadAttributes("the request has no method")
        path = asked.target.removeprefix(self._http.path_prefix)
        if not asked.target.startswith(self._http.path_prefix):
            raise BadAttributes(f"the path does not start with {self._http.path_prefix}, as configured")
        http = HttpRequest(asked.method, path, authority, own, path_normalized=self._rules.path_normalized)
        return replace(request, remote_ip=remote, http=http), frozenset(known)


def _by_name(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    if len(found) > MAX_HEADERS:
        raise BadAttributes(f"the request has more than {MAX_HEADERS} headers")
    return {name: tuple(values) for name, values in found.items()}


def _only(headers: Mapping[str, tuple[str, ...]], name: str) -> str:
    if len(headers[name]) != 1:
        raise BadAttributes(f"{name} is there more than once")
    return headers[name][0]


def _connection(request: Request, headers: Mapping[str, tuple[str, ...]]) -> tuple[Request, frozenset[Attribute]]:
    """What the proxy states of the connection, if it does."""
    if CONNECTION not in headers:
        return request, frozenset()
    found = _CONNECTION.fullmatch(_only(headers, CONNECTION))
    if found is None or int(found["port"]) > 65535:
        raise BadAttributes(f"{CONNECTION} is not source=ADDRESS;destination=ADDRESS:PORT;sni=NAME")
    sni = "" if found["sni"] == "-" else found["sni"].lower()
    stated = replace(
        request,
        source_ip=_ip(CONNECTION, found["source"]),
        destination_ip=_ip(CONNECTION, found["destination"]),
        port=int(found["port"]) or None,
        sni=sni,
    )
    return stated, _OF_CONNECTION


def _ip(name: str, text: str) -> IpAddress:
    try:
        return ip_address(text)
    except ValueError:
        raise BadAttributes(f"{name} holds no address") from None


def _check_known(standing: Standing, workload: Workload, known: frozenset[Attribute]) -> None:
    """Raises BadAttributes: a policy refers to what nobody stated."""
    applying = standing.for_workload(workload)
    unknown = applying.refers - known
    if applying.gate is not None and Attribute.REQUEST_HEADERS not in known:  # a token may be in any header
        unknown |= {Attribute.REQUEST_HEADERS}
    if unknown:
        first = min(unknown)
        raise BadAttributes(f"a policy of the workload refers to {first}, which is not known; {_MEND[first]}")


def _changed(changes: Changes) -> Iterable[tuple[str, str]]:
    yield from changes.set_headers
    yield from changes.append_headers
    yield from changes.response_headers
    if changes.remove_headers:
        yield REMOVE, ",".join(changes.remove_headers)
