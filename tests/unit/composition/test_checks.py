"""What a server tells of the doors' needs: it warns, and stays ready."""

from __future__ import annotations

import pytest

from citadel.authz.tokens import CachedKeys, KeysUnavailable
from citadel.clock import SystemClock
from citadel.server.checks import token_key_check
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
