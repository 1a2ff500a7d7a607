"""The policies in force: read from a file or folder that is followed, and kept when something is wrong with it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import structlog

from citadel.authz.facts import MeshFacts
from citadel.authz.load import PolicyDocuments, SourceText, load
from citadel.authz.policyset import PolicySet, compile_documents
from citadel.authz.sources.caution import doubt
from citadel.authz.sources.files import files_of, read_paths
from citadel.authz.sources.kept import KeptPolicies
from citadel.clock import Clock
from citadel.errors import BadFile, CitadelError, FailedPrecondition, Mistake, NotFound
from citadel.stir import HEARTBEAT, stirrings

_State = tuple[object, ...]
_TOLD_MISTAKES = 20
log = structlog.get_logger("citadel.authz")


class SourceMeter(Protocol):
    """Shows the policies in force. Implementation: telemetry.metrics. Never blocks, never raises."""

    def policies(self, version: str, documents: int) -> None:
        """This set is in force from now on."""

    def policy_load(self, outcome: str) -> None:
        """A changed source was looked at: `applied`, `unchanged`, `held` (it waits to be confirmed), `failed`."""


class NoSourceMeter:
    """Shows nothing."""

    def policies(self, version: str, documents: int) -> None: ...

    def policy_load(self, outcome: str) -> None: ...


@dataclass(frozen=True, slots=True)
class InForce:
    """The set that decides now."""

    policies: PolicySet
    documents: PolicyDocuments
    since: datetime
    restored: bool
    """Nothing good came from the source since the start: it is what was in force before."""


@dataclass(frozen=True, slots=True)
class Held:
    """A set without mistakes that is not applied until somebody confirms it."""

    version: str
    documents: PolicyDocuments
    why: str
    texts: Sequence[SourceText]


class PolicySource:
    """Keeps the policies in force what a file or folder says.

    A change is taken once it has come to rest: nothing changed for `rest`, nor while the files were read. One with a
    mistake, and one that loses most of the policies, changes nothing; `fault` says so, and the set before stays in
    force, over restarts too. A set is kept on disk before it decides anything. The switch is one assignment.
    """

    def __init__(
        self,
        path: Path,
        facts: MeshFacts,
        kept: KeptPolicies,
        clock: Clock,
        *,
        default_namespace: str = "default",
        meter: SourceMeter | None = None,
        rest: timedelta = timedelta(milliseconds=200),
        heartbeat: float = HEARTBEAT,
    ) -> None:
        self.path = path
        self._facts = facts
        self._kept = kept
        self._clock = clock
        self._default_namespace = default_namespace
        self._meter = meter or NoSourceMeter()
        self._rest = rest
        self._heartbeat = heartbeat
        self._turn = asyncio.Lock()
        self.in_force: InForce | None = None
        self.held: Held | None = None
        self.fault = ""
        """Why the source is not in force as it is now; empty: it is."""

    @property
    def policies(self) -> PolicySet | None:
        """The set in force; None before the first good one."""
        return None if self.in_force is None else self.in_force.policies

    async def restore(self) -> None:
        """Put into force what was in force before the last stop. Raises nothing: `fault` says what is wrong."""
        try:
            texts = await asyncio.to_thread(self._kept.load)
            if texts is None:
                return
            documents, policies = await asyncio.to_thread(self._compiled, texts)
        except CitadelError as error:
            self._wrong(f"the policies that were in force before cannot be restored: {_shortly(error)}")
            return
        self._switch(documents, policies, restored=True)

    async def run(self) -> None:
        """Read now, and again whenever something changes, until cancelled. Raises nothing else."""
        looked_at: _State | None = None
        async with aclosing(stirrings(self.path, heartbeat=self._heartbeat, deep=True)) as reasons:
            async for _ in reasons:
                if await self._look() != looked_at:
                    looked_at = await self._read_at_rest()

    async def confirm(self, version: str = "") -> InForce:
        """Apply the set that is held back. `version`: that one and no other.

        Raises NotFound if nothing is held back, FailedPrecondition if it is another version, PermissionDenied."""
        async with self._turn:
            held = self.held
            if held is None:
                raise NotFound("no set of policies waits to be confirmed", mend="see: citadel policy status")
            if version and version != held.version:
                raise FailedPrecondition(f"what waits to be confirmed is version {held.version}, not {version}")
            _, policies = await asyncio.to_thread(self._compiled, held.texts)
            await asyncio.to_thread(self._kept.save, held.texts)
            self._switch(held.documents, policies, restored=False)
            self.held, self.fault = None, ""
            self._meter.policy_load("applied")
            assert self.in_force is not None
            return self.in_force

    async def _look(self) -> _State:
        return await asyncio.to_thread(_look, self.path)

    async def _read_at_rest(self) -> _State:
        """The state that was read."""
        while True:
            state = await self._look()
            await asyncio.sleep(self._rest.total_seconds())
            if await self._look() != state:
                continue
            texts, unreadable = await asyncio.to_thread(read_paths, [self.path])
            if await self._look() != state:  # some of it may be old and some new
                continue
            async with self._turn:
                try:
                    await self._take(texts, unreadable)
                except CitadelError as error:
                    self.held = None
                    self._meter.policy_load("failed")
                    self._wrong(f"the policies of {self.path} are not applied: {_shortly(error)}")
                except Exception as defect:  # whatever it is, the set before stays in force, and it is said
                    self.held = None
                    self._meter.policy_load("failed")
                    log.error("the policies could not be loaded", path=str(self.path), exc_info=defect)
                    self._wrong(f"the policies of {self.path} are not applied: {type(defect).__name__}, see the log")
            return state

    async def _take(self, texts: Sequence[SourceText], unreadable: Sequence[Mistake]) -> None:
        documents, policies = await asyncio.to_thread(self._compiled, texts, unreadable)
        before = self.in_force
        if before is not None and policies.version == before.policies.version:
            self._meter.policy_load("unchanged")
            self.in_force = InForce(before.policies, documents, before.since, restored=False)
            self.held, self.fault = None, ""
            return
        why = doubt(None if before is None else before.documents, documents)
        if why:
            self.held = Held(policies.version, documents, why, texts)
            self._meter.policy_load("held")
            self._wrong(
                f"the policies of {self.path} are not applied: {why}; "
                f"if that is meant: citadel policy confirm {policies.version}"
            )
            return
        await asyncio.to_thread(self._kept.save, texts)
        self._switch(documents, policies, restored=False)
        self.held, self.fault = None, ""
        self._meter.policy_load("applied")

    def _compiled(
        self, texts: Sequence[SourceText], unreadable: Sequence[Mistake] = ()
    ) -> tuple[PolicyDocuments, PolicySet]:
        """Blocks. Raises BadFile with every mistake."""
        before = self.in_force
        try:
            documents = load(
                texts,
                default_namespace=self._default_namespace,
                previous=None if before is None else before.documents,
            )
        except BadFile as error:
            raise BadFile([*unreadable, *error.mistakes]) from None
        if unreadable:
            raise BadFile(list(unreadable))
        return documents, compile_documents(documents, self._facts, None if before is None else before.policies)

    def _switch(self, documents: PolicyDocuments, policies: PolicySet, *, restored: bool) -> None:
        self.in_force = InForce(policies, documents, self._clock.now(), restored)
        self._meter.policies(policies.version, len(documents))
        log.info(
            "policies are in force",
            version=policies.version,
            documents=len(documents),
            source="what was in force before" if restored else str(self.path),
            warnings=len(documents.warnings),
        )

    def _wrong(self, fault: str) -> None:
        if fault != self.fault:
            log.error("the policies are not as their source says", fault=fault)
        self.fault = fault


def _shortly(error: CitadelError) -> str:
    """All mistakes on one line; of very many, the first."""
    if not isinstance(error, BadFile):
        return error.sentence()
    shown = [str(one) for one in error.mistakes[:_TOLD_MISTAKES]]
    more = len(error.mistakes) - len(shown)
    return "; ".join([*shown, *([f"and {more} more mistakes"] if more else [])])


def _look(path: Path) -> _State:
    """What tells one state of the source from another: names, and what changes when a file is written or replaced."""
    found: list[tuple[object, ...]] = []
    for name, file in files_of(path):
        try:
            facts = file.stat()
            found.append((name, facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns))
        except OSError as error:
            found.append((name, error.errno))
    return tuple(found)
