"""Cross-signing: the root that signs now certifies the next one, for those who will not know that one yet."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import timedelta

from citadel.audit import AuditEvent
from citadel.ca import profile
from citadel.ca.certificates import read_certificate
from citadel.ca.keyring import Keyring
from citadel.ca.model import Authority, AuthorityKind, AuthorityState, KeySource, Skid
from citadel.ca.ports import AuthorityStore
from citadel.ca.profile import Parent, Validity
from citadel.ca.rotation.commands import Wish
from citadel.ca.signers import SoftwareSigner
from citadel.ca.signing import sign_certificate
from citadel.clock import Clock
from citadel.errors import FailedPrecondition, InvalidInput
from citadel.failpoints import passing
from citadel.spiffe import TrustDomain

_BACKDATE = timedelta(minutes=5)
_MEND = "leave --cross-sign out"


class CrossSigner:
    """Certifies roots that are prepared. Who serves such a certificate, and for how long: ca.in_force."""

    def __init__(self, store: AuthorityStore, keyring: Keyring, clock: Clock, trust_domain: TrustDomain) -> None:
        self._store = store
        self._keyring = keyring
        self._clock = clock
        self._trust_domain = trust_domain

    def check(self, known: Sequence[Authority], root: bytes | None = None) -> None:
        """Raises FailedPrecondition if the root that signs cannot certify `root` (DER; None: one that we make)."""
        old, parent = self._signing(known)
        try:
            if root is not None:
                self._spec(parent, root)
            elif parent.path_length is not None and parent.path_length < 2:
                raise InvalidInput(f"it has path length {parent.path_length}, and for that it needs 2 or none")
        except InvalidInput as error:
            raise FailedPrecondition(
                f"root {old.skid} cannot certify another root: {error.message}", mend=_MEND
            ) from error

    async def sign(self, root: Skid, wish: Wish) -> None:
        """Certify that root, unless it is done already. Raises as `check`."""
        known = await self._store.authorities()
        new = next(one for one in known if one.skid == root)
        self.check(known, new.certificate.der)
        old, parent = self._signing(known)
        if any(c.issuer_skid == old.skid for c in new.certificates):
            return  # done before it was cut off
        signer = SoftwareSigner(await self._keyring.open(old.skid))
        certificate = read_certificate(await sign_certificate(self._spec(parent, new.certificate.der), signer))
        detail = {"fingerprint": certificate.fingerprint, "by": old.skid.hex}
        event = AuditEvent(self._clock.now(), wish.actor, "root.cross-sign", root.hex, dict(detail), wish.reason)
        await self._store.add_certificate(root, certificate, (), event)
        passing("rotation.cross_signed")

    def _signing(self, known: Sequence[Authority]) -> tuple[Authority, Parent]:
        active = (a for a in known if a.kind is AuthorityKind.ROOT and a.state is AuthorityState.ACTIVE)
        old = next(active, None)
        if old is None or old.key_source is not KeySource.SEALED:
            raise FailedPrecondition(
                "the root that signs now cannot certify another one: its key is not here", mend=_MEND
            )
        return old, Parent.of(old.certificate.der)

    def _spec(self, parent: Parent, root: bytes) -> profile.CertificateSpec:
        now, own = self._clock.now(), Parent.of(root)
        validity = Validity(max((now - _BACKDATE).replace(microsecond=0), own.not_before), own.not_after)
        return profile.cross_signed(
            parent=parent,
            certificate=root,
            trust_domain=self._trust_domain,
            validity=validity.within(parent, now, shortest=timedelta(0)),
            serial=profile.serial(secrets.token_bytes),
        )
