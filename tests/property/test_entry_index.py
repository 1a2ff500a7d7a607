"""Which entries a process matches, checked against looking at each of them."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from citadel.registry.selectors import Selector
from citadel.workload.entry_index import EntryIndex
from citadel.workload.upstream import AssignedEntry
from tests.support.registry import NODE

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SELECTORS = st.frozensets(st.sampled_from([Selector("unix", f"uid:{n}") for n in range(5)]), max_size=4)
ENTRIES = st.builds(lambda n, s: AssignedEntry(f"e{n}", NODE, s, 0, NOW), st.integers(0, 7), SELECTORS)


@given(st.lists(st.one_of(ENTRIES, st.integers(0, 7)), max_size=30), SELECTORS)
def test_after_any_changes_it_finds_what_a_search_finds(
    changes: list[AssignedEntry | int], own: frozenset[Selector]
) -> None:
    index, present = EntryIndex(), dict[str, AssignedEntry]()
    for change in changes:
        old = present.pop(change.id if isinstance(change, AssignedEntry) else f"e{change}", None)
        if old is not None:
            index.discard(old)
        if isinstance(change, AssignedEntry):
            present[change.id] = change
            index.add(change)
    wanted = [e for _, e in sorted(present.items()) if e.selectors and e.selectors <= own]
    assert index.matching(own) == wanted
