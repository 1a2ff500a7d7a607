"""Verifies one writer's chain against its checkpoints: a pure walk, fed link by link."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from citadel.audit.checkpoint import AuditKey, Checkpoint, Kind
from citadel.audit.record import GENESIS, link

_MAX_FAULTS = 20  # of one chain; who reads more learns no more


class Link(Protocol):
    """ports.AuditLine."""

    @property
    def sequence(self) -> int: ...
    @property
    def hash(self) -> bytes: ...
    @property
    def body(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class ChainReport:
    """What is known of one chain. Records up to `pruned` were deleted in good order, those from `first` to `last` were
    read; up to `signed` they are as a checkpoint of the time `signed_at` (UTC microseconds) says. Zero: none."""

    writer: str
    pruned: int
    first: int
    last: int
    checkpoints: int
    signed: int
    signed_at: int
    faults: tuple[str, ...]


class Trust:
    """Whose checkpoints count: keys that we hold, and if somebody pinned some, only these."""

    def __init__(self, keys: Iterable[AuditKey], pinned: Iterable[str] = ()) -> None:
        self._keys = {key.id: key for key in keys}
        self._pinned = frozenset(pinned)

    def objection(self, checkpoint: Checkpoint) -> str:
        """Why `checkpoint` does not count; empty if it does."""
        name = f"the {checkpoint.kind} at record {checkpoint.sequence}"
        key = self._keys.get(checkpoint.key_id)
        if self._pinned and checkpoint.key_id not in self._pinned:
            return f"{name} is signed by the key {checkpoint.key_id[:16]}…, which is not the one you gave"
        if key is None:
            return f"{name} is signed by an unknown key, {checkpoint.key_id[:16]}…"
        if not key.verifies(checkpoint):
            return f"{name} is forged: its signature does not verify"
        return ""


class ChainWalk:
    """One chain, link after link: `feed` them in order from behind `base`, then ask for the `report`.

    `checkpoints` are the writer's own, `outside` those that an operator kept elsewhere. With `tail`, the walk begins
    at the record of the newest checkpoint: what is before was verified when that was signed.
    """

    def __init__(
        self,
        writer: str,
        checkpoints: Sequence[Checkpoint],
        trust: Trust,
        outside: Sequence[Checkpoint] = (),
        *,
        tail: bool = False,
    ) -> None:
        self._writer = writer
        self._faults: list[str] = []
        sound = [checkpoint for checkpoint in (*checkpoints, *outside) if self._sound(checkpoint, trust)]
        bases = [checkpoint for checkpoint in sound if checkpoint.kind is Kind.BASE]
        base = max(bases, key=lambda checkpoint: checkpoint.sequence, default=None)
        self.base = base.sequence if base else 0  # links up to here need not be there
        self._tip: bytes | None = base.hash if base else GENESIS
        self._at = self.base
        newest = max((checkpoint.sequence for checkpoint in sound), default=0)
        if tail and newest > self.base:
            self._at, self._tip = newest - 1, None
        self._first = 0
        self._count = len(sound)
        self._signed, self._signed_at = (base.sequence, base.at) if base else (0, 0)
        self._waiting: dict[int, list[Checkpoint]] = {}
        self._compare(sound)

    def _sound(self, checkpoint: Checkpoint, trust: Trust) -> bool:
        objection = trust.objection(checkpoint)
        if objection:
            self._fault(objection)
        return not objection

    def _compare(self, sound: Sequence[Checkpoint]) -> None:
        """Two statements on one record must agree; those on records that are there are held against them in `feed`."""
        said: dict[int, bytes] = {}
        for checkpoint in sound:
            if said.setdefault(checkpoint.sequence, checkpoint.hash) != checkpoint.hash:
                self._fault(f"two checkpoints of record {checkpoint.sequence} contradict each other: it was rewritten")
            if checkpoint.sequence > self._at:
                self._waiting.setdefault(checkpoint.sequence, []).append(checkpoint)

    @property
    def at(self) -> int:
        """The record after which the next one is expected."""
        return self._at

    def feed(self, line: Link) -> None:
        expected = self._at + 1
        if line.sequence != expected:
            last = line.sequence - 1
            self._fault(
                f"record {expected} is missing" if last == expected else f"records {expected} to {last} are missing"
            )
        elif self._tip is not None and line.hash != link(self._tip, self._writer, expected, line.body):
            self._fault(f"record {expected} was altered: its hash is not that of its content")
        self._first = self._first or line.sequence
        self._at, self._tip = line.sequence, line.hash
        for checkpoint in self._waiting.pop(line.sequence, ()):
            if checkpoint.hash == line.hash:
                if checkpoint.sequence >= self._signed:
                    self._signed, self._signed_at = checkpoint.sequence, checkpoint.at
            else:
                self._fault(
                    f"record {line.sequence} is not the one that was signed for: this one, or one after record "
                    f"{self._signed}, was altered"
                )

    def report(self) -> ChainReport:
        """What was found, now that all links were fed."""
        if beyond := [sequence for sequence in self._waiting if sequence > self._at]:
            newest = max(beyond)
            self._fault(f"the end is missing: record {newest} was signed for, and the chain ends at {self._at}")
        return ChainReport(
            self._writer,
            self.base,
            self._first,
            self._at if self._first else 0,
            self._count,
            self._signed,
            self._signed_at,
            tuple(self._faults),
        )

    def _fault(self, text: str) -> None:
        if len(self._faults) < _MAX_FAULTS:
            self._faults.append(text)
