"""Which authority a beginning of its SKID means."""

from __future__ import annotations

import pytest

from citadel.api.proto.citadel.v1 import admin_pb2 as admin
from citadel.cli.ca import chosen
from citadel.errors import InvalidInput, NotFound

AMONG = [admin.Authority(skid=skid) for skid in ("01", "0123", "0a1b", "ff00")]


@pytest.mark.parametrize(
    ("said", "meant"), [("0a", "0a1b"), ("0A:1b", "0a1b"), ("012", "0123"), ("01", "01"), ("ff00", "ff00")]
)
def test_a_beginning_that_is_one_authoritys_alone_means_it_and_a_whole_one_always_does(said: str, meant: str) -> None:
    assert chosen(AMONG, said).skid == meant


@pytest.mark.parametrize(("said", "error", "says"), [("0", InvalidInput, "3 authorities"), ("7", NotFound, "'7'")])
def test_what_means_none_or_several_is_refused(said: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        chosen(AMONG, said)
