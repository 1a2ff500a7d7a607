"""A real `citadel up` whose root is in Vault: over the contract double, and a real OpenBao if there is one."""

from __future__ import annotations

import re
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from google.rpc import error_details_pb2, status_pb2

from citadel.api.proto.spire.api.server.svid.v1 import svid_pb2, svid_pb2_grpc
from citadel.vault import Need, hcl, pki_needs, session_needs, transit_kek_needs, transit_signer_needs
from tests.support import desk
from tests.support import up as ups
from tests.support.issuance import make_csr
from tests.support.vault import KINDS, Vault, running
from tests.support.vault_double import VaultDouble

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(params=KINDS)
def vault(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Vault]:
    with running(request.param, tmp_path) as one:
        yield one


def root_in_vault(mount: str, issuer: str) -> str:
    return f"""
[root]
kind = "vault"
vault_mount = "{mount}"
vault_issuer = "{issuer}"
"""


def settings(vault: Vault, mount: str, issuer: str, **role: object) -> str:
    """A root in Vault, and an AppRole that has the least policy for it."""
    return signed_in(vault, pki_needs(mount, issuer), root_in_vault(mount, issuer), **role)


def signed_in(vault: Vault, needs: list[Need], what: str, **role: object) -> str:
    """The configuration `what`, with an AppRole that is permitted just `needs`."""
    role = {"token_ttl": "1h", "token_max_ttl": "24h", **role}
    approle = vault.approle(hcl([*session_needs(), *needs]), **role)
    return (
        f"""
{what}
[vault]
addresses = ["{vault.address}"]
check = "1s"
timeout = "2s"
[vault.auth]
method = "approle"
mount = "{approle.mount}"
role_id = "{approle.role_id}"
secret_id_file = "file:{approle.secret_id.path}"
"""
        + ups.QUICK
    )


