"""What vault.Session promises, over the contract double and a real OpenBao."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from citadel.clock import SystemClock
from citadel.errors import CitadelError, NotFound, PermissionDenied, Unauthenticated, Unavailable
from citadel.vault import AppRoleSignIn, Session, TokenSignIn, VaultAccess
from tests.support.vault import KINDS, Vault, running

NARROW = 'path "auth/token/lookup-self" {\n  capabilities = ["read"]\n}\n'


@pytest.fixture(params=KINDS)
def vault(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Vault]:
    with running(request.param, tmp_path) as one:
        yield one


async def test_it_signs_in_when_it_is_needed_and_shows_no_secret(vault: Vault) -> None:
    sign_in = vault.approle(NARROW, token_ttl="1h")
    session = vault.session(sign_in)
    facts = (await session.call("get", "auth/token/lookup-self")).data
    assert sign_in.role_id in sign_in.login().body["role_id"]
    shown = repr(session) + repr(session.status()) + repr(sign_in) + repr(sign_in.login())
    assert sign_in.login().body["secret_id"] not in shown
    assert str(facts.get("id") or "s.") not in shown
    assert session.status().until is not None
    await session.close()


async def test_a_revoked_token_is_replaced_by_another_login(vault: Vault) -> None:
    session = vault.session(vault.approle(NARROW, token_ttl="1h"))
    await session.call("get", "auth/token/lookup-self")
    assert session._held is not None
    vault.call("POST", "auth/token/revoke", {"token": session._held.token})
    session._logged_in_at = float("-inf")  # the login was long ago
    await session.call("get", "auth/token/lookup-self")
    await session.close()


async def test_it_renews_and_logs_in_again_when_the_token_does_not_grow_any_more(vault: Vault) -> None:
    session = vault.session(vault.approle(NARROW, token_ttl="3s", token_max_ttl="5s"))
    keeping = asyncio.create_task(session.run())
    tokens = set()
    for _ in range(40):
        await asyncio.sleep(0.25)
        if session._held is not None:
            tokens.add(session._held.token)
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping
    assert len(tokens) >= 2
    assert session.status().fault == ""
    await session.close()


async def test_what_is_wrong_with_the_sign_in_is_told_without_the_secret(vault: Vault) -> None:
    good = vault.approle(NARROW)
    for sign_in in (
        AppRoleSignIn(good.role_id, vault.secret("11111111-2222-3333-4444-555555555555"), good.mount),
        TokenSignIn(vault.secret("s.0123456789abcdefghijklmn")),
    ):
        session = vault.session(sign_in)
        with pytest.raises(Unauthenticated, match="cannot sign in to Vault") as caught:
            await session.call("get", "auth/token/lookup-self")
        assert "11111111" not in caught.value.sentence()
        assert "s.0123" not in caught.value.sentence()
        assert session.status().fault
        await session.close()


async def test_what_is_not_permitted_and_what_is_not_there_are_told_apart(vault: Vault) -> None:
    narrow, wide = vault.session(vault.approle(NARROW)), vault.session()
    with pytest.raises(PermissionDenied, match="does not permit us"):
        await narrow.call("list", "nowhere/issuers")
    with pytest.raises(NotFound, match="has nothing at nowhere/issuers"):
        await wide.call("list", "nowhere/issuers")
    await narrow.close()
    await wide.close()


async def test_the_next_address_is_asked_when_the_first_does_not_answer(vault: Vault) -> None:
    access = VaultAccess(("http://127.0.0.1:9", vault.address), vault.as_root())
    session = Session(access, SystemClock())
    await session.call("get", "auth/token/lookup-self")
    assert session.status().address == vault.address
    await session.close()


async def test_one_that_hangs_is_told_and_comes_back_by_itself(vault: Vault) -> None:
    session = vault.session(timeout=timedelta(seconds=0.5))
    await session.call("get", "auth/token/lookup-self")
    vault.pause()
    try:
        with pytest.raises(Unavailable, match="in time"):
            await session.call("get", "auth/token/lookup-self")
        assert session.status().since is not None
    finally:
        vault.resume()
    for _ in range(20):
        with suppress(CitadelError):
            await session.call("get", "auth/token/lookup-self")
            break
    assert session.status().fault == ""
    await session.close()
