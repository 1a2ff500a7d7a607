"""The authorities' life: makes the first root and issuing CA, renews the latter, takes plugged-in files into use."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from citadel.audit import AuditEvent
from citadel.ca import keys
from citadel.ca.keyring import Keyring
from citadel.ca.model import (
    IN_BUNDLE,
    Authority,
    AuthorityKind,
    AuthorityState,
    KeySource,
    Skid,
    TrustBundle,
)
from citadel.ca.ports import AuthorityStore, SigningAuthority
from citadel.ca.roots.cacerts import Plugged, read_cacerts
from citadel.ca.roots.disk import DiskRoot, keys_in_thread
from citadel.ca.signers import SoftwareSigner
from citadel.clock import Clock
from citadel.errors import Aborted, AlreadyExists, CitadelError, Unavailable
from citadel.spiffe import TrustDomain

_ATTEMPTS = 5
log = structlog.get_logger("citadel.ca")


@dataclass(frozen=True, slots=True)
class AuthorityPolicy:
    """`issuing_ttl` is what an issuing CA is made for; it is renewed at half of its life, or when less than twice the
    longest leaf's life is left, whichever comes first. `refresh_hint` is in seconds."""

    issuing_ttl: timedelta
    longest_leaf: timedelta
    issuing_key: keys.KeyType = keys.KeyType.EC_P256
    refresh_hint: int = 300


