"""Adoption: takes what a root authority brought into use, as far as every client can verify it already.

At the first start nobody trusts anything yet: then its roots go into the bundle first, and into force second. Later
another root waits, since its change is a rotation: it is written down as PREPARED with its CA and key, so that a
rotation has only to move them, and what is in force stays so. Only a root that everybody has had from the first start
comes into force at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from cryptography import x509

from citadel.ca.certificates import parse, skid_of
from citadel.ca.chain import order_chain
from citadel.ca.crl import is_of, name_all, parse_crls, to_pem, uncovered
from citadel.ca.keyring import Keyring
from citadel.ca.model import (
    MADE_FIRST,
    Authority,
    AuthorityCertificate,
    AuthorityKind,
    AuthorityState,
    KeySource,
    Skid,
)
from citadel.ca.ports import PluggedCa, RootState
from citadel.ca.records import Book, Records
from citadel.clock import Clock
from citadel.errors import Aborted, FailedPrecondition

_WAITS = "plugged in, not distributed yet: nobody trusts it"
_TRUSTED = "plugged in and trusted; signs nothing"
_SIGNS_AGAIN = frozenset(
    {AuthorityState.PREPARED, AuthorityState.ABANDONED, AuthorityState.RETIRING, AuthorityState.REMOVED}
)
_ON_ITS_WAY = (AuthorityState.PREPARED, AuthorityState.DISTRIBUTING)

log = structlog.get_logger("citadel.ca")


@dataclass(frozen=True, slots=True)
class _Way:
    """How a plugged-in CA is verified by what clients trust now."""

    root: Authority
    chain: tuple[bytes, ...]


class Adoption:
    """What one process took into use. It acts when what is plugged in has changed, not because another server's files
    differ from its own: servers whose files disagree would otherwise undo each other's work for ever."""

    def __init__(self, records: Records, keyring: Keyring, clock: Clock) -> None:
        self._records = records
        self._keyring = keyring
        self._clock = clock
        self._seen = ""
        self._in_use = ""

    async def adopt(self, state: RootState) -> str:
        """Take `state` into use; what it waits for instead, as a sentence, or "".

        Raises FailedPrecondition if it contradicts what is known; Aborted, AlreadyExists (read again, try again).
        """
        if state.version and state.version == self._in_use == self._seen:
            return ""
        book = await self._records.read()
        if book.is_new:
            await self._first(state, book)
        elif state.issuing is None:
            self._settle_on_active(state, book)
        else:
            await self._note_roots(state, book)
        self._seen = state.version
        waits = await self._use(state, state.issuing) if state.issuing else ""
        if not waits:
            self._in_use = state.version
        return waits

    # --- the first start

    async def _first(self, state: RootState, book: Book) -> None:
        """Roots: known, in the bundle, in force; in this order, each step durable before the next."""
        wanted = _by_skid(state)
        for other in book.roots(AuthorityState.PREPARED, AuthorityState.DISTRIBUTING):
            if other.skid not in wanted:  # of another server that starts beside us, or of a start that was cut off
                await self._records.move(other, AuthorityState.ABANDONED, note="never in force: another root was")
        for skid, certificates in wanted.items():
            note = MADE_FIRST if skid == state.skid else _TRUSTED
            root = book.find(skid) or await self._add_root(skid, certificates, MADE_FIRST, state)
            if root.key_source is KeySource.SEALED:
                await self._keyring.open(skid)  # a root whose key does not open is not to be trusted by anybody
            if root.state is not AuthorityState.DISTRIBUTING:
                await self._records.move(root, AuthorityState.DISTRIBUTING, note=note)
        await self._records.publish(state.crls if state.issuing else None)
        root = _known(await self._records.read(), state.skid)
        await self._records.move(root, AuthorityState.ACTIVE)
        log.info("the first root is in force", skid=root.skid.hex, not_after=root.certificate.not_after.isoformat())

    def _settle_on_active(self, state: RootState, book: Book) -> None:
        active = book.active(AuthorityKind.ROOT)
        if active is not None and active.skid != state.skid:
            raise Aborted(f"the root {active.skid} came into force meanwhile")

    # --- later

    async def _note_roots(self, state: RootState, book: Book) -> None:
        """Write down roots and root certificates that are new, and forget those that are plugged in no more."""
        wanted = _by_skid(state)
        if state.version != self._seen:
            await self._forget(state, book)
        for skid, certificates in wanted.items():
            known = book.find(skid)
            if known is None:
                await self._add_root(skid, certificates, _WAITS)
                continue
            _check_same_key(known, certificates[0], AuthorityKind.ROOT)
            for certificate in reversed(certificates):
                if certificate.fingerprint not in {c.fingerprint for c in known.certificates}:
                    await self._records.renew(known, certificate, (), skid)
            if known.state is AuthorityState.ABANDONED:
                await self._records.move(known, AuthorityState.PREPARED, note=_WAITS)

    async def _forget(self, state: RootState, book: Book) -> None:
        """Roots and CAs that waited, and are plugged in no more; not those that a rotation has taken up."""
        kept = {*_by_skid(state), *([state.issuing.skid] if state.issuing else [])}
        for one in book.authorities:
            root = book.find(one.root_skid)
            waits = one.note == _WAITS and one.state is AuthorityState.PREPARED
            if waits and one.skid not in kept and root is not None and root.state is AuthorityState.PREPARED:
                await self._records.move(one, AuthorityState.ABANDONED, note="plugged in no more")

    async def _wait(self, state: RootState, issuing: PluggedCa, book: Book) -> str:
        """Have it ready for the rotation of its root; what it waits for."""
        root = _known(book, state.skid)
        if root.state in _ON_ITS_WAY:
            await self._prepare(issuing, root, book)
        about = f"the plugged-in CA {issuing.skid} chains to the root {root.skid}, which"
        if root.state is AuthorityState.PREPARED:
            held = "the present CA stays in force until it is"
            return f"{about} has not been distributed yet; {held}: citadel root rotate"
        if root.state is not AuthorityState.DISTRIBUTING:
            return f"{about} is {root.state}; the present CA stays in force"
        if book.bundle is not None and book.bundle.crls:  # else they come when the leaves of now are gone
            if not state.crls:
                return f"{about} is being distributed; add its ca-crl.pem: Envoys have CRLs, and want one of every CA"
            await self._records.publish(await self._crls(state, issuing, book))  # Envoys want them with its first leaf
        return f"{about} is being distributed; the present CA stays in force until everybody has it"

    async def _prepare(self, issuing: PluggedCa, root: Authority, book: Book) -> None:
        """The CA stands under its root with its key, PREPARED."""
        known = book.find(issuing.skid)
        if issuing.skid == root.skid:
            await self._give_key(issuing, root)
        elif known is None:
            await self._add_issuing(issuing, root, issuing.chain, AuthorityState.PREPARED, _WAITS)
        else:
            _check_same_key(known, issuing.certificate, AuthorityKind.ISSUING)
            if known.state is AuthorityState.ABANDONED:
                known = await self._records.move(known, AuthorityState.PREPARED, note=_WAITS)
            if known.state is AuthorityState.PREPARED:
                await self._note_certificate(known, issuing, issuing.chain, root)

    async def _use(self, state: RootState, issuing: PluggedCa) -> str:
        book = await self._records.read()
        way = self._way(issuing, book)
        if way is None:
            return await self._wait(state, issuing, book)
        known = book.find(issuing.skid)
        itself = issuing.skid == way.root.skid
        if known is not None and not itself:
            _check_same_key(known, issuing.certificate, AuthorityKind.ISSUING)
            if known.state is not AuthorityState.ACTIVE and known.state not in _SIGNS_AGAIN:
                return f"the plugged-in CA {issuing.skid} is {known.state} and signs no more; plug in another one"
        crls = await self._crls(state, issuing, book)
        if itself:
            await self._give_key(issuing, way.root)  # durable before the root signs with it
        active_root = book.active(AuthorityKind.ROOT)
        if way.root.state is not AuthorityState.ACTIVE:
            await self._records.move(way.root, AuthorityState.ACTIVE, retire=active_root.skid if active_root else None)
        await self._records.publish(crls)
        active = book.active(AuthorityKind.ISSUING)
        if not itself:
            await self._switch(issuing, way, known, active)
        elif active is not None:
            await self._records.move(active, AuthorityState.RETIRING)
            log.info("a plugged-in root signs leaves itself", skid=issuing.skid.hex)
        return ""

    async def _give_key(self, issuing: PluggedCa, root: Authority) -> None:
        """The root signs leaves itself, so its key is sealed like that of any CA."""
        if root.key_source is not KeySource.FILES or not await self._keyring.holds(root.skid):
            await self._records.give_key(await self._keyring.seal(root.skid, issuing.private_key), KeySource.FILES)

    def _way(self, issuing: PluggedCa, book: Book) -> _Way | None:
        """From the plugged-in CA to the root in force, or to one that everybody has had from the first start. What
        comes into the bundle later, a rotation brings into force."""
        if book.bundle is None:
            return None
        now = self._clock.now()
        trusted: dict[x509.Certificate, Authority] = {}
        for root in book.roots(AuthorityState.ACTIVE, AuthorityState.DISTRIBUTING):
            if root.state is not AuthorityState.ACTIVE and root.note != _TRUSTED:
                continue
            for one in root.certificates:
                if one.der in book.bundle.roots and one.not_after >= now:
                    trusted[parse(one.der)] = root
        found = order_chain(parse(issuing.certificate.der), [parse(der) for der in issuing.chain], list(trusted))
        if found is None:
            return None
        ders = {parse(der): der for der in issuing.chain}
        return _Way(trusted[found[1]], tuple(ders[one] for one in found[0]))

    async def _switch(self, issuing: PluggedCa, way: _Way, known: Authority | None, active: Authority | None) -> None:
        """The plugged-in CA signs, and the one before retires, in one transaction."""
        retire = active.skid if active else None
        if known is None:
            await self._add_issuing(issuing, way.root, way.chain, AuthorityState.ACTIVE, "", retire=retire)
            log.info("a plugged-in CA signs", skid=issuing.skid.hex, root=way.root.skid.hex)
            return
        await self._note_certificate(known, issuing, way.chain, way.root)
        if known.state is not AuthorityState.ACTIVE:
            await self._records.move(known, AuthorityState.ACTIVE, retire=retire)
            log.info("a plugged-in CA signs again", skid=issuing.skid.hex)

    async def _add_issuing(
        self,
        issuing: PluggedCa,
        root: Authority,
        chain: tuple[bytes, ...],
        state: AuthorityState,
        note: str,
        *,
        retire: Skid | None = None,
    ) -> None:
        now = self._clock.now()
        authority = Authority(
            skid=issuing.skid,
            kind=AuthorityKind.ISSUING,
            state=state,
            trust_domain=self._records.trust_domain,
            key_source=KeySource.FILES,
            certificates=(issuing.certificate,),
            root_skid=root.skid,
            created_at=now,
            changed_at=now,
            chain=chain,
            note=note,
        )
        sealed = await self._keyring.seal(issuing.skid, issuing.private_key)
        await self._records.add(authority, sealed, "ca.plug", retire=retire)

    async def _note_certificate(
        self, known: Authority, issuing: PluggedCa, chain: tuple[bytes, ...], root: Authority
    ) -> None:
        """A known CA was plugged in again, perhaps with another certificate."""
        if not await self._keyring.holds(known.skid):
            await self._records.reseal(await self._keyring.seal(issuing.skid, issuing.private_key))
        if issuing.certificate.fingerprint not in {c.fingerprint for c in known.certificates}:
            await self._records.renew(known, issuing.certificate, chain, root.skid)

    async def _crls(self, state: RootState, issuing: PluggedCa, book: Book) -> tuple[bytes, ...]:
        """The CRLs to serve: those plugged in, and of the present ones those that leaves in use need.

        Raises FailedPrecondition if one is missing: an Envoy that has any CRL refuses every chain for which it has not
        all, so serving these would cut off who still holds a leaf of that CA.
        """
        if not state.crls:
            return ()
        now = self._clock.now()
        crls = parse_crls(b"".join(state.crls))
        present = parse_crls(b"".join(book.bundle.crls)) if book.bundle and book.bundle.crls else []
        present = [crl for crl in present if crl.next_update_utc and crl.next_update_utc > now]
        live = await self._records.live_leaves(now)
        for authority in book.authorities:
            if authority.skid != issuing.skid and (live.get(authority.skid) or authority == book.signer):
                line = _line(authority, book)
                crls += [crl for crl in present if any(is_of(crl, one) for one in uncovered(crls, line))]
                if live.get(authority.skid) and (missing := uncovered(crls, line)):
                    raise FailedPrecondition(
                        f"ca-crl.pem has no CRL of {name_all(missing)}, of which {live[authority.skid]} leaves are in "
                        "use: Envoys would refuse them all",
                        mend="add that CRL, and its CA to cert-chain.pem, or wait until these leaves have expired",
                    )
        return tuple(map(to_pem, crls))

    async def _add_root(
        self,
        skid: Skid,
        certificates: tuple[AuthorityCertificate, ...],
        note: str,
        key: RootState | None = None,
    ) -> Authority:
        """`key` says where the key of its root is."""
        now, ours = self._clock.now(), key if key is not None and key.skid == skid else None
        root = Authority(
            skid=skid,
            kind=AuthorityKind.ROOT,
            state=AuthorityState.PREPARED,
            trust_domain=self._records.trust_domain,
            key_source=ours.key_source if ours else KeySource.NONE,
            certificates=certificates,
            root_skid=skid,
            created_at=now,
            changed_at=now,
            note=note,
            key_ref=ours.key_ref if ours else "",
        )
        await self._records.add(root, None, "root.plug")
        return root


