"""Decisions in process, at 10, 1,000 and 10,000 policies, beside PyCasbin and cedarpy with an equivalent set.

Each policy allows one service account one method on one prefix of paths, all on one workload; the requests are spread
over the policies, and one in five is denied. CPU time of one thread, the least of several rounds (the least disturbed).
References hold their policies parsed; of what is slow, fewer requests are measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import casbin
import cedarpy

from citadel.authz import (
    Action,
    AuthorizationPolicy,
    Decision,
    HttpRequest,
    MeshFacts,
    Metadata,
    Operation,
    PathNormalization,
    PolicyName,
    PolicySet,
    Request,
    Rule,
    Source,
    Workload,
    WorkloadSelector,
    compile,  # noqa: A004  (as in re.compile)
    decide,
)
from citadel.spiffe import SpiffeId, TrustDomain
from tests.bench.row import Row

SIZES = (10, 1_000, 10_000)
_ROUNDS = 9
_SECONDS = 0.15  # of CPU per round
_FACTS = MeshFacts(TrustDomain("td"), path_normalization=PathNormalization.DECODE_AND_MERGE_SLASHES)
_CART = Workload("shop", {"app": "cart", "version": "v1"})
_SELECTOR = WorkloadSelector((("app", "cart"),))

Asked = tuple[str, str, str]
"""Service account, method, path."""


def rows() -> Iterator[Row]:
    parsed: dict[int, float] = {}
    raw: dict[int, float] = {}
    for size in SIZES:
        policies = compile(policies_of(size), _FACTS)
        asked = _asked(size)
        requests = [_request(*one) for one in asked]
        wire = [_wire(*one) for one in asked]
        _check(policies, requests, asked)
        parsed[size] = _least(partial(_decide, policies), requests)
        raw[size] = _least(partial(_parse_and_decide, policies), wire)
        figure = f"decision, parsed request, {size:,} policies"
        yield _row(figure, parsed[size], _casbin(size, asked), "PyCasbin", 10)
        yield _row(figure, parsed[size], _cedar(size, asked), "cedarpy", 10)
        yield _row(f"decision with parsing and normalisation, {size:,} policies", raw[size], None, "", 20)
    yield _flat("parsed request", parsed)
    yield _flat("with parsing and normalisation", raw)
    yield from _compile_rows(SIZES[-1])


def _row(name: str, figure: float, reference: float | None, reference_name: str, goal: float) -> Row:
    return Row(name, figure, "µs CPU", reference, reference_name, f"under {goal:g} µs", figure < goal)


def _flat(name: str, figures: dict[int, float]) -> Row:
    ratio = figures[SIZES[-1]] / figures[SIZES[0]]
    return Row(f"decision, {name}, {SIZES[-1]:,} over {SIZES[0]} policies", ratio, "times", goal="1.5", met=ratio < 1.5)


def _compile_rows(size: int) -> Iterator[Row]:
    began = time.process_time()
    policies = compile(policies_of(size), _FACTS)
    yield Row(f"compile {size:,} policies", (time.process_time() - began) * 1e3, "ms CPU")
    changed = [one.policy for one in policies.compiled]
    changed[size // 2] = replace(changed[size // 2], action=Action.DENY)
    began = time.process_time()
    compile(changed, _FACTS, policies)
    yield Row(f"compile {size:,} policies, one changed", (time.process_time() - began) * 1e3, "ms CPU")


def _least(call: Callable[[Any], object], arguments: Sequence[Any], rounds: int = _ROUNDS) -> float:
    """CPU microseconds per call."""
    for argument in arguments:
        call(argument)
    least = float("inf")
    for _ in range(rounds):
        number, began = 0, time.process_time()
        while (spent := time.process_time() - began) < _SECONDS:
            for argument in arguments:
                call(argument)
            number += len(arguments)
        least = min(least, spent / number)
    return least * 1e6


# --- ours


def _decide(policies: PolicySet, request: Request) -> Decision:
    return decide(policies, _CART, request)


def _parse_and_decide(policies: PolicySet, wire: dict[str, Any]) -> Decision:
    return decide(policies, _CART, _parse(wire))


def policies_of(size: int) -> list[AuthorizationPolicy]:
    return [
        AuthorizationPolicy(
            Metadata(PolicyName("shop", f"allow-{number}")),
            rules=(
                Rule(
                    (Source(principals=(f"td/ns/n{number}/sa/caller",)),),
                    (Operation(methods=("GET",), paths=(f"/api/v1/items{number}/*",)),),
                ),
            ),
            selector=_SELECTOR,
        )
        for number in range(size)
    ]


def _asked(size: int) -> list[Asked]:
    """Fifty at most; every fifth is somebody else's."""
    step = max(1, size // 50)
    return [
        (f"n{number + (place % 5 == 4)}", "GET", f"/api/v1/items{number}/7")
        for place, number in enumerate(range(0, size, step))
    ]


def _request(namespace: str, method: str, path: str) -> Request:
    return _parse(_wire(namespace, method, path))


def _wire(namespace: str, method: str, path: str) -> dict[str, Any]:
    """As a request comes: texts, and a path that has to be normalised."""
    return {
        "peer": f"spiffe://td/ns/{namespace}/sa/caller",
        "port": 8080,
        "method": method,
        "path": path.replace("/api", "/./api") + "?page=2",
        "authority": "cart.shop.svc:8080",
        "headers": {"user-agent": ["curl/8"], "accept": ["*/*"], "x-request-id": ["4f3c"]},
    }


def _parse(wire: dict[str, Any]) -> Request:
    headers = {name.lower(): tuple(values) for name, values in wire["headers"].items()}
    http = HttpRequest(wire["method"], wire["path"], wire["authority"], headers)
    return Request(wire["port"], SpiffeId.parse(wire["peer"]), http=http)


def _check(policies: PolicySet, requests: Sequence[Request], asked: Sequence[Asked]) -> None:
    for place, request in enumerate(requests):
        assert decide(policies, _CART, request).allowed == (place % 5 != 4), asked[place]


# --- the same policies for the references

_CASBIN_MODEL = """
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.sub == p.sub && r.act == p.act && keyMatch(r.obj, p.obj)
"""


def _casbin(size: int, asked: Sequence[Asked]) -> float:
    model = casbin.Enforcer.new_model(text=_CASBIN_MODEL)
    enforcer = casbin.Enforcer(model)
    enforcer.add_policies([[f"td/ns/n{n}/sa/caller", f"/api/v1/items{n}/*", "GET"] for n in range(size)])
    few = asked if size <= 10 else asked[:10:4]  # an allow, and two denials that read everything

    def enforce(one: Asked) -> bool:
        namespace, method, path = one
        return bool(enforcer.enforce(f"td/ns/{namespace}/sa/caller", path, method))

    assert [enforce(one) for one in few] == [asked.index(one) % 5 != 4 for one in few]
    return _least(enforce, few, rounds=1)


def _cedar(size: int, asked: Sequence[Asked]) -> float:
    text = "\n".join(
        f'permit(principal == Workload::"td/ns/n{n}/sa/caller", action == Action::"GET", resource)'
        f' when {{ context.path like "/api/v1/items{n}/*" }};'
        for n in range(size)
    )
    policies = cedarpy.PolicySet.from_str(text)
    entities = cedarpy.Entities.from_json_str("[]")
    few = asked if size <= 10 else asked[:10:4]

    def authorize(one: Asked) -> bool:
        namespace, method, path = one
        request = {
            "principal": {"type": "Workload", "id": f"td/ns/{namespace}/sa/caller"},
            "action": {"type": "Action", "id": method},
            "resource": {"type": "Service", "id": "cart"},
            "context": {"path": path},
        }
        return bool(cedarpy.is_authorized(request, policies, entities).allowed)

    assert [authorize(one) for one in few] == [asked.index(one) % 5 != 4 for one in few]
    return _least(authorize, few, rounds=3)
