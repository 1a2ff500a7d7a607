"""Each way of signing in reads its secret again at every login; a token is renewed at two thirds of its life, and
replaced when that does not help. What an answer to a login may not be."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from citadel.clock import SystemClock
from citadel.errors import CitadelError, Unauthenticated, Unavailable
from citadel.vault import AppRoleSignIn, JwtSignIn, KubernetesTarget, Session, SignIn, TokenSignIn, VaultAccess
from citadel.vault.setup_steps import Bench
from tests.support.certificates import Ca
from tests.support.vault import KINDS, Vault, running

LOOKUP = "auth/token/lookup-self"
NARROW = f'path "{LOOKUP}" {{\n  capabilities = ["read"]\n}}\n'


@pytest.fixture(params=KINDS)
def vault(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Vault]:
    with running(request.param, tmp_path) as one:
        yield one


@dataclass
class Way:
    """One way of signing in; `replace` puts another secret into its file, and has the old one taken by nobody."""

    sign_in: SignIn
    replace: Callable[[], None]


def by_token(vault: Vault, _: Path) -> Way:
    def new() -> str:
        body = {"policies": [vault.policy(NARROW)], "ttl": "1h"}
        return str(vault.call("POST", "auth/token/create", body)["auth"]["client_token"])

    first = new()
    file = vault.secret(first)

    def replace() -> None:
        vault.call("POST", "auth/token/revoke", {"token": first})
        file.path.write_text(new() + "\n")

    return Way(TokenSignIn(file), replace)


def by_approle(vault: Vault, _: Path) -> Way:
    made = vault.approle(NARROW, token_ttl="1h")
    role = f"auth/{made.mount}/role/{made.mount}"

    def replace() -> None:
        vault.call("POST", f"{role}/secret-id/destroy", {"secret_id": made.secret_id.path.read_text().strip()})
        made.secret_id.path.write_text(str(vault.call("POST", f"{role}/secret-id", {})["data"]["secret_id"]) + "\n")

    return Way(made, replace)


def by_jwt(vault: Vault, folder: Path) -> Way:
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    mount = vault.auth("jwt", {"jwt_validation_pubkeys": [public]})
    role = {"role_type": "jwt", "user_claim": "sub", "bound_audiences": ["vault"], "bound_subject": "citadel"}
    vault.call("POST", f"auth/{mount}/role/citadel", {**role, "token_policies": [vault.policy(NARROW)]})
    file = folder / "jwt"

    def write(left: int) -> None:
        claims = {"sub": "citadel", "aud": "vault", "exp": int(time.time()) + left, "iat": int(time.time()) - 600}
        file.write_text(jwt.encode(claims, key, algorithm="ES256"))

    write(60)
    return Way(JwtSignIn("citadel", file, mount), lambda: write(60))


@pytest.mark.parametrize("way", [by_token, by_approle, by_jwt])
async def test_the_secret_is_read_again_when_the_token_is_not_taken_any_more(
    vault: Vault, tmp_path: Path, way: Callable[[Vault, Path], Way]
) -> None:
    found = way(vault, tmp_path)
    session = vault.session(found.sign_in)
    await session.call("get", LOOKUP)
    assert session._held is not None
    before = session._held.token
    found.replace()
    if way is not by_token:
        vault.call("POST", "auth/token/revoke", {"token": before})
    session._logged_in_at = float("-inf")  # the login was long ago
    await session.call("get", LOOKUP)
    assert session._held.token != before
    await session.close()


@contextmanager
def kubernetes(reviewed: list[str]) -> Iterator[str]:
    """What Vault asks of a Kubernetes: whose token it is (TokenReview, authentication.k8s.io/v1). Every token is that
    of the service account that it names."""

    class Reviews(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            token = asked["spec"]["token"]
            reviewed.append(token)
            claims = jwt.decode(token, options={"verify_signature": False})
            user = {"username": claims["sub"], "uid": "1", "groups": ["system:serviceaccounts"]}
            status = {"authenticated": True, "user": user, "audiences": asked["spec"].get("audiences", [])}
            content = json.dumps({**asked, "status": status}).encode()
            self.send_response(201)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Reviews) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join(5)


async def test_a_pods_token_is_reviewed_by_kubernetes_and_read_again_at_each_login(
    vault: Vault, tmp_path: Path
) -> None:
    key, file, reviewed = ec.generate_private_key(ec.SECP256R1()), tmp_path / "token", list[str]()

    def write(account: str) -> None:
        about = {"namespace": "mesh", "serviceaccount": {"name": account, "uid": "1"}}
        claims = {"sub": f"system:serviceaccount:mesh:{account}", "aud": ["vault"], "kubernetes.io": about}
        times = {"iat": int(time.time()) - 5, "exp": int(time.time()) + 600, "iss": "https://kubernetes"}
        file.write_text(jwt.encode({**claims, **times, "jti": str(time.monotonic())}, key, algorithm="ES256"))

    with kubernetes(reviewed) as host:
        any_ca = Ca("kubernetes").certificate.public_bytes(Encoding.PEM).decode()
        told = {"kubernetes_host": host, "kubernetes_ca_cert": any_ca, "disable_local_ca_jwt": True}
        mount = vault.auth("kubernetes", told)
        target = KubernetesTarget(mount, "citadel", "mesh", "citadel", audience="vault")
        operator = vault.session()
        async for step in target.steps(Bench(operator), vault.policy(NARROW)):
            if step.differs and step.do is not None:
                await step.do()
        await operator.close()
        session = vault.session(JwtSignIn("citadel", file, mount))
        if vault.double is None:  # which lets anybody in
            write("somebody")
            with pytest.raises(Unauthenticated, match="service account name not authorized"):
                await session.call("get", LOOKUP)
        write("citadel")
        await session.call("get", LOOKUP)
        assert session.status().fault == ""
        if vault.double is None:
            assert reviewed[-1] == file.read_text()
        await session.close()


async def test_a_secret_id_that_is_used_up_is_told_as_such(vault: Vault) -> None:
    made = vault.approle(NARROW, token_ttl="1h")
    role = f"auth/{made.mount}/role/{made.mount}"
    vault.call("POST", role, {"token_policies": made.mount, "secret_id_num_uses": 1})
    secret = str(vault.call("POST", f"{role}/secret-id", {})["data"]["secret_id"])
    once = AppRoleSignIn(made.role_id, vault.secret(secret), made.mount)
    for works in (True, False):
        session = vault.session(once)
        if works:
            await session.call("get", LOOKUP)
        else:
            with pytest.raises(Unauthenticated, match="cannot sign in to Vault") as caught:
                await session.call("get", LOOKUP)
            assert "used up" in caught.value.sentence()
            assert secret not in caught.value.sentence()
        await session.close()


async def test_a_token_is_due_at_two_thirds_of_its_life_less_some_jitter(vault: Vault) -> None:
    sign_in = vault.approle(NARROW, token_ttl="90s", token_max_ttl="24h")
    for latest in (True, False):

        def spread(low: float, high: float, latest: bool = latest) -> float:
            return high if latest else low

        session = Session(VaultAccess((vault.address,), sign_in), SystemClock(), spread=spread)
        await session.call("get", LOOKUP)
        due = 90 * 2 / 3 * (1.0 if latest else 0.9)
        assert due - 2 <= session._until_due() <= due
        await session.close()


async def test_one_that_cannot_be_renewed_is_replaced_by_another_login(vault: Vault) -> None:
    session = vault.session(vault.approle(NARROW, token_ttl="1h", token_type="batch"))
    await session.call("get", LOOKUP)
    held = session._held
    assert held is not None
    assert not held.renewable
    await session._renew(held)
    assert session._held is not None
    assert session._held.token != held.token
    await session.call("get", LOOKUP)
    await session.close()


@pytest.mark.parametrize(
    "auth",
    [
        {"client_token": 17, "lease_duration": 60},
        {"client_token": "", "lease_duration": 60},
        {"client_token": "two lines\r\nX-Vault-Token: root", "lease_duration": 60},
        {"client_token": "x" * 100_000, "lease_duration": 60},
        {"client_token": "s.good", "lease_duration": "soon"},
        {"client_token": "s.good", "lease_duration": -1},
        {"client_token": "s.good", "lease_duration": 1e300},
        {"client_token": "s.good", "lease_duration": float("nan")},
        {"client_token": "s.good", "lease_duration": True},
        ["s.good"],
        "s.good",
        None,
    ],
)
async def test_a_login_that_gives_no_token_is_refused(auth: Any, tmp_path: Path) -> None:
    with running("double", tmp_path) as vault:
        assert vault.double is not None
        sign_in = vault.approle(NARROW)
        content = json.dumps({"data": None, "auth": auth}).encode()
        vault.double.faults = {f"auth/{sign_in.mount}/login": lambda _: (200, content)}
        session = vault.session(sign_in)
        with pytest.raises(Unavailable, match="is not Vault's"):
            await session.call("get", LOOKUP)
        assert session.status().fault
        assert session.status().until is None
        vault.double.faults = {}
        session._away = None  # the pause after a failure is over
        await session.call("get", LOOKUP)
        await session.close()


@pytest.mark.parametrize("ttl", ["soon", -1, 1e300, float("nan"), [1], True])
async def test_a_token_whose_life_cannot_be_read_is_not_taken_for_one_without_end(ttl: object, tmp_path: Path) -> None:
    with running("double", tmp_path) as vault:
        assert vault.double is not None
        content = json.dumps({"data": {"ttl": ttl, "policies": [], "display_name": "x"}}).encode()
        vault.double.faults = {LOOKUP: lambda _: (200, content)}
        session = vault.session()
        with pytest.raises(CitadelError, match="a token's life"):
            await session.call("get", "sys/mounts/x")
        await session.close()
