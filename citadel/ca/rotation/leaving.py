"""Which issuing CAs are to be left: leaves that they signed are replaced before they run out."""

from __future__ import annotations

from collections.abc import Iterable

from citadel.ca.model import Authority, AuthorityKind, AuthorityState, Skid

_LEFT = frozenset({AuthorityState.RETIRING, AuthorityState.TAINTED})


def leaving(authorities: Iterable[Authority]) -> frozenset[Skid]:
    """Those under a root that retires or is tainted, and those that are tainted themselves. An issuing CA that was
    merely renewed is not left: its root stays, and its leaves run out by themselves."""
    known = list(authorities)
    roots = {a.skid for a in known if a.kind is AuthorityKind.ROOT and a.state in _LEFT}
    return frozenset(
        a.skid
        for a in known
        if a.kind is AuthorityKind.ISSUING
        and ((a.root_skid in roots and a.state in _LEFT) or a.state is AuthorityState.TAINTED)
    )
