"""The role by which Vault's PKI makes leaves: what it must be, and how the one that is there differs (API docs, PKI).

`more` is what a role allows beyond our profile: who may use the role may have that made. `less` is what it refuses, or
cuts, that Citadel asks for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from citadel.spiffe import TrustDomain

_ALLOWED = (
    "allow_any_name",
    "allow_bare_domains",
    "allow_glob_domains",
    "allow_ip_sans",
    "allow_localhost",
    "allow_subdomains",
    "allow_token_displayname",
    "allow_wildcard_certificates",
    "code_signing_flag",
    "email_protection_flag",
)
_LISTS = ("allowed_domains", "allowed_other_sans", "ext_key_usage", "ext_key_usage_oids", "policy_identifiers")
_SUBJECT = ("country", "locality", "organization", "ou", "postal_code", "province", "street_address")


@dataclass(frozen=True, slots=True)
class LeafProfile:
    """What Citadel asks a role for. `key_type` and `key_bits` as Vault names them."""

    trust_domain: TrustDomain
    longest: timedelta
    default: timedelta
    backdate: timedelta
    key_type: str
    key_bits: int

    @property
    def uris(self) -> str:
        return f"{self.trust_domain.id}/*"

    def role(self) -> dict[str, object]:
        """The role to write. The names come from Citadel, not from the workload's request (`use_csr_sans`)."""
        usage = ["DigitalSignature", *(["KeyEncipherment"] if self.key_type == "rsa" else [])]
        return {
            **dict.fromkeys(_ALLOWED, False),
            "allowed_uri_sans": [self.uris],
            "basic_constraints_valid_for_non_ca": True,
            "client_flag": True,
            "server_flag": True,
            "enforce_hostnames": True,
            "generate_lease": False,
            "key_type": self.key_type,
            "key_bits": self.key_bits,
            "key_usage": usage,
            "max_ttl": f"{int(self.longest.total_seconds())}s",
            "no_store": False,
            "not_before_duration": f"{int(self.backdate.total_seconds())}s",
            "require_cn": False,
            "ttl": f"{int(self.default.total_seconds())}s",
            "use_csr_common_name": False,
            "use_csr_sans": False,
        }


@dataclass(frozen=True, slots=True)
class RoleDifference:
    """A sentence. `more`: it allows more than the profile; else less. `harmful`: no certificate of ours comes of it."""

    sentence: str
    more: bool
    harmful: bool = False


def role_differences(facts: Mapping[str, object], wanted: LeafProfile) -> list[RoleDifference]:
    """How the role that Vault has differs from what it must be."""
    return [*_more(facts, wanted), *_less(facts, wanted)]


def _more(facts: Mapping[str, object], wanted: LeafProfile) -> Iterator[RoleDifference]:
    for name in _ALLOWED:
        if facts.get(name):
            yield RoleDifference(f"{name} is true", more=True)
    for name in _LISTS:
        if found := _texts(facts.get(name)):
            yield RoleDifference(f"{name} is {', '.join(found)}", more=True)
    if beyond := [one for one in _texts(facts.get("allowed_uri_sans")) if one != wanted.uris]:
        yield RoleDifference(f"allowed_uri_sans has {', '.join(beyond)}, beside {wanted.uris}", more=True)
    if facts.get("use_csr_sans"):
        yield RoleDifference("use_csr_sans is true: names come from the request", more=True, harmful=True)
    if facts.get("use_csr_common_name"):
        yield RoleDifference("use_csr_common_name is true: the subject comes from the request", more=True)
    if facts.get("key_type") == "any":
        yield RoleDifference("key_type is any: weak kinds of key too", more=True)
    longest = _seconds(facts.get("max_ttl"))
    if longest is None or longest > wanted.longest.total_seconds():
        shown = "that of the mount" if longest is None else f"{longest:.0f} s"
        yield RoleDifference(f"max_ttl is {shown}, longer than svid.max_ttl", more=True)


def _less(facts: Mapping[str, object], wanted: LeafProfile) -> Iterator[RoleDifference]:
    if wanted.uris not in _texts(facts.get("allowed_uri_sans")):
        yield RoleDifference(f"allowed_uri_sans lacks {wanted.uris}", more=False, harmful=True)
    longest = _seconds(facts.get("max_ttl"))
    if longest is not None and longest < wanted.longest.total_seconds():
        yield RoleDifference(f"max_ttl is {longest:.0f} s, shorter than svid.max_ttl: it cuts certificates", more=False)
    if facts.get("require_cn"):
        yield RoleDifference("require_cn is true", more=False, harmful=True)
    for name in ("server_flag", "client_flag"):
        if not facts.get(name):
            yield RoleDifference(f"{name} is false", more=False, harmful=True)
    kind = facts.get("key_type")
    if kind not in ("any", wanted.key_type):
        yield RoleDifference(f"key_type is {kind}, and workloads have {wanted.key_type} keys", more=False, harmful=True)
    usage = {one.lower() for one in _texts(facts.get("key_usage"))}
    if "digitalsignature" not in usage:
        yield RoleDifference("key_usage lacks DigitalSignature", more=False, harmful=True)
    if beyond := sorted(usage - {"digitalsignature", *(["keyencipherment"] if wanted.key_type == "rsa" else [])}):
        yield RoleDifference(f"key_usage has {', '.join(beyond)} too", more=True, harmful=True)
    for name in _SUBJECT:
        if _texts(facts.get(name)):
            yield RoleDifference(f"{name} is set: the subject would not be empty", more=False, harmful=True)
    if facts.get("no_store"):
        yield RoleDifference("no_store is true: an answer that is lost would be recorded nowhere", more=False)


def _texts(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []


def _seconds(value: object) -> float | None:
    """None: it is not set."""
    return float(value) if isinstance(value, int | float) and value > 0 else None
