"""`citadel up` on the user's own CA: another one under its root, a new root that waits, faults, loss of the files."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

from tests.support.cacerts import Ca, make_ca, make_crl, plug
from tests.support.whole import Citadel, me, running, secrets_of

SETTINGS = """
[root]
kind = "cacerts"
cacerts_dir = "{folder}"
[jobs]
plugged_ca = "1s"
"""
_PATIENCE = 20.0


def settings(folder: Path) -> str:
    return SETTINGS.format(folder=folder)


async def status(citadel: Citadel) -> dict[str, Any]:
    ended = await asyncio.to_thread(citadel.run, "status", "-o", "json")
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


async def until(citadel: Citadel, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    end = time.monotonic() + _PATIENCE
    while not fits(found := await status(citadel)):
        assert time.monotonic() < end, found
        await asyncio.sleep(0.2)
    return found


def signs(found: dict[str, Any]) -> list[str]:
    return [a["subject"] for a in found["authorities"] if (a["kind"], a["state"]) == ("issuing", "active")]


async def held(citadel: Citadel, *names: str) -> dict[str, secret_pb2.Secret]:
    """The secrets that a fresh client gets."""
    found: dict[str, secret_pb2.Secret] = {}
    async with secrets_of(citadel.workload_socket, *names) as responses, asyncio.timeout(_PATIENCE):
        while len(found) < len(names):
            for resource in (await anext(responses)).resources:
                secret = secret_pb2.Secret.FromString(resource.value)
                found[secret.name] = secret
    return found


async def chain_of(citadel: Citadel, ca: Ca) -> list[x509.Certificate]:
    """What a workload holds once it is signed by `ca`."""
    end = time.monotonic() + _PATIENCE
    while True:
        secret = (await held(citadel, "default"))["default"]
        chain = x509.load_pem_x509_certificates(secret.tls_certificate.certificate_chain.inline_bytes)
        if chain[0].issuer == ca.certificate.subject:
            chain[0].verify_directly_issued_by(ca.certificate)
            return chain
        assert time.monotonic() < end, chain
        await asyncio.sleep(0.2)


async def register(citadel: Citadel) -> None:
    entry = ("entry", "create", "--spiffe-id", "spiffe://example.org/web", "--selector", me(), "--ttl", "4s")
    await asyncio.to_thread(citadel.run, *entry)


async def test_a_plugged_in_ca_is_changed_under_its_root_while_another_root_waits(tmp_path: Path) -> None:
    folder = tmp_path / "cacerts"
    root = make_ca("root one")
    first, second = make_ca("ca one", root), make_ca("ca two", root)
    plug(folder, first, crls=[make_crl(first), make_crl(root)])
    async with running(tmp_path / "c", settings(folder)) as citadel:
        await register(citadel)
        assert [c.subject for c in (await chain_of(citadel, first))[1:]] == [first.certificate.subject]
        trusted = (await held(citadel, "ROOTCA"))["ROOTCA"].validation_context
        assert x509.load_pem_x509_certificates(trusted.trusted_ca.inline_bytes) == [root.certificate]
        assert trusted.crl.inline_bytes.count(b"BEGIN X509 CRL") == 2

        plug(folder, second, crls=[make_crl(second), make_crl(root)])  # leaves of the first are in use
        found = await until(citadel, lambda found: signs(found) == ["CN=ca two"])
        assert found["waiting"] == []
        await chain_of(citadel, second)
        trusted = (await held(citadel, "ROOTCA"))["ROOTCA"].validation_context
        assert trusted.crl.inline_bytes.count(b"BEGIN X509 CRL") == 3, "Envoys refuse whom no CRL covers"

        plug(folder, third := make_ca("ca three", make_ca("root two")))
        found = await until(citadel, lambda found: bool(found["waiting"]))
        (waits,) = found["waiting"]
        assert "has not been distributed yet; the present CA stays in force until it is" in waits
        for _ in range(2):  # before and after a restart
            assert signs(found) == ["CN=ca two"]
            assert [a["state"] for a in found["authorities"] if a["subject"] == "CN=root two"] == ["prepared"]
            await chain_of(citadel, second)
            assert await bundle(citadel) == [root.certificate]
            await citadel.end()
            await citadel.start()
            found = await until(citadel, lambda found: bool(found["waiting"]))

        plug(folder, third)
        (folder / "ca-key.pem").chmod(0o640)
        found = await until(citadel, lambda found: any("chmod 600" in sentence for sentence in found["waiting"]))
        assert signs(found) == ["CN=ca two"]
        doctor = await asyncio.to_thread(citadel.run, "doctor", check=False)
        assert "chmod 600" in doctor.stdout
        assert doctor.returncode != 0

        for file in folder.iterdir():
            file.unlink()
        await citadel.end()
        await citadel.start()
        await chain_of(citadel, second)
        assert any("ca-cert.pem: there is no such file" in line for line in (await status(citadel))["waiting"])

        crls = [make_crl(one) for one in (first, second, root)]
        plug(folder, first, crls=crls, cert_chain=first.pem + second.pem)
        found = await until(citadel, lambda found: signs(found) == ["CN=ca one"])
        assert found["waiting"] == []
        assert {a["state"] for a in found["authorities"] if a["subject"] == "CN=root two"} == {"abandoned"}


async def bundle(citadel: Citadel) -> list[x509.Certificate]:
    shown = await asyncio.to_thread(citadel.run, "bundle", "show", "--format", "pem")
    return x509.load_pem_x509_certificates(shown.stdout.encode())


async def test_a_root_that_signs_leaves_itself_is_served_without_it_in_the_chain(tmp_path: Path) -> None:
    root = make_ca("root itself", path_length=0)
    plug(tmp_path / "cacerts", root)
    async with running(tmp_path / "c", settings(tmp_path / "cacerts")) as citadel:
        await register(citadel)
        assert len(await chain_of(citadel, root)) == 1
        (shown,) = json.loads((await asyncio.to_thread(citadel.run, "ca", "list", "-o", "json")).stdout)
        assert (shown["kind"], shown["state"], shown["key_source"]) == ("root", "active", "files")
        assert shown["live_leaves"] >= 1
        assert any("signs leaves itself" in sentence for sentence in (await status(citadel))["waiting"])


@pytest.mark.parametrize("fault", ["empty", "key"])
async def test_a_first_start_on_faulty_files_names_them_all_and_leaves_nothing_running(
    tmp_path: Path, fault: str
) -> None:
    folder = tmp_path / "cacerts"
    folder.mkdir()
    if fault == "key":
        plug(folder, make_ca("ca", make_ca("root")), root_cert=make_ca("other").pem)
        (folder / "ca-key.pem").chmod(0o644)
    citadel = Citadel(tmp_path / "c", settings=settings(folder))
    ended = await asyncio.to_thread(citadel.run, "up", check=False)
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    names = ["ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"]
    for name in names if fault == "empty" else ["ca-key.pem", "cert-chain.pem"]:
        assert str(folder / name) in ended.stderr
    assert not (tmp_path / "c" / "run" / "admin.sock").exists()
