"""Two sets of policies compared: their documents, and what they decide of requests and of logged decisions."""

from __future__ import annotations

import json

from citadel.authz import MeshFacts, PolicySet, Request, Workload, compile, load_text  # noqa: A004  (as in re.compile)
from citadel.authz.decision import Decision, Outcome, Reason
from citadel.authz.decision_log import Recorder
from citadel.authz.difference import Tally, documents_differing, requests_differing
from citadel.authz.request import HttpRequest
from citadel.spiffe import TrustDomain
from tests.support.policies import policy
from tests.support.rulings import ruling

FACTS = MeshFacts(TrustDomain("example.org"))
CART = Workload("shop", {"app": "cart"})


def paths(*denied: str, name: str = "p") -> PolicySet:
    listed = json.dumps(list(denied))
    text = policy(name).replace("rules: [{}]", f"rules: [{{to: [{{operation: {{paths: {listed}}}}}]}}]")
    return compile(load_text(text), FACTS)


def line(path: str, **more: object) -> bytes:
    return json.dumps({"workload": {"namespace": "shop"}, "http": {"path": path}, **more}).encode()


def test_documents_are_new_gone_or_different() -> None:
    old = load_text("---\n".join([policy("a"), policy("b"), policy("c")]))
    new = load_text("---\n".join([policy("b", "ALLOW"), policy("c"), policy("d")]))
    found = documents_differing(old, new)
    assert [[str(name) for _, name in keys] for keys in (found.created, found.changed, found.deleted)] == [
        ["shop/d"],
        ["shop/b"],
        ["shop/a"],
    ]


def test_requests_that_turn_are_told_with_the_policy_that_turns_them() -> None:
    tally = Tally()
    lines = [line("/a", id="x"), line("/b"), line("/c"), line("/d"), line("/c"), b"{", b'{"port": "x"}']
    found = list(requests_differing(paths("/a", "/d"), paths("/b", "/d", name="q"), lines, tally))
    assert [(one.line, one.id, one.new.outcome.value, one.turned) for one in found] == [
        (1, "x", "allow", True),
        (2, None, "deny", True),
        (4, None, "deny", False),
    ]
    assert "line 2: allow (no-allow-policy) -> deny (denied-by-policy): DENY shop/q, rules[0]; GET /b of shop by" in (
        found[1].sentence()
    )
    assert (tally.asked, tally.to_deny, tally.to_allow, tally.otherwise, tally.bad_lines) == (5, 1, 1, 1, 2)
    assert dict(tally.by) == {"allow: no-allow-policy": 1, "deny: DENY shop/q": 1}
    assert tally.bad[1].startswith("line 7: port:")


def test_records_of_the_decision_log_are_requests_too() -> None:
    recorder, old = Recorder(), paths("/a")
    request = Request(80, http=HttpRequest("GET", "/a"))
    records = [
        recorder.record(ruling(old, CART, request, log_id="boot-7")),
        recorder.record(ruling(old, CART, None, decision=Decision(Outcome.DENY, Reason.UNKNOWN_WORKLOAD))),
        recorder.record(ruling(old, CART, Request(80, http=HttpRequest("GET", "/" + "a" * 5000)))),
    ]
    tally = Tally()
    lines = [json.dumps(one, separators=(",", ":")).encode() for one in records]
    found = list(requests_differing(old, paths("/b"), lines, tally))
    assert [(one.line, one.id) for one in found] == [(1, "boot-7")]
    assert (tally.asked, tally.skipped, tally.altered) == (2, 1, 1)
    assert tally.skipped_lines == [(2, "unknown-workload")]
