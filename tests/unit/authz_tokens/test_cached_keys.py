"""The cache of keys: what it asks, when, and what it lets people use while issuers are away or change their keys."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from citadel.authz.model import JwtRule
from citadel.authz.tokens import CachedKeys, FetchPolicy, HttpFetch, KeySet, KeysUnavailable
from tests.support.clock import ManualClock
from tests.support.key_server import KeyServer, client_context, key_server
from tests.support.tokens import key_set, public_jwk, rule

OLD = key_set(public_jwk("ES256", kid="old"))
NEW = key_set(public_jwk("ES256", kid="old"), public_jwk("ES384", kid="new"))


class Cache:
    """A cache that asks a real server, on a clock of ours."""

    def __init__(self, server: KeyServer, source: CachedKeys, clock: ManualClock) -> None:
        self.server, self.source, self.clock = server, source, clock
        self.rule = rule(jwks="", jwks_uri=server.url(), timeout=timedelta(seconds=5))

    async def kids(self, kid: str = "old", of: JwtRule | None = None) -> set[str]:
        keys = await self.source.keys(of or self.rule, kid)
        return {key.kid for key in keys.keys}

    def later(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))

    async def settle(self, asked: int) -> None:
        """Until so many requests have come, and what they brought is in use."""
        async with asyncio.timeout(20):
            while len(self.server.asked) < asked or any(
                one.attempt is not None and not one.attempt.done() for one in self.source._cached.values()
            ):
                await asyncio.sleep(0.005)

    @property
    def asked(self) -> int:
        return len(self.server.asked)


@asynccontextmanager
async def caching() -> AsyncIterator[Cache]:
    clock = ManualClock()
    policy = FetchPolicy(refused_networks=())
    async with key_server() as server, HttpFetch(policy, client_context(), server.resolve) as fetch:
        server.documents["/keys"] = OLD
        async with CachedKeys(fetch, clock, chance=lambda: 1.0) as source:
            yield Cache(server, source, clock)


@pytest.fixture
async def cache() -> AsyncIterator[Cache]:
    async with caching() as made:
        yield made


async def test_keys_are_fetched_once_for_all_who_ask(cache: Cache) -> None:
    found = await asyncio.gather(*(cache.kids() for _ in range(50)))
    assert found == [{"old"}] * 50
    cache.later(200)
    assert await cache.kids() == {"old"}
    assert cache.asked == 1


async def test_a_copy_is_renewed_before_it_is_stale_and_nobody_waits(cache: Cache) -> None:
    await cache.kids()
    cache.server.documents["/keys"] = NEW
    cache.later(241)
    assert await cache.kids() == {"old"}
    await cache.settle(2)
    assert await cache.kids() == {"old", "new"}


async def test_a_stale_copy_is_not_used_while_the_issuer_answers(cache: Cache) -> None:
    await cache.kids()
    cache.server.documents["/keys"] = key_set(public_jwk("ES384", kid="new"))
    cache.later(3600)
    assert await cache.kids() == {"new"}


async def test_an_unknown_key_is_asked_for_but_not_too_often(cache: Cache) -> None:
    await cache.kids()
    cache.server.documents["/keys"] = NEW
    cache.later(11)
    assert await cache.kids("new") == {"old", "new"}
    for number in range(100):
        await cache.kids(f"made-up-{number}")
    assert cache.asked == 2
    cache.later(11)
    await asyncio.gather(*(cache.kids(f"made-up-{number}") for number in range(100)))
    assert cache.asked == 3


async def test_who_names_a_known_key_does_not_wait_for_an_unknown_one(cache: Cache) -> None:
    await cache.kids()
    cache.server.fault = "slow"
    cache.later(11)
    waiting = asyncio.create_task(cache.kids("new"))
    async with asyncio.timeout(20):
        while cache.asked < 2:
            await asyncio.sleep(0.005)
        assert await cache.kids("old") == {"old"}
    assert not waiting.done()
    cache.server.released.set()
    await waiting


FAULTS = ["closes", "error", "redirect", "not http", "cut", "garbage", "empty set", "no keys"]


def break_server(server: KeyServer, fault: str) -> None:
    bodies = {"garbage": "<html>", "empty set": key_set(), "no keys": "{}"}
    server.fault = "" if fault in bodies else fault
    server.documents["/keys"] = bodies.get(fault, OLD)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_good_copy_is_kept_through_an_outage_and_replaced_after_it(cache: Cache, fault: str) -> None:
    await cache.kids()
    break_server(cache.server, fault)
    cache.later(3600)
    assert await cache.kids() == {"old"}
    assert list(cache.source.problems()) == [cache.server.url()]
    cache.server.fault, cache.server.documents["/keys"] = "", NEW
    cache.later(2)
    assert await cache.kids() == {"old", "new"}
    assert cache.source.problems() == {}


@pytest.mark.parametrize("fault", FAULTS)
async def test_without_a_copy_nothing_is_let_through(cache: Cache, fault: str) -> None:
    break_server(cache.server, fault)
    with pytest.raises(KeysUnavailable, match="there are no keys of") as refused:
        await cache.kids()
    assert refused.value.retry_after == timedelta(seconds=1)


async def test_an_outage_without_end_ends_the_copy(cache: Cache) -> None:
    await cache.kids()
    cache.server.fault = "error"
    cache.later(24 * 3600)
    assert await cache.kids() == {"old"}
    cache.later(301)
    with pytest.raises(KeysUnavailable):
        await cache.kids()


async def test_pauses_between_failures_grow_to_a_minute(cache: Cache) -> None:
    cache.server.fault = "error"
    pauses = []
    for _ in range(9):
        with pytest.raises(KeysUnavailable) as refused:
            await cache.kids()
        before = cache.asked
        with pytest.raises(KeysUnavailable):
            await cache.kids()
        assert cache.asked == before  # nobody asks in a pause
        pauses.append(refused.value.retry_after.total_seconds())
        cache.later(pauses[-1])
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


async def test_who_gives_up_waiting_does_not_disturb_the_others(cache: Cache) -> None:
    cache.server.fault = "slow"
    first, second = asyncio.create_task(cache.kids()), asyncio.create_task(cache.kids())
    async with asyncio.timeout(20):
        while not cache.asked:
            await asyncio.sleep(0.005)
    first.cancel()
    cache.server.released.set()
    assert await second == {"old"}
    assert first.cancelled()
    assert cache.asked == 1


async def test_what_is_stopped_gives_no_more_keys_and_leaves_no_attempt(cache: Cache) -> None:
    cache.server.fault = "slow"
    waiting = asyncio.create_task(cache.kids())
    async with asyncio.timeout(20):
        while not cache.asked:
            await asyncio.sleep(0.005)
    await cache.source.aclose()
    with pytest.raises(KeysUnavailable):
        await waiting
    with pytest.raises(KeysUnavailable, match="stopping"):
        await cache.kids()


async def test_keys_of_rules_that_are_gone_are_forgotten(cache: Cache) -> None:
    await cache.kids()
    await cache.source.retain([cache.rule])
    await cache.kids()
    assert cache.asked == 1
    await cache.source.retain([])
    await cache.kids()
    assert cache.asked == 2


DISCOVERY = "/.well-known/openid-configuration"


async def discovered(cache: Cache, **changes: Any) -> set[str]:
    issuer = cache.server.url("")
    document = {"issuer": issuer, "jwks_uri": cache.server.url(), **changes}
    cache.server.documents[DISCOVERY] = json.dumps({k: v for k, v in document.items() if v is not None})
    return await cache.kids(of=rule(issuer=issuer, jwks=""))


async def test_keys_are_found_by_discovery(cache: Cache) -> None:
    assert await discovered(cache) == {"old"}
    assert cache.server.asked == [DISCOVERY, "/keys"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"issuer": "https://other.example"}, "another issuer"),
        ({"issuer": None}, "another issuer"),
        ({"jwks_uri": None}, "names no jwks_uri"),
        ({"jwks_uri": ["x"]}, "names no jwks_uri"),
        ({"jwks_uri": "http://keys.test/keys"}, "only https"),
        ({"jwks_uri": "file:///etc/passwd"}, "URL has no host|only https"),
    ],
)
async def test_a_discovery_document_that_is_wrong_is_not_followed(
    cache: Cache, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(KeysUnavailable, match=why):
        await discovered(cache, **changes)
    assert "/keys" not in cache.server.asked


async def test_an_issuer_that_is_no_url_has_no_keys(cache: Cache) -> None:
    with pytest.raises(KeysUnavailable, match="there are no keys of"):
        await cache.kids(of=rule(issuer="testing@secure.example", jwks=""))


async def test_keys_in_the_rule_are_used_as_they_are_and_nothing_is_asked(cache: Cache) -> None:
    assert await cache.kids(of=rule(jwks=OLD)) == {"old"}
    with pytest.raises(KeysUnavailable, match="the rule's own jwks"):
        await cache.kids(of=rule(jwks="{}"))
    assert cache.asked == 0


async def test_a_defect_of_a_fetcher_denies() -> None:
    async def defect(url: str, *, timeout: float) -> bytes:
        raise RuntimeError("oh")

    async with CachedKeys(defect, ManualClock()) as source:
        with pytest.raises(KeysUnavailable, match="RuntimeError"):
            await source.keys(rule(jwks=""), "")


def test_a_set_without_names_is_not_asked_for_a_name() -> None:
    assert KeySet.parse(key_set(public_jwk("ES256")).encode()).knows("any")
