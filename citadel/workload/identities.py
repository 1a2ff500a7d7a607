"""The keys and certificates held for workloads: made on demand, renewed at half of their life, kept in memory only."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from citadel.clock import Clock
from citadel.errors import CitadelError, InternalFault
from citadel.held import HeldBundle, HeldIdentity
from citadel.spiffe import TrustDomain
from citadel.workload.upstream import AssignedEntry, EntryUpdate, SignedSvid, SvidRequest, Upstream

_BATCH = 64
_LONGEST_NAP = 30.0  # seconds: wall clocks jump, and machines sleep
_BACKOFF = (0.2, 15.0)
log = structlog.get_logger("citadel.workload")


class Listener(Protocol):
    """Told after something changed. Calls are synchronous and must be quick."""

    def entries_changed(self, before: Mapping[str, AssignedEntry], entry_ids: Collection[str]) -> None:
        """These entries are new, changed, or gone from `Identities.entries`; `before` has those that were there."""

    def identity_changed(self, entry_id: str) -> None: ...

    def bundles_changed(self) -> None: ...


@dataclass
class _Held:
    """An entry that somebody uses, with what is held for it and the task that keeps it fresh."""

    entry: AssignedEntry
    changed: asyncio.Event
    identity: HeldIdentity | None = None
    renew_at: datetime | None = None
    last_error: str = ""
    task: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class IdentityStatus:
    """For `status`: what is held, until when it lasts, when it is renewed, and what went wrong last."""

    entry_id: str
    spiffe_id: str
    not_after: datetime | None
    renew_at: datetime | None
    last_error: str


class Identities:
    """Holds identities for the entries that are in use. Run `run` as long as it lives."""

    def __init__(self, upstream: Upstream, clock: Clock, *, jitter: random.Random | None = None) -> None:
        self._upstream = upstream
        self._clock = clock
        self._random = jitter or random.SystemRandom()
        self._held: dict[str, _Held] = {}
        self._listeners: list[Listener] = []
        self._asking: list[tuple[SvidRequest, asyncio.Future[SignedSvid]]] = []
        self._asked = asyncio.Event()
        self.entries: dict[str, AssignedEntry] = {}
        self.bundles: dict[TrustDomain, HeldBundle] = {}

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def identity(self, entry_id: str) -> HeldIdentity | None:
        """What is held for an entry now; asks for it if nobody did yet."""
        held = self._held.get(entry_id)
        if held is None and entry_id in self.entries:
            held = _Held(self.entries[entry_id], asyncio.Event())
            self._held[entry_id] = held
            held.task = asyncio.create_task(self._keep_fresh(held), name=f"identity {entry_id}")
        return held.identity if held else None

    def status(self) -> list[IdentityStatus]:
        return [
            IdentityStatus(
                held.entry.id,
                held.entry.spiffe_id.uri,
                held.identity.not_after if held.identity else None,
                held.renew_at,
                held.last_error,
            )
            for held in self._held.values()
        ]

    async def run(self) -> None:
        """Follow the server's entries and bundles until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow_entries())
                group.create_task(self._follow_bundles())
                group.create_task(self._ask_upstream())
        finally:
            for held in self._held.values():
                if held.task is not None:
                    held.task.cancel()

    async def _follow_entries(self) -> None:
        async with self._upstream.entries() as updates:
            async for update in updates:
                self._take(update)

    def _take(self, update: EntryUpdate) -> None:
        """Costs what changed, not what there is."""
        gone = self.entries.keys() - {e.id for e in update.changed} if update.whole else update.gone
        before: dict[str, AssignedEntry] = {}
        touched: set[str] = set()
        for entry in update.changed:
            old = self.entries.get(entry.id)
            if old is not None:
                before[entry.id] = old
            if old != entry:
                self.entries[entry.id] = entry
                touched.add(entry.id)
        for entry_id in gone & self.entries.keys():
            before[entry_id] = self.entries.pop(entry_id)
            touched.add(entry_id)
        for entry_id in touched & self._held.keys():
            self._entry_changed(self._held[entry_id])
        if touched:
            for listener in self._listeners:
                listener.entries_changed(before, touched)

    def _entry_changed(self, held: _Held) -> None:
        entry = self.entries.get(held.entry.id)
        if entry is None:  # what streams hold they keep until it expires; nothing is renewed
            if held.task is not None:
                held.task.cancel()
            del self._held[held.entry.id]
        elif entry != held.entry:
            held.entry = entry
            held.changed.set()

    async def _follow_bundles(self) -> None:
        async with self._upstream.bundles() as changes:
            async for bundles in changes:
                new = {
                    name: HeldBundle(name, bundle.roots, bundle.sequence, bundle.crls)
                    for name, bundle in bundles.items()
                    if bundle.roots  # an empty bundle is never passed on: with it an Envoy would verify nobody
                }
                self.bundles = {n: self.bundles[n] if self.bundles.get(n) == b else b for n, b in new.items()}
                for listener in self._listeners:
                    listener.bundles_changed()

    async def _keep_fresh(self, held: _Held) -> None:
        delay = _BACKOFF[0]
        while True:
            held.changed.clear()
            try:
                identity = await self._obtain(held.entry)
            except CitadelError as error:
                if held.last_error != error.message:
                    lasts = held.identity.not_after.isoformat() if held.identity else "nothing"
                    log.warning("no certificate yet", entry=held.entry.id, error=error.message, held_until=lasts)
                held.last_error = error.message
                await self._nap(held, delay * self._random.uniform(0.5, 1.5))
                delay = min(delay * 2, _BACKOFF[1])
                continue
            delay = _BACKOFF[0]
            held.identity, held.last_error = identity, ""
            now = self._clock.now()
            held.renew_at = now + (identity.not_after - now) * self._random.uniform(0.45, 0.55)
            for listener in self._listeners:
                listener.identity_changed(held.entry.id)
            while not held.changed.is_set() and (left := (held.renew_at - self._clock.now()).total_seconds()) > 0:
                await self._nap(held, min(left, _LONGEST_NAP))

    async def _nap(self, held: _Held, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await held.changed.wait()
        except TimeoutError:
            pass

    async def _obtain(self, entry: AssignedEntry) -> HeldIdentity:
        """A new key with a new certificate. Raises what Upstream.sign answers."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(entry.spiffe_id.uri)])
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(name, critical=True)
        csr = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
        answer: asyncio.Future[SignedSvid] = asyncio.get_running_loop().create_future()
        self._asking.append((SvidRequest(entry.id, csr), answer))
        self._asked.set()
        svid = await answer
        self._check(svid, entry, key)
        return HeldIdentity(
            spiffe_id=svid.spiffe_id,
            chain=svid.chain,
            private_key=key.private_bytes(
                serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            serial=svid.serial,
            not_after=svid.not_after,
            authority=svid.authority,
            hint=entry.hint,
            dns_names=entry.dns_names,
        )

    def _check(self, svid: SignedSvid, entry: AssignedEntry, key: ec.EllipticCurvePrivateKey) -> None:
        """What came back is for our key and our identity. Raises InternalFault."""
        try:
            leaf = x509.load_der_x509_certificate(svid.chain[0])
            names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, IndexError, x509.ExtensionNotFound) as error:
            raise InternalFault("the server sent something that is no X.509-SVID") from error
        if leaf.public_key() != key.public_key():
            raise InternalFault("the server sent a certificate for another key")
        if names.get_values_for_type(x509.UniformResourceIdentifier) != [entry.spiffe_id.uri]:
            raise InternalFault(f"the server sent a certificate that is not {entry.spiffe_id}'s")
        if leaf.not_valid_after_utc <= self._clock.now():
            raise InternalFault("the server sent a certificate that has expired already")

    async def _ask_upstream(self) -> None:
        """Bring what is asked to the server, many at once."""
        while True:
            await self._asked.wait()
            batch, self._asking = self._asking[:_BATCH], self._asking[_BATCH:]
            if not self._asking:
                self._asked.clear()
            if not batch:
                continue
            try:
                answers: list[SignedSvid | CitadelError] = await self._upstream.sign([request for request, _ in batch])
            except CitadelError as error:
                answers = [error] * len(batch)
            for (_, future), answer in zip(batch, answers, strict=True):
                if future.done():
                    continue
                if isinstance(answer, CitadelError):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