def wait_for(look: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s: {what}")


def vault_check(up: ups.Up) -> dict[str, Any]:
    return next(one for one in desk.status(up)["checks"] if one["name"] == "vault")


def up_mount(up: ups.Up) -> str:
    """Of the AppRole that it signs in by; its role and policy are named like it."""
    return next(line.split('"')[1] for line in up.config.read_text().splitlines() if line.startswith("mount = "))


def active_root(up: ups.Up) -> dict[str, Any]:
    return next(one for one in desk.authorities(up) if (one["kind"], one["state"]) == ("root", "active"))


def is_served(up: ups.Up) -> bool:
    """Whether a workload is given a certificate now."""
    with ups.Workload(up.workload_socket, "spiffe://example.org/web") as workload:
        return "spiffe://example.org/web" in workload.take()


def test_the_root_is_vaults_the_least_policy_is_enough_and_another_is_trusted_only_when_it_is_approved(
    vault: Vault, tmp_path: Path
) -> None:
    mount = vault.mount("pki")
    issuer = vault.new_root(mount)
    soon = '[rotation]\nreconnect_window = "1s"\nassumed_after = "1s"\n'
    with ups.running(tmp_path / "c", soon + settings(vault, mount, issuer)) as up:
        authorities = {one["kind"]: one for one in desk.authorities(up)}
        assert authorities["root"]["subject"] == "CN=mesh root"
        assert authorities["issuing"]["signed_by"] == authorities["root"]["skid"]
        assert vault_check(up)["ok"]
        checked = up.json("vault", "check")
        assert {one["result"] for one in checked} == {"ok"}, checked
        assert vault.root_token not in up.log.read_text()
        for secret in vault.folder.glob("secret-*"):
            assert secret.read_text().strip() not in up.log.read_text()
        before = up.json("bundle", "show")  # another issuer comes into the mount: it is told, and trusted by nobody
        stranger = vault.new_root(mount, "stranger")
        wait_for(lambda: any(stranger in one for one in desk.status(up)["waiting"]), "the operator is told")
        (told,) = up.json("vault", "status")["findings"]
        assert (told["kind"], told["subject"], told["stops"]) == ("new-issuer", stranger, False)
        check = next(one for one in desk.status(up)["checks"] if one["name"] == "vault-findings")
        assert (check["ok"], stranger in check["reason"]) == (False, True)
        assert up.json("bundle", "show") == before
        refused = up.run("root", "rotate", "--to", "vault", stranger, "--detach", check=False)
        assert "does not permit us" in refused.stderr  # the policy is for the pinned one
        assert f"citadel vault setup --apply --issuer {stranger}" in refused.stderr
        needs = [*session_needs(), *pki_needs(mount, issuer), *pki_needs(mount, stranger)]
        vault.call("PUT", f"sys/policies/acl/{up_mount(up)}", {"policy": hcl(list(dict.fromkeys(needs)))})
        up.run("root", "rotate", "--to", "vault", stranger, "--reason", "the old one is retired", "--detach")
        wait_for(lambda: active_root(up)["subject"] == "CN=stranger root", "it signs")
        wait_for(lambda: not up.json("vault", "status")["findings"], "it is nobody's news any more")
        waiting = desk.status(up)["waiting"]
        assert any("pin the issuer in force" in one and stranger in one for one in waiting), waiting
        events = [one["action"] for one in up.json("audit", "list")]
        assert {"vault.finding", "vault.finding-over"} <= set(events)
        up.config.write_text(up.config.read_text().replace(issuer, stranger))
        up.end()
        vault.call("DELETE", f"{mount}/issuer/{issuer}")
        up.start()
        assert not [one for one in desk.status(up)["waiting"] if "issuer" in one]


def test_an_outage_stops_no_certificates_is_told_and_ends_without_a_restart(vault: Vault, tmp_path: Path) -> None:
    mount = vault.mount("pki")
    issuer = vault.new_root(mount)
    configured = settings(vault, mount, issuer)
    vault.pause()
    with ups.running(tmp_path / "c", configured) as up:  # the very first start, without it: what can be is there
        assert any("the start is not finished" in one for one in desk.status(up)["waiting"])
        vault.resume()
        wait_for(lambda: [one for one in desk.authorities(up) if one["state"] == "active"], "the start is finished")
        wait_for(lambda: all(one["ok"] for one in desk.status(up)["checks"]), "all is well")
        vault.pause()
        down = wait_for(lambda: not (one := vault_check(up))["ok"] and one, "the outage shows in status")
        assert "certificates are issued from what we hold until" in down["reason"]
        assert "since" in down["reason"]
        up.register("/web", ups.me())
        assert is_served(up)
        up.end()
        up.start()  # Vault is still down: what we hold goes on
        assert is_served(up)
        vault.resume()
        wait_for(lambda: vault_check(up)["ok"], "it recovers by itself")


def test_check_names_what_is_missing_and_what_is_too_wide(vault: Vault, tmp_path: Path) -> None:
    mount = vault.mount("pki")
    issuer = vault.new_root(mount)
    up = ups.Up(tmp_path / "c", settings(vault, mount, issuer))
    narrow = f'path "{mount}/issuer/{issuer}/json" {{\n  capabilities = ["read", "update"]\n}}\n'
    approle = vault.approle(narrow, token_ttl="1h")
    text = up.config.read_text()
    lines = []
    for line in text.splitlines():
        if line.startswith("mount = "):
            line = f'mount = "{approle.mount}"'
        elif line.startswith("role_id"):
            line = f'role_id = "{approle.role_id}"'
        elif line.startswith("secret_id_file"):
            line = f'secret_id_file = "file:{approle.secret_id.path}"'
        lines.append(line)
    up.config.write_text("\n".join(lines))
    done = up.run("vault", "check", check=False)
    assert done.returncode == 1
    assert "missing: update (to have an issuing CA signed)" in " ".join(done.stdout.split())
    assert "too wide: update" in done.stdout
    assert f'path "{mount}/issuer/{issuer}/sign-intermediate"' in done.stderr


def test_from_disk_to_vault_is_a_rotation(vault: Vault, tmp_path: Path) -> None:
    mount = vault.mount("pki")
    issuer = vault.new_root(mount)
    with ups.running(tmp_path / "c", ups.QUICK + '[rotation]\nreconnect_window = "1s"\nassumed_after = "1s"\n') as up:
        old = next(one for one in desk.authorities(up) if one["kind"] == "root")
        up.end()
        text = up.config.read_text()
        up.config.write_text(text + settings(vault, mount, issuer).replace(ups.QUICK, ""))
        up.start()
        assert any("only by a rotation" in one for one in desk.status(up)["waiting"])
        up.run("root", "prepare")
        roots = {one["skid"]: one for one in desk.authorities(up) if one["kind"] == "root"}
        new = next(one for skid, one in roots.items() if skid != old["skid"])
        assert new["subject"] == "CN=mesh root"
        assert roots[old["skid"]]["state"] in ("active", "retiring")
        wait_for(lambda: desk.does(up, "activate"), "the gate opens")
        issuing = [one for one in desk.authorities(up) if (one["kind"], one["state"]) == ("issuing", "active")]
        assert [one["signed_by"] for one in issuing] == [new["skid"]]
        wait_for(lambda: up.run("root", "remove", old["skid"], "--force", "--yes", check=False).returncode == 0, "gone")
        up.run("root", "prepare", "--to", "disk")  # and back, without touching the configuration
        wait_for(lambda: desk.does(up, "activate"), "the gate opens")
        (now,) = [one for one in desk.authorities(up) if (one["kind"], one["state"]) == ("root", "active")]
        assert (now["key_source"], now["skid"] == old["skid"]) == ("sealed", False)


def test_the_issuing_key_is_in_transit_and_an_outage_is_over_by_itself(vault: Vault, tmp_path: Path) -> None:
    mount, keks = vault.mount("transit"), vault.mount("transit")
    vault.call("POST", f"{keks}/keys/citadel", {})
    signer = (
        f'[signer]\nkind = "vault-transit"\nvault_mount = "{mount}"\n[keys]\nkek = "vault-transit:{keks}/citadel"\n'
    )
    needs = [*transit_signer_needs(mount), *transit_kek_needs(keks, "citadel")]
    with ups.running(tmp_path / "c", signed_in(vault, needs, signer)) as up:
        (issuing,) = [one for one in desk.authorities(up) if one["kind"] == "issuing"]
        assert issuing["key_source"] == "vault"
        checked = up.json("vault", "check")
        assert {one["result"] for one in checked} == {"ok"}, checked
        up.register("/web", ups.me())
        assert is_served(up)
        vault.pause()
        wait_for(lambda: not vault_check(up)["ok"], "the outage shows in status")
        up.end()
        up.start()  # Vault is still down: nothing is signed, and it says so
        with ups.Workload(up.workload_socket, "spiffe://example.org/web") as workload:
            down = wait_for(lambda: not (one := vault_check(up))["ok"] and one, "it is told")
            assert "no certificates are issued meanwhile" in down["reason"]
            standing = up.json("vault", "status")
            assert standing["fault"]
            assert standing["fault_since"]
            assert workload.nothing_comes(0.5)
            vault.resume()
            assert "spiffe://example.org/web" in workload.take()
        standing = wait_for(lambda: not (one := desk.status(up)["vault"])["fault"] and one["server_version"] and one,
                            "status says so")  # fmt: skip
        assert (standing["sealed"], standing["standby"]) == (False, False)
        assert standing["token_until"]
        assert standing["last_fault"]
        wait_for(lambda: vault_check(up)["ok"], "it recovers by itself")
        before = issuing["skid"]
        up.run("ca", "rotate")
        (now,) = [one for one in desk.authorities(up) if (one["kind"], one["state"]) == ("issuing", "active")]
        assert now["skid"] != before
        assert now["key_source"] == "vault"
        backup, key = tmp_path / "backup", x25519(tmp_path)
        assert up.json("backup", "create", backup, "--recipient", f"{key}.pub")["proof_of_origin"]
        up.end()
        for file in (up.home / "db").glob("citadel.db*"):
            file.unlink()
        restore = ("backup", "restore", backup, "--identity", key)
        vault.pause()
        assert "the key-encryption key that could tell cannot be asked now" in up.run(*restore, check=False).stderr
        vault.resume()
        up.run(*restore)
        up.start()
        assert now["skid"] in {one["skid"] for one in desk.authorities(up)}


def x25519(folder: Path) -> Path:
    """A private key to which backups can be sealed; the public one has .pub behind its name."""
    private, path = X25519PrivateKey.generate(), folder / "backup.key"
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    path.with_name(f"{path.name}.pub").write_bytes(public)
    return path


def test_setup_gives_a_vault_all_that_is_needed_and_nothing_more(vault: Vault, tmp_path: Path) -> None:
    own = secrets.token_hex(4)
    vault = vault.in_namespace(f"team-{own}")
    secret = tmp_path / "secret-id"
    up = ups.Up(
        tmp_path / "c",
        f"""
{root_in_vault(f"m1-{own}", "")}
[signer]
kind = "vault-pki"
vault_mount = "m2-{own}"
vault_role = "citadel"
[vault]
addresses = ["{vault.address}"]
namespace = "{vault.namespace}"
timeout = "2s"
[vault.auth]
method = "approle"
mount = "auth-{own}"
role_id = "citadel-{own}"
secret_id_file = "file:{secret}"
"""
        + ups.QUICK,
        {"BAO_TOKEN": vault.root_token},
    )
    printed = up.run("vault", "setup", "--print").stdout
    assert "bao policy write citadel " in printed
    refused = up.run("vault", "setup", "--apply", check=False)
    assert (refused.returncode, secret.exists()) == (2, False)
    assert "+ approle at auth/auth-" in refused.stdout  # the diff is shown before it asks
    done = up.run("vault", "setup", "--apply", "--yes", "--name", f"citadel-{own}")
    for line in done.stderr.splitlines():  # what to pin
        if line.startswith("["):
            section, _, setting = line.partition("]")
            text = up.config.read_text().replace('vault_issuer = ""\n', "", 1)
            up.config.write_text(text.replace(f"{section}]\n", f"{section}]\n{setting.strip()}\n", 1))
    again = up.run("vault", "setup", "--apply", "--yes", "--name", f"citadel-{own}")
    assert "nothing is to be done" in again.stdout, again.stdout
    assert secret.read_text().strip() not in done.stdout + done.stderr + again.stdout
    checked = up.json("vault", "check")
    assert {one["result"] for one in checked} == {"ok"}, checked
    up.start()
    try:
        up.register("/web", ups.me())
        assert is_served(up)
        issuing = next(one for one in desk.authorities(up) if one["kind"] == "issuing")
        assert issuing["key_source"] == "vault"
        (leaf,) = up.json("svid", "list")
        assert leaf["outcome"] == "issued"
        assert leaf["authority"] == issuing["skid"]
        if vault.double is not None:
            killed_behind_vaults_signature(up, vault.double)
        up.end()
        vault.pause()
        up.start()  # without Vault: what is there is there, and the rest waits
        assert up.run("bundle", "show").stdout
        down = wait_for(lambda: not (one := vault_check(up))["ok"] and one, "it is told")
        assert "no certificates are issued meanwhile" in down["reason"]
        answer = is_refused(up)
        assert answer.code() is grpc.StatusCode.UNAVAILABLE
        assert asked_again_in(answer) == 5
        with ups.Workload(up.workload_socket, "spiffe://example.org/web") as workload:
            assert workload.nothing_comes(0.5)
            vault.resume()
            assert "spiffe://example.org/web" in workload.take()
    finally:
        vault.resume()
        up.end()


def killed_behind_vaults_signature(up: ups.Up, double: VaultDouble) -> None:
    """Vault made a certificate, and we are killed before its answer is read: at the next start that is on record."""
    issuing = re.compile(r"POST (\S+/issuer/\S+/sign)/citadel")
    (path,) = {found[1] for call in double.calls if (found := issuing.fullmatch(call))}
    double.faults = {path: lambda _: up.end(signal.SIGKILL) and None}  # and then it signs
    assert is_refused(up).code() is grpc.StatusCode.UNAVAILABLE  # gRPC's own: the connection is gone
    assert up.process.wait(10) == -signal.SIGKILL
    double.faults = {}
    up.start()
    outcomes = [one["outcome"] for one in up.json("svid", "list")]
    assert sorted(outcomes) == ["issued", "unknown"]
    (event,) = [one for one in up.json("audit", "list") if one["subject"] == "spiffe://example.org/other"]
    assert event["action"] == "svid.issue"  # the intent


def is_refused(up: ups.Up) -> Any:
    request = make_csr(uris=["spiffe://example.org/other"])
    with grpc.insecure_channel(f"unix:{up.admin_socket}") as channel, pytest.raises(grpc.RpcError) as caught:
        svid_pb2_grpc.SVIDStub(channel).MintX509SVID(svid_pb2.MintX509SVIDRequest(csr=request), timeout=20)
    return caught.value


def asked_again_in(refused: Any) -> int:
    """Seconds, as it was told."""
    status, hint = status_pb2.Status(), error_details_pb2.RetryInfo()
    status.ParseFromString(dict(refused.trailing_metadata())["grpc-status-details-bin"])
    assert status.details[0].Unpack(hint)
    return int(hint.retry_delay.seconds)
