"""The authorities' life: makes the first root and issuing CA, renews the latter, takes plugged-in files into use."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from citadel.ca import keys
from citadel.ca.adoption import Adoption
from citadel.ca.crl import crl_warnings, parse_crls
from citadel.ca.in_force import InForce
from citadel.ca.keyring import Keyring
from citadel.ca.lifetimes import Renewal, check_lifetimes, endings
from citadel.ca.model import MADE_FIRST, Authority, AuthorityKind, AuthorityState, KeySource, TrustBundle
from citadel.ca.ports import AuthorityMeter, AuthorityStore, RemoteRoot, RootAuthority, RootState, SigningAuthority
from citadel.ca.records import Book, Records
from citadel.ca.roots.issuing import IssuingCas
from citadel.ca.signers import SealedKeys
from citadel.clock import Clock
from citadel.errors import Aborted, AlreadyExists, CitadelError, FailedPrecondition, InvalidInput, NotFound, Unavailable
from citadel.quiet_hours import QuietHours
from citadel.spiffe import TrustDomain

_ATTEMPTS = 8
log = structlog.get_logger("citadel.ca")


@dataclass(frozen=True, slots=True)
class AuthorityPolicy:
    """`issuing_ttl` is what an issuing CA is made for; it is renewed at the part `renew_at` of its life, or when less
    than twice the longest leaf's life is left, whichever comes first. In `quiet` hours only the latter. `refresh_hint`
    is in seconds. Raises InvalidInput if the issuing CA could not outlive its leaves."""

    issuing_ttl: timedelta
    longest_leaf: timedelta
    issuing_key: keys.KeyType = keys.KeyType.EC_P256
    refresh_hint: int = 300
    renew_at: float = 0.5
    quiet: QuietHours = field(default_factory=QuietHours)

    def __post_init__(self) -> None:
        if faults := check_lifetimes(leaf=self.longest_leaf, issuing=self.issuing_ttl):
            raise InvalidInput("; ".join(faults))


class _NoMeter:
    def expires(self, what: str, at: datetime | None) -> None: ...

    def authorities(self, counts: dict[tuple[str, str], int]) -> None: ...


class Authorities:
    """Use cases over all authorities of one trust domain. Several servers may do this on one store: whoever comes
    second finds the state changed (Aborted, AlreadyExists), and reads it again.

    With `plugged`, its CA signs the leaves as far as clients can verify it; without, an issuing CA under a root of
    ours. `disk` is needed with it too: a root of ours that is in force when `plugged` is configured stays so until a
    rotation, and its issuing CAs are renewed as ever. `remote` signs issuing CAs with a root whose key is elsewhere
    (Vault); `wants_remote` says that the first root is to be that one. `issuing`: where issuing CAs come from, if not
    from `disk` and `remote` with keys in the store.
    """

    def __init__(
        self,
        store: AuthorityStore,
        keyring: Keyring,
        disk: RootAuthority,
        clock: Clock,
        trust_domain: TrustDomain,
        policy: AuthorityPolicy,
        *,
        plugged: RootAuthority | None = None,
        remote: RemoteRoot | None = None,
        wants_remote: bool = False,
        issuing: IssuingCas | None = None,
        meter: AuthorityMeter | None = None,
    ) -> None:
        self._store = store
        self._disk = disk
        self._plugged = plugged
        self._remote = remote
        self._wants_remote = wants_remote and remote is not None
        self._clock = clock
        self._policy = policy
        self._records = Records(store, clock, trust_domain, refresh_hint=policy.refresh_hint)
        self._adoption = Adoption(self._records, keyring, clock)
        self._issuing = issuing or IssuingCas(disk, SealedKeys(keyring), policy.issuing_key, clock, remote=remote)
        self._in_force = InForce(self._issuing, clock)
        self._renewal = Renewal(policy.issuing_ttl, policy.longest_leaf, policy.renew_at, policy.quiet)
        self._meter = meter or _NoMeter()
        self._turn = asyncio.Lock()
        self._warnings: tuple[str, ...] = ()  # of the plugged-in files
        self._book: Book | None = None  # as it was loaded last
        self.plugged_fault: str = ""  # what is wrong with the plugged-in files, or what they wait for

    def current(self) -> SigningAuthority:
        """Contract: ports.SigningAuthorities."""
        return self._in_force.current()

    async def ensure(self) -> None:
        """Bring everything into the state in which leaves can be signed. Idempotent; call it at start.

        What an earlier run left half-done is taken up. Raises Unavailable, FailedPrecondition, BadFile.
        """
        for _ in range(_ATTEMPTS):
            try:
                async with self._turn:
                    await self._ensure()
                return
            except (Aborted, AlreadyExists) as error:  # another server was faster: what it made is there now
                log.info("the authorities changed meanwhile, reading them again", reason=error.message)
        raise Unavailable("the authorities keep being changed by another server", mend="try again in a minute")

    async def renew_if_due(self) -> bool:
        """Renew the issuing CA if it is time; whether it was. Retires what has expired.

        Raises Unavailable, FailedPrecondition if it is time and cannot be done; what is in force stays so.
        """
        async with self._turn:
            try:
                await self._clear_away()
                renewed = await self._renew(await self._records.read())
                await self._records.publish()
            except (Aborted, AlreadyExists):
                renewed = False  # another server did it
            await self._load()
            return renewed

    async def reload_plugged(self) -> None:
        """Look at the plugged-in files again, or at the root in Vault; what is wrong with them leaves everything as it
        was, and is remembered. Raises Unavailable (look again soon).
        """
        if self._plugged is None and not self._wants_remote:
            return
        async with self._turn:
            try:
                await (self._adopt(self._plugged) if self._plugged is not None else self._bring_in_root())
                await self._load()
            except (Aborted, AlreadyExists):
                pass  # another server is at it; the next look sees what came of it
            except Unavailable:
                raise  # the store, or files that are being changed: nothing is wrong with them
            except CitadelError as error:
                self._remember(error.sentence())

    async def note_certificate(self, state: RootState) -> None:
        """Trust another certificate of a known root's key, too, as an operator said. Raises NotFound, AlreadyExists."""
        async with self._turn:
            book = await self._records.read()
            root = book.find(state.skid)
            if root is None:
                raise NotFound(f"there is no root {state.skid}", mend="see: citadel ca list")
            await self._records.renew(root, state.roots[0], (), root.skid, state.key_ref)
            await self._records.publish()
            await self._load()

    async def refresh(self) -> None:
        """Read again which authority signs, after another server changed it."""
        async with self._turn:
            await self._load()

    async def forget_removed(self, before: datetime) -> int:
        """Forget issuing CAs that were removed before then, and of which no issuance is on record; how many."""
        return await self._records.forget(before)

    async def bundle(self) -> TrustBundle:
        """Our own trust bundle. Raises Unavailable if there is none yet."""
        bundle = await self._store.bundle(self._records.trust_domain)
        if bundle is None:
            raise Unavailable("there is no trust bundle yet")
        return bundle

    async def all(self) -> list[Authority]:
        return await self._store.authorities()

    def waiting(self) -> list[str]:
        """What the operator should know: what waits, what is wrong with the plugged-in files, what ends soon."""
        faults = [self.plugged_fault] if self.plugged_fault else []
        faults += [one for one in self._served_crls() if one not in self._warnings]
        if self._book is None or (self._plugged is not None and not self.plugged_fault):
            # then the files' warnings say it
            return [*faults, *self._warnings]
        root, signer = self._book.active(AuthorityKind.ROOT), self._book.signer
        ends = endings(root, signer, issuing_ttl=self._policy.issuing_ttl, now=self._clock.now())
        return [*faults, *self._warnings, *ends]

    def _served_crls(self) -> list[str]:
        """Warnings about the CRLs that clients have, whatever became of the files that they came in."""
        bundle = self._book.bundle if self._book else None
        if bundle is None or not bundle.crls:
            return []
        return list(crl_warnings(parse_crls(b"".join(bundle.crls)), self._clock.now()))

    # --- steps; each is called with the turn

    async def _ensure(self) -> None:
        await self._bring_in_root()
        await self._clear_away()
        book = await self._records.read()
        try:
            await self._renew(book)
        except (Aborted, AlreadyExists):
            raise
        except CitadelError as error:
            if book.signer is None:
                raise
            log.error("the issuing CA was not renewed, the old one stays", error=error.sentence())
        await self._records.publish()
        await self._load()

    async def _bring_in_root(self) -> None:
        book = await self._records.read()
        in_force = book.active(AuthorityKind.ROOT)
        if self._plugged is not None:
            try:
                await self._adopt(self._plugged)
            except (Aborted, AlreadyExists):
                raise
            except CitadelError as error:
                if book.signer is None:
                    raise  # nothing to go on with
                self._remember(error.sentence())
        elif self._wants_remote:
            await self._bring_in_remote(book, in_force)
        elif in_force is not None and in_force.key_source is KeySource.VAULT and self._remote is not None:
            self._remember("")  # it stays until a rotation
        elif in_force is None or in_force.key_source is KeySource.SEALED:
            await self._adoption.adopt(await self._disk.load())
        elif in_force.key_source is KeySource.NONE and _is_ours(book.signer):
            self._remember("")  # an offline root, under which a CA of ours signs
        else:
            self._remember(
                f"the root in force is {in_force.skid}, plugged in earlier; "
                "one that Citadel makes takes its place only by a rotation"
            )

    async def _bring_in_remote(self, book: Book, in_force: Authority | None) -> None:
        """The root whose key is elsewhere. While it cannot be asked, what is in force goes on."""
        try:
            state = await self._remote_state(in_force)
            self._warnings = state.warnings
            if in_force is None or (in_force.skid, in_force.key_source) == (state.skid, state.key_source):
                await self._adoption.adopt(state)
                self._remember("")
            else:
                where = f" of {in_force.key_ref.removeprefix('pki:')}" if in_force.key_ref else ""
                follow = "; or pin the issuer in force (root.vault_issuer)" if where else ""
                self._remember(
                    f"the root in force is {in_force.skid}{where}, and the configured one is {state.skid} in Vault; "
                    f"it takes its place only by a rotation: citadel root rotate{follow}"
                )
        except (Aborted, AlreadyExists):
            raise
        except CitadelError as error:
            if book.signer is None:
                raise  # nothing to go on with
            self._remember(error.sentence())

    async def _remote_state(self, in_force: Authority | None) -> RootState:
        """Of the pinned issuer; without one, of that in force, and at the first start of the only one there is."""
        assert self._remote is not None
        known = in_force is not None and in_force.key_source is KeySource.VAULT
        if in_force is not None and known and in_force.key_ref and not self._remote.pinned:
            return await self._remote.load_issuer(in_force.key_ref)
        return await self._remote.load()

    async def _adopt(self, root: RootAuthority) -> None:
        state = await root.load()
        self._remember(await self._adoption.adopt(state))
        self._warnings = state.warnings

    def _remember(self, fault: str) -> None:
        """Log what is wrong when it becomes so, not at each look."""
        if fault and fault != self.plugged_fault:
            log.error("what is configured as root is not in use", reason=fault)
        self.plugged_fault = fault

    async def _renew(self, book: Book) -> bool:
        """Make an issuing CA under the active root if there is none, or if it is time."""
        root, issuing = book.active(AuthorityKind.ROOT), book.active(AuthorityKind.ISSUING)
        if root is None or not (self._issuing.makes_under(root) or self._issuing.brings_under(root)):
            return False  # a plugged-in CA is renewed by whoever made it
        if self._issuing.brings_under(root):
            return await self._bring_issuing(root, issuing)
        now, ticks = self._clock.now(), self._clock.monotonic()
        in_place = issuing is not None and self._issuing.is_where_it_belongs(issuing)
        if issuing is not None and in_place and not self._renewal.is_due(issuing, root, now, ticks):
            return False
        await self._make_issuing(root, issuing)
        self._renewal.made(issuing, now, ticks)
        return True

    async def _make_issuing(self, root: Authority, old: Authority | None) -> None:
        issuing, sealed = await self._issuing.make(root, AuthorityState.ACTIVE)
        await self._records.add(issuing, sealed, "ca.activate", retire=old.skid if old else None)
        log.info("made an issuing CA", skid=issuing.skid.hex, not_after=issuing.certificate.not_after.isoformat())

    async def _bring_issuing(self, root: Authority, old: Authority | None) -> bool:
        """The issuing CA that is brought signs: another one than before, or with another certificate; whether it is."""
        brought, _ = await self._issuing.make(root, AuthorityState.ACTIVE)
        known = self._find(await self._records.read(), brought)
        if known is None:
            await self._records.add(brought, None, "ca.activate", retire=old.skid if old else None)
        elif known.state is not AuthorityState.ACTIVE:
            if known.state not in (AuthorityState.PREPARED, AuthorityState.RETIRING, AuthorityState.REMOVED):
                raise FailedPrecondition(f"the issuing CA {known.skid} in Vault is {known.state}", mend="pin another")
            await self._records.move(known, AuthorityState.ACTIVE, retire=old.skid if old else None)
        elif brought.certificate.fingerprint not in {one.fingerprint for one in known.certificates}:
            await self._records.renew(known, brought.certificate, brought.chain, root.skid, brought.key_ref)
        else:
            return False
        log.info("an issuing CA in Vault signs", skid=brought.skid.hex, not_after=brought.certificate.not_after)
        return True

    @staticmethod
    def _find(book: Book, brought: Authority) -> Authority | None:
        known = book.find(brought.skid)
        if known is not None and known.key_source is not brought.key_source:
            raise FailedPrecondition(
                f"the key {brought.skid} is that of a known authority, kept elsewhere",
                mend="give the issuing CA in Vault a key of its own",
            )
        return known

    async def _clear_away(self) -> None:
        """What has nothing left to do: issuing CAs that retired and expired, first roots that another one outran."""
        now = self._clock.now()
        book = await self._records.read()
        for authority in book.authorities:
            retired = authority.kind is AuthorityKind.ISSUING and authority.state is AuthorityState.RETIRING
            if retired and authority.certificate.not_after < now:
                await self._records.move(authority, AuthorityState.REMOVED)
        if book.active(AuthorityKind.ROOT) is None:
            return
        for root in book.roots(AuthorityState.PREPARED, AuthorityState.DISTRIBUTING):
            if root.note == MADE_FIRST:
                await self._records.move(root, AuthorityState.ABANDONED, note="never in force: another root was")

    async def _load(self) -> None:
        book = await self._records.read()
        self._book = book
        self._show(book)
        await self._in_force.load(book)

    def _show(self, book: Book) -> None:
        self._meter.authorities(dict(Counter((str(a.kind), str(a.state)) for a in book.authorities)))
        root, issuing = book.active(AuthorityKind.ROOT), book.active(AuthorityKind.ISSUING)
        self._meter.expires("root", root.certificate.not_after if root else None)
        self._meter.expires("issuing_ca", issuing.certificate.not_after if issuing else None)


def _is_ours(signer: Authority | None) -> bool:
    return signer is not None and signer.key_source is KeySource.SEALED
