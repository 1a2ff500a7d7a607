"""`citadel policy check` and `explain` of one request by options."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.cli import CommandLine

POLICY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: all-of-it, namespace: shop}
spec:
  selector: {matchLabels: {app: cart}}
  rules:
  - from:
    - source:
        principals: [shop.example/ns/shop/sa/web]
        ipBlocks: [10.0.0.0/8]
        remoteIpBlocks: ["2001:db8::/32"]
    to: [{operation: {methods: [POST], paths: ["/cart/*"], hosts: [shop.example], ports: ["8080"]}}]
    when:
    - {key: "request.headers[x-team]", values: [a]}
    - {key: "request.auth.claims[scope]", values: [buy]}
    - {key: connection.sni, values: [cart.shop.example]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: asked, namespace: shop}
spec:
  selector: {matchLabels: {app: cart}}
  action: CUSTOM
  provider: {name: fraud}
  rules:
  - to: [{operation: {paths: ["/cart/*"]}}]
"""
MESH = "providers: [{name: fraud}]\ntrust_domain: shop.example\n"
OPTIONS: dict[str, tuple[str, ...]] = {
    "-n": ("shop",),
    "-l": ("app=cart",),
    "--peer": ("spiffe://shop.example/ns/shop/sa/web",),
    "--method": ("POST",),
    "--path": ("/cart/7",),
    "--host": ("shop.example",),
    "--header": ("X-Team: a",),
    "--claims": ('{"iss": "i", "sub": "s", "scope": "buy"}',),
    "--port": ("8080",),
    "--source-ip": ("10.1.2.3",),
    "--remote-ip": ("2001:db8::7",),
    "--sni": ("cart.shop.example",),
    "--provider": ("fraud=allow",),
}


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    (tmp_path / "policies.yaml").write_text(POLICY)
    (tmp_path / "shop.mesh").write_text(MESH)
    return ["-f", str(tmp_path / "policies.yaml"), "--mesh", str(tmp_path / "shop.mesh")]


def options(*without: str) -> list[str]:
    return [part for name, values in OPTIONS.items() if name not in without for part in (name, *values)]


def test_a_request_with_every_option_is_decided_by_what_they_say(citadel: CommandLine, files: list[str]) -> None:
    ended = citadel("policy", "check", *files, *options())
    assert (ended.code, ended.err) == (0, "")
    assert ended.json()["policy"] == "shop/all-of-it"
    explained = citadel("policy", "explain", *files, *options(), "--format", "json")
    assert (explained.code, explained.err) == (0, "")
    assert '"allow"' in explained.out


@pytest.mark.parametrize("option", [name for name in OPTIONS if name not in ("-n", "-l")])
def test_every_option_matters(citadel: CommandLine, files: list[str], option: str) -> None:
    ended = citadel("policy", "check", *files, *options(option))
    assert (ended.code, ended.err, ended.json()["outcome"]) == (0, "", "deny")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--peer", "web"), "peer"),
        (("--source-ip", "10.0.0"), "source_ip"),
        (("--remote-ip", "here"), "remote_ip"),
        (("--port", "99999"), "port"),
        (("--method", ""), "http.method"),
        (("--claims", "{"), "--claims"),
        (("--claims", "[]"), "http.claims"),
        (("--header", "x-team"), "--header"),
        (("--header", "Host:shop.example"), "host"),
        (("--provider", "fraud=maybe"), "providers.fraud"),
        (("--provider", "fraud"), "--provider"),
        (("--provider", "opa=allow"), "the mesh has no provider opa; name it under `providers`"),
        (("--trust-domain", "A b"), "'A b' is not a trust domain"),
        (("--label", "cart"), "--label"),
        (("--tcp", "--host", "shop.example", "--claims", "{}"), "leave out --host, --claims"),
    ],
)
@pytest.mark.parametrize("command", ["check", "explain"])
def test_options_that_are_no_request_are_an_error(
    citadel: CommandLine, files: list[str], command: str, given: tuple[str, ...], said: str
) -> None:
    ended = citadel("policy", command, *files, *given)
    assert (ended.code, ended.out) == (4, "")
    assert said in ended.err


