"""What a rotation's one line says."""

from __future__ import annotations

from datetime import UTC, datetime

from citadel.api.proto.citadel.v1 import rotation_pb2 as pb
from citadel.cli.doctor.findings import Level
from citadel.cli.doctor.rotation import rotations
from citadel.cli.root_view import document, documents, missed, outlook, pages, progress


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


def test_of_several_rotations_it_is_told_how_they_follow_each_other_and_how_to_go_back_from_each() -> None:
    old = pb.RotationPlan(id="one", phase="retiring", outgoing="a" * 40, incoming="b" * 40)
    new = pb.RotationPlan(id="two", phase="distributing", outgoing="b" * 40, incoming="c" * 40)
    over = pb.RotationPlan(id="zero", phase="done", outgoing="d" * 40, incoming="a" * 40)
    first, second = documents([over, old, new])[1:]
    assert first["back"] == "citadel root abandon, then citadel root rollback aaaaaaaa"
    assert second["back"] == "citadel root abandon"
    [head], *both = pages([first, second], datetime(2026, 1, 1, tzinfo=UTC))
    assert head == "2 rotations are under way, oldest first; the root goes aaaaaaaa -> bbbbbbbb -> cccccccc"
    assert [lines[0].split()[1] for lines in both] == ["one,", "two,"]
    assert len(list(pages([second], datetime(2026, 1, 1, tzinfo=UTC)))) == 1


def test_the_way_back_from_one_that_is_rolled_back_names_the_root() -> None:
    old = pb.RotationPlan(id="one", phase="retiring", outgoing="a" * 40, incoming="b" * 40)
    new = pb.RotationPlan(id="two", phase="retiring", outgoing="b" * 40, incoming="c" * 40)
    assert [one["back"] for one in documents([old, new])] == [
        "citadel root rollback bbbbbbbb, then citadel root rollback aaaaaaaa",
        "citadel root rollback",
    ]
    new = pb.RotationPlan(id="two", phase="retiring", outgoing="c" * 40, incoming="b" * 40, rolled_back=True)
    assert [one["back"] for one in documents([old, new])] == [
        "citadel root rollback aaaaaaaa",
        "citadel root rollback cccccccc",
    ]


def test_no_way_back_is_shown_to_where_nothing_leads() -> None:
    left = pb.RotationPlan(id="one", phase="retiring", outgoing="b" * 40, incoming="a" * 40, rolled_back=True)
    done = pb.RotationPlan(id="two", phase="done", outgoing="a" * 40, incoming="c" * 40)
    assert [one["back"] for one in documents([left, done])] == ["", ""]


def test_before_a_rotation_is_watched_it_is_said_how_long_that_takes() -> None:
    assert outlook(document(pb.RotationPlan(phase="distributing", session_seconds=3600))) == (
        "it takes at least 1h from when the new root signs (rotation.session_life); "
        "Ctrl-C stops only the showing, and --detach shows nothing: it goes on by itself"
    )
    assert outlook(document(pb.RotationPlan(phase="distributing", emergency=True))).startswith("Ctrl-C stops only")


def test_a_rotation_that_is_followed_and_ends_otherwise_is_no_success() -> None:
    began = document(pb.RotationPlan(id="one", phase="distributing", outgoing="a" * 40, incoming="b" * 40))
    done = document(pb.RotationPlan(id="one", phase="done", outgoing="a" * 40, incoming="b" * 40))
    back = document(pb.RotationPlan(id="one", phase="done", outgoing="b" * 40, incoming="a" * 40, rolled_back=True))
    gone = document(pb.RotationPlan(id="one", phase="abandoned", outgoing="a" * 40, incoming="b" * 40))
    assert missed(began, done) == ""
    assert missed(began, back) == f"the rotation one was taken back: root {'a' * 40} signs"
    assert missed(began, gone) == f"the rotation one was abandoned: root {'a' * 40} signs as before"


def test_the_doctor_says_how_each_rotation_stands_and_warns_where_somebody_has_to_act() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    (none,) = rotations([], now)
    assert (none.level, none.message) == (Level.OK, "no rotation of the root is under way")
    plan = pb.RotationPlan(id="one", phase="distributing", outgoing="a" * 40, incoming="b" * 40, automatic=True)
    plan.gate.why.append("clients are given until 2026-01-01T00:00:30+00:00 to connect")
    (goes_on,) = rotations([document(plan)], now)
    assert goes_on.level is Level.OK
    assert goes_on.message.startswith("rotation one (root aaaaaaaa -> bbbbbbbb) is distributing since ")
    assert "clients are given until" in goes_on.message
    assert goes_on.message.endswith("next: the new root signs, when all have acknowledged, by itself")
    plan.gate.why.insert(0, "not acknowledged by cart@uid:0")
    for name in ("cart", "shop", "bank", "till"):
        plan.gate.behind.add(client=f"{name}@uid:0", standing="silent")
    (behind,) = rotations([document(plan)], now)
    assert behind.level is Level.WARN
    assert (
        "waits for cart@uid:0 (silent), shop@uid:0 (silent), bank@uid:0 (silent) and 1 more; clients" in behind.message
    )
    del plan.gate.behind[:], plan.gate.why[:]
    plan.gate.open, plan.automatic = True, False
    (word,) = rotations([document(plan)], now)
    assert (word.level, word.message.endswith("citadel root activate")) == (Level.WARN, True)
