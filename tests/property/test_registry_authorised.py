"""What a node may serve, checked against a second, slower way to say the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from citadel.registry import Entry, Selector
from citadel.registry.authorised import authorised
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
def registries(draw: st.DrawFn) -> list[Entry]:
    """Few identities and many entries, so that trees, cycles and aliases all come up."""
    return [
        replace(
            entry("x"),
            id=f"e{number}",
            spiffe_id=draw(st.sampled_from(IDS)),
            parent_id=draw(st.sampled_from([NODE, SERVER, *IDS, SpiffeId.of(TD, "spire", "agent", "other")])),
            selectors=draw(SELECTORS),
            expires_at=draw(st.sampled_from([None, None, NOW, NOW + timedelta(seconds=1)])),
            created_at=NOW - timedelta(seconds=draw(st.integers(0, 3))),
        )
        for number in range(draw(st.integers(0, 14)))
    ]


def by_repetition(entries: list[Entry], node_selectors: frozenset[Selector]) -> set[str]:
    """SPIRE's rule as it is spoken: repeat until nothing is added."""
    alive = [e for e in entries if not (e.expires_at and e.expires_at <= NOW)]
    parents = {NODE} | {e.spiffe_id for e in alive if e.parent_id == SERVER and e.selectors <= node_selectors}
    while True:
        served = [e for e in alive if e.parent_id in parents]
        more = parents | {e.spiffe_id for e in served}
        if more == parents:
            return {e.id for e in served}
        parents = more


@given(registries(), st.sampled_from([frozenset(), NODE_SELECTORS]))
def test_it_serves_what_is_below_it_and_nothing_else(entries: list[Entry], own: frozenset[Selector]) -> None:
    found = authorised(entries, NODE, NOW, node_selectors=own)
    assert {e.id for e in found} == by_repetition(entries, own)
    assert len(found) == len({e.id for e in found})


@given(registries())
def test_neither_order_nor_strangers_change_it(entries: list[Entry]) -> None:
    found = authorised(entries, NODE, NOW)
    assert found == sorted(found, key=lambda e: (e.created_at, e.id))
    shuffled = entries[::-1]
    assert authorised(shuffled, NODE, NOW) == found
    stranger = entry("stranger", parent="/spire/agent/other", created_at=NOW)
    assert authorised([stranger, *shuffled], NODE, NOW) == found


def test_a_long_chain_is_followed_to_its_end() -> None:
    chain = [entry("n0")] + [entry(f"n{n}", parent=f"/n{n - 1}") for n in range(1, 5000)]
    assert len(authorised(chain, NODE, NOW)) == 5000
