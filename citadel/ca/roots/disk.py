"""DiskRoot: a self-signed root that we make; its key is sealed in the store before it signs anything."""

from __future__ import annotations

import asyncio
import secrets
from datetime import timedelta

from citadel.audit import AuditEvent
from citadel.ca import keys, profile
from citadel.ca.certificates import read_certificate
from citadel.ca.keyring import Keyring
from citadel.ca.model import Authority, AuthorityKind, AuthorityState, KeySource
from citadel.ca.ports import AuthorityStore, IssuingGrant
from citadel.ca.profile import Parent, Validity
from citadel.ca.signers import SoftwareSigner
from citadel.ca.signing import sign_certificate
from citadel.clock import Clock
from citadel.spiffe import TrustDomain

_BACKDATE = timedelta(minutes=5)


class DiskRoot:
    """Makes roots, and signs issuing CAs with the active one."""

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

    async def prepare(self) -> Authority:
        """A new root in state PREPARED, durable with its key."""
        now = self._clock.now()
        private = await keys_in_thread(self._key_type)
        spec = profile.root(
            public_key=private.public_key(),
            trust_domain=self._trust_domain,
            validity=Validity.starting(now, self._ttl, backdate=_BACKDATE),
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
        )
        event = AuditEvent(now, "system:ca", "root.prepare", skid.hex, {"fingerprint": certificate.fingerprint})
        await self._store.add(root, await self._keyring.seal(skid, private), event)
        return root

    async def sign_issuing_ca(self, root: Authority, public_key: keys.PublicKey) -> IssuingGrant:
        """A certificate for an issuing CA's key, path length 0, never outliving `root`.

        Raises Unavailable if the root ends too soon, FailedPrecondition if its key cannot be opened.
        """
        now = self._clock.now()
        parent = Parent.of(root.certificate.der)
        validity = Validity.starting(now, self._issuing_ttl, backdate=_BACKDATE)
        spec = profile.issuing_ca(
            parent=parent,
            public_key=public_key,
            trust_domain=self._trust_domain,
            validity=validity.within(parent, now, shortest=self._issuing_ttl / 10),
            serial=profile.serial(secrets.token_bytes),
        )
        signer = SoftwareSigner(await self._keyring.open(root.skid))
        return IssuingGrant(read_certificate(await sign_certificate(spec, signer)), (), root.skid)


async def keys_in_thread(kind: keys.KeyType) -> keys.PrivateKey:
    """A new key. RSA takes seconds, so not on the event loop."""
    return await asyncio.to_thread(keys.generate, kind)
