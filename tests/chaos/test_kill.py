"""kill -9 while certificates are issued, under a mesh's load: nothing fails meanwhile, and nothing is lost after it."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from citadel.sds.bootstrap import Variant
from tests.support.envoys import mesh, renewed, wait_for
from tests.support.load import Load
from tests.support.up import QUICK, Up, Workload, me

IDENTITIES = 30
KILLS = 3


def serials(secrets: dict[str, Any]) -> set[str]:
    found = set()
    for secret in secrets.values():
        chain = x509.load_pem_x509_certificates(secret.tls_certificate.certificate_chain.inline_bytes)
        found.add(f"{chain[0].serial_number:032x}")
    return found


def busy(up: Up) -> None:
    """Register many identities of seconds for this process: as long as it asks for them, Citadel is issuing."""
    file = up.home / "many.yaml"
    lines = [
        f"- spiffe_id: spiffe://example.org/many/{number}\n  selectors: ['{me()}']\n  x509_ttl: 2s\n"
        for number in range(IDENTITIES)
    ]
    file.write_text("entries:\n" + "".join("  " + line.replace("\n  ", "\n    ") for line in lines))
    up.run("entry", "create", "-f", file)


def names() -> list[str]:
    return [f"spiffe://example.org/many/{number}" for number in range(IDENTITIES)]


def recorded(up: Up) -> list[str]:
    return [row["serial"].rjust(32, "0") for row in up.json("svid", "list", "--limit", "100000")]


@pytest.mark.envoy
def test_killed_while_issuing_under_load(tmp_path: Path) -> None:
    with mesh() as one:
        pairs = {v.value: one.pair(v.value, v, ttl="24s") for v in (Variant.SOTW, Variant.DELTA)}
        envoys = [envoy for pair in pairs.values() for envoy in pair.both]
        listeners = {f"{name}/{way}": path for name, pair in pairs.items() for way, path in pair.listeners.items()}
        busy(one.up)
        handed_out: set[str] = set()
        streams = {envoy.name: envoy.streams() for envoy in envoys}
        with Load(listeners, per_second=15) as load:
            for _ in range(KILLS):
                with Workload(one.up.workload_socket, *names()) as workload:
                    end = time.monotonic() + 1.5 + random.random()
                    while time.monotonic() < end:
                        handed_out |= serials(workload.take())
                    one.up.end(signal.SIGKILL)
                load.wait_for(10)
                one.up.start()
                began = time.monotonic()
                wait_for("streams", lambda: all(envoy.streams() == streams[envoy.name] for envoy in envoys))
                print(f"streams back {time.monotonic() - began:.2f} s after it listened")
                for envoy in envoys:
                    envoy.look()
            renewed(envoys)
        failures = {name: pair.failures() for name, pair in pairs.items()}
        assert (load.failed, failures) == ({}, {name: {} for name in pairs})
        handed_out |= {serial.rjust(32, "0") for envoy in envoys for serial in envoy.serials}
        rows = recorded(one.up)
        print(f"{len(rows)} certificates on record, {len(handed_out)} seen by clients")
        assert len(rows) == len(set(rows))
        assert handed_out <= set(rows)
        assert len(handed_out) > 2 * IDENTITIES
        assert one.up.run("audit", "verify").returncode == 0


def test_killed_again_and_again_while_starting(tmp_path: Path) -> None:
    up = Up(tmp_path / "c", QUICK)
    up.start()
    busy(up)
    handed_out: set[str] = set()
    for delay in (0.0, 0.05, 0.2):
        with Workload(up.workload_socket, *names()) as workload:
            handed_out |= serials(workload.take())
            time.sleep(delay)
            up.end(signal.SIGKILL)
        up.start()
    rows = recorded(up)
    assert len(rows) == len(set(rows))
    assert handed_out <= set(rows)
    assert up.run("audit", "verify").returncode == 0
    assert up.end() == 0
