"""What happens to real Envoys when their entry is deleted or runs out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.envoys import CHURN, Mesh, Pair, mesh, wait_for
from tests.support.load import Load

pytestmark = pytest.mark.envoy


@pytest.fixture(scope="module")
def one_mesh() -> Iterator[Mesh]:
    with mesh() as made:
        yield made


def issued(made: Mesh, pair: Pair) -> list[dict[str, Any]]:
    found = [made.up.json("svid", "list", "--spiffe-id", f"spiffe://example.org/{pair.name}/{side}") for side in
             ("server", "client")]  # fmt: skip
    return [row for rows in found for row in rows]


def test_a_deletion_stops_renewal_and_takes_nothing_from_the_envoy(one_mesh: Mesh) -> None:
    """The last certificate stays until it expires; who holds it, and until when, is told."""
    pair = one_mesh.pair("gone", ways=[CHURN], ttl="25s")
    ids = [row["id"] for row in one_mesh.up.json("entry", "list") if "/gone/" in row["spiffe_id"]]
    one_mesh.up.run("entry", "delete", *ids, "--yes")
    time.sleep(1)  # what was being renewed just now is done
    last = issued(one_mesh, pair)
    for envoy in pair.both:
        envoy.look()
    held = [envoy.serials[-1] for envoy in pair.both]
    orphans = {row["serial"].lstrip("0"): row["not_after"] for row in one_mesh.up.json("svid", "list", "--orphaned")}
    assert {serial.lstrip("0") for serial in held} <= orphans.keys()
    ends = max(datetime.fromisoformat(moment) for moment in orphans.values())
    with Load({CHURN: pair.listeners[CHURN]}, per_second=10) as load:
        while (left := (ends - datetime.now(UTC)).total_seconds()) > 2:
            time.sleep(min(left - 2, 0.5))
    assert load.failed == {}
    assert load.tallies[CHURN].ok > 10
    wait_for("the last certificate's end", lambda: datetime.now(UTC) > ends)
    assert issued(one_mesh, pair) == last, "renewal went on"
    for envoy, serial in zip(pair.both, held, strict=True):
        envoy.look()
        assert envoy.serials[-1] == serial, "it was given something else"
        assert envoy.total(".update_rejected") == 0
    assert one_mesh.up.json("svid", "list", "--orphaned") == []


def test_an_entry_that_runs_out_stops_renewal_by_itself(one_mesh: Mesh) -> None:
    pair = one_mesh.unregistered("over", ways=[CHURN])
    one_mesh.up.register("/over/server", pair.server.selector, "--ttl", "4s", "--expires", "6s")
    over = time.monotonic() + 7
    pair.server.start()
    wait_for("the server's Envoy", pair.server.ready)
    wait_for("the entry's end", lambda: time.monotonic() > over)
    last = issued(one_mesh, pair)
    assert len(last) > 1, "until then it was renewed"
    time.sleep(4)  # longer than a certificate lives
    assert issued(one_mesh, pair) == last
