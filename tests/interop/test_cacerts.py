"""`citadel up` on the user's own CA: another one under its root, a new root that waits, faults, loss of the files."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.support.cacerts import Ca, make_ca, make_crl, plug
from tests.support.up import QUICK, Up, Workload, me, running

_PATIENCE = 20.0


def settings(folder: Path) -> str:
    return f'{QUICK}[root]\nkind = "cacerts"\ncacerts_dir = "{folder}"\n[jobs]\nplugged_ca = "1s"\n'


def until(up: Up, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The status, once it fits."""
    end = time.monotonic() + _PATIENCE
    while not fits(found := up.json("status")):
        assert time.monotonic() < end, found
        time.sleep(0.2)
    return dict(found)


def signs(found: dict[str, Any]) -> list[str]:
    return [a["subject"] for a in found["authorities"] if (a["kind"], a["state"]) == ("issuing", "active")]


def held(up: Up, name: str) -> Any:
    """The secret that a fresh client gets."""
    with Workload(up.workload_socket, name) as client:
        return client.take()[name]


def chain_of(up: Up, ca: Ca) -> list[x509.Certificate]:
    """What a workload holds once it is signed by `ca`."""
    end = time.monotonic() + _PATIENCE
    while True:
        chain = x509.load_pem_x509_certificates(held(up, "default").tls_certificate.certificate_chain.inline_bytes)
        if chain[0].issuer == ca.certificate.subject:
            chain[0].verify_directly_issued_by(ca.certificate)
            return chain
        assert time.monotonic() < end, chain
        time.sleep(0.2)


def restart(up: Up) -> None:
    assert up.end() == 0
    up.start()


def test_a_plugged_in_ca_is_changed_under_its_root_while_another_root_waits(tmp_path: Path) -> None:
    folder = tmp_path / "cacerts"
    root = make_ca("root one")
    first, second = make_ca("ca one", root), make_ca("ca two", root)
    plug(folder, first, crls=[make_crl(first), make_crl(root)])
    with running(tmp_path / "c", settings(folder)) as up:
        up.register("/web", me(), "--ttl", "4s")
        assert [c.subject for c in chain_of(up, first)[1:]] == [first.certificate.subject]
        trusted = held(up, "ROOTCA").validation_context
        assert x509.load_pem_x509_certificates(trusted.trusted_ca.inline_bytes) == [root.certificate]
        assert trusted.crl.inline_bytes.count(b"BEGIN X509 CRL") == 2

        plug(folder, second, crls=[make_crl(second), make_crl(root)])  # leaves of the first are in use
        found = until(up, lambda found: signs(found) == ["CN=ca two"])
        assert found["waiting"] == []
        chain_of(up, second)
        crls = held(up, "ROOTCA").validation_context.crl.inline_bytes
        assert crls.count(b"BEGIN X509 CRL") == 3, "Envoys refuse whom no CRL covers"

        plug(folder, third := make_ca("ca three", make_ca("root two")))
        for again in (False, True):
            if again:
                restart(up)
            found = until(up, lambda found: bool(found["waiting"]))
            assert "has not been distributed yet; the present CA stays in force until it is" in found["waiting"][0]
            assert signs(found) == ["CN=ca two"]
            assert [a["state"] for a in found["authorities"] if a["subject"] == "CN=root two"] == ["prepared"]
            chain_of(up, second)
            assert bundle(up) == [root.certificate]

        plug(folder, third)
        (folder / "ca-key.pem").chmod(0o640)
        found = until(up, lambda found: any("chmod 600" in sentence for sentence in found["waiting"]))
        assert signs(found) == ["CN=ca two"]
        doctor = up.run("doctor", check=False)
        assert "chmod 600" in doctor.stdout
        assert doctor.returncode != 0

        for file in folder.iterdir():
            file.unlink()
        restart(up)
        chain_of(up, second)
        assert any("ca-cert.pem: there is no such file" in line for line in up.json("status")["waiting"])

        crl_of_each = [make_crl(one) for one in (first, second, root)]
        plug(folder, first, crls=crl_of_each, cert_chain=first.pem + second.pem)
        found = until(up, lambda found: signs(found) == ["CN=ca one"])
        assert found["waiting"] == []
        assert {a["state"] for a in found["authorities"] if a["subject"] == "CN=root two"} == {"abandoned"}


def bundle(up: Up) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(up.run("bundle", "show", "--format", "pem").stdout.encode())


def test_a_root_that_signs_leaves_itself_is_served_without_it_in_the_chain(tmp_path: Path) -> None:
    root = make_ca("root itself", path_length=0)
    plug(tmp_path / "cacerts", root)
    with running(tmp_path / "c", settings(tmp_path / "cacerts")) as up:
        up.register("/web", me())
        assert len(chain_of(up, root)) == 1
        (shown,) = up.json("ca", "list")
        assert (shown["kind"], shown["state"], shown["key_source"]) == ("root", "active", "files")
        assert shown["live_leaves"] >= 1
        assert any("signs leaves itself" in sentence for sentence in up.json("status")["waiting"])


@pytest.mark.parametrize("fault", ["empty", "key"])
def test_a_first_start_on_faulty_files_names_them_all_and_leaves_nothing_running(tmp_path: Path, fault: str) -> None:
    folder = tmp_path / "cacerts"
    folder.mkdir()
    if fault == "key":
        plug(folder, make_ca("ca", make_ca("root")), root_cert=make_ca("other").pem)
        (folder / "ca-key.pem").chmod(0o644)
    up = Up(tmp_path / "c", settings(folder))
    ended = up.run("up", check=False)
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    names = ["ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"]
    for name in names if fault == "empty" else ["ca-key.pem", "cert-chain.pem"]:
        assert str(folder / name) in ended.stderr
    assert not up.admin_socket.exists()
