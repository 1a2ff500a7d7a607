"""DiskRoot: a self-signed root that we make; its key is sealed in the store before it signs anything but itself."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import timedelta

from citadel.audit import AuditEvent
from citadel.ca import keys, profile
from citadel.ca.certificates import read_certificate
from citadel.ca.keyring import Keyring, new_key
from citadel.ca.model import MADE_FIRST, Authority, AuthorityKind, AuthorityState, KeySource
from citadel.ca.ports import AuthorityStore, IssuingGrant, RootState
from citadel.ca.profile import Parent, Validity
from citadel.ca.signers import SoftwareSigner
from citadel.ca.signing import sign_certificate
from citadel.clock import Clock
from citadel.errors import FailedPrecondition, InternalFault
from citadel.spiffe import TrustDomain

BACKDATE = timedelta(minutes=5)

_IN_LINE = (AuthorityState.ACTIVE, AuthorityState.DISTRIBUTING, AuthorityState.PREPARED)


class DiskRoot:
    """RootAuthority whose root we make, and whose key is sealed in the store."""

    def __init__(
        self,
        store: AuthorityStore,
        keyring: Keyring,
        clock: Clock,
        trust_domain: TrustDomain,
        *,
        ttl: timedelta,
        issuing_ttl: timedelta,
        key_type: keys.KeyType = keys.KeyType.EC_P256,
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._clock = clock
        self._trust_domain = trust_domain
        self._ttl = ttl
        self._issuing_ttl = issuing_ttl
        self._key_type = key_type

    async def load(self) -> RootState:
        """See ports.RootAuthority: the active root of ours; else the one that is nearest to it; else a new one."""
        root = _foremost(await self._store.authorities()) or await self.make(MADE_FIRST)
        return RootState(root.certificates, root.skid, key_source=root.key_source)

    async def sign_issuing_ca(self, root: Authority, key: keys.PrivateKey) -> IssuingGrant:
        """See ports.RootAuthority."""
        if root.key_source is not KeySource.SEALED or root.kind is not AuthorityKind.ROOT:
            raise FailedPrecondition(f"the root {root.skid} was not made by us: its key is not in the store")
        now = self._clock.now()
        parent = Parent.of(root.certificate.der)
        if parent.not_after - now < self._issuing_ttl / 10:
            raise FailedPrecondition(
                f"the root {root.skid} ends at {parent.not_after.isoformat()}, too soon for another issuing CA",
                mend="replace the root",
            )
        validity = Validity.starting(now, self._issuing_ttl, backdate=BACKDATE)
        spec = profile.issuing_ca(
            parent=parent,
            public_key=key.public_key(),
            trust_domain=self._trust_domain,
            validity=validity.within(parent, now, shortest=timedelta(0)),
            serial=profile.serial(secrets.token_bytes),
        )
        own = await self._keyring.open(root.skid)
        if own.public_key() != parent.public_key:
            raise InternalFault(f"the sealed key of the root {root.skid} is not the key of its certificate")
        certificate = read_certificate(await sign_certificate(spec, SoftwareSigner(own)))
        return IssuingGrant(certificate, (), root.skid)

    async def make(self, note: str = "") -> Authority:
        """A new root in state PREPARED, durable with its key. `note` says what it waits for. Raises Unavailable."""
        now = self._clock.now()
        private = await new_key(self._key_type)
        spec = profile.root(
            public_key=private.public_key(),
            trust_domain=self._trust_domain,
            validity=Validity.starting(now, self._ttl, backdate=BACKDATE),
            serial=profile.serial(secrets.token_bytes),
        )
        certificate = read_certificate(await sign_certificate(spec, SoftwareSigner(private)))
        skid = keys.skid(private.public_key())
        root = Authority(
            skid=skid,
            kind=AuthorityKind.ROOT,
            state=AuthorityState.PREPARED,
            trust_domain=self._trust_domain,
            key_source=KeySource.SEALED,
            certificates=(certificate,),
            root_skid=skid,
            created_at=now,
            changed_at=now,
            note=note,
        )
        detail = {"fingerprint": certificate.fingerprint, "not_after": certificate.not_after.isoformat()}
        event = AuditEvent(now, "system:ca", "root.prepare", skid.hex, detail)
        await self._store.add(root, await self._keyring.seal(skid, private), event)
        return root


def _foremost(authorities: Sequence[Authority]) -> Authority | None:
    """Of the roots that we made, the one furthest on its way to be active; of several, the oldest: so all servers that
    start at once on an empty store settle on the same one."""
    ours = [a for a in authorities if a.kind is AuthorityKind.ROOT and a.key_source is KeySource.SEALED]
    in_line = [a for a in ours if a.state in _IN_LINE]
    return min(in_line, key=lambda a: (_IN_LINE.index(a.state), a.created_at, a.skid), default=None)
