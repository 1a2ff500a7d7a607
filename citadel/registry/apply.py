"""Declarative entries: what must change so that an apply set holds just what its files say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from citadel.registry.model import Entry


@dataclass(frozen=True, slots=True)
class Plan:
    """What `apply` does: entries to create, to update (as before, as after), to delete, and those left as they are."""

    create: tuple[Entry, ...]
    update: tuple[tuple[Entry, Entry], ...]
    delete: tuple[Entry, ...]
    unchanged: tuple[Entry, ...]


def plan(wanted: Sequence[Entry], present: Sequence[Entry], apply_set: str, *, prune: bool) -> Plan:
    """Compare. An entry is the same by its id if the file gives one, else by SPIFFE ID, parent and selectors.

    Only entries of `apply_set` are ever updated or deleted; deleted only with `prune`.
    """
    own = [entry for entry in present if entry.apply_set == apply_set]
    by_id = {entry.id: entry for entry in own}
    by_key = {key(entry): entry for entry in own}
    create, update, unchanged, kept = [], [], [], set()
    for entry in wanted:
        named = replace(entry, apply_set=apply_set)
        old = by_id.get(named.id) or by_key.get(key(named))
        if old is None or old.id in kept:  # one that is taken twice: the store will name the duplicate
            create.append(named)
            continue
        kept.add(old.id)
        new = replace(named, id=old.id, revision=old.revision, created_at=old.created_at)
        if new == old:
            unchanged.append(old)
        else:
            update.append((old, new))
    delete = [entry for entry in own if entry.id not in kept] if prune else []
    return Plan(tuple(create), tuple(update), tuple(delete), tuple(unchanged))


def key(entry: Entry) -> tuple[object, ...]:
    """What two entries may not have in common."""
    return entry.spiffe_id, entry.parent_id, entry.selectors
