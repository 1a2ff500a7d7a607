"""What a rotation's one line says."""

from __future__ import annotations

from citadel.api.proto.citadel.v1 import rotation_pb2 as pb
from citadel.cli.root_view import document, progress


def test_the_line_says_what_is_waited_for_besides_certificates() -> None:
    plan = pb.RotationPlan(phase="retiring")
    plan.gate.why.append("connections made with its certificates may live until 2026-11-24T08:22:07+00:00")
    assert progress(document(plan)) == (
        "retiring: 0 certificates in use chain to the old root; "
        "connections made with its certificates may live until 2026-11-24T08:22:07+00:00"
    )
    plan.phase = "distributing"
    plan.gate.why.insert(0, "not acknowledged by a@uid:0")
    plan.gate.behind.add(client="a@uid:0", standing="silent")
    assert progress(document(plan)) == (
        "distributing: 0 of 0 clients acknowledged; waits for a@uid:0 silent; "
        "connections made with its certificates may live until 2026-11-24T08:22:07+00:00"
    )
    plan.phase = "retiring"
    plan.gate.leaves_left = 2
    del plan.gate.why[:]
    plan.gate.why.append("2 certificates in use chain to it")
    assert progress(document(plan)) == "retiring: 2 certificates in use chain to the old root"
