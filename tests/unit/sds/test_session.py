"""What a stream's session makes of what a client says of itself."""

from __future__ import annotations

import pytest

from citadel.sds.session import node_name


@pytest.mark.parametrize("given", ["", "sidecar~10.0.0.1~web-1.shop~shop.svc", "Wagen-für-2", "x" * 400])
def test_a_node_id_as_people_give_them_is_on_record_as_it_is(given: str) -> None:
    assert node_name(given) == given


@pytest.mark.parametrize("given", ["a\0", "\x1b[2J", "a\nb", "x" * 401, "é" * 1_000_000])
def test_no_node_id_is_one_that_a_database_refuses_and_two_never_become_one(given: str) -> None:
    name = node_name(given)
    assert name.isprintable()
    assert len(name.encode()) <= 400
    assert node_name(given + "1") != name
