"""The subscription machine, request by request."""

from __future__ import annotations

import pytest

from citadel.errors import InvalidInput, ResourceExhausted
from citadel.sds.stream import (
    SECRET_TYPE,
    Acked,
    Action,
    DeltaRequest,
    End,
    Nacked,
    Resource,
    Send,
    SotwRequest,
    Subscription,
)


class Shelf:
    """A catalogue whose content a test changes."""

    def __init__(self, **content: str) -> None:
        self.content = dict(content)

    def __call__(self, name: str) -> Resource | None:
        text = self.content.get(name)
        return None if text is None else Resource(name, f"v-{text}", text.encode())


def sotw(*names: str, nonce: str = "", error: str | None = None, type_url: str = SECRET_TYPE) -> SotwRequest:
    return SotwRequest(type_url, names, nonce, error=error)


def sent(actions: list[Action]) -> dict[str, bytes]:
    return {r.name: r.body for action in actions if isinstance(action, Send) for r in action.resources}


def nonce(actions: list[Action]) -> str:
    return next(action.nonce for action in actions if isinstance(action, Send))


@pytest.fixture
def subscription() -> Subscription:
    return Subscription(max_names=4)


def test_what_is_there_is_sent_and_its_acknowledgement_told(subscription: Subscription) -> None:
    shelf = Shelf(default="one")
    first = subscription.request(sotw("default"), shelf)
    assert sent(first) == {"default": b"one"}
    answer = subscription.request(sotw("default", nonce=nonce(first)), shelf)
    assert answer == [Acked((Resource("default", "v-one", b"one"),))]


def test_a_name_that_is_not_there_is_held_and_sent_when_it_appears(subscription: Subscription) -> None:
    shelf = Shelf()
    assert subscription.request(sotw("default"), shelf) == []
    shelf.content["default"] = "late"
    assert sent(subscription.changed(shelf)) == {"default": b"late"}


def test_a_second_name_is_answered_though_the_first_response_is_unanswered(subscription: Subscription) -> None:
    shelf = Shelf(default="key", ROOTCA="root")
    first = subscription.request(sotw("default"), shelf)
    assert subscription.request(sotw("ROOTCA", "default"), shelf) == []
    assert sent(subscription.request(sotw("ROOTCA", "default", nonce=nonce(first)), shelf)) == {"ROOTCA": b"root"}


def test_the_same_content_is_not_sent_again_after_a_rejection_but_new_content_is(subscription: Subscription) -> None:
    shelf = Shelf(default="bad")
    first = subscription.request(sotw("default"), shelf)
    told = subscription.request(sotw("default", nonce=nonce(first), error="no such key"), shelf)
    assert told == [Nacked((Resource("default", "v-bad", b"bad"),), "no such key")]
    assert subscription.changed(shelf) == []
    shelf.content["default"] = "good"
    assert sent(subscription.changed(shelf)) == {"default": b"good"}


def test_an_answer_to_an_older_response_is_ignored(subscription: Subscription) -> None:
    shelf = Shelf(default="one")
    subscription.request(sotw("default"), shelf)
    assert subscription.request(sotw("default", nonce="stale"), shelf) == []


def test_a_slow_client_gets_the_newest_content_and_nothing_in_between(subscription: Subscription) -> None:
    shelf = Shelf(default="one")
    first = subscription.request(sotw("default"), shelf)
    for text in ("two", "three"):
        shelf.content["default"] = text
        assert subscription.changed(shelf) == []
    assert sent(subscription.request(sotw("default", nonce=nonce(first)), shelf)) == {"default": b"three"}


def test_a_secret_that_is_gone_is_never_taken_away(subscription: Subscription) -> None:
    shelf = Shelf(default="one")
    first = subscription.request(sotw("default"), shelf)
    subscription.request(sotw("default", nonce=nonce(first)), shelf)
    del shelf.content["default"]
    assert subscription.changed(shelf) == []


def test_a_reconnect_with_an_old_version_is_answered(subscription: Subscription) -> None:
    again = SotwRequest(SECRET_TYPE, ("default",), version="v-one")
    assert sent(subscription.request(again, Shelf(default="one"))) == {"default": b"one"}


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        (sotw(*map(str, range(5))), ResourceExhausted),
        (sotw("default", type_url="type.googleapis.com/envoy.config.cluster.v3.Cluster"), InvalidInput),
        (sotw("x" * 3000), InvalidInput),
        (DeltaRequest(SECRET_TYPE, subscribe=tuple(map(str, range(5)))), ResourceExhausted),
    ],
)
def test_a_request_that_asks_too_much_ends_the_stream_with_one_line(
    subscription: Subscription, request_: SotwRequest | DeltaRequest, kind: type[Exception]
) -> None:
    (end,) = subscription.request(request_, Shelf())
    assert isinstance(end, End)
    assert isinstance(end.error, kind)
    assert len(end.error.message.splitlines()) == 1


def test_names_added_one_by_one_over_delta_count_too(subscription: Subscription) -> None:
    for number in range(4):
        assert subscription.request(DeltaRequest(SECRET_TYPE, subscribe=(str(number),)), Shelf()) == []
    (end,) = subscription.request(DeltaRequest(SECRET_TYPE, subscribe=("4",)), Shelf())
    assert isinstance(end, End)


def test_delta_sends_only_what_a_reconnecting_client_lacks(subscription: Subscription) -> None:
    shelf = Shelf(default="new", ROOTCA="root")
    known = {"default": "v-old", "ROOTCA": "v-root"}
    request = DeltaRequest(SECRET_TYPE, subscribe=("default", "ROOTCA"), known=known)
    assert sent(subscription.request(request, shelf)) == {"default": b"new"}


def test_whoever_comes_back_with_what_there_is_now_has_acknowledged_it(subscription: Subscription) -> None:
    """Its answer may have been lost: we were killed, or our database went back."""
    shelf = Shelf(default="new", ROOTCA="root")
    known = {"default": "v-old", "ROOTCA": "v-root", "another": "v-1"}
    actions = subscription.request(DeltaRequest(SECRET_TYPE, subscribe=("default", "ROOTCA"), known=known), shelf)
    [acked] = [action for action in actions if isinstance(action, Acked)]
    assert [resource.name for resource in acked.resources] == ["ROOTCA"]
    assert list(sent(actions)) == ["default"]


def test_delta_sends_again_what_is_subscribed_again(subscription: Subscription) -> None:
    shelf = Shelf(default="one")
    first = subscription.request(DeltaRequest(SECRET_TYPE, subscribe=("default",)), shelf)
    subscription.request(DeltaRequest(SECRET_TYPE, nonce=nonce(first)), shelf)
    subscription.request(DeltaRequest(SECRET_TYPE, unsubscribe=("default",)), shelf)
    assert sent(subscription.request(DeltaRequest(SECRET_TYPE, subscribe=("default",)), shelf)) == {"default": b"one"}
