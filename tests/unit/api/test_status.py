"""`status` is told whatever ails the server; and whose leaves are whose."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from unittest.mock import AsyncMock, Mock

from citadel.api.admin.citadel_v1 import AdminUseCases, leaves_under
from citadel.api.ports import CheckView
from citadel.ca.model import Skid
from citadel.clock import SystemClock
from citadel.errors import Unavailable
from citadel.spiffe import SpiffeId, TrustDomain

NOW = datetime(2026, 11, 24, tzinfo=UTC)
AWAY = "the database is away"


def cases(**parts: Any) -> AdminUseCases:
    named: dict[str, Any] = dict.fromkeys(AdminUseCases.__dataclass_fields__)
    named |= {
        "trust_domain": TrustDomain.parse("td"),
        "node_id": SpiffeId.parse("spiffe://td/node"),
        "store_kind": "postgresql",
        "clock": SystemClock(),
    }
    return AdminUseCases(**named | parts)


async def test_without_its_store_it_still_tells_what_it_knows() -> None:
    situation = Mock(
        started_at=NOW,
        streams=lambda: 3,
        waiting=lambda: ["a restart"],
        held=list,
        policies=lambda: None,
        vault=lambda: None,
    )
    situation.checks = AsyncMock(return_value=[CheckView("store", False, AWAY, NOW)])
    situation.jobs = AsyncMock(side_effect=Unavailable(AWAY))
    store = Mock(live_leaves=AsyncMock(side_effect=Unavailable(AWAY)))
    told = await cases(situation=situation, authority_store=store).get_status()
    assert (told.store_error, told.streams, list(told.waiting)) == (AWAY, 3, ["a restart"])
    assert [(check.name, check.ok, check.reason) for check in told.checks] == [("store", False, AWAY)]


def test_a_root_counts_the_leaves_of_its_issuing_cas_and_those_that_it_signed() -> None:
    root, old, new, other = Skid("aa"), Skid("b1"), Skid("b2"), Skid("cc")
    under = leaves_under({old: 2, new: 3, other: 5}, {root: root, old: root, new: root, other: other})
    assert under == {root: 5, old: 2, new: 3, other: 5}
