"""`citadel up` as a user has it: its sockets, its command line, its crashes."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

from tests.support.whole import Citadel, me, running, secrets_of


def leaf(response: Any) -> x509.Certificate:
    secret = secret_pb2.Secret.FromString(response.resources[0].value)
    return x509.load_pem_x509_certificates(secret.tls_certificate.certificate_chain.inline_bytes)[0]


def uri(certificate: x509.Certificate) -> list[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def create(citadel: Citadel, path: str = "/web", *more: str) -> None:
    citadel.run("entry", "create", "--spiffe-id", f"spiffe://example.org{path}", "--selector", me(), *more)


async def test_an_unregistered_caller_waits_and_is_served_the_moment_it_is_registered(tmp_path: Path) -> None:
    async with running(tmp_path / "c") as citadel, secrets_of(citadel.workload_socket, "default") as responses:
        first = asyncio.ensure_future(anext(responses))
        done, _ = await asyncio.wait([first], timeout=0.5)
        assert not done
        await asyncio.to_thread(create, citadel)
        assert uri(leaf(await asyncio.wait_for(first, 10))) == ["spiffe://example.org/web"]


async def test_certificates_are_renewed_with_new_keys_and_written_down(tmp_path: Path) -> None:
    async with running(tmp_path / "c") as citadel:
        await asyncio.to_thread(create, citadel, "/web", "--ttl", "4s")
        async with secrets_of(citadel.workload_socket, "default") as responses, asyncio.timeout(30):
            seen = [leaf(await anext(responses)) for _ in range(3)]
        assert len({c.serial_number for c in seen}) == 3
        assert len({c.public_key().public_numbers() for c in seen}) == 3  # type: ignore[union-attr]  # they are EC keys
        listed = json.loads(citadel.run("svid", "list", "-o", "json").stdout)
        assert {f"{c.serial_number:032x}" for c in seen} <= {row["serial"].rjust(32, "0") for row in listed}


async def test_a_deleted_entry_leaves_the_secret_in_place_and_stops_new_callers(tmp_path: Path) -> None:
    async with running(tmp_path / "c") as citadel:
        await asyncio.to_thread(create, citadel)
        async with secrets_of(citadel.workload_socket, "default") as responses:
            await asyncio.wait_for(anext(responses), 10)
            (entry,) = json.loads(citadel.run("entry", "list", "-o", "json").stdout)
            await asyncio.to_thread(citadel.run, "entry", "delete", entry["id"], "--yes")
            more = asyncio.ensure_future(anext(responses))
            assert not (await asyncio.wait([more], timeout=1))[0], "nothing is taken away"
            more.cancel()
            async with secrets_of(citadel.workload_socket, "default") as others:
                new = asyncio.ensure_future(anext(others))
                assert not (await asyncio.wait([new], timeout=1))[0]
                new.cancel()
        orphans = json.loads(citadel.run("svid", "list", "--orphaned", "-o", "json").stdout)
        assert [row["spiffe_id"] for row in orphans] == ["spiffe://example.org/web"]


async def test_the_chain_verifies_against_the_bundle(tmp_path: Path) -> None:
    async with running(tmp_path / "c") as citadel:
        await asyncio.to_thread(create, citadel)
        async with secrets_of(citadel.workload_socket, "default") as responses:
            secret = secret_pb2.Secret.FromString((await asyncio.wait_for(anext(responses), 10)).resources[0].value)
        pem = citadel.run("bundle", "show", "--format", "pem").stdout
        assert ssl.create_default_context(cadata=pem).cert_store_stats()["x509_ca"] == 1
        leaf_, issuing = x509.load_pem_x509_certificates(secret.tls_certificate.certificate_chain.inline_bytes)
        leaf_.verify_directly_issued_by(issuing)
        issuing.verify_directly_issued_by(x509.load_pem_x509_certificate(pem.encode()))


async def test_a_second_citadel_on_the_same_directory_is_refused_by_name(tmp_path: Path) -> None:
    async with running(tmp_path / "c") as citadel:
        second = await asyncio.to_thread(citadel.run, "up", check=False)
        assert second.returncode != 0
        assert "another Citadel (pid" in second.stderr
        assert "Traceback" not in second.stderr


async def test_sigterm_ends_it_cleanly_and_leaves_no_socket(tmp_path: Path) -> None:
    citadel = Citadel(tmp_path / "c")
    await citadel.start()
    assert await citadel.end(signal.SIGTERM) == 0
    assert not citadel.workload_socket.exists()


@pytest.mark.parametrize("round_", range(2))
async def test_kill_9_while_issuing_loses_no_record_and_repeats_no_serial(tmp_path: Path, round_: int) -> None:
    citadel = Citadel(tmp_path / "c")
    await citadel.start()
    await asyncio.to_thread(create, citadel, "/web", "--ttl", "2s")
    handed_out: set[str] = set()
    for _ in range(3):
        async with secrets_of(citadel.workload_socket, "default") as responses, asyncio.timeout(20):
            for _ in range(2):
                handed_out.add(f"{leaf(await anext(responses)).serial_number:032x}")
        await citadel.end(signal.SIGKILL)
        await citadel.start()
    rows = json.loads(citadel.run("svid", "list", "-o", "json").stdout)
    recorded = [row["serial"].rjust(32, "0") for row in rows]
    assert handed_out <= set(recorded)
    assert len(recorded) == len(set(recorded))
    assert citadel.run("audit", "verify").returncode == 0
    await citadel.end()
