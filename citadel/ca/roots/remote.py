"""RemoteRootMaker: a rotation to the root that is configured elsewhere (Vault). Contract: rotation.ports.RootMaker."""

from __future__ import annotations

from citadel.audit import AuditEvent
from citadel.ca.keyring import Keyring
from citadel.ca.keys import KeyType
from citadel.ca.model import Authority, AuthorityKind, AuthorityState
from citadel.ca.ports import AuthorityStore, RootAuthority
from citadel.ca.roots.issuing import new_issuing_ca
from citadel.ca.rotation.step import NewAuthority
from citadel.clock import Clock
from citadel.errors import FailedPrecondition
from citadel.spiffe import TrustDomain


class RemoteRootMaker:
    """The next root is made by nobody here: it is the one that the configuration pins."""

    def __init__(
        self,
        root: RootAuthority,
        store: AuthorityStore,
        keyring: Keyring,
        clock: Clock,
        trust_domain: TrustDomain,
        issuing_key: KeyType,
    ) -> None:
        self._root = root
        self._store = store
        self._keyring = keyring
        self._clock = clock
        self._trust_domain = trust_domain
        self._issuing_key = issuing_key

    async def make(self) -> Authority:
        """The configured root, written down as PREPARED. Raises FailedPrecondition if it is known already."""
        state = await self._root.load()
        for known in await self._store.authorities():
            if known.skid == state.skid:
                raise FailedPrecondition(
                    f"the configured root {state.skid} is known already, and is {known.state}",
                    mend="make another issuer in Vault, pin it (root.vault_issuer), restart, and rotate then",
                )
        now = self._clock.now()
        root = Authority(
            skid=state.skid,
            kind=AuthorityKind.ROOT,
            state=AuthorityState.PREPARED,
            trust_domain=self._trust_domain,
            key_source=state.key_source,
            certificates=state.roots,
            root_skid=state.skid,
            created_at=now,
            changed_at=now,
        )
        detail = {"fingerprint": root.certificate.fingerprint, "not_after": root.certificate.not_after.isoformat()}
        await self._store.add(root, None, AuditEvent(now, "system:ca", "root.prepare", root.skid.hex, detail))
        return root

    async def make_issuing(self, root: Authority) -> NewAuthority:
        now = self._clock.now()
        made = await new_issuing_ca(self._root, root, self._keyring, self._issuing_key, AuthorityState.PREPARED, now)
        return NewAuthority(*made)
