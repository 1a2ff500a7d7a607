"""Revocation: an Envoy that has CRLs refuses every chain of which it has not all (see ca.crl). So nothing may sign of
which there is none while the bundle has any."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from citadel.ca.certificates import parse
from citadel.ca.crl import name_all, parse_crls, uncovered
from citadel.ca.model import AuthorityState, Skid
from citadel.ca.rotation.world import World

_COULD_SIGN = frozenset({AuthorityState.PREPARED, AuthorityState.RETIRING})


def gap(root: Skid, world: World) -> str:
    """Why Envoys would refuse everything under `root`, as a sentence; "" if they would not."""
    issuing = [one for one in world.issuing_under(root) if one.state in _COULD_SIGN]
    return gap_of([der for one in issuing for der in (one.certificate.der, *one.chain)], root, world)


def gap_of(line: Iterable[bytes], root: Skid, world: World) -> str:
    """As `gap`, of CAs that are not written down yet."""
    found = world.find(root)
    if found is None or world.bundle is None or not world.bundle.crls:
        return ""
    missing = _missing(world.bundle.crls, (*line, found.certificate.der))
    if not missing:
        return ""
    return (
        f"Envoys have CRLs, but none of {missing}, and would refuse every certificate of theirs: plug them in with "
        "their own ca-crl.pem, or take away the one that is there, so that nobody asks for revocations any more"
    )


@lru_cache(maxsize=8)  # it is looked at each second, and they seldom change
def _missing(crls: tuple[bytes, ...], line: tuple[bytes, ...]) -> str:
    return name_all(uncovered(parse_crls(b"".join(crls)), [parse(der) for der in line]))
