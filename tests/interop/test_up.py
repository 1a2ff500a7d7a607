"""`citadel up` as a user has it: its sockets, its command line, its stop."""

from __future__ import annotations

import signal
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.support.up import QUICK, Up, Workload, me, running


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    with running(tmp_path / "c", QUICK) as one:
        yield one


def leaf(secrets: dict[str, Any]) -> x509.Certificate:
    return x509.load_pem_x509_certificates(secrets["default"].tls_certificate.certificate_chain.inline_bytes)[0]


def uri(certificate: x509.Certificate) -> list[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def test_an_unregistered_caller_waits_and_is_served_the_moment_it_is_registered(up: Up) -> None:
    with Workload(up.workload_socket, "default") as workload:
        assert workload.nothing_comes(0.5)
        up.register("/web", me())
        assert uri(leaf(workload.take())) == ["spiffe://example.org/web"]


def test_certificates_are_renewed_with_new_keys_and_written_down(up: Up) -> None:
    up.register("/web", me(), "--ttl", "4s")
    with Workload(up.workload_socket, "default") as workload:
        seen = [leaf(workload.take()) for _ in range(3)]
    assert len({c.serial_number for c in seen}) == 3
    assert len({c.public_key().public_numbers() for c in seen}) == 3  # type: ignore[union-attr]  # they are EC keys
    listed = {row["serial"].rjust(32, "0") for row in up.json("svid", "list")}
    assert {f"{c.serial_number:032x}" for c in seen} <= listed


def test_a_deleted_entry_leaves_the_secret_in_place_and_stops_new_callers(up: Up) -> None:
    entry = up.register("/web", me())
    with Workload(up.workload_socket, "default") as workload:
        workload.take()
        up.run("entry", "delete", entry, "--yes")
        assert workload.nothing_comes(1), "nothing is taken away"
        with Workload(up.workload_socket, "default") as other:
            assert other.nothing_comes(1)
    assert [row["spiffe_id"] for row in up.json("svid", "list", "--orphaned")] == ["spiffe://example.org/web"]


def test_the_chain_verifies_against_the_bundle(up: Up) -> None:
    up.register("/web", me())
    with Workload(up.workload_socket, "default") as workload:
        secret = workload.take()["default"]
    pem = up.run("bundle", "show", "--format", "pem").stdout
    assert ssl.create_default_context(cadata=pem).cert_store_stats()["x509_ca"] == 1
    leaf_, issuing = x509.load_pem_x509_certificates(secret.tls_certificate.certificate_chain.inline_bytes)
    leaf_.verify_directly_issued_by(issuing)
    issuing.verify_directly_issued_by(x509.load_pem_x509_certificate(pem.encode()))


def test_a_second_citadel_on_the_same_directory_is_refused_by_name(up: Up) -> None:
    second = up.run("up", check=False)
    assert second.returncode != 0
    assert "another Citadel (pid" in second.stderr
    assert "Traceback" not in second.stderr


def test_sigterm_ends_it_cleanly_and_leaves_no_socket(tmp_path: Path) -> None:
    up = Up(tmp_path / "c", QUICK)
    up.start()
    assert up.end(signal.SIGTERM) == 0
    assert not up.workload_socket.exists()
