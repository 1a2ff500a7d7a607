"""What a server tells of the doors' needs: it warns, and stays ready."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from citadel.authz.tokens import CachedKeys, KeysUnavailable
from citadel.ca.kek_place import FilePlace
from citadel.clock import SystemClock
from citadel.server.checks import key_check, token_key_check
from citadel.telemetry.health import Health
from tests.support.deciding import nowhere
from tests.support.tokens import rule


async def test_issuers_whose_keys_cannot_be_had_are_named_and_the_server_stays_ready() -> None:
    clock = SystemClock()
    health = Health(clock)
    async with CachedKeys(nowhere, clock) as keys:
        token_key_check(health, keys)
        assert all(finding.ok for finding in (await health.look()).findings)
        with pytest.raises(KeysUnavailable):
            await keys.keys(rule(jwks="", jwks_uri="https://issuer.example/keys"), "")
        health = Health(clock)
        token_key_check(health, keys)
        report = await health.look()
        (finding,) = report.findings
        assert not finding.ok
        assert "https://issuer.example/keys" in finding.reason
        assert report.ready
    await health.close()


async def test_a_key_file_that_was_swapped_is_told_before_the_next_start_fails(tmp_path: Path) -> None:
    path = tmp_path / "kek"
    path.write_bytes(base64.b64encode(os.urandom(32)))
    path.chmod(0o600)
    place = FilePlace(path)
    health = Health(SystemClock())
    key_check(health, place, place.load())
    assert [finding.ok for finding in (await health.look()).findings] == [True]
    await health.close()
    held = place.load()
    path.write_bytes(base64.b64encode(os.urandom(32)))
    health = Health(SystemClock())
    key_check(health, place, held)
    report = await health.look()
    assert "not the one in use" in report.findings[0].reason
    assert report.ready
    path.unlink()
    await health.close()
    health = Health(SystemClock())
    key_check(health, place, held)
    assert not (await health.look()).findings[0].ok
    await health.close()
