"""What makes an entry valid. Every fault of an entry is found, as (field, sentence)."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from citadel.registry.model import Entry
from citadel.registry.selectors import Selector
from citadel.spiffe import SpiffeId, TrustDomain

_ID = re.compile(r"[A-Za-z0-9._-]{1,255}")
_DNS = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,251}[A-Za-z0-9])?")
_MAX_HINT = 1024
_MAX_SELECTORS = 64
_MAX_DNS_NAMES = 64

#: The selectors that our attestors give: type to keys. Values of `True` are numbers.
KNOWN_SELECTORS: dict[str, dict[str, bool]] = {
    "unix": {
        "uid": True,
        "gid": True,
        "user": False,
        "group": False,
        "supplementary_gid": True,
        "supplementary_group": False,
        "path": False,
        "sha256": False,
    },
    "systemd": {"id": False, "fragment_path": False},
    "docker": {"label": False, "env": False, "image_id": False, "image_config_digest": False},
}


@dataclass(frozen=True, slots=True)
class EntryRules:
    """What holds for all entries of a trust domain."""

    trust_domain: TrustDomain
    min_ttl: timedelta
    max_ttl: timedelta


def faults(entry: Entry, rules: EntryRules, now: datetime) -> list[tuple[str, str]]:
    """Everything that is wrong with `entry`, as (field, sentence); empty if it is valid."""
    found: list[tuple[str, str]] = []
    if not _ID.fullmatch(entry.id):
        found.append(("id", f"{entry.id!r} must be 1 to 255 letters, digits, '.', '_' or '-'"))
    found += [("spiffe_id", text) for text in _identity_faults(entry.spiffe_id, rules.trust_domain)]
    if entry.parent_id.trust_domain != rules.trust_domain or not entry.parent_id.path:
        found.append(("parent_id", f"{entry.parent_id} must be an ID in our trust domain {rules.trust_domain}"))
    if entry.parent_id == entry.spiffe_id:
        found.append(("parent_id", "an entry cannot be its own parent"))
    if not entry.selectors:
        found.append(("selectors", "there are none; everybody would match: name at least one, as in unix:uid:1000"))
    elif len(entry.selectors) > _MAX_SELECTORS:
        found.append(("selectors", f"{len(entry.selectors)} are too many; at most {_MAX_SELECTORS}"))
    found += [("selectors", text) for s in sorted(entry.selectors) if (text := _selector_fault(s))]
    found += _ttl_faults(entry, rules)
    found += [("dns_names", f"{n!r} is not a DNS name in lower case") for n in entry.dns_names if not _DNS.fullmatch(n)]
    if len(set(entry.dns_names)) != len(entry.dns_names) or len(entry.dns_names) > _MAX_DNS_NAMES:
        found.append(("dns_names", f"names must differ, and be at most {_MAX_DNS_NAMES}"))
    if rules.trust_domain in entry.federates_with:
        found.append(("federates_with", f"{rules.trust_domain} is our own trust domain"))
    if len(entry.hint) > _MAX_HINT or (entry.hint and not entry.hint.isprintable()):
        found.append(("hint", f"it must be printable, and at most {_MAX_HINT} characters"))
    if entry.expires_at is not None and entry.expires_at <= now:
        found.append(("expires_at", f"{entry.expires_at.isoformat()} is in the past"))
    found += [("labels", f"{key!r} is not a label's name") for key, _ in entry.labels if not _LABEL.fullmatch(key)]
    return found


def _identity_faults(spiffe_id: SpiffeId, trust_domain: TrustDomain) -> list[str]:
    if spiffe_id.trust_domain != trust_domain:
        return [f"{spiffe_id} is not in our trust domain {trust_domain}"]
    if not spiffe_id.path:
        return [f"{spiffe_id} has no path: it names the trust domain, not a workload"]
    if spiffe_id.path == "/spire" or spiffe_id.path.startswith("/spire/"):
        return [f"{spiffe_id}: paths below /spire are reserved for servers and agents"]
    return []


def _ttl_faults(entry: Entry, rules: EntryRules) -> list[tuple[str, str]]:
    found = []
    for field, ttl in (("x509_ttl", entry.x509_ttl), ("jwt_ttl", entry.jwt_ttl)):
        if ttl < timedelta(0):
            found.append((field, f"{ttl.total_seconds():.0f} s is negative; 0 means the default"))
        elif ttl and not rules.min_ttl <= ttl <= rules.max_ttl:
            low, high = rules.min_ttl.total_seconds(), rules.max_ttl.total_seconds()
            found.append((field, f"{ttl.total_seconds():.0f} s is not between {low:.0f} s and {high:.0f} s"))
    return found


def _selector_fault(selector: Selector) -> str:
    keys = KNOWN_SELECTORS.get(selector.type)
    if keys is None:
        near = difflib.get_close_matches(selector.type, KNOWN_SELECTORS, n=1)
        return f"{selector}: unknown type {selector.type!r}; did you mean {near[0]!r}?" if near else ""
    key, _, value = selector.value.partition(":")
    if key not in keys:
        near = difflib.get_close_matches(key, keys, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(keys)}"
        return f"{selector}: {selector.type} has no {key!r}; {hint}"
    if not value:
        return f"{selector}: the value is missing, as in {selector.type}:{key}:VALUE"
    if keys[key] and not (value.isascii() and value.isdigit()):
        return f"{selector}: {key} must be a number"
    return ""
