"""What a node may serve, after any changes, checked against a second, slower way to say the same."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from citadel.registry import Entry, Selector
from citadel.registry.ports import EntryNews
from citadel.registry.roster import NodeNews, Roster
from citadel.spiffe import SpiffeId
from tests.support.registry import NODE, TD, entry

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SERVER = SpiffeId.of(TD, "spire", "server")
IDS = [SpiffeId.of(TD, name) for name in "abcdef"]
NODE_SELECTORS = frozenset({Selector("node", "a"), Selector("node", "b")})
SELECTORS = st.frozensets(
    st.sampled_from([*NODE_SELECTORS, Selector("node", "c"), Selector("unix", "uid:1")]), min_size=1
)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """Few identities and many entries, so that trees, cycles and aliases all come up."""
    return replace(
        entry("x"),
        id=f"e{draw(st.integers(0, 9))}",
        spiffe_id=draw(st.sampled_from(IDS)),
        parent_id=draw(st.sampled_from([NODE, SERVER, *IDS, SpiffeId.of(TD, "spire", "agent", "other")])),
        selectors=draw(SELECTORS),
        expires_at=draw(st.sampled_from([None, None, NOW, NOW + timedelta(seconds=5)])),
        created_at=NOW,
    )


def changes() -> st.SearchStrategy[list[list[Entry | str]]]:
    """Batches of entries that are written, and ids that are deleted."""
    gone = st.integers(0, 9).map(lambda n: f"e{n}")
    return st.lists(st.lists(st.one_of(entries(), entries(), gone), max_size=6), max_size=8)


def by_repetition(present: Collection[Entry], node_selectors: frozenset[Selector], now: datetime) -> dict[str, Entry]:
    """SPIRE's rule as it is spoken: repeat until nothing is added."""
    alive = [e for e in present if not (e.expires_at and e.expires_at <= now)]
    parents = {NODE} | {e.spiffe_id for e in alive if e.parent_id == SERVER and e.selectors <= node_selectors}
    while True:
        served = {e.id: e for e in alive if e.parent_id in parents}
        more = parents | {e.spiffe_id for e in served.values()}
        if more == parents:
            return served
        parents = more


class Follower:
    """Somebody who knows only what a reader told."""

    def __init__(self) -> None:
        self.known: dict[str, Entry] = {}

    def hear(self, news: NodeNews | None) -> dict[str, Entry]:
        if news is not None:
            if news.whole:
                self.known = {}
            assert not news.gone & {e.id for e in news.changed}
            self.known |= {e.id: e for e in news.changed}
            for entry_id in news.gone:
                self.known.pop(entry_id, None)
        return self.known


@given(changes(), st.sampled_from([frozenset(), NODE_SELECTORS]), st.data())
def test_after_each_change_it_is_served_what_is_below_it_and_nothing_else(
    batches: list[list[Entry | str]], own: frozenset[Selector], data: st.DataObject
) -> None:
    roster, present = Roster(), dict[str, Entry]()
    node = roster.node(NODE, own)
    prompt, slow = (node.reader(), Follower()), (node.reader(), Follower())
    for batch in batches:
        touched = {item if isinstance(item, str) else item.id for item in batch}
        for item in batch:
            if isinstance(item, str):
                present.pop(item, None)
            else:
                present[item.id] = item
        whole = data.draw(st.booleans())
        told = present.keys() if whole else touched & present.keys()
        gone = frozenset() if whole else frozenset(touched - present.keys())
        roster.update(EntryNews(0, tuple(present[i] for i in told), gone, whole), NOW)
        wanted = by_repetition(present.values(), own, NOW)
        assert node.entries == wanted
        assert prompt[1].hear(prompt[0].take()) == wanted
        if data.draw(st.booleans()):
            assert slow[1].hear(slow[0].take()) == wanted
    later = NOW + timedelta(seconds=5)
    roster.expire(later)
    wanted = by_repetition(present.values(), own, later)
    assert node.entries == slow[1].hear(slow[0].take()) == wanted
    assert roster.node(NODE, own).entries == wanted


def test_who_was_told_everything_hears_nothing_until_something_changes() -> None:
    roster = Roster()
    reader = roster.node(NODE).reader()
    news = reader.take()
    assert news == NodeNews((), whole=True)
    assert reader.take() is None
    roster.update(EntryNews(1, (entry("elsewhere", parent="/spire/agent/other"),)), NOW)
    assert reader.take() is None


def test_a_long_chain_is_followed_to_its_end_and_cut_where_it_breaks() -> None:
    roster = Roster()
    node = roster.node(NODE)
    chain = [entry("n0")] + [entry(f"n{n}", parent=f"/n{n - 1}") for n in range(1, 5000)]
    roster.update(EntryNews(1, tuple(chain)), NOW)
    assert len(node.entries) == 5000
    roster.update(EntryNews(2, (), frozenset({"n100"})), NOW)
    assert len(node.entries) == 100
