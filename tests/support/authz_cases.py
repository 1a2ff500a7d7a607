"""Generated authorization cases as plain dicts, with values that collide; and the engine's values made of them."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from hypothesis import strategies as st

from citadel.authz.decision import Decision, Match
from citadel.authz.evaluate import Answer, Consultation, evaluate
from citadel.authz.facts import ExtensionProvider, MeshFacts, PathNormalization, ProviderProtocol
from citadel.authz.model import PolicyName, TargetKind
from citadel.authz.policyset import PolicySet
from citadel.authz.request import HttpRequest, Request, ServiceRef, Workload, WorkloadKind
from citadel.spiffe import SpiffeId, TrustDomain

Doc = dict[str, Any]

DOMAINS = ["cluster.local", "td1", "td2", "old-td", "ns"]
NAMESPACES = ["a", "ab", "b", "root", "ns", "sa"]
ACCOUNTS = ["x", "xy", "sa"]
PEERS = [
    *(f"spiffe://{domain}/ns/{ns}/sa/{sa}" for domain in DOMAINS for ns in ("a", "ab", "ns") for sa in ("x", "xy")),
    "spiffe://td1",
    "spiffe://td1/x",
    "spiffe://td1/ns/a",
    "spiffe://td1/ns/ns/sa/sa",
    "spiffe://td1/ns/a/ns/ab/sa/x",
    "spiffe://td1/ns/a/v/1/sa/x/more",
    "spiffe://td1/sa/x/ns/a",
    "spiffe://ns/a/sa/x",
    "spiffe://td1/r/ns/b/sa/xy",
]
PRINCIPALS = [
    *(
        f"{domain}/ns/{ns}/sa/{sa}"
        for domain in (*DOMAINS, "*", "*-td", "td*")
        for ns in ("a", "ns")
        for sa in ("x", "*")
    ),
    "*",
    "*/sa/x",
    "*x",
    "td1*",
    "td1/ns/a*",
    "cluster.local/*",
    "td1/ns/*/sa/x",
    "td1",
    "spiffe://td1/ns/a/sa/x",
    "*//td1/ns/a/sa/x",
]
PATHS = [
    *("/", "/a", "/a/", "/a/b", "/a/b/c", "//a", "/a//b", "/A", "/ab", "/a=b", "/a|b", "/a/x=y/c", "*", ""),
    *("/a?q=1", "/a/b?", "/?a", "/%61", "/%41", "/a%2fb", "/a%2Fb/%2e%2e", "/a/../b", "/a/./b", "/b/..;x/a", "/a;x/b"),
    *("/a/%2e%2e;x/b", "/a\\b", "/a%5cb", "/%", "/%%36%31", "/%00", "/a#b", "/a b", "/é", "/%C3%A9", "///", "/{x}"),
]
PATH_PATTERNS = [
    *(
        "/",
        "/a",
        "/a/",
        "/a/b",
        "/a*",
        "/a/*",
        "*b",
        "*/b",
        "*",
        "/A",
        "/%61",
        "/a?q=1",
        "/a*b",
        "//a",
        "/%C3%A9",
        "/é",
    ),
    *("/a/{*}", "/{*}/b", "/a/{**}", "/{**}", "/{*}", "/a/{**}/c", "/a/{*}/{**}/c", "/{*}/{*}/", "/a/{*}/c"),
]
METHODS = ["GET", "POST", "get", "G", "GE"]
HOSTS = ["a.b", "A.b", "a.b:80", "a.b.", "b", "\u212a.b"]
PORTS = [0, 80, 8080, 443]
ADDRESSES = ["10.0.0.1", "10.0.0.2", "10.1.0.1", "11.0.0.1", "::1", "fd00::1", "::ffff:10.0.0.1"]
NETWORKS = ["10.0.0.1", "10.0.0.0/8", "10.0.0.0/31", "0.0.0.0/0", "::/0", "fd00::/8", "::1", "::ffff:10.0.0.0/104"]
TEXTS = ["", "a", "ab", "abc", "b", "A", "*", "a b", "a/b", "x", "a\nb"]
TEXT_PATTERNS = ["a", "ab", "a*", "*b", "*", "A", "b", "a b", "a/b", "*c", "a*c", "**"]
REQUEST_PRINCIPALS = [
    *("*", "a/x", "a/b/x", "a", "a/", "a*", "a/x*", "a/*", "*/x", "*b/x", "*x", "*/*", "**/x", "b/a", "a/b", "*a/*"),
]
HEADERS = ["x", "accept", "host", ":authority", ":path", ":method", "X"]
HEADER_PATTERNS = [*TEXT_PATTERNS, "a,b", "a,*", "/a", "/a?q=1", "a.b", "GET"]
CLAIM_KEYS = ["[a]", "[a][b]", "[scope]", "[groups]", "[a][scope]", "[iss]"]
FILTER_KEYS = ["experimental.envoy.filters.f[k]", "experimental.envoy.filters.f.g[k]"]
LABELS = [{}, {"app": "a"}, {"app": "b"}, {"app": "a", "v": "1"}]
SERVICES = [["a", "s", "Service"], ["b", "s", "Service"], ["a", "s", "ServiceEntry"]]
TARGETS = [
    {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "g"},
    {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "h"},
    {"group": "gateway.networking.k8s.io", "kind": "GatewayClass", "name": "istio-waypoint"},
    {"kind": "Service", "name": "s"},
    {"group": "networking.istio.io", "kind": "ServiceEntry", "name": "s"},
]


# --- policies


def some(values: list[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True)


def fields(of: Mapping[str, list[str]], exclusive: tuple[str, tuple[str, ...]] | None = None) -> st.SearchStrategy[Doc]:
    """One or two fields, each in one of its forms; of `exclusive`, the first goes not with the others."""

    def built(chosen: list[tuple[str, bool]]) -> st.SearchStrategy[Doc]:
        names = {name for name, _ in chosen}
        if exclusive is not None and exclusive[0] in names:
            chosen = [(name, negated) for name, negated in chosen if name not in exclusive[1]]
        return st.fixed_dictionaries(
            {f"not{name[0].upper()}{name[1:]}" if negated else name: some(of[name]) for name, negated in chosen}
        )

    one = st.tuples(st.sampled_from(sorted(of)), st.sampled_from([False, False, True]))
    return st.lists(one, min_size=1, max_size=2, unique=True).flatmap(built)


SOURCE_FIELDS = {
    "principals": PRINCIPALS,
    "requestPrincipals": REQUEST_PRINCIPALS,
    "namespaces": ["a", "ab", "a*", "*b", "*", "a*/*", "a/ns/ab", "*/sa", "ns", "a*b"],
    "serviceAccounts": ["x", "xy", "a/x", "ab/x", "ns/xy", "sa", "ns/sa"],
    "trustDomains": ["cluster.local", "td1", "old-td", "*", "td*", "*-td", "ns"],
    "ipBlocks": NETWORKS,
    "remoteIpBlocks": NETWORKS,
}
OPERATION_FIELDS = {
    "hosts": ["a.b", "A.B", "a.*", "*.b", "*", "k.b", "a.b:*"],
    "ports": ["0", "80", "8080", "443"],
    "methods": ["GET", "G*", "*T", "*", "get", "POST"],
    "paths": PATH_PATTERNS,
}
CONDITIONS = {
    "source.ip": NETWORKS,
    "remote.ip": NETWORKS,
    "destination.ip": NETWORKS,
    "destination.port": ["80", "8080"],
    "source.namespace": SOURCE_FIELDS["namespaces"],
    "source.serviceAccount": SOURCE_FIELDS["serviceAccounts"],
    "source.principal": PRINCIPALS,
    "source.trustDomain": SOURCE_FIELDS["trustDomains"],
    "connection.sni": ["a.b", "A.B", "*", "a*"],
    "request.auth.principal": REQUEST_PRINCIPALS,
    "request.auth.audiences": TEXT_PATTERNS,
    "request.auth.presenter": TEXT_PATTERNS,
    **{f"request.auth.claims{key}": TEXT_PATTERNS for key in CLAIM_KEYS},
    **{f"request.headers[{name}]": HEADER_PATTERNS for name in HEADERS},
    **{key: [*TEXT_PATTERNS, "[a]", "[a*]", "[*]"] for key in FILTER_KEYS},
}
BEFORE_JWT = [key for key in CONDITIONS if key.startswith(("request.headers", "connection", "destination", "remote"))]


@st.composite
def conditions(draw: st.DrawFn, keys: list[str]) -> Doc:
    key = draw(st.sampled_from(keys))
    kinds = draw(st.sampled_from([("values",), ("notValues",), ("values", "notValues")]))
    return {"key": key, **{kind: draw(some(CONDITIONS[key])) for kind in kinds}}


@st.composite
def rules(draw: st.DrawFn, custom: bool) -> Doc:
    rule: Doc = {}
    sources = {k: v for k, v in SOURCE_FIELDS.items() if not custom or k in ("ipBlocks", "remoteIpBlocks")}
    if draw(st.booleans()):
        source = fields(sources, ("serviceAccounts", ("principals", "namespaces")))
        rule["from"] = [{"source": one} for one in draw(st.lists(source, min_size=1, max_size=2))]
    if draw(st.booleans()):
        rule["to"] = [{"operation": one} for one in draw(st.lists(fields(OPERATION_FIELDS), min_size=1, max_size=2))]
    if not draw(st.integers(0, 2)):
        rule["when"] = draw(st.lists(conditions(BEFORE_JWT if custom else list(CONDITIONS)), min_size=1, max_size=2))
    return rule


@st.composite
def policies(draw: st.DrawFn, number: int) -> Doc:
    action = draw(st.sampled_from(["ALLOW", "ALLOW", "DENY", "DENY", "AUDIT", "CUSTOM"]))
    spec: Doc = {"action": action, "rules": draw(st.lists(rules(action == "CUSTOM"), min_size=1, max_size=3))}
    if action == "ALLOW" and not draw(st.integers(0, 9)):
        del spec["rules"]
    if action == "CUSTOM":
        spec["provider"] = {"name": draw(st.sampled_from(["p", "p", "p", "q", "unknown"]))}
    attach = draw(st.integers(0, 7))
    if attach < 2:
        spec["selector"] = {"matchLabels": draw(st.sampled_from(LABELS))}
    elif attach == 2:
        spec["targetRefs"] = [draw(st.sampled_from(TARGETS))]
    metadata: Doc = {"name": f"p{number}", "namespace": draw(st.sampled_from(["a", "a", "a", "root", "b"]))}
    if action in ("ALLOW", "DENY") and not draw(st.integers(0, 4)):
        metadata["annotations"] = {"istio.io/dry-run": "true"}
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": metadata,
        "spec": spec,
    }


@st.composite
def single_field_policies(draw: st.DrawFn) -> Doc:
    """A policy whose rules have one field each, and the same one: what it matches, and nothing around it."""
    part, name = draw(
        st.sampled_from(
            [
                *(("from", name) for name in sorted(SOURCE_FIELDS)),
                *(("to", name) for name in sorted(OPERATION_FIELDS)),
                *(("when", name) for name in sorted(CONDITIONS)),
            ]
        )
    )
    spec = {
        "action": draw(st.sampled_from(["ALLOW", "DENY"])),
        "rules": [{part: [draw(_one_field(part, name))]} for _ in range(draw(st.integers(1, 3)))],
    }
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "p", "namespace": "a"},
        "spec": spec,
    }


@st.composite
def _one_field(draw: st.DrawFn, part: str, name: str) -> Doc:
    if part == "when":
        return draw(conditions([name]))
    of, inner = (SOURCE_FIELDS, "source") if part == "from" else (OPERATION_FIELDS, "operation")
    field = draw(st.sampled_from([name, name, f"not{name[0].upper()}{name[1:]}"]))
    return {inner: {field: draw(some(of[name]))}}


@st.composite
def policy_lists(draw: st.DrawFn, most: int = 6) -> list[Doc]:
    return [draw(policies(number)) for number in range(draw(st.integers(2, most)))]


# --- what is asked

meshes = st.fixed_dictionaries(
    {
        "trust_domain": st.sampled_from(["cluster.local", "td1"]),
        "aliases": st.sampled_from([[], ["td2"], ["old-td", "cluster.local"]]),
        "root": st.just("root"),
        "normalization": st.sampled_from([mode.value for mode in PathNormalization]),
        "providers": st.just({"p": "grpc", "q": "http"}),
        "several_providers": st.booleans(),
        "space_delimited": st.sampled_from([["scope", "permission"], ["scope", "groups"]]),
    }
)
workloads = st.fixed_dictionaries(
    {
        "namespace": st.sampled_from(["a", "a", "a", "a", "b", "root"]),
        "labels": st.sampled_from(LABELS),
        "kind": st.sampled_from([*["workload"] * 6, "gateway", "waypoint"]),
        "gateway": st.just("g"),
        "services": st.lists(st.sampled_from(SERVICES), max_size=2, unique_by=tuple),
    }
)


class Dice:
    """Requests by chance: thousands in the time in which Hypothesis draws a few. One seed gives the same requests."""

    def __init__(self, seed: object) -> None:
        self._random = random.Random(repr(seed))

    def one(self, *values: Any) -> Any:
        return self._random.choice(values)

    def request(self) -> Doc:
        one = self.one
        return {
            "port": one(None, *PORTS),
            "peer": one(None, *PEERS),
            "peer_unknown": one(False, False, True),
            **{f"{end}_ip": one(None, *ADDRESSES) for end in ("source", "remote", "destination")},
            "sni": one("", "a.b", "A.B"),
            "http": one(self._http, self._http, self._http, lambda: None)(),
            "metadata": {f"envoy.filters.{name}": {"k": self._claim()} for name in ("f", "f.g") if one(0, 1, 1)},
        }

    def answers(self) -> dict[str, str]:
        return {name: self.one("allow", "deny", "failed") for name in self.one("", "p", "q", "pq")}

    def _http(self) -> Doc:
        one = self.one
        return {
            "method": one(*METHODS, "") if one(0, 1) else "GET",
            "path": one(*PATHS),
            "authority": one(None, "", *HOSTS),
            "headers": {n: [one(*TEXTS) for _ in range(one(1, 1, 2))] for n in ("x", "accept") if one(0, 1, 1)},
            "jwt": one(None, self._jwt()),
            "seen": one(True, False),
        }

    def _jwt(self) -> Doc:
        one = self.one
        jwt = {name: self._claim() for name in ("aud", "azp", "a", "scope", "groups") if one(0, 1)}
        if one(0, 1, 1, 1):
            jwt["iss"] = one("a", "b", "", "a/b", "*", "ab")
        if one(0, 1, 1, 1):
            jwt["sub"] = one("x", "", "a", "*", "x/y", "xx", 1)
        return jwt

    def _claim(self) -> Any:
        one = self.one
        odd = one(1, True, None, {}, {"b": "a"}, {"b": ["a", "ab"]}, {"scope": "a b"}, {"b": {"c": "a"}})
        return one(one(*TEXTS), [one(0, 1, *TEXTS) for _ in range(one(0, 1, 2, 3))], odd)


# --- the engine's values


def to_text(documents: list[Doc]) -> str:
    """As a file: JSON documents, which are YAML."""
    return "".join(f"---\n{json.dumps(document)}\n" for document in documents)


def to_facts(mesh: Doc) -> MeshFacts:
    return MeshFacts(
        TrustDomain(mesh["trust_domain"]),
        tuple(map(TrustDomain, mesh["aliases"])),
        mesh["root"],
        PathNormalization(mesh["normalization"]),
        tuple(ExtensionProvider(n, ProviderProtocol(p), "x.example", 9000) for n, p in mesh["providers"].items()),
        frozenset(mesh["space_delimited"]),
        several_providers=mesh["several_providers"],
    )


def to_workload(workload: Doc) -> Workload:
    kinds = {"Service": TargetKind.SERVICE, "ServiceEntry": TargetKind.SERVICE_ENTRY}
    return Workload(
        workload["namespace"],
        workload["labels"],
        WorkloadKind(workload["kind"]),
        workload["gateway"],
        services=tuple(ServiceRef(ns, name, kinds[kind]) for ns, name, kind in workload["services"]),
    )


def to_request(request: Doc) -> Request:
    http = request["http"]
    peer = None if request["peer"] is None else SpiffeId.parse(request["peer"])
    unknown = request.get("peer_unknown", False)
    source, remote, destination = (
        None if request[f"{end}_ip"] is None else ip_address(request[f"{end}_ip"])
        for end in ("source", "remote", "destination")
    )
    return Request(
        request["port"],
        None if unknown else peer,
        source,
        remote,
        destination,
        request["sni"],
        None
        if http is None
        else HttpRequest(
            http["method"],
            http["path"],
            http["authority"],
            {name: tuple(values) for name, values in http["headers"].items()},
            http["jwt"],
            http["seen"],
        ),
        request["metadata"],
        peer if unknown else None,
    )


def engine_decision(policies: PolicySet, workload: Doc, request: Doc, answered: Mapping[str, str]) -> Doc:
    """What the engine says, in the form in which the naive evaluator does."""
    by_name = {name: Answer(answer) for name, answer in answered.items()}
    found = evaluate(policies, to_workload(workload), to_request(request), by_name)
    if isinstance(found, Consultation):
        return {"ask": found.provider.name, "by": _ref(found.match)}
    return _as_dict(found)


def _as_dict(decision: Decision) -> Doc:
    found: Doc = {"outcome": decision.outcome.value, "reason": decision.reason.value}
    if decision.policy is not None and decision.rule is not None:
        found["by"] = (_name(decision.policy), decision.rule)
    if found["reason"] in ("allowed-by-policy", "denied-by-policy", "no-allow-policy", "no-allow-matched"):
        found |= {"audited": [_ref(match) for match in decision.audited]}
        found |= {"dry_run": [_ref(match) for match in decision.dry_run]}
    if decision.dry_run_outcome is not None:
        found["would"] = decision.dry_run_outcome.value
    return found


def _ref(match: Match) -> tuple[str, int]:
    return _name(match.policy), match.rule


def _name(name: PolicyName) -> str:
    return f"{name.namespace}\0{name.name}"
