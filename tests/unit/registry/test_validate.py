"""Which entries are valid, and that every fault is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from citadel.registry import Entry, Selector
from citadel.registry.validate import EntryRules, faults
from citadel.spiffe import SpiffeId, TrustDomain
from tests.support.registry import TD, entry

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
RULES = EntryRules(TD, min_ttl=timedelta(minutes=1), max_ttl=timedelta(hours=24))
HASH = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "valid",
    [
        entry("cart"),
        entry("cart", x509_ttl=timedelta(0), jwt_ttl=timedelta(hours=24)),
        entry("cart", x509_ttl=timedelta(minutes=1)),
        entry("cart", dns_names=("cart", "cart.shop.svc.cluster.local", "1st.example", "xn--kche-0ra.example")),
        entry("cart", federates_with=frozenset({TrustDomain("other.org")}), hint="für außen"),
        entry("cart", expires_at=NOW + timedelta(seconds=1), labels=(("app", "cart"), ("example.org/tier", ""))),
        entry("cart", parent="/spire/server"),
        entry("cart", parent="/rack/7"),
        entry("spirelike/cart", apply_set="shop-1.a"),
        entry("cart", "unix:uid:0", "unix:gid:4294967294", "unix:supplementary_gid:7", "unix:user:cart"),
        entry("cart", "unix:path:/usr/bin/my cart", f"unix:sha256:{HASH}", "unix:supplementary_group:wheel"),
        entry("cart", "systemd:id:cart.service", "systemd:fragment_path:/etc/systemd/system/cart.service"),
        entry("cart", "docker:label:app:cart", "docker:env:MODE=a:b", "docker:image_id:sha256:1"),
        entry("cart", "k8s:ns:shop", "custom_type:anything"),
    ],
    ids=lambda e: " ".join(map(str, sorted(e.selectors))),
)
def test_a_valid_entry_has_no_fault(valid: Entry) -> None:
    assert faults(valid, RULES, NOW) == []


@pytest.mark.parametrize(
    ("broken", "field", "said"),
    [
        (replace(entry("cart"), id=""), "id", "1 to 255"),
        (replace(entry("cart"), id="a/b"), "id", "'a/b'"),
        (replace(entry("cart"), id="a" * 256), "id", "1 to 255"),
        (replace(entry("cart"), id="a\n"), "id", "1 to 255"),
        (replace(entry("cart"), spiffe_id=SpiffeId.parse("spiffe://other.org/a")), "spiffe_id", "trust domain example"),
        (replace(entry("cart"), spiffe_id=TD.id), "spiffe_id", "has no path"),
        (entry("spire"), "spiffe_id", "reserved"),
        (entry("spire/agent/x"), "spiffe_id", "reserved"),
        (replace(entry("cart"), parent_id=SpiffeId.parse("spiffe://other.org/a")), "parent_id", "in our trust domain"),
        (replace(entry("cart"), parent_id=TD.id), "parent_id", "in our trust domain"),
        (entry("cart", parent="/cart"), "parent_id", "its own parent"),
        (replace(entry("cart"), selectors=frozenset()), "selectors", "everybody would match"),
        (entry("cart", *(f"unix:group:g{n}" for n in range(65))), "selectors", "65 are too many"),
        (entry("cart", "unx:uid:1"), "selectors", "did you mean 'unix'?"),
        (entry("cart", "unix:uuid:1"), "selectors", "did you mean 'uid'?"),
        (entry("cart", "unix:zzz:1"), "selectors", "expected one of uid, gid"),
        (entry("cart", "docker:labels:a"), "selectors", "did you mean 'label'?"),
        (entry("cart", "unix:uid"), "selectors", "the value is missing"),
        (entry("cart", "unix:uid:root"), "selectors", "a number from 0"),
        (entry("cart", "unix:uid:01000"), "selectors", "without leading zeros"),
        (entry("cart", "unix:uid:-1"), "selectors", "a number from 0"),
        (entry("cart", "unix:gid:4294967295"), "selectors", "a number from 0"),
        (entry("cart", "unix:uid:١"), "selectors", "a number from 0"),
        (entry("cart", "unix:path:bin/envoy"), "selectors", "a path from the root"),
        (entry("cart", "unix:path:/usr/../bin/envoy"), "selectors", "without '//'"),
        (entry("cart", "unix:path:/usr//bin/envoy"), "selectors", "without '//'"),
        (entry("cart", f"unix:sha256:{HASH.upper()}"), "selectors", "64 hexadecimal digits"),
        (entry("cart", x509_ttl=timedelta(seconds=-1)), "x509_ttl", "-1 s is negative"),
        (entry("cart", x509_ttl=timedelta(seconds=59.5)), "x509_ttl", "59.5 s is not between 60 s and 86400 s"),
        (entry("cart", jwt_ttl=timedelta(hours=25)), "jwt_ttl", "90000 s is not between"),
        (entry("cart", x509_ttl=timedelta(days=99)), "x509_ttl", "8553600 s is not between"),
        (entry("cart", dns_names=("Cart",)), "dns_names", "lower case"),
        (entry("cart", dns_names=("*.shop",)), "dns_names", "wildcards are not allowed"),
        (entry("cart", dns_names=("",)), "dns_names", "is not a DNS name"),
        (entry("cart", dns_names=("a..b",)), "dns_names", "is not a DNS name"),
        (entry("cart", dns_names=("a.b.",)), "dns_names", "is not a DNS name"),
        (entry("cart", dns_names=("-a.b",)), "dns_names", "is not a DNS name"),
        (entry("cart", dns_names=("a_b.c",)), "dns_names", "is not a DNS name"),
        (entry("cart", dns_names=("a.b\n",)), "dns_names", "is not a DNS name"),
        (entry("cart", dns_names=("küche.example",)), "dns_names", "is not a DNS name"),
        (entry("cart", dns_names=("a" * 64,)), "dns_names", "is not a DNS name"),
        (entry("cart", dns_names=(".".join(["a" * 63] * 4),)), "dns_names", "is not a DNS name"),
        (entry("cart", dns_names=("10.0.0.1",)), "dns_names", "addresses are not allowed"),
        (entry("cart", dns_names=("a.b", "c.d", "a.b")), "dns_names", "'a.b' is there twice"),
        (entry("cart", dns_names=tuple(f"h{n}" for n in range(65))), "dns_names", "65 are too many"),
        (entry("cart", federates_with=frozenset({TD})), "federates_with", "our own trust domain"),
        (entry("cart", hint="x" * 1025), "hint", "at most 1024"),
        (entry("cart", hint="a\x1b[2J"), "hint", "printable"),
        (entry("cart", expires_at=NOW), "expires_at", "in the past"),
        (entry("cart", apply_set="a b"), "apply_set", "'a b'"),
        (entry("cart", labels=(("-a", "x"),)), "labels", "'-a' is not a label's name"),
        (entry("cart", labels=(("a", "x\ny"),)), "labels", "printable"),
        (entry("cart", labels=(("a", "x"), ("a", "y"))), "labels", "twice"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_fault_is_told_at_its_field(broken: Entry, field: str, said: str) -> None:
    [(where, sentence)] = faults(broken, RULES, NOW)
    assert where == field
    assert said in sentence


def test_all_faults_are_told_at_once() -> None:
    broken = entry(
        "spire/x",
        "unix:uid:root",
        "unx:uid:1",
        x509_ttl=timedelta(days=9),
        dns_names=("*", "A"),
        federates_with=frozenset({TD}),
        expires_at=NOW - timedelta(days=1),
    )
    assert [field for field, _ in faults(broken, RULES, NOW)] == [
        "spiffe_id",
        "selectors",
        "selectors",
        "x509_ttl",
        "dns_names",
        "dns_names",
        "federates_with",
        "expires_at",
    ]


def test_a_selector_of_another_attestor_is_left_to_it() -> None:
    assert faults(replace(entry("a"), selectors=frozenset({Selector("aws_iid", "x")})), RULES, NOW) == []
