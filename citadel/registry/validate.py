"""What makes an entry valid. Every fault of an entry is found, as (field, sentence)."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable
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
_MAX_FEDERATED = 64
_MAX_LABELS = 64
_MAX_LABEL_VALUE = 256
_SET = re.compile(r"[A-Za-z0-9._-]{1,63}")

_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}")
_HIGHEST_ID = 2**32 - 2  # 2**32 - 1 is the kernel's "no such user"
_SHA256 = re.compile(r"[0-9a-f]{64}")


def _number_fault(value: str) -> str:
    if _NUMBER.fullmatch(value) and int(value) <= _HIGHEST_ID:
        return ""
    return f"it must be a number from 0 to {_HIGHEST_ID}, without leading zeros"


def _path_fault(value: str) -> str:
    if not value.startswith("/"):
        return "it must be a path from the root, as in /usr/bin/envoy"
    if "//" in value or {".", ".."} & set(value.split("/")) or value.endswith("/"):
        return "the kernel names a program without '//', '.', '..' and a slash at the end"
    return ""


def _hash_fault(value: str) -> str:
    return "" if _SHA256.fullmatch(value) else "it must be 64 hexadecimal digits in lower case"


def _any(_value: str) -> str:
    return ""


#: The selectors that our attestors give: type to keys, each with what finds the fault of a value. One that no process
#: could ever have is a mistake, and better told now than found when nothing is served.
KNOWN_SELECTORS: dict[str, dict[str, Callable[[str], str]]] = {
    "unix": {
        "uid": _number_fault,
        "gid": _number_fault,
        "user": _any,
        "group": _any,
        "supplementary_gid": _number_fault,
        "supplementary_group": _any,
        "path": _path_fault,
        "sha256": _hash_fault,
    },
    "systemd": {"id": _any, "fragment_path": _path_fault},
    "docker": {"label": _any, "env": _any, "image_id": _any, "image_config_digest": _any},
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
    found += [("spiffe_id", text) for text in identity_faults(entry.spiffe_id, rules.trust_domain)]
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
    found += [("dns_names", text) for text in dns_faults(entry.dns_names)]
    if rules.trust_domain in entry.federates_with:
        found.append(("federates_with", f"{rules.trust_domain} is our own trust domain"))
    if len(entry.federates_with) > _MAX_FEDERATED:
        found.append(("federates_with", f"{len(entry.federates_with)} are too many; at most {_MAX_FEDERATED}"))
    if len(entry.hint) > _MAX_HINT or (entry.hint and not entry.hint.isprintable()):
        found.append(("hint", f"it must be printable, and at most {_MAX_HINT} characters"))
    if entry.expires_at is not None and entry.expires_at <= now:
        found.append(("expires_at", f"{entry.expires_at.isoformat()} is in the past"))
    if entry.apply_set and not _SET.fullmatch(entry.apply_set):
        found.append(("apply_set", f"{entry.apply_set!r} must be 1 to 63 letters, digits, '.', '_' or '-'"))
    return found + [("labels", text) for text in _label_faults(entry.labels)]


def dns_faults(names: tuple[str, ...]) -> list[str]:
    """What is wrong with the DNS names of a certificate, in sentences."""
    found = []
    if len(names) > _MAX_DNS_NAMES:
        found.append(f"{len(names)} are too many; at most {_MAX_DNS_NAMES}")
    found += [f"{name!r} is there twice" for name, count in Counter(names).items() if count > 1]
    for name in dict.fromkeys(names):
        if "*" in name:
            found.append(f"{name!r}: wildcards are not allowed; name each host")
        elif not _DNS.fullmatch(name):
            found.append(f"{name!r} is not a DNS name in lower case (RFC 1123)")
        elif name.rpartition(".")[2].isdigit():
            found.append(f"{name!r}: the last part of a DNS name is never a number; addresses are not allowed")
    return found


def _label_faults(labels: tuple[tuple[str, str], ...]) -> list[str]:
    found = [f"{name!r} is not a label's name" for name, _ in labels if not _LABEL.fullmatch(name)]
    if len(labels) > _MAX_LABELS:
        found.append(f"{len(labels)} are too many; at most {_MAX_LABELS}")
    if len({name for name, _ in labels}) != len(labels):
        found.append("a name is there twice")
    for name, value in labels:
        if len(value) > _MAX_LABEL_VALUE or (value and not value.isprintable()):
            found.append(f"{name!r}: its value must be printable, and at most {_MAX_LABEL_VALUE} characters")
    return found


def identity_faults(spiffe_id: SpiffeId, trust_domain: TrustDomain) -> list[str]:
    """Why `spiffe_id` is no workload's of ours, in sentences."""
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
            found.append((field, f"{_seconds(ttl)} is negative; 0 means the default"))
        elif ttl and not rules.min_ttl <= ttl <= rules.max_ttl:
            low, high = _seconds(rules.min_ttl), _seconds(rules.max_ttl)
            found.append((field, f"{_seconds(ttl)} is not between {low} and {high} (svid.min_ttl, svid.max_ttl)"))
    return found


def _seconds(length: timedelta) -> str:
    return f"{length.total_seconds():.15g} s"  # never as 1e+06


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
    fault = keys[key](value)
    return f"{selector}: {fault}" if fault else ""
