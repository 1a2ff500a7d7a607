"""Roots that are brought: one that is offline, whose holder signs our issuing CA; one that is handed in with its key.

The key of an issuing CA for an offline root is made first, and durable before its request leaves. It waits as a
PREPARED authority with a certificate that it signed itself, which is never served, until the holder's comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from citadel.audit import AuditEvent
from citadel.ca import keys, profile
from citadel.ca.certificates import describe, parse, parse_pem, read_certificate
from citadel.ca.keyring import Keyring, new_key
from citadel.ca.model import Authority, AuthorityKind, AuthorityState, KeySource, SealedKey, Skid
from citadel.ca.ports import AuthorityStore
from citadel.ca.profile import Purpose
from citadel.ca.roots.brought import Signed, handed_in, signed
from citadel.ca.roots.cacerts import private_key
from citadel.ca.rotation import commands
from citadel.ca.rotation.commands import Wish
from citadel.ca.rotation.cross_signing import CrossSigner
from citadel.ca.rotation.rotations import Rotations
from citadel.ca.rotation.step import Certified, NewAuthority
from citadel.clock import Clock
from citadel.errors import Aborted, AlreadyExists, FailedPrecondition, InvalidInput
from citadel.failpoints import passing
from citadel.spiffe import TrustDomain

A = AuthorityState
WAITS = "waits for its certificate from an offline root"
_HANDED_IN = "handed in, not distributed yet"
_BACKDATE = timedelta(minutes=5)
_MOST = 16  # certificates in one file
log = structlog.get_logger("citadel.rotation")


@dataclass(frozen=True, slots=True)
class Request:
    """What the holder of the offline root is to sign: PKCS #10 in PEM."""

    skid: Skid
    pem: bytes
    created_at: datetime
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class How:
    """`auto`: goes on by itself. `replace`: instead of what is on its way. `cross_sign`: the root that signs now
    certifies the new one too."""

    auto: bool = True
    replace: bool = False
    cross_sign: bool = False
    dry_run: bool = False


