"""RootMakers: what a rotation begins with, by the kind of root that it goes to. Contract: rotation.ports.RootMaker."""

from __future__ import annotations

from citadel.audit import AuditEvent
from citadel.ca.model import Authority, AuthorityKind, AuthorityState
from citadel.ca.ports import AuthorityStore, RemoteRoot
from citadel.ca.roots.disk import DiskRoot
from citadel.ca.roots.issuing import IssuingCas
from citadel.ca.rotation.policy import RootKind
from citadel.ca.rotation.step import NewAuthority
from citadel.clock import Clock
from citadel.errors import FailedPrecondition
from citadel.spiffe import TrustDomain

A = AuthorityState


class RootMakers:
    """`disk` makes a root; the one in Vault is made by nobody here: it is the one that the configuration pins, or that
    an operator names."""

    def __init__(
        self,
        disk: DiskRoot,
        issuing: IssuingCas,
        store: AuthorityStore,
        clock: Clock,
        trust_domain: TrustDomain,
        *,
        remote: RemoteRoot | None = None,
    ) -> None:
        self._disk = disk
        self._issuing = issuing
        self._store = store
        self._clock = clock
        self._trust_domain = trust_domain
        self._remote = remote

    async def make(self, kind: RootKind, issuer: str = "") -> Authority:
        match kind:
            case RootKind.DISK:
                return await self._disk.make()
            case RootKind.VAULT:
                return await self._in_vault(issuer)
            case RootKind.CACERTS:
                raise FailedPrecondition("a plugged-in root is not made here")

    async def make_issuing(self, root: Authority) -> NewAuthority:
        new = NewAuthority(*await self._issuing.make(root, A.PREPARED))
        if self._issuing.brings_under(root):
            await self._refuse_known(new.authority)
        return new

    async def _refuse_known(self, brought: Authority) -> None:
        """Another one can only come from whoever brings it."""
        for known in await self._store.authorities():
            if known.skid == brought.skid:
                raise FailedPrecondition(
                    f"the pinned issuing CA in Vault, {known.skid}, is known already, and is {known.state}",
                    mend="make another intermediate in Vault, pin it (signer.vault_issuer), and restart",
                )

    async def _in_vault(self, issuer: str) -> Authority:
        """The root of the issuer that was named, or pinned, written down as PREPARED. One that a rotation gave up
        before it signed anything is taken up again."""
        if self._remote is None:
            raise FailedPrecondition("no Vault is configured", mend="set [vault] and root.vault_mount (docs/vault.md)")
        state = await (self._remote.load_issuer(issuer) if issuer else self._remote.load())
        now = self._clock.now()
        detail = {"fingerprint": state.roots[0].fingerprint, "not_after": state.roots[0].not_after.isoformat()}
        event = AuditEvent(now, "system:ca", "root.prepare", state.skid.hex, detail)
        for known in await self._store.authorities():
            if known.skid != state.skid:
                continue
            if known.kind is not AuthorityKind.ROOT or known.state not in (A.PREPARED, A.ABANDONED):
                raise FailedPrecondition(
                    f"the root {state.skid} of {'this' if issuer else 'the pinned'} issuer is known already, and is "
                    f"{known.state}",
                    mend="make another issuer in Vault, and: citadel root rotate --to vault ISSUER",
                )
            if known.state is A.ABANDONED:
                await self._store.transition(known.skid, A.ABANDONED, A.PREPARED, event)
            return known
        root = Authority(
            skid=state.skid,
            kind=AuthorityKind.ROOT,
            state=A.PREPARED,
            trust_domain=self._trust_domain,
            key_source=state.key_source,
            certificates=state.roots,
            root_skid=state.skid,
            created_at=now,
            changed_at=now,
            key_ref=state.key_ref,
        )
        await self._store.add(root, None, event)
        return root