class Authorities:
    """Use cases over all authorities of one trust domain. Several servers may do this on one store: whoever comes
    second finds the state changed (Aborted, AlreadyExists), and reads it again.

    With `plugged` (a folder in Istio's layout), its CA signs the leaves; without, an issuing CA under a root of ours.
    """

    def __init__(
        self,
        store: AuthorityStore,
        keyring: Keyring,
        root: DiskRoot,
        clock: Clock,
        trust_domain: TrustDomain,
        policy: AuthorityPolicy,
        *,
        plugged: Path | None = None,
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._root = root
        self._clock = clock
        self._trust_domain = trust_domain
        self._policy = policy
        self._plugged = plugged
        self._turn = asyncio.Lock()
        self._current: SigningAuthority | None = None
        self._why_not = "the authorities have not been loaded yet"
        self.plugged_fault: str = ""  # what is wrong with the plugged-in files, or what they wait for

    def current(self) -> SigningAuthority:
        """Contract: ports.SigningAuthorities."""
        if self._current is None:
            raise Unavailable(f"nothing may sign now: {self._why_not}", mend="see: citadel ca list")
        if self._current.authority.certificate.not_after <= self._clock.now():
            raise Unavailable(
                f"the issuing CA {self._current.authority.skid} has expired", mend="see: citadel status, citadel doctor"
            )
        return self._current

    async def ensure(self) -> None:
        """Bring everything into the state in which leaves can be signed. Idempotent; call it at start.

        What an earlier run left half-done is taken up. Raises Unavailable, FailedPrecondition, BadFile.
        """
        for attempt in range(_ATTEMPTS):
            try:
                async with self._turn:
                    await self._ensure()
                return
            except (Aborted, AlreadyExists):
                if attempt == _ATTEMPTS - 1:
                    raise

    async def renew_if_due(self) -> bool:
        """Renew the issuing CA if it is time; whether it was. Retires what has expired."""
        async with self._turn:
            await self._remove_expired()
            if self._plugged is not None or self._current is None:
                return False
            if not self._due(self._current.authority):
                return False
            root = await self._active(AuthorityKind.ROOT)
            if root is None:
                return False
            await self._make_issuing(root, retire=self._current.authority.skid)
            await self._load()
            return True

    async def reload_plugged(self) -> None:
        """Look at the plugged-in files again; what is wrong with them changes nothing, and is remembered."""
        if self._plugged is None:
            return
        try:
            async with self._turn:
                await self._take_plugged(self._plugged)
                await self._load()
        except CitadelError as error:
            if self.plugged_fault != error.sentence():
                log.error("the plugged-in CA is not used", error=error.sentence())
            self.plugged_fault = error.sentence()

    async def refresh(self) -> None:
        """Read again which authority signs, after another server changed it."""
        async with self._turn:
            await self._load()

    async def bundle(self) -> TrustBundle:
        """Our own trust bundle. Raises Unavailable if there is none yet."""
        bundle = await self._store.bundle(self._trust_domain)
        if bundle is None:
            raise Unavailable("there is no trust bundle yet")
        return bundle

    async def all(self) -> list[Authority]:
        return await self._store.authorities()

    async def _ensure(self) -> None:
        if self._plugged is not None:
            await self._ensure_plugged(self._plugged)
        else:
            root = await self._active(AuthorityKind.ROOT) or await self._first_root()
            await self._publish()
            issuing = await self._active(AuthorityKind.ISSUING)
            if issuing is None or self._due(issuing):
                await self._make_issuing(root, retire=issuing.skid if issuing else None)
        await self._load()

    async def _ensure_plugged(self, folder: Path) -> None:
        try:
            await self._take_plugged(folder)
        except CitadelError as error:
            if await self._active(AuthorityKind.ISSUING) is None:
                raise  # nothing to go on with
            log.error("the plugged-in CA is not used, the old one stays", error=error.sentence())
            self.plugged_fault = error.sentence()
        await self._publish()

    async def _first_root(self) -> Authority:
        """A root that is active: one that an interrupted start left behind, or a new one. First the bundle, then the
        state: nothing is signed under a root that is in no bundle."""
        unfinished = (AuthorityState.DISTRIBUTING, AuthorityState.PREPARED)
        known = [
            a
            for a in await self._store.authorities()
            if a.kind is AuthorityKind.ROOT and a.state in unfinished and a.key_source is KeySource.SEALED
        ]
        root = known[0] if known else await self._root.prepare()
        if root.state is AuthorityState.PREPARED:
            await self._move(root, AuthorityState.DISTRIBUTING)
        await self._publish()
        await self._move(replace(root, state=AuthorityState.DISTRIBUTING), AuthorityState.ACTIVE)
        log.info("made the first root", skid=root.skid.hex, not_after=root.certificate.not_after.isoformat())
        return replace(root, state=AuthorityState.ACTIVE)

    async def _make_issuing(self, root: Authority, *, retire: Skid | None) -> None:
        now = self._clock.now()
        private = await keys_in_thread(self._policy.issuing_key)
        grant = await self._root.sign_issuing_ca(root, private.public_key())
        skid = keys.skid(private.public_key())
        issuing = Authority(
            skid=skid,
            kind=AuthorityKind.ISSUING,
            state=AuthorityState.ACTIVE,
            trust_domain=self._trust_domain,
            key_source=KeySource.SEALED,
            certificates=(grant.certificate,),
            root_skid=grant.root_skid,
            created_at=now,
            changed_at=now,
            chain=grant.chain,
        )
        event = AuditEvent(now, "system:ca", "ca.activate", skid.hex, {"root": grant.root_skid.hex})
        await self._store.add(issuing, await self._keyring.seal(skid, private), event, retire=retire)
        log.info("made an issuing CA", skid=skid.hex, not_after=grant.certificate.not_after.isoformat())

    async def _take_plugged(self, folder: Path) -> None:
        """Use the CA in `folder` if every client can already verify what it signs. Raises BadFile."""
        now = self._clock.now()
        plugged = await asyncio.to_thread(read_cacerts, folder, self._trust_domain, now)
        known = {a.skid: a for a in await self._store.authorities()}
        bundle = await self._store.bundle(self._trust_domain)
        distributed = bundle is None or plugged.root.der in bundle.roots
        await self._note_roots(plugged, known, now, first=bundle is None)
        if not distributed:
            self.plugged_fault = (
                f"the CA in {folder} chains to the root {plugged.root_skid}, which has not been distributed yet; "
                "the present one stays in force until it is"
            )
            return
        await self._publish(plugged.crls)
        await self._use_plugged(plugged, known, now)
        self.plugged_fault = ""

    async def _note_roots(self, plugged: Plugged, known: dict[Skid, Authority], now: datetime, *, first: bool) -> None:
        for skid, certificate in plugged.roots:
            if skid in known:
                continue
            signs = skid == plugged.root_skid
            state = AuthorityState.PREPARED
            if first:
                state = AuthorityState.ACTIVE if signs else AuthorityState.DISTRIBUTING
            root = Authority(
                skid=skid,
                kind=AuthorityKind.ROOT,
                state=state,
                trust_domain=self._trust_domain,
                key_source=KeySource.NONE,
                certificates=(certificate,),
                root_skid=skid,
                created_at=now,
                changed_at=now,
                note="" if first else "plugged in, not distributed yet",
            )
            await self._store.add(root, None, AuditEvent(now, "system:ca", "root.plug", skid.hex))

    async def _use_plugged(self, plugged: Plugged, known: dict[Skid, Authority], now: datetime) -> None:
        have = known.get(plugged.skid)
        event = AuditEvent(now, "system:ca", "ca.plug", plugged.skid.hex, {"root": plugged.root_skid.hex})
        if have is not None and have.kind is AuthorityKind.ISSUING:
            if plugged.certificate.fingerprint not in {c.fingerprint for c in have.certificates}:
                await self._store.add_certificate(have.skid, plugged.certificate, plugged.chain, event)
            return
        active = await self._active(AuthorityKind.ISSUING)
        issuing = Authority(
            skid=plugged.skid,
            kind=AuthorityKind.ISSUING,
            state=AuthorityState.ACTIVE,
            trust_domain=self._trust_domain,
            key_source=KeySource.FILES,
            certificates=(plugged.certificate,),
            root_skid=plugged.root_skid,
            created_at=now,
            changed_at=now,
            chain=plugged.chain,
        )
        sealed = await self._keyring.seal(plugged.skid, plugged.private_key)
        await self._store.add(issuing, sealed, event, retire=active.skid if active else None)

    async def _publish(self, crls: tuple[bytes, ...] | None = None) -> None:
        """Put the bundle that the roots' states call for, if it is not what is there. Never an empty one."""
        roots = [a for a in await self._store.authorities() if a.kind is AuthorityKind.ROOT and a.state in IN_BUNDLE]
        certificates = sorted((c for a in roots for c in a.certificates), key=lambda c: c.fingerprint)
        old = await self._store.bundle(self._trust_domain)
        bundle = TrustBundle(
            trust_domain=self._trust_domain,
            roots=tuple(c.der for c in certificates),
            sequence=old.sequence if old else 0,
            refresh_hint=self._policy.refresh_hint,
            crls=crls if crls is not None else old.crls if old else (),
            tainted=frozenset(
                c.fingerprint for a in roots if a.state is AuthorityState.TAINTED for c in a.certificates
            ),
        )
        if bundle == old or not bundle.roots:
            return
        bundle = replace(bundle, sequence=bundle.sequence + 1)
        detail = {"sequence": bundle.sequence, "roots": len(bundle.roots)}
        event = AuditEvent(self._clock.now(), "system:ca", "bundle.put", self._trust_domain.name, detail)
        await self._store.put_bundle(bundle, event)

    async def _move(self, authority: Authority, to: AuthorityState) -> None:
        event = AuditEvent(self._clock.now(), "system:ca", f"{authority.kind}.{to}", authority.skid.hex)
        await self._store.transition(authority.skid, authority.state, to, event)

    async def _remove_expired(self) -> None:
        now = self._clock.now()
        for authority in await self._store.authorities():
            ended = authority.certificate.not_after < now
            retiring = authority.state is AuthorityState.RETIRING
            if ended and retiring and authority.kind is AuthorityKind.ISSUING:
                await self._move(authority, AuthorityState.REMOVED)

    async def _active(self, kind: AuthorityKind) -> Authority | None:
        for authority in await self._store.authorities():
            if authority.kind is kind and authority.state is AuthorityState.ACTIVE:
                return authority
        return None

    def _due(self, issuing: Authority) -> bool:
        certificate = issuing.certificate
        life = certificate.not_after - certificate.not_before
        left = certificate.not_after - self._clock.now()
        return left < max(life / 2, min(2 * self._policy.longest_leaf, life * 0.9))

    async def _load(self) -> None:
        """Find the authority that signs, and open its key."""
        issuing = await self._active(AuthorityKind.ISSUING)
        if issuing is None:
            self._current, self._why_not = None, "there is no active issuing CA"
            return
        if self._current is not None and self._current.authority == issuing:
            return
        try:
            signer = SoftwareSigner(await self._keyring.open(issuing.skid))
        except CitadelError as error:
            self._current, self._why_not = None, error.message
            raise
        self._current = SigningAuthority(issuing, signer)
