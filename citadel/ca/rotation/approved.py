"""Issuers in Vault that an operator approves: another root begins a rotation; another certificate of a known one does
not, since its key is trusted already: it goes into the trust bundle beside the one before."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from citadel.ca.model import Authority, AuthorityKind, AuthorityState, KeySource
from citadel.ca.ports import AuthorityStore, RemoteRoot, RootState
from citadel.ca.rotation.brought import How
from citadel.ca.rotation.commands import Wish
from citadel.ca.rotation.policy import RootKind
from citadel.ca.rotation.rotations import Rotations
from citadel.errors import FailedPrecondition, PermissionDenied

_TRUSTED = (AuthorityState.ACTIVE, AuthorityState.DISTRIBUTING, AuthorityState.RETIRING)


class ApprovedIssuers:
    """Use case. `note` writes another certificate down, and has it distributed."""

    def __init__(
        self,
        rotations: Rotations,
        store: AuthorityStore,
        remote: RemoteRoot | None,
        note: Callable[[RootState], Awaitable[None]],
    ) -> None:
        self._rotations = rotations
        self._store = store
        self._remote = remote
        self._note = note

    async def approve(self, issuer: str, wish: Wish, how: How) -> str:
        """Rotate to the root of this issuer; what was done, as a sentence. Raises as Rotations.prepare,
        RemoteRoot.load_issuer."""
        if self._remote is None:
            raise FailedPrecondition("no Vault is configured", mend="set [vault] and root.vault_mount (docs/vault.md)")
        state = await self._remote.load_issuer(issuer)
        known = next((one for one in await self._store.authorities() if one.skid == state.skid), None)
        if known is not None and known.kind is AuthorityKind.ROOT and known.state in _TRUSTED:
            return await self._another_certificate(known, state, issuer, how)
        try:
            return await self._rotations.prepare(
                wish,
                auto=how.auto,
                replace=how.replace,
                dry_run=how.dry_run,
                to=RootKind.VAULT,
                issuer=issuer,
                cross_sign=how.cross_sign,
            )
        except PermissionDenied as error:
            mend = f"have the policy permit this issuer too: citadel vault setup --apply --issuer {issuer}"
            raise PermissionDenied(error.message, mend=mend) from error

    async def _another_certificate(self, known: Authority, state: RootState, issuer: str, how: How) -> str:
        new = state.roots[0]
        if known.key_source is not KeySource.VAULT:
            raise FailedPrecondition(
                f"the root {known.skid} of the issuer {issuer} is known, and its key is kept elsewhere",
                mend="give the issuer in Vault a key of its own",
            )
        if new.fingerprint in {one.fingerprint for one in known.certificates}:
            raise FailedPrecondition(
                f"the root {known.skid} of the issuer {issuer} is {known.state} already, with this certificate",
                mend="see: citadel root status, citadel vault status",
            )
        until = f"valid until {new.not_after:%Y-%m-%d}"
        if how.dry_run:
            return f"another certificate of the root {known.skid}, {until}, would go into the trust bundle"
        await self._note(state)
        return f"another certificate of the root {known.skid}, {until}, is in the trust bundle: its key is the same"
