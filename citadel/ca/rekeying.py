"""Rekeying: the key-encryption key is replaced, each private key re-sealed one by one, resumable at any instant.

The order makes it so: the new key is durable beside the old one; then the audit key is re-sealed, and by that the
database says that a rekeying is under way; then the authorities' keys; then every one of them is opened under the new
key as it lies on disk; then the new key takes the old one's place. The old one is kept until it is forgotten.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import structlog

from citadel.audit import AuditEvent
from citadel.audit.ports import AuditLog, OwnChain
from citadel.audit.sealing import seal, unseal
from citadel.ca.kek_place import KekPlace
from citadel.ca.kek_ring import KekRing
from citadel.ca.keyring import Keyring
from citadel.ca.model import SealedKey, Skid
from citadel.ca.ports import AuthorityStore, KeyEncryptionKey
from citadel.clock import Clock
from citadel.errors import CitadelError, FailedPrecondition, NotFound

_START = "system:start"
log = structlog.get_logger("citadel.ca")


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """`resealed` of `keys` private keys were not under `kek_id` yet. `in_place`: it is in the old one's place; if not,
    that is for the operator to do."""

    kek_id: str
    keys: int
    resealed: int
    in_place: bool


class Rekeying:
    """`shared`: other servers may use the same database, each with a copy of the key of its own."""

    def __init__(
        self,
        store: AuthorityStore,
        audit_log: AuditLog,
        chain: OwnChain,
        ring: KekRing,
        place: KekPlace,
        clock: Clock,
        *,
        shared: bool,
    ) -> None:
        self._store = store
        self._log = audit_log
        self._chain = chain
        self._ring = ring
        self._place = place
        self._clock = clock
        self._shared = shared
        self._turn = asyncio.Lock()
        self._by_hand = False

    async def stage(self, actor: str, given: Path | None) -> str:
        """Hold a new key beside the current one, so that keys under either open. Its id.

        Raises FailedPrecondition, AlreadyExists, NotFound, UnsafePermissions, BadFile, PermissionDenied.
        """
        async with self._turn:
            return await self._stage(actor, given)

    async def rekey(self, actor: str, given: Path | None, *, all_staged: bool = False) -> Rekeyed:
        """Replace the key-encryption key by a new one, the one in `given`, or the one that is staged.

        Called again after a failure, it goes on where that was. Raises as `stage`, and Unavailable.
        """
        async with self._turn:
            if self._shared and (self._ring.staged is None or not all_staged):
                raise FailedPrecondition(
                    "other servers may use this database, and open nothing that is sealed under a key they do not hold",
                    mend="run 'citadel keys rekey --stage --key FILE' on each of them with the same key, then "
                    "'citadel keys rekey --all-staged' on each",
                )
            await self._stage(actor, given)
            return await self._go_on(actor)

    async def resume(self) -> None:
        """Go on with a rekeying that was under way when we were stopped. Call it at start.

        What fails leaves everything openable under the keys that we hold, and is logged.
        """
        if self._ring.staged is None or not await self._under_way(self._ring.staged):
            return
        async with self._turn:
            try:
                done = await self._go_on(_START)
            except CitadelError as error:
                log.error("the rekeying is not done yet", error=error.sentence())
                return
        log.info("went on with the rekeying", kek=done.kek_id, resealed=done.resealed, in_place=done.in_place)

    async def forget(self, actor: str) -> str:
        """Remove the previous key, when everything opens without it; its id.

        Raises NotFound if there is none; FailedPrecondition if a rekeying is under way.
        """
        async with self._turn:
            previous = self._ring.previous
            if previous is None:
                raise NotFound("no previous key-encryption key is kept", mend="there is nothing to do")
            if self._ring.staged is not None:
                raise FailedPrecondition("a new key-encryption key is staged", mend="run first: citadel keys rekey")
            await self._reseal(self._ring.current, actor)
            await self._confirm(self._ring.current)
            await self._record(actor, "kek.forget", previous.id)
            self._place.forget()
            self._ring.forget()
            return previous.id

    def waiting(self) -> list[str]:
        """What the operator should know."""
        if self._by_hand:
            return ["the new key-encryption key to be put in the old one's place: see docs/backup.md"]
        if self._ring.staged is not None:
            return [f"the new key-encryption key {self._ring.staged.id} is staged: citadel keys rekey"]
        if self._ring.previous is not None:
            return [f"the old key-encryption key {self._ring.previous.id} is kept: citadel keys forget"]
        return []

    # --- steps; each is called with the turn

    async def _stage(self, actor: str, given: Path | None) -> str:
        if self._ring.previous is not None:
            raise FailedPrecondition(
                f"the key before the current one, {self._ring.previous.id}, is still kept",
                mend="copy the current one elsewhere, then run: citadel keys forget",
            )
        known = self._ring.staged
        staged = await asyncio.to_thread(self._place.stage, given)
        if known is None or known.id != staged.id:
            self._ring.staged = staged
            await self._record(actor, "kek.stage", staged.id)
        return staged.id

    async def _go_on(self, actor: str) -> Rekeyed:
        new = self._ring.turn_to_staged()
        resealed = await self._reseal(new, actor)
        keys = await self._confirm(self._place.load().staged)  # as it lies there
        await self._record(actor, "kek.promote", new.id, previous=self._ring.current.id)
        in_place = await asyncio.to_thread(self._place.promote)
        if in_place:
            self._ring.promoted()
        self._by_hand = not in_place
        return Rekeyed(new.id, keys, resealed, in_place)

    async def _under_way(self, new: KeyEncryptionKey) -> bool:
        return any(key.kek_id == new.id for key in await self._log.keys())

    async def _reseal(self, new: KeyEncryptionKey, actor: str) -> int:
        """How many keys were not under `new` yet. The audit key first: it shows that a rekeying is under way."""
        count = 0
        for audit_key in await self._log.keys():
            if audit_key.kek_id != new.id:
                private = await unseal(audit_key, self._ring)
                event = self._event(actor, "audit.key_seal", audit_key.key.id, kek=new.id)
                await self._chain.replace_key(await seal(private, new), event)
                count += 1
        old, fresh = Keyring(self._store, self._ring), Keyring(self._store, new)
        for sealed in await self._sealed():
            if sealed.kek_id != new.id:
                again = await fresh.seal(sealed.skid, await old.open(sealed.skid))
                await self._store.replace_sealed_key(again, self._event(actor, "key.seal", sealed.skid.hex, kek=new.id))
                count += 1
        return count

    async def _confirm(self, new: KeyEncryptionKey | None) -> int:
        """Open every key under `new` alone; how many. Raises FailedPrecondition, naming the one that does not."""
        if new is None:
            raise FailedPrecondition("the staged key-encryption key is gone", mend="put it back, and run this again")
        audit_keys = await self._log.keys()
        for audit_key in audit_keys:
            await unseal(audit_key, new)
        ring, sealed = Keyring(self._store, new), await self._sealed()
        for one in sealed:
            await ring.open(one.skid)
        return len(audit_keys) + len(sealed)

    async def _sealed(self) -> list[SealedKey]:
        found = [await self._sealed_key(authority.skid) for authority in await self._store.authorities()]
        return [one for one in found if one is not None]

    async def _sealed_key(self, skid: Skid) -> SealedKey | None:
        try:
            return await self._store.sealed_key(skid)
        except NotFound:
            return None  # its key is elsewhere

    async def _record(self, actor: str, action: str, kek_id: str, **detail: str) -> None:
        await self._chain.record(self._event(actor, action, kek_id, **detail))

    def _event(self, actor: str, action: str, subject: str, **detail: str) -> AuditEvent:
        return AuditEvent(self._clock.now(), actor, action, subject, detail)


__all__ = ["Rekeyed", "Rekeying"]
