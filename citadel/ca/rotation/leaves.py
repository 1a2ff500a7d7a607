"""Leaves in use: which of those that an authority signed somebody may still present."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from citadel.ca.model import Skid
from citadel.ca.rotation.clients import Holding


@dataclass(frozen=True, slots=True)
class LeafGroup:
    """The unexpired leaves that one issuing CA signed for one requester and one entry.

    `replaced`: the same requester was issued a later one, for the same entry, by another issuing CA. `by_node`: the
    requester is a node of ours, which serves nothing but the newest, and reports what its clients acknowledge.
    """

    authority: Skid
    requester: str
    entry_id: str
    spiffe_id: str
    count: int
    not_after: datetime  # of the last to expire
    replaced: bool
    by_node: bool


def in_use(
    groups: Iterable[LeafGroup], authorities: frozenset[Skid], holdings: Iterable[Holding], now: datetime
) -> list[LeafGroup]:
    """Those of `authorities` that may still be presented.

    A leaf is out of use when it expired, or when its node holds a later one and none of the node's clients is known to
    use one of `authorities`. A client that never acknowledged a leaf may use any of its node's.
    What a client held whose process has ended does not count; the leaf itself does until it expires or was replaced,
    since the node may have given it to others, who do not acknowledge.
    """
    leaves = [h for h in holdings if not h.is_bundle and not h.ended]
    uncertain = {h.node for h in leaves if h.authority is None}
    used = {(h.node, h.spiffe_id) for h in leaves if h.authority in authorities and h.lives(now)}

    def is_out(group: LeafGroup) -> bool:
        known = group.by_node and group.requester not in uncertain
        return group.replaced and known and (group.requester, group.spiffe_id) not in used

    return [g for g in groups if g.authority in authorities and g.not_after > now and not is_out(g)]
