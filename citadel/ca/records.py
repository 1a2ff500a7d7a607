"""Records: what the store says of all authorities at one moment, and ways to change it, each with its audit record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from citadel.audit import AuditEvent, JsonScalar
from citadel.ca.bundle import next_bundle
from citadel.ca.model import (
    Authority,
    AuthorityCertificate,
    AuthorityKind,
    AuthorityState,
    KeySource,
    SealedKey,
    Skid,
    TrustBundle,
)
from citadel.ca.ports import AuthorityStore
from citadel.clock import Clock
from citadel.spiffe import TrustDomain

_ACTOR = "system:ca"
_NEVER_SIGNED = frozenset({AuthorityState.PREPARED, AuthorityState.DISTRIBUTING, AuthorityState.ABANDONED})


@dataclass(frozen=True, slots=True)
class Book:
    """The bundle, and the authorities, oldest first. The bundle was read before them (see Records.publish)."""

    bundle: TrustBundle | None
    authorities: tuple[Authority, ...]

    def active(self, kind: AuthorityKind) -> Authority | None:
        return next((a for a in self.authorities if a.kind is kind and a.state is AuthorityState.ACTIVE), None)

    def find(self, skid: Skid) -> Authority | None:
        return next((a for a in self.authorities if a.skid == skid), None)

    def roots(self, *states: AuthorityState) -> list[Authority]:
        return [a for a in self.authorities if a.kind is AuthorityKind.ROOT and a.state in states]

    @property
    def signer(self) -> Authority | None:
        """Who signs leaves: the active issuing CA; without one, a root that was plugged in to do so itself."""
        root = self.active(AuthorityKind.ROOT)
        itself = root if root is not None and root.key_source is KeySource.FILES else None
        return self.active(AuthorityKind.ISSUING) or itself

    @property
    def is_new(self) -> bool:
        """No root was ever in force: the first start, or one that was cut off."""
        return all(a.state in _NEVER_SIGNED for a in self.authorities)


class Records:
    """Reads and changes the authorities of one trust domain.

    Several servers may do this on one store. Each change names the state that it starts from, so whoever comes second
    gets Aborted or AlreadyExists, and reads again.
    """

    def __init__(self, store: AuthorityStore, clock: Clock, trust_domain: TrustDomain, *, refresh_hint: int) -> None:
        self._store = store
        self._clock = clock
        self._refresh_hint = refresh_hint
        self.trust_domain = trust_domain

    async def read(self) -> Book:
        bundle = await self._store.bundle(self.trust_domain)
        return Book(bundle, tuple(await self._store.authorities()))

    async def add(
        self, authority: Authority, key: SealedKey | None, action: str, *, retire: Skid | None = None
    ) -> None:
        certificate = authority.certificate
        detail: dict[str, JsonScalar] = {
            "state": str(authority.state),
            "root": authority.root_skid.hex,
            "serial": f"{certificate.serial:x}",
            "fingerprint": certificate.fingerprint,
            "not_after": certificate.not_after.isoformat(),
        }
        if retire is not None:
            detail["retires"] = retire.hex
        await self._store.add(authority, key, self._event(action, authority.skid.hex, detail), retire=retire)

    async def renew(
        self,
        authority: Authority,
        certificate: AuthorityCertificate,
        chain: Sequence[bytes],
        root: Skid,
        key_ref: str | None = None,
    ) -> None:
        """A further certificate of a known key."""
        detail: dict[str, JsonScalar] = {"fingerprint": certificate.fingerprint, "root": root.hex}
        event = self._event(f"{_noun(authority)}.renew", authority.skid.hex, detail)
        other = root if root != authority.root_skid else None
        await self._store.add_certificate(authority.skid, certificate, chain, event, root=other, key_ref=key_ref)

    async def move(
        self, authority: Authority, to: AuthorityState, *, note: str = "", retire: Skid | None = None
    ) -> Authority:
        """The authority in its new state."""
        detail: dict[str, JsonScalar] = {"from": str(authority.state)}
        if retire is not None:
            detail["retires"] = retire.hex
        event = self._event(f"{_noun(authority)}.{to}", authority.skid.hex, detail)
        await self._store.transition(authority.skid, authority.state, to, event, note=note, retire=retire)
        return replace(authority, state=to, note=note, changed_at=event.at)

    async def reseal(self, key: SealedKey) -> None:
        await self._store.replace_sealed_key(key, self._event("key.seal", key.skid.hex, {"kek": key.kek_id}))

    async def give_key(self, key: SealedKey, source: KeySource) -> None:
        await self._store.give_key(key, source, self._event("key.give", key.skid.hex, {"source": str(source)}))

    async def publish(self, crls: tuple[bytes, ...] | None = None) -> None:
        """Put the bundle that the roots' states call for, if it is not what is there; `crls` None keeps those there.

        The bundle is read first and the authorities second: so a server that works from old states also holds an old
        sequence, and is refused. Read the other way round it could drop a root that another server has just added.
        """
        book = await self.read()
        now = self._clock.now()
        bundle = next_bundle(book.bundle, book.authorities, self.trust_domain, self._refresh_hint, crls, now=now)
        if bundle is not None:
            detail: dict[str, JsonScalar] = {"sequence": bundle.sequence, "roots": len(bundle.roots)}
            await self._store.put_bundle(bundle, self._event("bundle.put", self.trust_domain.name, detail))

    async def forget(self, before: datetime) -> int:
        """See AuthorityStore.needed_no_more; how many."""
        old = await self._store.needed_no_more(before)
        for skid in old:
            await self._store.forget(skid, self._event("ca.forget", skid.hex, {}))
        return len(old)

    async def live_leaves(self, at: datetime) -> dict[Skid, int]:
        return await self._store.live_leaves(at)

    def _event(self, action: str, subject: str, detail: dict[str, JsonScalar]) -> AuditEvent:
        return AuditEvent(self._clock.now(), _ACTOR, action, subject, detail)


def _noun(authority: Authority) -> str:
    return "root" if authority.kind is AuthorityKind.ROOT else "ca"
