"""The subscription machine against a model of Envoy: whatever happens in between, the newest content arrives."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from citadel.sds.stream import SECRET_TYPE, Action, DeltaRequest, End, Resource, Send, SotwRequest, Subscription

_NAMES = ("default", "ROOTCA", "spiffe://a/b")


class EnvoyModel(RuleBasedStateMachine):
    """An Envoy that subscribes, acknowledges late, rejects what is marked bad, and reconnects."""

    delta = False

    def __init__(self) -> None:
        super().__init__()
        self.shelf: dict[str, str] = {}
        self.wanted: set[str] = set()
        self.held: dict[str, str] = {}
        self.rejected: set[tuple[str, str]] = set()
        self.inbox: list[Send] = []
        self.subscription = Subscription(max_names=8)

    def catalog(self, name: str) -> Resource | None:
        text = self.shelf.get(name)
        return None if text is None else Resource(name, text, text.encode())

    def receive(self, actions: list[Action]) -> None:
        for action in actions:
            assert not isinstance(action, End)
            if isinstance(action, Send):
                assert not self.inbox, "one unanswered response at the most"
                for resource in action.resources:
                    assert resource.name in self.wanted
                    assert resource.body
                    assert (resource.name, resource.version) not in self.rejected, "sent again after a rejection"
                self.inbox.append(action)

    @rule(name=st.sampled_from(_NAMES))
    def subscribe(self, name: str) -> None:
        if name in self.wanted:
            return
        self.wanted.add(name)
        self.receive(self.subscription.request(self.request(subscribe=(name,)), self.catalog))

    @rule(name=st.sampled_from(_NAMES), text=st.sampled_from(("a", "b", "bad-c", "bad-d")))
    def publish(self, name: str, text: str) -> None:
        self.shelf[name] = text
        self.receive(self.subscription.changed(self.catalog))

    @rule()
    def answer(self) -> None:
        if not self.inbox:
            return
        response = self.inbox.pop()
        bad = any(resource.version.startswith("bad") for resource in response.resources)
        for resource in response.resources:
            self.rejected = {pair for pair in self.rejected if pair[0] != resource.name}
            if bad:
                self.rejected.add((resource.name, resource.version))
            else:
                self.held[resource.name] = resource.version
        self.receive(
            self.subscription.request(self.request(nonce=response.nonce, error="bad" if bad else None), self.catalog)
        )

    @rule()
    def reconnect(self) -> None:
        self.subscription, self.rejected = Subscription(max_names=8), set()
        self.inbox.clear()
        if self.wanted:
            known = {name: version for name, version in self.held.items() if name in self.wanted}
            subscribe = tuple(sorted(self.wanted))
            self.receive(self.subscription.request(self.request(subscribe=subscribe, known=known), self.catalog))

    def request(
        self,
        *,
        subscribe: tuple[str, ...] = (),
        known: dict[str, str] | None = None,
        nonce: str = "",
        error: str | None = None,
    ) -> SotwRequest | DeltaRequest:
        if self.delta:
            return DeltaRequest(SECRET_TYPE, subscribe, known=known or {}, nonce=nonce, error=error)
        return SotwRequest(SECRET_TYPE, tuple(sorted(self.wanted)), nonce, error=error)

    @invariant()
    def nothing_is_missing_once_all_is_answered(self) -> None:
        if self.inbox:
            return
        for name in self.wanted & self.shelf.keys():
            newest = self.shelf[name]
            assert self.held.get(name) == newest or (name, newest) in self.rejected


class DeltaEnvoyModel(EnvoyModel):
    delta = True


TestSotw = EnvoyModel.TestCase
TestSotw.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestDelta = DeltaEnvoyModel.TestCase
TestDelta.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
