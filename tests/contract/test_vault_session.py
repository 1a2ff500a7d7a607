"""What vault.Session promises, over the contract double and a real OpenBao."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from citadel.clock import SystemClock
from citadel.errors import AnswerLost, CitadelError, NotFound, PermissionDenied, Unauthenticated, Unavailable
from citadel.vault import AppRoleSignIn, CertificateSignIn, JwtSignIn, Session, TokenSignIn, VaultAccess
from tests.support.certificates import Ca
from tests.support.vault import KINDS, Vault, running, running_tls

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
    await _answered(session)
    assert session.status().fault == ""
    await session.close()


async def test_who_asks_one_that_hangs_waits_for_one_time_limit_however_many_ask(vault: Vault) -> None:
    session = vault.session(timeout=timedelta(seconds=0.5), threads=2)
    await session.call("get", "auth/token/lookup-self")
    vault.pause()
    began = time.monotonic()
    try:
        asked = (session.call("post", "sys/capabilities-self", {"paths": ["x"]}, repeat=False) for _ in range(30))
        answers = await asyncio.gather(*asked, return_exceptions=True)
    finally:
        vault.resume()
    assert time.monotonic() - began < 3  # one after the other they would take eight
    assert {type(one) for one in answers} == {AnswerLost, Unavailable}
    assert sum(isinstance(one, AnswerLost) for one in answers) <= 4  # of the others it is known that nothing was done
    await _answered(session)
    await session.close()


async def test_what_is_asked_for_once_goes_to_the_next_address_after_one_that_hangs(
    vault: Vault, tmp_path: Path
) -> None:
    with running("double", tmp_path) as hung:
        assert hung.double is not None
        access = VaultAccess((hung.address, vault.address), vault.as_root(), timeout=timedelta(seconds=0.5))
        session = Session(access, SystemClock())
        hung.double.faults = {"auth": lambda _: (472, {"errors": []})}  # it stands by, and then it hangs
        await session.call("get", "auth/token/lookup-self")
        session._active = 0
        hung.pause()
        with pytest.raises(AnswerLost):
            await session.call("post", "sys/capabilities-self", {"paths": ["x"]}, repeat=False)
        await session.call("post", "sys/capabilities-self", {"paths": ["x"]}, repeat=False)
        assert session.status().address == vault.address
        hung.resume()
        await session.close()


# --- ways of signing in


async def test_a_wrapped_secret_id_is_opened_once_and_kept_for_the_next_login(vault: Vault) -> None:
    plain = vault.approle(NARROW, token_ttl="1h")
    path = f"auth/{plain.mount}/role"
    role = vault.call("LIST", path)["data"]["keys"][0]
    wrapped = vault.call("POST", f"{path}/{role}/secret-id", {}, wrap="60s")["wrap_info"]["token"]
    sign_in = AppRoleSignIn(plain.role_id, vault.secret(wrapped), plain.mount, wrapped=True)
    session = vault.session(sign_in)
    await session.call("get", "auth/token/lookup-self")
    assert session._held is not None
    vault.call("POST", "auth/token/revoke", {"token": session._held.token})
    session._logged_in_at = float("-inf")
    await session.call("get", "auth/token/lookup-self")
    await session.close()
    again = vault.session(sign_in)  # as after a restart: somebody opened it before
    with pytest.raises(Unauthenticated, match="cannot be opened") as caught:
        await again.call("get", "auth/token/lookup-self")
    assert "revoke it" in caught.value.sentence()
    assert wrapped not in caught.value.sentence()
    await again.close()


async def test_a_wrapped_token_is_opened_and_a_wrapping_of_something_else_is_refused(vault: Vault) -> None:
    made = vault.call("POST", "auth/token/create", {"policies": ["default"], "ttl": "1h"}, wrap="60s")
    session = vault.session(TokenSignIn(vault.secret(made["wrap_info"]["token"]), wrapped=True))
    await session.call("get", "auth/token/lookup-self")
    await session.close()
    plain = vault.approle(NARROW)
    foreign = vault.call("GET", "sys/policies/acl/default" if vault.double is None else "auth/token/lookup-self",
                         wrap="60s")  # fmt: skip
    secret = vault.secret(foreign["wrap_info"]["token"])
    session = vault.session(AppRoleSignIn(plain.role_id, secret, plain.mount, wrapped=True))
    with pytest.raises(Unauthenticated, match="it holds no secret id"):
        await session.call("get", "auth/token/lookup-self")
    await session.close()


async def test_it_signs_in_by_jwt_which_is_read_again_each_time(vault: Vault, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    mount = vault.auth("jwt", {"jwt_validation_pubkeys": [public]})
    role = {"role_type": "jwt", "user_claim": "sub", "bound_audiences": ["vault"], "bound_subject": "citadel"}
    vault.call("POST", f"auth/{mount}/role/citadel", {**role, "token_policies": [vault.policy(NARROW)]})
    token = tmp_path / "jwt"

    def write(audience: str) -> None:
        claims = {"sub": "citadel", "aud": audience, "exp": int(time.time()) + 60, "iat": int(time.time())}
        token.write_text(jwt.encode(claims, key, algorithm="ES256"))

    session = vault.session(JwtSignIn("citadel", token, mount))
    write("somebody else")
    with pytest.raises(Unauthenticated, match="cannot sign in") as caught:
        await session.call("get", "auth/token/lookup-self")
    assert token.read_text() not in caught.value.sentence()
    write("vault")
    await session.call("get", "auth/token/lookup-self")
    assert session.status().signed_in_as
    await session.close()


async def test_it_signs_in_by_a_pods_token_at_kubernetes(tmp_path: Path) -> None:
    """Over the double alone: a real one asks a Kubernetes whether the token is a pod's."""
    with running("double", tmp_path) as vault:
        mount = vault.auth("kubernetes", {"kubernetes_host": "https://kubernetes.example.org"})
        vault.call("POST", f"auth/{mount}/role/citadel", {"token_policies": [vault.policy(NARROW)]})
        token = tmp_path / "token"
        token.write_text("a.pods.token\n")
        session = vault.session(JwtSignIn("citadel", token, mount))
        await session.call("get", "auth/token/lookup-self")
        await session.close()
        for sign_in, why in (
            (JwtSignIn("nobody", token, mount), "could not be found"),
            (JwtSignIn("citadel", tmp_path / "gone", mount), "there is no file|does not exist|gone"),
        ):
            session = vault.session(sign_in)
            with pytest.raises(CitadelError, match=why):
                await session.call("get", "auth/token/lookup-self")
            await session.close()