class BroughtRoots:
    """Use cases. They raise InvalidInput with all that is wrong with what was brought, FailedPrecondition, Unavailable;
    what was cut off is taken up when they are called again."""

    def __init__(
        self,
        rotations: Rotations,
        store: AuthorityStore,
        keyring: Keyring,
        clock: Clock,
        trust_domain: TrustDomain,
        issuing_key: keys.KeyType,
        cross: CrossSigner,
    ) -> None:
        self._rotations = rotations
        self._cross = cross
        self._store = store
        self._keyring = keyring
        self._clock = clock
        self._trust_domain = trust_domain
        self._issuing_key = issuing_key

    async def requests(self) -> list[Request]:
        """Those that wait for their certificate, without their PEM: nobody's key is opened for a look."""
        waiting = [one for one in await self._store.authorities() if _waits(one)]
        return [Request(one.skid, b"", one.created_at) for one in waiting]

    async def request(self, wish: Wish, *, replace_it: bool = False, dry_run: bool = False) -> Request:
        """The request that waits already, unless `replace_it`; else one for a new key."""
        waiting = [one for one in await self._store.authorities() if _waits(one)]
        if waiting and not replace_it:
            one = waiting[-1]
            return Request(one.skid, await self._pem(one.skid), one.created_at, f"the request of {one.skid} waits")
        if dry_run:
            return Request(Skid(""), b"", self._clock.now(), "a key for an issuing CA would be made, and its request")
        for old in waiting:
            await self._store.transition(old.skid, A.PREPARED, A.ABANDONED, self._event(wish, "ca.abandon", old.skid))
        private = await new_key(self._issuing_key)
        skid, now = keys.skid(private.public_key()), self._clock.now()
        issuing = Authority(
            skid=skid,
            kind=AuthorityKind.ISSUING,
            state=A.PREPARED,
            trust_domain=self._trust_domain,
            key_source=KeySource.SEALED,
            certificates=(read_certificate(self._placeholder(private, now)),),
            root_skid=skid,
            created_at=now,
            changed_at=now,
            note=WAITS,
        )
        event = self._event(wish, "ca.request", skid)
        await self._store.add(issuing, await self._keyring.seal(skid, private), event)
        passing("rotation.requested")
        log.info("rotation", step=f"issuing CA {skid} waits for its certificate", actor=wish.actor, reason=wish.reason)
        return Request(skid, self._csr(private), now, f"a key was made: {skid} waits for its certificate")

    async def plug_in(self, certificates: bytes, issuing_key: bytes, wish: Wish, how: How) -> str:
        """An issuing CA with its key, and the root above it, whose key is elsewhere. As `accept`."""
        known, private = await self._store.authorities(), private_key(issuing_key)
        now = self._clock.now()
        found = await asyncio.to_thread(signed, certificates, private.public_key(), known, self._trust_domain, now)
        issuing = Authority(
            skid=found.skid,
            kind=AuthorityKind.ISSUING,
            state=A.PREPARED,
            trust_domain=self._trust_domain,
            key_source=KeySource.SEALED,
            certificates=(found.certificate,),
            root_skid=found.root_skid,
            created_at=now,
            changed_at=now,
            chain=found.chain,
        )
        under = NewAuthority(issuing, await self._keyring.seal(found.skid, private))
        return await self._use(found, under, known, wish, how)

    async def accept(self, certificates: bytes, wish: Wish, how: How) -> str:
        """What the holder of the offline root signed. Under another root than the one that signs this begins a
        rotation; under that one its issuing CA is replaced."""
        known = await self._store.authorities()
        waiting = [one for one in known if _waits(one)]
        if not waiting:
            raise FailedPrecondition(
                "no issuing CA waits for its certificate",
                mend="make a request first: citadel root prepare --csr-out FILE",
            )
        found = await self._signed(certificates, waiting, known)
        certified = Certified(found.skid, found.certificate, found.chain, found.root_skid)
        return await self._use(found, certified, known, wish, how)

    async def _use(
        self, found: Signed, under: Certified | NewAuthority, known: Sequence[Authority], wish: Wish, how: How
    ) -> str:
        root = next((one for one in known if one.skid == found.root_skid), None)
        if root is not None and root.state is A.ACTIVE:
            self._check_life(found)
            if how.dry_run:
                return f"issuing CA {found.skid} would sign, under the root {root.skid}"
            return await self._rotations.take_issuing(under, wish)
        commands.may_prepare(await self._rotations.world(), replace=how.replace)
        self._check_life(found)
        if root is not None and root.state not in (A.PREPARED, A.ABANDONED):
            raise FailedPrecondition(
                f"the root {root.skid} is known, and is {root.state}: it cannot be rotated to",
                mend="use a root with another key",
            )
        if how.cross_sign:
            self._cross.check(known, found.root.der)
        if how.dry_run:
            return f"the offline root {found.root_skid} would go into the trust bundle"
        await self._rotations.let_prepare(wish)
        if root is None:
            await self._add(self._offline(found), wish)
        elif root.state is A.ABANDONED:
            await self._store.transition(
                root.skid, A.ABANDONED, A.PREPARED, self._event(wish, "root.prepare", root.skid)
            )
        passing("rotation.root_brought")
        if how.cross_sign:
            await self._cross.sign(found.root_skid, wish)
        return await self._rotations.begin(found.root_skid, wish, under, auto=how.auto, replace=how.replace)

    async def hand_in(self, certificates: bytes, key: bytes, wish: Wish, how: How) -> str:
        """A root with its key, which is sealed before anything else. From then on it is like one that we made."""
        commands.may_prepare(await self._rotations.world(), replace=how.replace)
        known = await self._store.authorities()
        brought = {describe(one).der for one in parse_pem(certificates, most=_MOST)}
        others = [one for one in known if not (_may_come_again(one) and one.certificate.der in brought)]
        now = self._clock.now()
        found = await asyncio.to_thread(handed_in, certificates, key, others, self._trust_domain, now)
        if how.cross_sign:
            self._cross.check(known, found.certificate.der)
        if how.dry_run:
            return f"the root {found.skid} would go into the trust bundle"
        await self._rotations.let_prepare(wish)
        again = next((one for one in known if one.skid == found.skid), None)
        if again is not None and again.state is A.ABANDONED:
            await self._store.transition(
                again.skid, A.ABANDONED, A.PREPARED, self._event(wish, "root.prepare", again.skid), note=_HANDED_IN
            )
        if again is None:
            root = Authority(
                skid=found.skid,
                kind=AuthorityKind.ROOT,
                state=A.PREPARED,
                trust_domain=self._trust_domain,
                key_source=KeySource.SEALED,
                certificates=(found.certificate,),
                root_skid=found.skid,
                created_at=now,
                changed_at=now,
                note=_HANDED_IN,
            )
            await self._add(root, wish, await self._keyring.seal(found.skid, found.key))
        passing("rotation.root_brought")
        if how.cross_sign:
            await self._cross.sign(found.skid, wish)
        return await self._rotations.begin(found.skid, wish, auto=how.auto, replace=how.replace)

    # --- steps

    async def _signed(self, certificates: bytes, waiting: Sequence[Authority], known: Sequence[Authority]) -> Signed:
        """Of several requests, the one that was signed. Raises InvalidInput on what is wrong with the newest."""
        now, faults = self._clock.now(), []
        others = [one for one in known if not _waits(one)]
        for one in reversed(waiting):
            wanted = parse(one.certificate.der).public_key()
            assert isinstance(wanted, keys.PublicKey)
            try:
                return await asyncio.to_thread(signed, certificates, wanted, others, self._trust_domain, now)
            except InvalidInput as error:
                faults.append(error)
        raise faults[0]

    def _check_life(self, found: Signed) -> None:
        left = found.certificate.not_after - self._clock.now()
        needed = 2 * self._rotations.longest_leaf
        if left < needed:
            raise InvalidInput(
                f"the issuing CA's certificate ends at {found.certificate.not_after.isoformat()}, too soon for leaves "
                f"of {self._rotations.longest_leaf}",
                mend="have it signed for longer",
            )

    def _offline(self, found: Signed) -> Authority:
        now = self._clock.now()
        return Authority(
            skid=found.root_skid,
            kind=AuthorityKind.ROOT,
            state=A.PREPARED,
            trust_domain=self._trust_domain,
            key_source=KeySource.NONE,
            certificates=(found.root,),
            root_skid=found.root_skid,
            created_at=now,
            changed_at=now,
        )

    async def _add(self, root: Authority, wish: Wish, key: SealedKey | None = None) -> None:
        event = self._event(wish, "root.prepare", root.skid, root.certificate.fingerprint)
        try:
            await self._store.add(root, key, event)
        except AlreadyExists as error:
            raise Aborted(
                f"root {root.skid} was brought by somebody else at this moment", mend="look at: citadel root status"
            ) from error

    async def _pem(self, skid: Skid) -> bytes:
        return self._csr(await self._keyring.open(skid))

    def _csr(self, private: keys.PrivateKey) -> bytes:
        """What we ask for; whoever signs decides."""
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(self._trust_domain.id.uri)])
        request = (
            x509.CertificateSigningRequestBuilder(self._name(private))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(names, critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
            .sign(private, hashes.SHA256())
        )
        return request.public_bytes(serialization.Encoding.PEM)

    def _placeholder(self, private: keys.PrivateKey, now: datetime) -> bytes:
        """Stands where the certificate will be; it is no CA's, and nobody gets it."""
        name = self._name(private)
        certificate = (
            x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
            .not_valid_before(now - _BACKDATE)
            .not_valid_after(now + timedelta(days=365))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(private, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.DER)

    def _name(self, private: keys.PrivateKey) -> x509.Name:
        subject = keys.SubjectKey.of(private.public_key())
        return profile.name_of_authority(Purpose.ISSUING_CA, self._trust_domain, subject)

    def _event(self, wish: Wish, action: str, skid: Skid, fingerprint: str = "") -> AuditEvent:
        detail: dict[str, str | int | bool | None] = {"fingerprint": fingerprint} if fingerprint else {}
        return AuditEvent(self._clock.now(), wish.actor, action, skid.hex, dict(detail), wish.reason)


def _may_come_again(one: Authority) -> bool:
    """A root that was handed in, and signed nothing: it was cut off before its rotation began, or abandoned."""
    if one.kind is not AuthorityKind.ROOT or one.key_source is not KeySource.SEALED:
        return False
    return one.state is A.ABANDONED or (one.state is A.PREPARED and one.note == _HANDED_IN)


def _waits(one: Authority) -> bool:
    return one.kind is AuthorityKind.ISSUING and one.state is A.PREPARED and one.note == WAITS
