"""Chains and checkpoints as values: what a walk along a chain finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from citadel.audit import GENESIS, AuditKey, ChainReport, Checkpoint, Kind, link
from citadel.audit.ports import AuditLine
from citadel.audit.verify import ChainWalk, Trust
from citadel.errors import InvalidInput

SIGNING, FOREIGN = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
KEY = AuditKey.of(SIGNING.public_key())
TRUST = Trust([KEY])


def chain(count: int, *, text: str = "record") -> list[AuditLine]:
    lines, tip = [], GENESIS
    for sequence in range(1, count + 1):
        body = f"{text} {sequence}".encode()
        tip = link(tip, "one", sequence, body)
        lines.append(AuditLine("one", sequence, tip, body))
    return lines


def signed(line: AuditLine, kind: Kind = Kind.TIP, key: Ed25519PrivateKey = SIGNING) -> Checkpoint:
    name = AuditKey.of(key.public_key()).id
    return Checkpoint(kind, line.writer, line.sequence, line.hash, 1_000_000 * line.sequence, name).signed(key)


def walked(
    lines: Sequence[AuditLine], checkpoints: Sequence[Checkpoint] = (), outside: Sequence[Checkpoint] = ()
) -> ChainReport:
    walk = ChainWalk("one", checkpoints, TRUST, outside)
    for line in lines:
        walk.feed(line)
    return walk.report()


def test_a_whole_chain_is_intact_and_says_from_where_to_where_and_how_far_it_is_signed() -> None:
    lines = chain(5)
    report = walked(lines, [signed(lines[1]), signed(lines[3])])
    assert report == ChainReport("one", 0, 1, 5, 2, signed=4, signed_at=4_000_000, faults=())


def test_a_pruned_chain_begins_behind_its_base_and_what_is_not_deleted_yet_does_not_matter() -> None:
    lines = chain(6)
    statements = [signed(lines[1]), signed(lines[3]), signed(lines[3], Kind.BASE)]
    assert walked(lines[4:], statements) == ChainReport("one", 4, 5, 6, 3, 4, 4_000_000, ())
    assert walked([], [signed(lines[5]), signed(lines[5], Kind.BASE)]).faults == ()


@pytest.mark.parametrize(
    ("damaged", "fault"),
    [
        (lambda c: [c[0], replace(c[1], body=b"other"), *c[2:]], "record 2 was altered"),
        (lambda c: [c[0], *c[2:]], "record 2 is missing"),
        (lambda c: [c[0], *c[3:]], "records 2 to 3 are missing"),
        (lambda c: c[1:], "record 1 is missing"),
        (
            lambda c: [c[0], replace(c[1], body=c[2].body), replace(c[2], body=c[1].body), *c[3:]],
            "record 2 was altered",
        ),
        (lambda c: c[:4], "the end is missing: record 5 was signed for, and the chain ends at 4"),
        (lambda _: [], "the end is missing: record 5 was signed for, and the chain ends at 0"),
        (lambda _: chain(6, text="forged"), "record 5 is not the one that was signed for"),
        (lambda c: [*c[:4], *chain(6, text="forged")[4:]], "record 5 was altered"),
    ],
)
def test_what_was_done_to_a_chain_is_evident(damaged: object, fault: str) -> None:
    lines = chain(6)
    assert callable(damaged)
    report = walked(damaged(lines), [signed(lines[4])])
    assert report.faults[0].startswith(fault)


def test_what_was_cut_off_with_its_checkpoints_shows_against_one_that_was_kept_elsewhere() -> None:
    lines = chain(6)
    kept = signed(lines[5])
    assert walked(lines[:3], [signed(lines[1])]).faults == ()
    assert "record 6 was signed for" in walked(lines[:3], [signed(lines[1])], [kept]).faults[0]
    rewritten = chain(8, text="forged")
    assert "record 6 is not the one that was signed for" in walked(rewritten, [], [kept]).faults[0]


def test_two_checkpoints_that_contradict_each_other_are_found_even_of_what_was_pruned() -> None:
    lines, rewritten = chain(6), chain(6, text="forged")
    report = walked(lines[4:], [signed(lines[3], Kind.BASE)], [signed(rewritten[3])])
    assert "two checkpoints of record 4 contradict each other" in report.faults[0]


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        (replace(signed(chain(3)[1]), hash=bytes(32)), "forged: its signature does not verify"),
        (replace(signed(chain(3)[1]), sequence=3), "forged"),
        (replace(signed(chain(3)[1]), kind=Kind.BASE), "the base at record 2 is forged"),
        (replace(signed(chain(3)[1]), at=5), "forged"),
        (replace(signed(chain(3)[1], key=FOREIGN), key_id=KEY.id), "forged"),
        (signed(chain(3)[1], key=FOREIGN), "signed by an unknown key"),
    ],
)
def test_a_checkpoint_that_was_tampered_with_is_told_and_does_not_count(statement: Checkpoint, fault: str) -> None:
    report = walked(chain(3), [statement])
    assert len(report.faults) == 1
    assert fault in report.faults[0]
    assert (report.checkpoints, report.signed, report.pruned) == (0, 0, 0)


def test_only_a_pinned_key_counts_if_one_is_pinned() -> None:
    lines = chain(2)
    pinned = Trust([KEY], [AuditKey.of(FOREIGN.public_key()).id])
    walk = ChainWalk("one", [signed(lines[0])], pinned)
    assert "which is not the one you gave" in walk.report().faults[0]


def test_a_tail_is_walked_from_the_newest_checkpoint_on() -> None:
    lines = chain(6)

    def tail(given: Sequence[AuditLine]) -> ChainReport:
        walk = ChainWalk("one", [signed(lines[1]), signed(lines[3])], TRUST, tail=True)
        for line in given:
            if line.sequence > walk.at:
                walk.feed(line)
        return walk.report()

    assert (tail(lines).signed, tail(lines).faults) == (4, ())
    assert "record 4 was signed for" in tail(lines[:3]).faults[0]
    assert "record 5 was altered" in tail([*lines[:4], replace(lines[4], body=b"x"), lines[5]]).faults[0]


def test_a_report_names_no_more_faults_than_somebody_reads() -> None:
    assert len(walked(chain(200)[::2]).faults) == 20


@given(
    kind=st.sampled_from(Kind),
    writer=st.from_regex(r"[A-Za-z0-9._-]{1,40}", fullmatch=True),
    sequence=st.integers(1, 2**63 - 1),
    hash_=st.binary(min_size=32, max_size=32),
    at=st.integers(0, 10**17 - 1),
    around=st.sampled_from([("", ""), ('{"checkpoint": "', '", "x": 1}'), ("checkpoint=", " level=info\n")]),
)
def test_a_checkpoint_is_found_again_in_whatever_it_was_written_to(
    kind: Kind, writer: str, sequence: int, hash_: bytes, at: int, around: tuple[str, str]
) -> None:
    made = Checkpoint(kind, writer, sequence, hash_, at, KEY.id).signed(SIGNING)
    assert Checkpoint.parse(str(made)) == made
    assert list(Checkpoint.find_all(around[0] + str(made) + around[1])) == [made]
    assert KEY.verifies(made)


@pytest.mark.parametrize("text", ["", "x", "citadel-audit-checkpoint-v1:one:1", str(signed(chain(1)[0])) + "A"])
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not an audit checkpoint"):
        Checkpoint.parse(text)


def test_a_key_is_named_by_the_hash_of_its_der_and_shown_as_pem() -> None:
    assert len(KEY.id) == 64
    assert KEY.pem.startswith("-----BEGIN PUBLIC KEY-----")
    assert not AuditKey(b"no key").verifies(signed(chain(1)[0]))