@pytest.fixture(params=KINDS)
def on_tls(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Vault, Ca]]:
    clients = Ca("clients")
    with running_tls(request.param, tmp_path, clients.certificate.public_bytes(Encoding.PEM)) as one:
        yield one, clients


async def test_over_tls_it_signs_in_by_certificate_and_seals_are_told_and_end(
    on_tls: tuple[Vault, Ca], tmp_path: Path
) -> None:
    vault, clients = on_tls
    mount = vault.auth("cert")
    pem = clients.certificate.public_bytes(Encoding.PEM).decode()
    policies = [vault.policy(NARROW)]
    vault.call("POST", f"auth/{mount}/certs/citadel", {"certificate": pem, "token_policies": policies})
    own = clients.issue(tmp_path / "own", name="citadel")
    access = VaultAccess((vault.address,), CertificateSignIn("citadel", mount), "", vault.ca, own)
    session = Session(access, SystemClock())
    await session.call("get", "auth/token/lookup-self")
    watching = asyncio.create_task(session.watch(timedelta(seconds=0.2)))
    await _until(lambda: (server := session.status().server) is not None and not server.sealed)
    vault.seal()
    with pytest.raises(Unavailable, match="is sealed") as caught:
        await session.call("get", "auth/token/lookup-self")
    assert "unseal it" in caught.value.sentence()
    await _until(lambda: (server := session.status().server) is not None and server.sealed)
    vault.unseal()
    await _until(lambda: session.status().fault == "")
    assert "sealed" in session.status().last_fault
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    await session.close()
    strange = Ca("another").issue(tmp_path / "strange", name="citadel")
    for wrong, why in (
        (replace(access, ca_file=None), "not signed by a CA that we trust"),
        (replace(access, client_certificate=strange), "Vault at|cannot sign in"),
        (replace(access, client_certificate=None), "Vault at|cannot sign in"),
        (replace(access, addresses=(vault.address.replace("localhost", "127.0.0.1"),)), "is not for this name"),
    ):
        session = Session(wrong, SystemClock())
        with pytest.raises(CitadelError, match=why):
            await session.call("get", "auth/token/lookup-self")
        await session.close()


async def _answered(session: Session) -> None:
    """Until it is, by itself. Right after a failure the next calls do not wait for the same."""
    async with asyncio.timeout(20):
        while True:
            with suppress(CitadelError):
                await session.call("get", "auth/token/lookup-self")
                return
            await asyncio.sleep(0.1)


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.05)


# --- what an address answers that is not the active node, over the double


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (429, "limits how often"),
        (472, "is a standby"),
        (473, "is a standby"),
        (307, "is a standby"),
        (412, "has not caught up"),
        (501, "is not initialised"),
        (503, "is not ready"),
        (500, "stands by, and its cluster has no active node"),
    ],
)
async def test_another_address_is_asked_and_if_there_is_none_it_is_told_which_it_was(
    status: int, why: str, tmp_path: Path
) -> None:
    with running("double", tmp_path) as first, running("double", tmp_path) as second:
        assert first.double is not None
        assert second.double is not None
        second.double.tokens.of = first.double.tokens.of  # one cluster
        said = ["local node not active but active cluster node not found"] if status == 500 else []
        first.double.faults = {"": lambda _: (status, {"errors": said})}
        session = Session(VaultAccess((first.address, second.address), first.as_root()), SystemClock())
        await session.call("get", "auth/token/lookup-self")
        assert session.status().address == second.address
        calls = len(first.double.calls)
        await session.call("get", "auth/token/lookup-self")
        assert len(first.double.calls) == calls  # the one that answered is asked first from now on
        await session.close()
        alone = Session(VaultAccess((first.address,), first.as_root()), SystemClock())
        with pytest.raises(Unavailable, match=why):
            await alone.call("get", "auth/token/lookup-self")
        await alone.close()


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ((0, b""), "cut the connection|cannot be reached"),
        ((200, b"<html>a proxy</html>"), "is not Vault's"),
        ((200, {"data": ["x"]}), "of the wrong kind"),
        ((500, {"errors": ["boom"]}), "status 500: boom"),
    ],
)
async def test_a_cut_connection_and_garbage_are_told_and_are_over_by_themselves(
    fault: tuple[int, object], why: str, tmp_path: Path
) -> None:
    with running("double", tmp_path) as vault:
        assert vault.double is not None
        session = vault.session()
        await session.call("get", "auth/token/lookup-self")
        vault.double.faults = {"auth/token": lambda _: fault}
        with pytest.raises(Unavailable, match=why):
            await session.call("get", "auth/token/lookup-self")
        vault.double.faults = {}
        await _answered(session)
        assert session.status().fault == ""
        await session.close()
