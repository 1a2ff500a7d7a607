"""Callers who bring an access token: who they are by it, and the 401 of those who fail at it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from citadel.api.authzen import AccessTokens, CallerRules
from citadel.api.authzen.callers import NOBODY, Caller
from citadel.authz.tokens import CachedKeys, KeysUnavailable
from tests.support.clock import ManualClock
from tests.support.tokens import CLAIMS, ISSUER, NOW, b64, key_set, public_jwk, signed, token
from tests.unit.authzen.world import PEP, World, question

URL = "https://pdp.example.com"
GATEWAY = CallerRules(frozenset({"sub:gateway", "uid:1000"}), frozenset({"sub:gateway"}))
ASKED = "/access/v1/evaluation"


class Issuer:
    """Contract: tokens.ports.Fetch. Its discovery document, and its keys."""

    away = False

    async def __call__(self, url: str, *, timeout: float) -> bytes:
        if self.away:
            raise KeysUnavailable("the issuer is away")
        if url.endswith("/.well-known/openid-configuration"):
            return json.dumps({"issuer": ISSUER, "jwks_uri": f"{ISSUER}/keys"}).encode()
        return key_set(public_jwk("ES256")).encode()


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


def world(issuer: Issuer, caller: Caller = NOBODY) -> World:
    clock = ManualClock(NOW)
    return World(callers=GATEWAY, caller=caller, bearers=AccessTokens(ISSUER, URL, CachedKeys(issuer, clock), clock))


def bringing(text: str, scheme: str = "Bearer") -> dict[str, str]:
    return {"Authorization": f"{scheme} {text}"}


def mine(**more: Any) -> str:
    return token(**{"sub": "gateway", "aud": URL, **more})


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
@pytest.mark.parametrize("text", [mine(), mine(aud=["x", URL]), mine(scope="x")])
async def test_who_brings_a_good_token_is_its_subject(issuer: Issuer, text: str, scheme: str) -> None:
    async with world(issuer).client() as client:
        answer = await client.post(ASKED, json=question(), headers=bringing(text, scheme))
        assert (answer.status_code, answer.json()) == (200, {"decision": True})
        # its claims count too, for `claims_from` names it
        subject = {"type": "user", "id": "dan", "properties": {"department": "sales"}}
        asked = question(action="can_edit") | {"subject": subject}
        assert (await client.post(ASKED, json=asked, headers=bringing(text))).json() == {"decision": True}


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (None, "expected an access token"),
        (("Basic eDp5",), "expected one access token"),
        (("Bearer",), "token-malformed"),
        (("Bearer x",), "token-malformed"),
        ((f"Bearer {mine()}", f"Bearer {mine()}"), "expected one access token"),
        ((f"Bearer {mine(aud='https://other.example.com')}",), "token-audience"),
        ((f"Bearer {mine(aud=None)}",), "token-audience"),
        ((f"Bearer {mine(iss='https://other.example')}",), "token-issuer"),
        ((f"Bearer {mine(exp=NOW.timestamp() - 60)}",), "token-expired"),
        ((f"Bearer {mine(exp=None)}",), "no exp"),
        ((f"Bearer {mine(sub=None)}",), "no sub"),
        ((f"Bearer {mine(sub='')}",), "no sub"),
        ((f"Bearer {mine(sub='x' * 1000)}",), "no sub"),
        ((f"Bearer {mine(which=1)}",), "token-signature"),
        ((f"Bearer {signed({'alg': 'none'}, json.dumps(dict(CLAIMS)).encode())}",), "token-algorithm"),
        ((f"Bearer {b64(b'{}')}.{b64(b'{}')}.",), "token-malformed"),
        (("Bearer " + "x" * 20_000,), "token-too-large"),
    ],
)
async def test_who_fails_at_it_is_told_401_and_what_is_expected(
    issuer: Issuer, header: tuple[str, ...] | None, why: str
) -> None:
    for caller in (NOBODY, PEP) if header else (NOBODY,):  # a bad token is none the better for a good connection
        async with world(issuer, caller).client() as client:
            headers = [("Authorization", one) for one in header or ()] + [("X-Request-ID", "7")]
            answer = await client.post(ASKED, json=question(), headers=headers)
            assert (answer.status_code, answer.headers["x-request-id"]) == (401, "7")
            assert answer.headers["www-authenticate"] == f'Bearer realm="{ISSUER}"'
            assert why in answer.json()


async def test_who_is_not_named_may_not_ask_and_a_connection_s_own_name_still_counts(issuer: Issuer) -> None:
    async with world(issuer).client() as client:
        other = await client.post(ASKED, json=question(), headers=bringing(mine(sub="other")))
        assert (other.status_code, "sub:other may not ask here" in other.json()) == (403, True)
        forged = await client.post(ASKED, json=question(), headers=bringing(mine(sub="uid:1000")))
        assert forged.status_code == 403
    async with world(issuer, PEP).client() as client:
        assert (await client.post(ASKED, json=question())).status_code == 200


async def test_without_the_issuer_s_keys_nobody_is_let_in(issuer: Issuer) -> None:
    issuer.away = True
    async with world(issuer).client() as client:
        answer = await client.post(ASKED, json=question(), headers=bringing(mine()))
        assert (answer.status_code, "keys" in answer.json()) == (503, True)


async def test_where_no_tokens_are_taken_they_are_nothing() -> None:
    async with World(callers=GATEWAY, caller=NOBODY).client() as client:
        assert (await client.post(ASKED, json=question(), headers=bringing(mine()))).status_code == 403
