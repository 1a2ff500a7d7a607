"""Both doors of ext_authz, in process, asked what an Envoy would ask them; for tests that compare all who decide."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from envoy.service.auth.v3 import external_auth_pb2
from google.protobuf.json_format import ParseDict

from citadel.authz import Attribute, BadPath, Decision, HttpRequest, PolicySet, Request, Workload, decide, normalize
from citadel.authz.doors import Caller, Door, DoorRules, HttpDoor, HttpRules, Registered
from citadel.authz.doors.http_check import Asked
from citadel.authz.refers import refers
from citadel.spiffe import SpiffeId
from tests.support.deciding import deciding

GRPC, HTTP, NORMALISED = DOORS = ("gRPC door", "HTTP door", "gRPC door behind a normalising listener")
T = TypeVar("T")


class Doors:
    """The doors of one workload, by one set of policies. Its proxy states all that it knows."""

    def __init__(self, policies: PolicySet, workload: Workload) -> None:
        self._proxy = SpiffeId.parse(f"spiffe://td1/ns/{workload.namespace}/sa/proxy")
        point = deciding(policies)
        rules = DoorRules(claims_from=frozenset([self._proxy]))
        self.policies, self.workload = policies, workload
        self._raw = Door(point, rules)
        self._normalised = Door(point, replace(rules, path_normalized=True))
        self._http = HttpDoor(point, rules, HttpRules(frozenset([self._proxy]), connection_headers=True))
        applying = policies.for_workload(workload).policies
        self._refers = frozenset[Attribute]().union(*(refers(one.policy) for one in applying))

    def disagreements(self, request: Request, token: str | None, which: Sequence[str] = DOORS) -> Iterator[str]:
        """How each door decides that decides another thing than the library. `request` is as the library is asked,
        with the claims of `token`."""
        request = replace(request, source_ip=request.remote_ip)  # behind the PROXY protocol, all that ext_authz is told
        expected = decide(self.policies, self.workload, request)
        for name in which:
            found = self._found(name, request, token)
            if found is None or (name == HTTP and self._cautious(request, found)):
                continue
            if _told(found) != _told(expected):
                yield f"{name}: {found.sentence()}; library: {expected.sentence()}"

    def _found(self, name: str, request: Request, token: str | None) -> Decision | None:
        domains = frozenset() if request.peer is None else frozenset([request.peer.trust_domain])
        caller = Caller("proxy", (Registered(self._proxy, self.workload.labels),), domains)
        if name == HTTP:
            if request.http is None:
                return None
            return _done(self._http.check(_asked(request, token), caller, began=0.0)).ruling.decision
        door = self._raw
        if name == NORMALISED:
            if request.http is None:
                return None
            try:
                path = normalize(request.http.path, self.policies.facts.path_normalization)
            except BadPath:
                return None
            request = replace(request, http=replace(request.http, path=path))
            door = self._normalised
        return _done(door.check(_message(request, token).SerializeToString(), caller)).decision

    def _cautious(self, request: Request, found: Decision) -> bool:
        """Whether the door may deny what is allowed: headers may have been joined, and metadata is not told."""
        assert request.http is not None
        commas = any("," in value for values in request.http.headers.values() for value in values)
        return not found.allowed and (commas or Attribute.ENVOY_FILTERS in self._refers)


def _done(work: Coroutine[Any, Any, T]) -> T:
    """What comes of work that waits for nothing, as the keys are in the policies."""
    try:
        work.send(None)
    except StopIteration as end:
        done: T = end.value
        return done
    raise AssertionError("it waits")


def _told(decision: Decision) -> tuple[object, ...]:
    return decision.outcome, decision.reason, decision.policy, decision.rule, decision.dry_run_outcome, decision.audited


def _headers(http: HttpRequest, token: str | None) -> list[tuple[str, str]]:
    pairs = [(name, value) for name, values in http.headers.items() for value in values]
    return [*pairs, *([("authorization", f"Bearer {token}")] if token is not None else [])]


def _message(request: Request, token: str | None) -> Any:
    """With encode_raw_headers, as docs/authorization-doors.md says."""
    message = external_auth_pb2.CheckRequest()
    attributes = message.attributes
    attributes.source.address.socket_address.address = str(request.source_ip)
    attributes.source.principal = "" if request.peer is None else request.peer.uri
    attributes.destination.address.socket_address.address = str(request.destination_ip)
    attributes.destination.address.socket_address.port_value = request.port or 0
    attributes.tls_session.sni = request.sni
    for name, values in request.metadata.items():
        ParseDict(dict(values), attributes.metadata_context.filter_metadata[name])
    if request.http is not None:
        http = request.http
        attributes.request.http.method = http.method
        attributes.request.http.host = http.authority or ""
        pairs = [(":method", http.method), (":path", http.path), (":authority", http.authority or "")]
        for name, value in [*pairs, *_headers(http, token)]:
            attributes.request.http.header_map.headers.add(key=name, raw_value=value.encode("utf-8", "surrogateescape"))
    return message


def _asked(request: Request, token: str | None) -> Asked:
    http = request.http
    assert http is not None
    address = str(request.destination_ip)
    to = f"[{address}]:{request.port}" if ":" in address else f"{address}:{request.port}"
    stated = [
        ("host", http.authority or ""),
        ("content-length", "0"),
        ("x-forwarded-proto", "https"),
        ("x-citadel-connection", f"source={request.source_ip};destination={to};sni={request.sni or '-'}"),
    ]
    if request.peer is not None:
        stated.append(("x-forwarded-client-cert", f'Hash=0;Subject="";URI={request.peer.uri}'))
    return Asked(http.method, http.path, [*stated, *_headers(http, token)])
