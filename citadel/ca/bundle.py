"""The trust bundle that the states of the roots call for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from citadel.ca.model import (
    IN_BUNDLE,
    Authority,
    AuthorityCertificate,
    AuthorityKind,
    AuthorityState,
    TrustBundle,
)
from citadel.spiffe import TrustDomain

#: So long before its end a root's certificate makes room for another one of the same key.
MAKE_ROOM = timedelta(hours=1)


def anchors(root: Authority, now: datetime) -> list[AuthorityCertificate]:
    """The certificates of a root to be trusted: those that it signed itself (not cross-signed ones), and of these the
    ones that are valid and go on; if there are none, the one that ends last.

    BoringSSL, and so Envoy, takes the first certificate of a name and key that it finds, and refuses the chain if that
    one has expired, although another goes on (measured with grpcio 1.85).
    """
    lasting = [c for c in root.own if c.not_before <= now and c.not_after > now + MAKE_ROOM]
    return lasting or [max(root.own, key=lambda c: c.not_after)]


def next_bundle(
    old: TrustBundle | None,
    authorities: Iterable[Authority],
    trust_domain: TrustDomain,
    refresh_hint: int,
    crls: tuple[bytes, ...] | None,
    *,
    now: datetime,
) -> TrustBundle | None:
    """The bundle to put in the place of `old`, one further in sequence; None if `old` is right.

    None too if it would be empty: clients that get an empty bundle verify nobody, or everybody. `crls` None keeps those
    of `old`.
    """
    roots = [a for a in authorities if a.kind is AuthorityKind.ROOT and a.state in IN_BUNDLE]
    certificates = sorted((c for a in roots for c in anchors(a, now)), key=lambda c: c.fingerprint)
    tainted = (a for a in roots if a.state is AuthorityState.TAINTED)
    kept = old.crls if old else ()
    bundle = TrustBundle(
        trust_domain=trust_domain,
        roots=tuple(c.der for c in certificates),
        sequence=old.sequence if old else 0,
        refresh_hint=refresh_hint,
        crls=kept if crls is None else crls,
        tainted=frozenset(c.fingerprint for a in tainted for c in anchors(a, now)),
    )
    if not bundle.roots or bundle == old:
        return None
    return replace(bundle, sequence=bundle.sequence + 1)
