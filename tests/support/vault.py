"""Vaults for tests: the contract double, and a real one when `bao` or `vault` is on PATH; set up by the same calls."""

from __future__ import annotations

import atexit
import functools
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from citadel.clock import SystemClock
from citadel.vault import AppRoleSignIn, LeafProfile, SecretFile, Session, SignIn, TokenSignIn, VaultAccess
from tests.support.certificates import Ca
from tests.support.vault_double import VaultDouble
from tests.support.waiting import free_port

KINDS = ("double", "bao")


@dataclass
class Vault:
    """A running Vault, with its root token. `double` is there if it is one."""

    address: str
    root_token: str
    folder: Path
    double: VaultDouble | None = None
    process: subprocess.Popen[bytes] | None = None
    ca: Path | None = None  # of its TLS certificate, if it speaks TLS
    unseal_key: str = ""
    namespace: str = ""
    command: tuple[str, ...] = ()  # of the process, to start it again

    def call(self, method: str, path: str, body: dict[str, Any] | None = None, *, wrap: str = "") -> dict[str, Any]:
        """As the operator, outside of hvac."""
        answer = self._ask(method, path, body, {"X-Vault-Wrap-TTL": wrap} if wrap else {})
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return dict(answer.json()) if answer.content else {}

    def _ask(self, method: str, path: str, body: dict[str, Any] | None, headers: dict[str, str]) -> httpx.Response:
        headers = {"X-Vault-Token": self.root_token, "X-Vault-Request": "true", **headers}
        headers |= {"X-Vault-Namespace": self.namespace} if self.namespace else {}
        headers |= {"Content-Type": "application/merge-patch+json"} if method == "PATCH" else {}
        verify = ssl.create_default_context(cafile=str(self.ca)) if self.ca else True
        return httpx.request(method, f"{self.address}/v1/{path}", json=body, headers=headers, timeout=20, verify=verify)

    def mount(self, kind: str, max_lease_ttl: str = "87600h") -> str:
        name = f"{kind}-{secrets.token_hex(4)}"
        self.call("POST", f"sys/mounts/{name}", {"type": kind, "config": {"max_lease_ttl": max_lease_ttl}})
        return name

    def new_root(self, mount: str, name: str = "mesh", **more: object) -> str:
        """The id of a new issuer."""
        body = {"common_name": f"{name} root", "issuer_name": name, "key_type": "ec", "ttl": "8760h", **more}
        return str(self.call("POST", f"{mount}/root/generate/internal", body)["data"]["issuer_id"])

    def new_leaf_issuer(self, root_mount: str, root: str, profile: LeafProfile, **role: object) -> tuple[str, str]:
        """An intermediate under `root` in a mount of its own, with the role `citadel`: the mount and its id."""
        mount = self.mount("pki")
        made = self.call("POST", f"{mount}/intermediate/generate/internal", {
            "common_name": "mesh leaf issuer", "key_type": "ec", "key_bits": 256,
        })["data"]  # fmt: skip
        signed = self.call("POST", f"{root_mount}/issuer/{root}/sign-intermediate", {
            "csr": made["csr"], "common_name": "mesh leaf issuer", "use_csr_values": False, "max_path_length": 0,
            "uri_sans": str(profile.trust_domain.id), "exclude_cn_from_sans": True, "ttl": "720h",
            "not_before_duration": "60s", "format": "pem",
        })["data"]  # fmt: skip
        chain = "\n".join(dict.fromkeys([signed["certificate"], *signed["ca_chain"]]))
        found = self.call("POST", f"{mount}/intermediate/set-signed", {"certificate": chain})["data"]
        self.call("POST", f"{mount}/roles/citadel", {**profile.role(), **role})
        infos = [(one, self.call("GET", f"{mount}/issuer/{one}/json")["data"]) for one in found["imported_issuers"]]
        return mount, next(one for one, data in infos if data["certificate"].strip() == signed["certificate"].strip())

    def in_namespace(self, name: str) -> Vault:
        """The same one, as it is in a namespace, which is made. Skips if it has none, as Vault's free edition."""
        if self._ask("POST", f"sys/namespaces/{name}", {}, {}).status_code == 404:
            pytest.skip("this Vault has no namespaces")
        return replace(self, namespace=name)

    def kill(self) -> None:
        """kill -9."""
        if self.double is not None:
            self.double.kill()
        else:
            assert self.process is not None
            self.process.kill()
            self.process.wait(10)

    def start_again(self) -> None:
        """After `kill`. It is sealed then."""
        if self.double is not None:
            self.double.start_again()
        else:
            self.process = process_of(self.command, self.folder)
            _wait(self, self.process, 503)

    def seal(self) -> None:
        if self.double is not None:
            self.double.sealed = True
        else:
            self.call("PUT", "sys/seal")

    def unseal(self) -> None:
        if self.double is not None:
            self.double.sealed = False
        else:
            self.call("PUT", "sys/unseal", {"key": self.unseal_key})

    def auth(self, kind: str, settings: dict[str, object] | None = None) -> str:
        """A mount of this way of signing in."""
        name = f"{kind}-{secrets.token_hex(4)}"
        self.call("POST", f"sys/auth/{name}", {"type": kind})
        if settings:
            self.call("POST", f"auth/{name}/config", settings)
        return name

    def policy(self, policy: str) -> str:
        name = f"policy-{secrets.token_hex(4)}"
        self.call("PUT", f"sys/policies/acl/{name}", {"policy": policy})
        return name

    def pause(self) -> None:
        """It hangs: connections are made, and nothing is answered."""
        if self.double is not None:
            self.double.silent.set()
        elif self.process is not None:
            self.process.send_signal(signal.SIGSTOP)
            while _states(self.process.pid) != {"T"}:
                time.sleep(0.005)  # the signal only begins to stop it

    def resume(self) -> None:
        if self.double is not None:
            self.double.silent.clear()
        elif self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    def secret(self, text: str) -> SecretFile:
        path = self.folder / f"secret-{secrets.token_hex(4)}"
        path.touch(0o600)
        path.write_text(text + "\n")
        return SecretFile(path)

    def as_root(self) -> SignIn:
        return TokenSignIn(self.secret(self.root_token))

    def approle(self, policy: str, **settings: object) -> AppRoleSignIn:
        """A role of its own in an AppRole mount of its own, with `policy` (HCL)."""
        name = f"role-{secrets.token_hex(4)}"
        self.call("PUT", f"sys/policies/acl/{name}", {"policy": policy})
        self.call("POST", f"sys/auth/{name}", {"type": "approle"})
        self.call("POST", f"auth/{name}/role/{name}", {"token_policies": name, **settings})
        role_id = self.call("GET", f"auth/{name}/role/{name}/role-id")["data"]["role_id"]
        secret_id = self.call("POST", f"auth/{name}/role/{name}/secret-id", {})["data"]["secret_id"]
        return AppRoleSignIn(str(role_id), self.secret(str(secret_id)), name)

    def session(self, sign_in: SignIn | None = None, **access: Any) -> Session:
        more = {"namespace": self.namespace, "ca_file": self.ca, **access}
        return Session(VaultAccess((self.address,), sign_in or self.as_root(), **more), SystemClock())


