"""Notary: signs how far this server's chain goes, and prunes old records without making the rest unverifiable."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from citadel.audit.auditor import Auditor
from citadel.audit.checkpoint import AuditKey, Checkpoint, Kind
from citadel.audit.ports import AuditLog, OwnChain, Sealer
from citadel.audit.record import AuditEvent
from citadel.audit.sealing import seal, unseal
from citadel.clock import Clock
from citadel.errors import AlreadyExists, CitadelError, FailedPrecondition, Unavailable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RETRY_SECONDS = 5.0
log = structlog.get_logger("citadel.audit")


class Notary:
    """`open` it before anything else. Checkpoints are made by the clock (`checkpoint`), with every so many records
    (`follow`), and at a graceful stop."""

    def __init__(self, audit_log: AuditLog, chain: OwnChain, kek: Sealer, clock: Clock, *, every: int) -> None:
        self._log = audit_log
        self._chain = chain
        self._kek = kek
        self._clock = clock
        self._every = every
        self._auditor = Auditor(audit_log, kek)
        self._private: Ed25519PrivateKey | None = None
        self._signed = 0
        self._turn = asyncio.Lock()
        self._fault = ""
        self._try_again = False

    async def open(self) -> None:
        """Find the key, or make it, and look whether the chain goes on where it was last signed for.

        Neither a key that does not open nor a damaged chain keeps the server from starting: `look` says so, and
        `citadel audit verify` says what.
        """
        try:
            self._private = await self._find_key()
        except (FailedPrecondition, Unavailable) as error:
            self._fault = error.sentence()
            log.error("audit checkpoints cannot be signed", error=self._fault)
            self._try_again = isinstance(error, Unavailable)  # its key-encryption key is elsewhere, and away
            return
        self._fault, self._try_again = "", False
        report = await self._auditor.verify_tail(self._chain.writer)
        self._signed = report.signed
        if report.faults:
            self._fault = f"the audit log is not intact: {report.faults[0]}; see: citadel audit verify"
            log.error("the audit log is not intact", writer=report.writer, faults=list(report.faults))

    async def look(self) -> None:
        """A health check. Raises FailedPrecondition if the chain was damaged when we started, or nothing is signed."""
        if self._fault:
            raise FailedPrecondition(self._fault)

    async def checkpoint(self) -> Checkpoint | None:
        """Sign how far the chain goes, unless that was signed before. It is in the store and in the log stream then.

        Raises Unavailable, and FailedPrecondition if there is no key to sign with.
        """
        async with self._turn:
            if self._try_again:
                await self.open()
            private = self._key()
            tip = self._chain.tip()
            if tip is None or tip[0] <= self._signed:
                return None
            made = self._sign(private, Kind.TIP, self._chain.writer, *tip)
            await self._chain.add_checkpoint(made)
            self._signed = made.sequence
        log.info("audit checkpoint", writer=made.writer, sequence=made.sequence, checkpoint=str(made))
        return made

    async def follow(self) -> None:
        """Make a checkpoint whenever the chain has grown by so many records, until cancelled."""
        while True:
            await self._chain.grown_to(self._signed + self._every)
            try:
                if await self.checkpoint() is None:
                    await asyncio.sleep(_RETRY_SECONDS)  # a failed transaction left the end unsure
            except CitadelError as error:
                log.warning("no audit checkpoint could be made yet", error=error.sentence())
                await asyncio.sleep(_RETRY_SECONDS)

    async def prune(self, before: datetime, batch: int) -> int:
        """Delete the records of all chains that were signed for before then, `batch` in a transaction; how many.

        First a signed base says up to where, so that what stays can be verified. Checkpoints stay. Nothing of a chain
        that is not intact is deleted. Raises FailedPrecondition (naming that chain, after the others), Unavailable.
        """
        private = self._key()
        deleted, faults = 0, []
        for writer in await self._log.writers():
            try:
                base = await self._base(private, writer, before)
            except FailedPrecondition as error:
                faults.append(error.message)
                continue
            while base and (count := await self._chain.delete_through(writer, base, batch)):
                deleted += count
        if faults:
            raise FailedPrecondition("; ".join(faults), mend="see: citadel audit verify")
        return deleted

    async def _base(self, private: Ed25519PrivateKey, writer: str, before: datetime) -> int:
        """Up to which record `writer`'s chain may be deleted. If that is farther than it was, it is signed first."""
        cutoff = (before - _EPOCH) // timedelta(microseconds=1)
        checkpoints = await self._log.checkpoints(writer)
        known = max((kept.sequence for kept in checkpoints if kept.kind is Kind.BASE), default=0)
        old = [kept for kept in checkpoints if kept.kind is Kind.TIP and kept.at < cutoff and kept.sequence > known]
        newest = max(old, key=lambda kept: kept.sequence, default=None)
        if newest is None:
            return known
        report = await self._auditor.verify_through(writer, newest.sequence)
        if report.faults:
            raise FailedPrecondition(f"the chain of {writer} is not intact and was not pruned: {report.faults[0]}")
        base = self._sign(private, Kind.BASE, writer, newest.sequence, newest.hash)
        detail = {"through": newest.sequence, "records": newest.sequence - known}
        await self._chain.add_checkpoint(
            base, AuditEvent(self._clock.now(), "system:prune", "audit.prune", writer, detail)
        )
        log.info("audit log pruned", writer=writer, through=newest.sequence, checkpoint=str(base))
        return newest.sequence

    def _sign(self, private: Ed25519PrivateKey, kind: Kind, writer: str, sequence: int, hash_: bytes) -> Checkpoint:
        at = (self._clock.now() - _EPOCH) // timedelta(microseconds=1)
        key = AuditKey.of(private.public_key())
        return Checkpoint(kind, writer, sequence, hash_, at, key.id).signed(private)

    def _key(self) -> Ed25519PrivateKey:
        if self._private is None:
            raise FailedPrecondition(self._fault or "there is no audit key yet", mend="see: citadel status")
        return self._private

    async def _find_key(self) -> Ed25519PrivateKey:
        for _ in range(2):
            if known := await self._log.keys():
                return await unseal(known[-1], self._kek)
            private = Ed25519PrivateKey.generate()
            sealed = await seal(private, self._kek)
            event = AuditEvent(self._clock.now(), "system:start", "audit.key_create", sealed.key.id)
            try:
                await self._chain.add_key(sealed, event)
            except AlreadyExists:
                continue  # another server was quicker
            log.info("the key that signs audit checkpoints was made", key=sealed.key.id)
            return private
        raise Unavailable("the audit key could not be read")
