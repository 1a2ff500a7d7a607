"""Issuing CAs: another one under the same root, and what can be done when the key of one is stolen.

They are not in the trust bundle, so none can be dropped from it: what a stolen issuing key signs verifies while its
root is trusted. So tainting one stops it, replaces what it signed, and has the root above it replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from citadel.ca.model import Authority, AuthorityKind, AuthorityState, KeySource, Skid
from citadel.ca.rotation.commands import Wish
from citadel.ca.rotation.revocation import gap_of
from citadel.ca.rotation.step import Certified, Move, NewAuthority, Step, compose
from citadel.ca.rotation.world import World
from citadel.errors import FailedPrecondition, NotFound

A = AuthorityState


def may_make(world: World) -> Authority:
    """The root under which another issuing CA can be made. Raises FailedPrecondition if its key is not with us."""
    root = world.active(AuthorityKind.ROOT)
    if root is None:
        raise FailedPrecondition("no root is in force yet", mend="see: citadel status")
    if root.key_source not in (KeySource.SEALED, KeySource.VAULT):
        raise FailedPrecondition(
            f"the key of the root {root.skid} is not here: its issuing CA is yours to replace",
            mend="plugged in: put another CA into its folder (docs/cacerts.md); offline: citadel root prepare "
            "--csr-out FILE; or: citadel root rotate --to disk",
        )
    return root


def rotate(world: World, issuing: NewAuthority, wish: Wish) -> Step:
    """`issuing`, under the root in force, signs from now on; the one before retires, and what it signed runs out."""
    _refuse_gap(world, [issuing.authority.certificate.der, *issuing.authority.chain], issuing.authority.root_skid)
    return _replace(world, issuing, A.RETIRING, "ca.rotate", wish)


def take_certificate(world: World, certified: Certified, wish: Wish) -> Step:
    """The CA that waited for its certificate under the root in force has it, and signs; the one before retires."""
    old = world.active(AuthorityKind.ISSUING)
    if old is None or old.root_skid != certified.root:
        raise FailedPrecondition("the root has changed meanwhile", mend="look at: citadel root status")
    _refuse_gap(world, [certified.certificate.der, *certified.chain], certified.root)
    return compose(
        world,
        f"issuing CA {certified.skid} signs; certificates of {old.skid} run out by themselves",
        actor=wish.actor,
        action="ca.rotate",
        subject=old.skid,
        moves=[Move(old.skid, A.ACTIVE, A.RETIRING), Move(certified.skid, A.PREPARED, A.ACTIVE)],
        certified=[certified],
        reason=wish.reason,
    )


def taint(world: World, skid: Skid, issuing: NewAuthority | None, wish: Wish) -> Step | None:
    """The key of `skid` is stolen: it signs nothing more, and what it signed is replaced. None: that was done already.

    `issuing` takes its place if it is the one that signs.
    """
    one = find(world, skid)
    if one.state is A.TAINTED:
        return None
    if one.state is A.ACTIVE:
        if issuing is None:
            raise FailedPrecondition(f"the issuing CA {skid} signs, and there is no other", mend="see: citadel ca list")
        return _replace(world, issuing, A.TAINTED, "ca.taint", wish)
    if one.state is not A.RETIRING:
        raise FailedPrecondition(
            f"the issuing CA {skid} is {one.state}: nothing that it signed is in use", mend="see: citadel ca list"
        )
    return compose(
        world,
        f"the issuing CA {skid} is tainted; certificates that it signed are being replaced",
        actor=wish.actor,
        action="ca.taint",
        subject=skid,
        moves=[Move(skid, one.state, A.TAINTED)],
        reason=wish.reason,
    )


def find(world: World, skid: Skid) -> Authority:
    found = world.find(skid)
    if found is None or found.kind is not AuthorityKind.ISSUING:
        raise NotFound(f"there is no issuing CA {skid}", mend="see: citadel ca list")
    return found


def needs_another_root(world: World, skid: Skid) -> bool:
    """Whether what the tainted `skid` signs is still trusted, and no rotation takes its root away yet."""
    root = world.find(find(world, skid).root_skid)
    under_way = world.distributing()
    return root is not None and root.state is A.ACTIVE and not (under_way and under_way.emergency)


def _refuse_gap(world: World, line: Sequence[bytes], root: Skid) -> None:
    if unrevoked := gap_of(line, root, world):
        raise FailedPrecondition(unrevoked, mend="do one of the two, and try again")


def _replace(world: World, issuing: NewAuthority, to: AuthorityState, action: str, wish: Wish) -> Step:
    old = world.active(AuthorityKind.ISSUING)
    if old is None or old.root_skid != issuing.authority.root_skid:
        raise FailedPrecondition("the root has changed meanwhile", mend="look at: citadel root status")
    new = replace(issuing, authority=replace(issuing.authority, state=A.ACTIVE))
    does = "are being replaced" if to is A.TAINTED else "run out by themselves"
    return compose(
        world,
        f"issuing CA {new.authority.skid} signs; certificates of {old.skid} {does}",
        actor=wish.actor,
        action=action,
        subject=old.skid,
        moves=[Move(old.skid, A.ACTIVE, to)],
        new=[new],
        reason=wish.reason,
    )