def test_a_difference_as_json_has_the_requests_as_they_were_asked(citadel: CommandLine, tmp_path: Path) -> None:
    for name, action in (("old", "ALLOW"), ("new", "DENY")):
        head = POLICY.partition("---")[0]
        (tmp_path / f"{name}.yaml").write_text(head.replace("spec:", f"spec:\n  action: {action}"))
    asked = {
        "workload": {"namespace": "shop", "labels": {"app": "cart"}},
        "peer": "spiffe://shop.example/ns/shop/sa/web",
        "source_ip": "10.1.2.3",
        "remote_ip": "2001:db8::7",
        "port": 8080,
        "sni": "cart.shop.example",
        "http": {
            "method": "POST",
            "path": "/cart/7",
            "authority": "shop.example",
            "headers": {"x-team": ["a"]},
            "claims": {"scope": "buy"},
        },
    }
    (tmp_path / "requests.jsonl").write_text(json.dumps(asked))
    sets = (tmp_path / "old.yaml", tmp_path / "new.yaml", "--requests", tmp_path / "requests.jsonl")
    ended = citadel("policy", "diff", *sets, "--trust-domain", "shop.example", "-o", "json")
    assert (ended.code, ended.err) == (0, "")
    assert ended.json()["requests"]["changed"][0]["request"] == asked


def test_a_value_that_an_option_does_not_take_is_told_in_plain_words(citadel: CommandLine, files: list[str]) -> None:
    ended = citadel("policy", "lint", *files, "-o", "wide")
    assert ended.code == 2
    assert "'-o': 'wide' is not one of 'table', 'json', 'yaml'" in ended.err


@pytest.mark.parametrize("command", ["check", "explain", "lint"])
def test_that_there_is_no_policy_at_all_is_said(citadel: CommandLine, tmp_path: Path, command: str) -> None:
    (tmp_path / "web.yaml.orig").write_text(POLICY)
    ended = citadel("policy", command, "-f", tmp_path)
    assert (ended.code, "there is no policy in what was given" in ended.err) == (0, True)


def test_many_requests_and_one_by_options_do_not_go_together(
    citadel: CommandLine, files: list[str], tmp_path: Path
) -> None:
    (tmp_path / "requests").write_text('{"http": {}}\n')
    refused = citadel("policy", "check", *files, "--input", tmp_path / "requests", "--method", "GET", "-n", "default")
    assert (refused.code, refused.out) == (4, "")
    assert "--input has requests of its own: leave out --namespace, --method" in refused.err
    logged = citadel("policy", "explain", "--log-id", "a-1", "--path", "/x")
    assert "--log-id names a request that was decided: leave out --path" in logged.err


@pytest.mark.parametrize("command", ["check", "explain"])
def test_all_mistakes_of_options_are_told_at_once(citadel: CommandLine, files: list[str], command: str) -> None:
    bad = ["-l", "cart", "-l", "=", "--provider", "fraud", "--provider", "opa=allow", "--header", "x", "--claims", "{"]
    ended = citadel("policy", command, *files, *bad, "--peer", "web", "--port", "-1", "--trust-domain", "A b")
    assert (ended.code, ended.out) == (4, "")
    told = ended.err.splitlines()
    assert len(told) == 7
    for line, words in zip(
        told,
        ["--label 'cart'", "--label '='", "--provider 'fraud'", "--header 'x'", "--claims is", "peer: ", "'A b'"],
        strict=True,
    ):
        assert words in line
    assert "port: " in told[5]
    ended = citadel("policy", command, *files, "--peer", "web", "--provider", "opa=allow", "--workload", "x")
    assert [line.split(":")[0] for line in ended.err.splitlines()] == [
        "peer",
        "--workload is one that is registered",
        "--provider",
    ]
