"""Whatever the compiler makes, a real Envoy loads: hostile values in every field, and in keys and providers."""

from __future__ import annotations

import base64
import json
import random
import shutil
import subprocess
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from citadel.authz import (
    Action,
    AuthorizationPolicy,
    ClaimToHeader,
    Document,
    ExtensionProvider,
    HeaderLocation,
    JwtRule,
    MeshFacts,
    Metadata,
    PathNormalization,
    PolicyName,
    ProviderProtocol,
    RequestAuthentication,
    Rule,
    Workload,
    compile,  # noqa: A004  (as in re.compile)
)
from citadel.authz.envoy import CannotCompile, compile_filters
from citadel.authz.model import Attribute, Condition, ConditionKey, Operation, Source
from citadel.spiffe import TrustDomain

pytestmark = [pytest.mark.envoy, pytest.mark.skipif(shutil.which("envoy") is None, reason="needs envoy")]

_TYPE = "type.googleapis.com/envoy.extensions."
HOSTILE = [
    *(
        "a",
        "*",
        "a*",
        "*a",
        "**",
        "a*b",
        "***",
        "\\",
        "\\Q",
        "(",
        ")",
        "[",
        "]",
        "(?i)a",
        "a{1,99999}",
        "a|b",
        "^$",
        ".",
    ),
    *("/{*}", "/{**}", "/a/{*}/{**}/b", "/{*}/{*}", "/{x}", "/{x}/{x}", "/a/{a}{b}", "/{1}", "/a/{", "/**/b/**", "{*}"),
    *("é", "\u2028", "\n", "\0", "\x7f", "a\r\nb: c", "%s", "${x}", "%REQ(:path)%", '"', "\U0001f600", " ", "\t"),
    *(
        "x" * 50,
        "x" * 300,
        "x" * 3000,
        "/{*}/" + "y" * 3000,
        "*" + "z" * 2000,
        "/{*}" * 60,
        "spiffe://a/b",
        "//",
        "a/b/c",
    ),
    *("\udcff", "*\ud800", "y" * 20_000, "/{*}" * 3000, "((" * 500),
]
TEXT_FIELDS = ("principals", "request_principals", "namespaces", "service_accounts", "trust_domains")
OPERATION_FIELDS = ("hosts", "methods", "paths")
KEYS = [
    ConditionKey(Attribute.REQUEST_HEADERS, ("x",)),
    ConditionKey(Attribute.REQUEST_HEADERS, (":path",)),
    ConditionKey(Attribute.CONNECTION_SNI),
    ConditionKey(Attribute.REQUEST_AUDIENCES),
    ConditionKey(Attribute.REQUEST_CLAIMS, ("a", "b")),
    ConditionKey(Attribute.ENVOY_FILTERS, ("envoy.filters.f", "k")),
]


def rules() -> list[Rule]:
    made = []
    for text in HOSTILE:
        for form in ("", "not_"):
            made += [Rule(sources=(Source(**_field(form + field, text)),)) for field in TEXT_FIELDS]
            made += [Rule(operations=(Operation(**_field(form + field, text)),)) for field in OPERATION_FIELDS]
        made += [Rule(conditions=(Condition(key, (text,), (text, "b")),)) for key in KEYS]
        made += [
            Rule(conditions=(Condition(ConditionKey(attribute, path), ("v",)),))
            for attribute, path in (
                (Attribute.REQUEST_HEADERS, (text,)),
                (Attribute.REQUEST_CLAIMS, ("a", text)),
                (Attribute.ENVOY_FILTERS, (text, text)),
            )
        ]
    return made


def _field(name: str, text: str) -> dict[str, Any]:
    return {name: (text,)}


def loaded(folder: Path, sets: Sequence[tuple[Sequence[Document], MeshFacts]]) -> int:
    """How many of the sets compiled; Envoy has loaded all of those, or the test fails."""
    listeners: list[dict[str, Any]] = []
    clusters: dict[str, dict[str, Any]] = {}
    for documents, facts in sets:
        try:
            filters = compile_filters(compile(documents, facts), Workload("a"))
        except CannotCompile:
            continue
        made: Any = filters.to_dict()
        for cluster in filters.clusters:
            clusters[cluster.name] = {"name": cluster.name, "type": "STATIC", "connect_timeout": "1s"}
        manager = {
            "@type": f"{_TYPE}filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "in",
            "route_config": {},
            "http_filters": [
                *made["http_filters"],
                {"name": "router", "typed_config": {"@type": f"{_TYPE}filters.http.router.v3.Router"}},
            ],
        }
        listeners.append(
            {
                "name": f"l{len(listeners)}",
                "address": {"pipe": {"path": f"{folder}/{len(listeners)}"}},
                "filter_chains": [{"filters": [*made["network_filters"], {"name": "http", "typed_config": manager}]}],
            }
        )
    file = folder / "envoy.json"
    file.write_text(json.dumps({"static_resources": {"listeners": listeners, "clusters": list(clusters.values())}}))
    command = ["envoy", "--mode", "validate", "-c", str(file), "-l", "error"]
    said = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=100, check=False)
    assert said.returncode == 0, said.stderr[-3000:]
    return len(listeners)


