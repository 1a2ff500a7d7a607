"""The policies in force: what an origin says, checked, and kept when something is wrong with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog

from citadel.authz.facts import MeshFacts
from citadel.authz.load import PolicyDocuments, SourceText, load
from citadel.authz.policyset import PolicySet, compile_documents
from citadel.authz.sources.caution import doubt
from citadel.authz.sources.kept import KeptPolicies
from citadel.authz.sources.origin import Origin, Reading
from citadel.authz.switches import Switches
from citadel.clock import Clock
from citadel.errors import BadFile, CitadelError, FailedPrecondition, Mistake, NotFound

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
    number: int = 0
    """Which version of the store it is; 0: it is not the store's."""


@dataclass(frozen=True, slots=True)
class Held:
    """A set without mistakes that is not applied until somebody confirms it."""

    version: str
    documents: PolicyDocuments
    why: str
    reading: Reading


class PolicySource:
    """Keeps the policies in force what an origin says.

    A change with a mistake, and one that loses or opens much (`caution`) and was not confirmed, changes nothing;
    `fault` says so, and the set before stays in force, over restarts too. A set is kept on disk before it decides
    anything. The switch is one assignment.
    """

    def __init__(
        self,
        origin: Origin,
        facts: MeshFacts,
        kept: KeptPolicies,
        clock: Clock,
        *,
        default_namespace: str = "default",
        meter: SourceMeter | None = None,
        retry: float = 10.0,
    ) -> None:
        """`retry`: after so many seconds, what could not be kept on disk is tried again."""
        self._origin = origin
        self._facts = facts
        self._kept = kept
        self._clock = clock
        self._default_namespace = default_namespace
        self._meter = meter or NoSourceMeter()
        self._turn = asyncio.Lock()
        self._retry = retry
        self._unkept: Reading | None = None  # what could not be written to disk, and so was not applied
        self.switches = Switches()
        """Of the set in force."""
        self.in_force: InForce | None = None
        self.held: Held | None = None
        self.fault = ""
        """Why the source is not in force as it is now; empty: it is."""

    @property
    def where(self) -> str:
        """Where the policies come from, for people."""
        return self._origin.where

    @property
    def policies(self) -> PolicySet | None:
        """The set in force; None before the first good one."""
        return None if self.in_force is None else self.in_force.policies

    async def restore(self) -> None:
        """Put into force what was in force before the last stop. Raises nothing: `fault` says what is wrong."""
        try:
            kept = await asyncio.to_thread(self._kept.load)
            if kept is None:
                return
            documents, policies = await asyncio.to_thread(self._compiled, kept.texts)
        except CitadelError as error:
            self._wrong(f"the policies that were in force before cannot be restored: {_shortly(error)}")
            return
        self._switch(documents, policies, restored=True, number=kept.number)

    async def run(self) -> None:
        """Take what the origin says now, and again whenever it changes, until cancelled. Raises nothing else."""
        async with self._origin.readings() as readings:
            coming = asyncio.ensure_future(anext(readings))
            try:
                while True:
                    done, _ = await asyncio.wait([coming], timeout=self._retry if self._unkept is not None else None)
                    if done:
                        reading = coming.result()
                        coming = asyncio.ensure_future(anext(readings))
                        await self._read(reading)
                    elif self._unkept is not None:
                        await self._read(self._unkept)
            finally:
                coming.cancel()
                with suppress(asyncio.CancelledError):
                    await coming

    async def reached(self, version: str, timeout: float) -> bool:
        """Wait until the set of this version is in force, at most `timeout` seconds; whether it is."""
        try:
            async with asyncio.timeout(timeout):
                while self.policies is None or self.policies.version != version:
                    await self.switches.coming.wait()
        except TimeoutError:
            return False
        return True

    async def confirm(self, version: str = "", record: Callable[[Held], Awaitable[None]] | None = None) -> InForce:
        """Apply the set that is held back. `version`: that one and no other. `record` writes down who said so, before
        it is applied; what it raises, changes nothing.

        Raises NotFound if nothing is held back, FailedPrecondition if it is another version, PermissionDenied."""
        async with self._turn:
            held = self.held
            if held is None:
                raise NotFound("no set of policies waits to be confirmed", mend="see: citadel policy status")
            if version and version != held.version:
                raise FailedPrecondition(f"what waits to be confirmed is version {held.version}, not {version}")
            _, policies = await asyncio.to_thread(self._compiled, held.reading.texts)
            if record is not None:
                await record(held)
            await asyncio.to_thread(self._kept.save, held.reading.texts, held.reading.number)
            self._switch(held.documents, policies, restored=False, number=held.reading.number)
            self.held, self.fault = None, ""
            self._meter.policy_load("applied")
            assert self.in_force is not None
            return self.in_force

    async def _read(self, reading: Reading) -> None:
        async with self._turn:
            self._unkept = None
            try:
                await self._take(reading)
            except _Unkept as error:
                self.held, self._unkept = None, reading
                self._meter.policy_load("failed")
                self._wrong(f"the policies of {self.where} are not applied: {error}")
            except CitadelError as error:
                self.held = None
                self._meter.policy_load("failed")
                self._wrong(f"the policies of {self.where} are not applied: {_shortly(error)}")
            except Exception as defect:  # whatever it is, the set before stays in force, and it is said
                self.held = None
                self._meter.policy_load("failed")
                log.error("the policies could not be loaded", source=self.where, exc_info=defect)
                self._wrong(f"the policies of {self.where} are not applied: {type(defect).__name__}, see the log")

    async def _take(self, reading: Reading) -> None:
        if reading.missing:
            until = (
                "every check is denied, and it is not ready" if self.in_force is None else "what was in force stays so"
            )
            raise NotFound(reading.missing, mend=f"until then {until}")
        documents, policies = await asyncio.to_thread(self._compiled, reading.texts, reading.unreadable)
        before = self.in_force
        if before is not None and policies.version == before.policies.version:
            self._meter.policy_load("unchanged")
            self.in_force = InForce(before.policies, documents, before.since, restored=False, number=reading.number)
            self.held, self.fault = None, ""
            return
        # A version was confirmed against the one before it; nobody did so against what another source had in force, or
        # against a newer version, of which a backup that was put back knows nothing.
        trusted = reading.number > 0 and (before is None or 0 < before.number <= reading.number)
        held_against = None if before is None else before.documents
        why = "" if trusted else await asyncio.to_thread(doubt, held_against, documents, self._facts.root_namespace)
        if why:
            self.held = Held(policies.version, documents, why, reading)
            self._meter.policy_load("held")
            self._wrong(
                f"the policies of {self.where} are not applied: {why}; "
                f"if that is meant: citadel policy confirm {policies.version}"
            )
            return
        try:
            await asyncio.to_thread(self._kept.save, reading.texts, reading.number)
        except CitadelError as error:
            raise _Unkept(error.sentence()) from None
        self._switch(documents, policies, restored=False, number=reading.number)
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

    def _switch(self, documents: PolicyDocuments, policies: PolicySet, *, restored: bool, number: int = 0) -> None:
        self.in_force = InForce(policies, documents, self._clock.now(), restored, number)
        self.switches.happened()
        self._meter.policies(policies.version, len(documents))
        log.info(
            "policies are in force",
            version=policies.version,
            documents=len(documents),
            source="what was in force before" if restored else f"{self.where}, v{number}" if number else self.where,
            warnings=len(documents.warnings),
        )

    def _wrong(self, fault: str) -> None:
        if fault != self.fault:
            log.error("the policies are not as their source says", fault=fault)
        self.fault = fault


class _Unkept(Exception):
    """The set is good, and could not be written to disk."""


def _shortly(error: CitadelError) -> str:
    """All mistakes on one line; of very many, the first."""
    if not isinstance(error, BadFile):
        return error.sentence()
    shown = [str(one) for one in error.mistakes[:_TOLD_MISTAKES]]
    more = len(error.mistakes) - len(shown)
    return "; ".join([*shown, *([f"and {more} more mistakes"] if more else [])])
