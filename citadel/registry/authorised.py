"""Which entries a node may serve: those below it, however deep (SPIRE's rule)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from citadel.registry.model import Entry
from citadel.registry.selectors import Selector
from citadel.spiffe import SpiffeId


def authorised(
    entries: Iterable[Entry], node: SpiffeId, now: datetime, *, node_selectors: frozenset[Selector] = frozenset()
) -> list[Entry]:
    """The unexpired entries whose parent is `node`, or an alias of it, or an entry that it may serve itself.

    A node alias is an entry below `spiffe://<trust domain>/spire/server` whose selectors the node all has. Cycles end.
    In order of creation, then id.
    """
    children: dict[SpiffeId, list[Entry]] = {}
    for entry in entries:
        if entry.expires_at is None or entry.expires_at > now:
            children.setdefault(entry.parent_id, []).append(entry)
    server = SpiffeId.of(node.trust_domain, "spire", "server")
    aliases = [entry.spiffe_id for entry in children.get(server, []) if entry.selectors <= node_selectors]
    found: dict[str, Entry] = {}
    reached = {node, *aliases}
    frontier = list(reached)
    while frontier:
        for entry in children.get(frontier.pop(), []):
            found[entry.id] = entry
            if entry.spiffe_id not in reached:
                reached.add(entry.spiffe_id)
                frontier.append(entry.spiffe_id)
    return sorted(found.values(), key=lambda e: (e.created_at or now, e.id))