def _by_skid(state: RootState) -> dict[Skid, tuple[AuthorityCertificate, ...]]:
    """The roots, one key each, its certificates newest first."""
    found: dict[Skid, tuple[AuthorityCertificate, ...]] = {}
    for certificate in sorted(state.roots, key=lambda c: c.not_before, reverse=True):
        skid = skid_of(parse(certificate.der))
        found[skid] = (*found.get(skid, ()), certificate)
    return found


def _known(book: Book, skid: Skid) -> Authority:
    found = book.find(skid)
    if found is None:
        raise Aborted(f"the root {skid} is not known any more")
    return found


def _line(authority: Authority, book: Book) -> list[x509.Certificate]:
    """All CAs that a leaf of this one is verified through."""
    root = book.find(authority.root_skid)
    ders = [authority.certificate.der, *authority.chain, *([root.certificate.der] if root else [])]
    return [parse(der) for der in ders]


def _check_same_key(known: Authority, certificate: AuthorityCertificate, kind: AuthorityKind) -> None:
    """Two keys with one subject key identifier, or one key in two places, are told apart by nobody."""
    if known.kind is not kind:
        raise FailedPrecondition(
            f"the key {known.skid} of {certificate.subject} is that of a known {known.kind} authority, not of a {kind}",
            mend="plug in a CA with a key of its own",
        )
    if parse(known.certificate.der).public_key() != parse(certificate.der).public_key():
        raise FailedPrecondition(
            f"{certificate.subject} has the subject key identifier of {known.certificate.subject}, but another key",
            mend="make the certificate anew, with the identifier of its own key (RFC 5280, 4.2.1.2)",
        )
