"""The trust bundle that the states of the roots call for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from citadel.ca.model import IN_BUNDLE, Authority, AuthorityKind, AuthorityState, TrustBundle
from citadel.spiffe import TrustDomain


def next_bundle(
    old: TrustBundle | None,
    authorities: Iterable[Authority],
    trust_domain: TrustDomain,
    refresh_hint: int,
    crls: tuple[bytes, ...] | None,
) -> TrustBundle | None:
    """The bundle to put in the place of `old`, one further in sequence; None if `old` is right.

    None too if it would be empty: clients that get an empty bundle verify nobody, or everybody. `crls` None keeps those
    of `old`.
    """
    roots = [a for a in authorities if a.kind is AuthorityKind.ROOT and a.state in IN_BUNDLE]
    certificates = sorted((c for a in roots for c in a.certificates), key=lambda c: c.fingerprint)
    tainted = (a for a in roots if a.state is AuthorityState.TAINTED)
    kept = old.crls if old else ()
    bundle = TrustBundle(
        trust_domain=trust_domain,
        roots=tuple(c.der for c in certificates),
        sequence=old.sequence if old else 0,
        refresh_hint=refresh_hint,
        crls=kept if crls is None else crls,
        tainted=frozenset(c.fingerprint for a in tainted for c in a.certificates),
    )
    if not bundle.roots or bundle == old:
        return None
    return replace(bundle, sequence=bundle.sequence + 1)