def users(rule: JwtRule) -> tuple[list[Document], MeshFacts]:
    return [RequestAuthentication(Metadata(PolicyName("a", "u")), (rule,))], MeshFacts(TrustDomain("td"))


def policy(*rules: Rule) -> AuthorizationPolicy:
    return AuthorizationPolicy(Metadata(PolicyName("a", "p")), Action.DENY, rules)


def test_hostile_values_in_every_field(tmp_path: Path) -> None:
    facts = MeshFacts(TrustDomain("td"), path_normalization=PathNormalization.NONE)
    made = rules()
    good = [rule for rule in made if compiles(rule, facts)]
    assert len(good) > len(made) * 0.8
    assert loaded(tmp_path, [([policy(*good[start::50])], facts) for start in range(50)]) == 50


def compiles(rule: Rule, facts: MeshFacts) -> bool:
    try:
        compile_filters(compile([policy(rule)], facts), Workload("a"))
    except CannotCompile:
        return False
    return True


def _number(value: int) -> str:
    return base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()


def public_keys() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for bits in (1024, 2048):
        numbers = rsa.generate_private_key(65537, bits).public_key().public_numbers()
        made.append({"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e), "alg": "RS256", "kid": str(bits)})
    for name, curve in (("P-256", ec.SECP256R1()), ("P-384", ec.SECP384R1()), ("P-521", ec.SECP521R1())):
        point = ec.generate_private_key(curve).public_key().public_numbers()
        made.append({"kty": "EC", "crv": name, "x": _number(point.x), "y": _number(point.y)})
    raw = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    made.append({"kty": "OKP", "crv": "Ed25519", "x": base64.urlsafe_b64encode(raw).rstrip(b"=").decode()})
    return made


def test_keys_of_every_kind_and_broken_in_every_way(tmp_path: Path) -> None:
    keys, dice = public_keys(), random.Random(1)
    odd = ["", "!!", "AA", "A", 1, None, [], {}, "RS256", "ES256", "P-384", "oct", "\0", "enc", "Ed25519", "EdDSA"]
    sets: list[list[dict[str, Any]]] = [[key] for key in keys]
    for _ in range(300):
        key = dict(dice.choice(keys))
        key[dice.choice([*key, "alg", "use", "kid", "kty"])] = dice.choice(odd)
        sets.append([key, dice.choice(keys)])
    rules = [JwtRule(issuer="i", jwks=json.dumps({"keys": one})) for one in sets]
    rules += [JwtRule(issuer="i", jwks=text) for text in ("{}", '{"keys":[]}', "x", '{"keys":[null]}')]
    assert loaded(tmp_path, list(map(users, rules))) == len(rules)


def test_hostile_values_in_request_authentication(tmp_path: Path) -> None:
    rules = []
    for text in HOSTILE:
        rules += [
            JwtRule(issuer=text, jwks_uri="https://a.b/c"),
            JwtRule(issuer="i", audiences=(text, text)),
            JwtRule(issuer="i", from_headers=(HeaderLocation(text, text), HeaderLocation("x", text))),
            JwtRule(issuer="i", from_params=(text,), from_cookies=(text,)),
            JwtRule(issuer="i", output_payload_to_header=text),
            JwtRule(issuer="i", output_claim_to_headers=(ClaimToHeader(text, "a"), ClaimToHeader("x", text))),
            JwtRule(issuer="i", space_delimited_claims=(text, "a")),
            JwtRule(issuer="i", jwks_uri=text),
            JwtRule(issuer="i", jwks_uri=f"https://a.b/{text}", timeout=timedelta(seconds=1)),
        ]
    assert loaded(tmp_path, list(map(users, rules))) > len(rules) * 0.5


@pytest.mark.parametrize("protocol", ProviderProtocol)
def test_hostile_values_in_extension_providers(tmp_path: Path, protocol: ProviderProtocol) -> None:
    custom = AuthorizationPolicy(Metadata(PolicyName("a", "p")), Action.CUSTOM, (Rule(),), "p")
    sets: list[tuple[list[Document], MeshFacts]] = []
    for number, text in enumerate(HOSTILE):
        providers = (
            ExtensionProvider("p", protocol, text, 80),
            ExtensionProvider("p", protocol, "a.b", 80, path_prefix=text),
            ExtensionProvider("p", protocol, "a.b", 80, include_request_headers_in_check=(text, "*")),
            ExtensionProvider("p", protocol, "a.b", 80, include_additional_headers_in_check=((text, "a"), ("a", text))),
            ExtensionProvider("p", protocol, "a.b", 80, headers_to_upstream_on_allow=(text,)),
            ExtensionProvider(
                "p", protocol, "a.b", 80, headers_to_downstream_on_deny=("x",), status_on_error=9 * number
            ),
            ExtensionProvider("p", protocol, "a.b", 80, timeout=timedelta(seconds=number - 2)),
            ExtensionProvider("p", protocol, "a.b", 80, max_request_bytes=number, pack_as_bytes=True),
        )
        sets += [([custom], MeshFacts(TrustDomain("td"), providers=(one,))) for one in providers]
    assert loaded(tmp_path, sets) > len(sets) * 0.5
