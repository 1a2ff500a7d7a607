"""IssuingCas: issuing CAs under whatever root is in force, made here or brought, and what signs with their keys."""

from __future__ import annotations

from citadel.ca import keys
from citadel.ca.model import Authority, AuthorityKind, AuthorityState, KeySource, SealedKey
from citadel.ca.ports import BroughtIssuingCa, IssuingKeys, LeafSigner, RootAuthority
from citadel.clock import Clock
from citadel.errors import FailedPrecondition


class IssuingCas:
    """`disk` signs under roots that we made, `remote` under those whose key is in Vault; `brought`, if there is one, is
    used under the latter in the place of any that we could make."""

    def __init__(
        self,
        disk: RootAuthority,
        issuing_keys: IssuingKeys,
        kind: keys.KeyType,
        clock: Clock,
        *,
        remote: RootAuthority | None = None,
        brought: BroughtIssuingCa | None = None,
    ) -> None:
        self._disk = disk
        self._remote = remote
        self._brought = brought
        self._keys = issuing_keys
        self._kind = kind
        self._clock = clock

    def makes_under(self, root: Authority) -> bool:
        """Whether an issuing CA under `root` is ours to make."""
        return self._source(root) is not None and not self.brings_under(root)

    def brings_under(self, root: Authority) -> bool:
        """Whether that under `root` is brought."""
        return self._brought is not None and root.key_source is KeySource.VAULT

    def is_where_it_belongs(self, issuing: Authority) -> bool:
        """Whether its key is where new ones are."""
        return self._keys.makes_such(issuing)

    async def make(self, root: Authority, state: AuthorityState) -> tuple[Authority, SealedKey | None]:
        """An issuing CA under `root`, not written down yet, with its key, if that is to be stored.

        Raises what RootAuthority.sign_issuing_ca, IssuingKeys.make and BroughtIssuingCa.load do.
        """
        if self._brought is not None and self.brings_under(root):
            return await self._brought.load(root, state), None
        source = self._source(root)
        if source is None:
            raise FailedPrecondition(f"the issuing CA under the root {root.skid} is not ours to make")
        key = await self._keys.make(self._kind)
        grant = await source.sign_issuing_ca(root, key.private)
        now = self._clock.now()
        authority = Authority(
            skid=keys.skid(key.private.public_key()),
            kind=AuthorityKind.ISSUING,
            state=state,
            trust_domain=root.trust_domain,
            key_source=key.source,
            certificates=(grant.certificate,),
            root_skid=grant.root_skid,
            created_at=now,
            changed_at=now,
            chain=grant.chain,
            key_ref=key.reference,
        )
        return authority, key.sealed

    async def signer(self, authority: Authority) -> LeafSigner:
        """What signs leaves for `authority`. Raises as IssuingKeys.signer."""
        return await self._keys.signer(authority)

    def _source(self, root: Authority) -> RootAuthority | None:
        """Who signs issuing CAs with the key of `root`."""
        if root.key_source is KeySource.SEALED:
            return self._disk
        return self._remote if root.key_source is KeySource.VAULT else None
