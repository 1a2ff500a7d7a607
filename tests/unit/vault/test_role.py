"""A role of Vault's PKI that allows more, or less, than is asked of it is told, each difference once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from citadel.spiffe import TrustDomain
from citadel.vault import LeafProfile, role_differences

PROFILE = LeafProfile(
    TrustDomain.parse("example.org"), timedelta(hours=24), timedelta(hours=1), timedelta(seconds=60), "ec", 256
)


def facts(**other: Any) -> dict[str, Any]:
    """The role that we write, as Vault gives it back."""
    return {**PROFILE.role(), "max_ttl": 86400, "ttl": 3600, "not_before_duration": 60, "allowed_domains": [], **other}


def test_the_role_that_setup_writes_is_as_it_must_be() -> None:
    assert role_differences(facts(), PROFILE) == []


@pytest.mark.parametrize(
    ("other", "sentence", "more", "harmful"),
    [
        ({"allow_any_name": True}, "allow_any_name is true", True, False),
        ({"allowed_domains": ["example.org"]}, "allowed_domains is example.org", True, False),
        ({"allowed_uri_sans": [PROFILE.uris, "*"]}, "allowed_uri_sans has *", True, False),
        ({"use_csr_sans": True}, "names come from the request", True, True),
        ({"key_type": "any"}, "key_type is any", True, False),
        ({"max_ttl": 0}, "max_ttl is that of the mount", True, False),
        ({"max_ttl": 600}, "max_ttl is 600 s, shorter", False, False),
        ({"allowed_uri_sans": []}, "allowed_uri_sans lacks spiffe://example.org/*", False, True),
        ({"require_cn": True}, "require_cn is true", False, True),
        ({"client_flag": False}, "client_flag is false", False, True),
        ({"key_type": "rsa"}, "key_type is rsa, and workloads have ec keys", False, True),
        ({"key_usage": ["DigitalSignature", "CertSign"]}, "key_usage has certsign too", True, True),
        ({"organization": ["ACME"]}, "organization is set", False, True),
        ({"no_store": True}, "no_store is true", False, False),
    ],
)
def test_each_difference_is_told(other: dict[str, Any], sentence: str, more: bool, harmful: bool) -> None:
    (found,) = role_differences(facts(**other), PROFILE)
    assert sentence in found.sentence
    assert (found.more, found.harmful) == (more, harmful)
