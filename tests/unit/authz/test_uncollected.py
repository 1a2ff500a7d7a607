"""The garbage collector is off while policies are read and compiled, and is as it was afterwards."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest

from citadel.authz import MeshFacts, load_text, policyset
from citadel.authz.uncollected import uncollected
from citadel.errors import BadFile
from citadel.spiffe import TrustDomain


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    assert gc.isenabled()
    yield
    gc.enable()


def test_it_is_on_again_whatever_comes_of_a_load() -> None:
    documents = load_text("")
    policyset.compile_documents(documents, MeshFacts(TrustDomain("a")))
    with pytest.raises(BadFile):
        load_text("]")
    assert gc.isenabled()


def test_of_several_threads_the_last_one_turns_it_on() -> None:
    goes_on = threading.Event()

    def other() -> None:
        with uncollected():
            inside.set()
            goes_on.wait(10)

    inside = threading.Event()
    thread = threading.Thread(target=other)
    with uncollected():
        thread.start()
        assert inside.wait(10)
    assert not gc.isenabled()
    goes_on.set()
    thread.join()
    assert gc.isenabled()


def test_who_has_turned_it_off_keeps_it_so() -> None:
    gc.disable()
    with uncollected():
        pass
    assert not gc.isenabled()