@contextmanager
def running(kind: str, folder: Path) -> Iterator[Vault]:
    """A Vault of this kind; skips if there is no `bao`."""
    if kind == "double":
        with VaultDouble() as double:
            yield Vault(double.address, double.root_token, folder, double)
        return
    shared = _shared(program("only the contract double was tested"))
    yield Vault(shared.address, shared.root_token, folder, process=shared.process)
    shared.resume()


@contextmanager
def running_tls(kind: str, folder: Path, clients: bytes) -> Iterator[Vault]:
    """As `running`, on TLS, sealable; of the real kind with a storage of files. `clients`: PEM of a CA of clients."""
    ca = Ca("vault's ca")
    certificate, key = ca.issue(folder / "tls")
    (folder / "tls" / "clients.pem").write_bytes(clients)
    ca_file = folder / "tls" / "ca.pem"
    ca_file.write_bytes(ca.certificate.public_bytes(Encoding.PEM))
    if kind == "double":
        with VaultDouble((certificate, key)) as double:
            yield Vault(double.address, double.root_token, folder, double, ca=ca_file)
        return
    yield from _sealable(program("only the contract double was tested"), folder, certificate, key, ca_file)


def program(instead: str) -> str:
    """`bao`, else `vault`; skips if neither is on PATH, saying what comes of that."""
    found = shutil.which("bao") or shutil.which("vault")
    if found is None:
        pytest.skip(f"there is no `bao` or `vault` on PATH: {instead}")
    return found


def _sealable(bao: str, folder: Path, certificate: Path, key: Path, ca: Path) -> Iterator[Vault]:
    port = free_port()
    (folder / "storage").mkdir()
    config = folder / "bao.hcl"
    config.write_text(
        f"""
disable_mlock = true
listener "tcp" {{
  address = "127.0.0.1:{port}"
  tls_cert_file = "{certificate}"
  tls_key_file = "{key}"
}}
storage "file" {{
  path = "{folder / "storage"}"
}}
"""
    )
    command = (bao, "server", f"-config={config}")
    process = process_of(command, folder)
    vault = Vault(f"https://localhost:{port}", "", folder, process=process, ca=ca, command=command)
    try:
        _wait(vault, process, 501)
        made = vault.call("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
        vault.root_token, vault.unseal_key = made["root_token"], made["keys_base64"][0]
        vault.unseal()
        _wait(vault, process)
        yield vault
    finally:
        assert vault.process is not None
        vault.process.terminate()
        vault.process.wait(10)


def _states(pid: int) -> set[str]:
    """Of its threads (proc(5))."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return {(one / "stat").read_text().rpartition(") ")[2][0] for one in threads}


@functools.cache
def _shared(bao: str) -> Vault:
    """One for all tests of this process: each makes mounts and roles of its own."""
    stack = ExitStack()
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bao")))
    started = stack.enter_context(contextmanager(_real)(bao, folder))
    atexit.register(stack.close)
    return started


def _real(bao: str, folder: Path) -> Iterator[Vault]:
    port = free_port()
    token = secrets.token_hex(16)
    command = [bao, "server", "-dev", f"-dev-listen-address=127.0.0.1:{port}", f"-dev-root-token-id={token}"]
    command.append("-dev-no-store-token")
    process = process_of(command, folder)
    try:
        vault = Vault(f"http://127.0.0.1:{port}", token, folder, process=process)
        _wait(vault, process)
        yield vault
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(10)


def process_of(command: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    environment = {"HOME": str(folder), "PATH": os.environ["PATH"]}
    with (folder / "bao.log").open("ab") as out:
        return subprocess.Popen(command, stdout=out, stderr=out, env=environment)


def _wait(vault: Vault, process: subprocess.Popen[bytes], status: int = 200) -> None:
    verify = ssl.create_default_context(cafile=str(vault.ca)) if vault.ca else True
    end = time.monotonic() + 30
    while time.monotonic() < end:
        assert process.poll() is None, (vault.folder / "bao.log").read_text()[-2000:]
        try:
            if httpx.get(f"{vault.address}/v1/sys/health", timeout=2, verify=verify).status_code == status:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("bao did not start within 30 s")
