"""Tables of decisions: what passes, what fails, and what is no table."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from citadel.authz.tables import read_table
from citadel.errors import BadFile
from tests.support.cli import CommandLine

ROOT = Path(__file__).parents[3]
POLICIES = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec:
  rules:
  - to: [{operation: {methods: [GET]}}]
  - to: [{operation: {methods: [PUT]}}]
"""
TABLE = """
schema: citadel.dev/policy-test/v1
workloads: {cart: {namespace: shop}}
identities: {web: "spiffe://cluster.local/ns/shop/sa/web"}
claims: {ann: {iss: i, sub: ann}}
cases:
- {name: reads, workload: cart, peer: web, http: {claims: ann}, expect: {outcome: allow, policy: shop/readers, rule: 0}}
- {name: writes, workload: cart, http: {method: POST}, expect: deny}
"""


@pytest.fixture
def citadel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CommandLine:
    return CommandLine(monkeypatch, {"HOME": str(tmp_path / "home")})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "shop.yaml").write_text(POLICIES)
    (tmp_path / "p" / "shop_test.yaml").write_text(TABLE)
    return tmp_path / "p"


def test_the_sample_mesh_passes_its_tables_and_every_rule_is_met(citadel: CommandLine) -> None:
    ended = citadel("policy", "test", ROOT / "policies", "--min-coverage", "100")
    assert ended.code == 0, ended.out
    assert " 0 failed" in ended.out


def test_lint_finds_no_error_in_the_sample_mesh(citadel: CommandLine) -> None:
    ended = citadel("policy", "lint", "-f", ROOT / "policies", "--mesh", ROOT / "policies" / "shop.mesh")
    assert ended.code == 0, ended.out


def test_a_table_that_passes_says_what_it_did_not_try(citadel: CommandLine, folder: Path) -> None:
    ended = citadel("policy", "test", folder, "-v")
    assert ended.code == 0
    assert ended.out.splitlines()[2:] == [
        "rules matched: 1 of 2 (50.0 %)",
        "  no case matches shop/readers, rules[1]",
        "2 passed, 0 failed",
    ]
    assert citadel("policy", "test", folder, "--min-coverage", "51").code == 1


def test_a_case_that_fails_is_shown_with_its_reasons(citadel: CommandLine, folder: Path, tmp_path: Path) -> None:
    table = folder / "shop_test.yaml"
    table.write_text(TABLE.replace("expect: deny", "expect: {outcome: allow, policy: shop/writers}"))
    ended = citadel("policy", "test", table, "--junit", tmp_path / "report.xml")
    assert ended.code == 1
    assert "FAILED" in ended.out
    assert "outcome is deny, expected allow" in ended.out
    assert "policy is none, expected shop/writers" in ended.out
    assert 'wants one of "GET"; it is "POST"' in ended.out
    assert ended.out.endswith("1 passed, 1 failed\n")
    report = ET.parse(tmp_path / "report.xml").getroot()
    (suite,) = report
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    (failure,) = report.iter("failure")
    assert "outcome is deny" in str(failure.get("message"))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("workload: cart, peer", "workload: crat, peer", [":7:", "crat"]),
        ("peer: web", "peer: bew", [":7:", "identities"]),
        ("claims: ann}", "claims: eve}", [":7:", "claims"]),
        ("name: writes", "name: reads", [":8:", "two cases"]),
        ("expect: deny", "expect: denied", [":8:", "cases.1.expect.outcome"]),
        ("expect: deny", "expct: deny", [":8:", "expct"]),
        ("schema: citadel.dev/policy-test/v1", "schema: v1", [":2:", "schema"]),
        ("http: {method: POST}", "http: {methods: POST}", [":8:", "http.methods"]),
        ("cases:", "caes:", ["caes"]),
        ("workloads: {cart: {namespace: shop}}", "workloads: {cart: {}, cart: {}}", ["twice"]),
        ("{cart: {namespace: shop}}", "&a {cart: *a}", ["aliases"]),
        (TABLE, "[", ["shop_test.yaml:1:"]),
        (TABLE, "", ["empty"]),
        (TABLE, "\x00", ["shop_test.yaml"]),
        (TABLE, "[" * 3000, ["shop_test.yaml"]),
        (TABLE, "- 1", ["shop_test.yaml"]),
        (TABLE, "? [a]\n: 1", ["shop_test.yaml"]),
    ],
)
def test_what_is_wrong_with_a_table_is_named_with_its_place(
    citadel: CommandLine, folder: Path, old: str, new: str, words: list[str]
) -> None:
    table = folder / "shop_test.yaml"
    table.write_text(TABLE.replace(old, new))
    with pytest.raises(BadFile) as caught:
        read_table(table)
    assert [word for word in words if word not in caught.value.sentence()] == []
    assert citadel("policy", "test", folder).code == 4


def test_mistakes_of_tables_and_of_policies_are_told_together(citadel: CommandLine, folder: Path) -> None:
    (folder / "shop.yaml").write_text(POLICIES.replace("rules:", "rulse:"))
    (folder / "other_test.yaml").write_text("schema: x")
    ended = citadel("policy", "test", folder)
    assert ended.code == 4
    assert "rulse" in ended.err
    assert "other_test.yaml" in ended.err


def test_where_there_is_no_table_that_is_said(citadel: CommandLine, tmp_path: Path) -> None:
    assert citadel("policy", "test", tmp_path).code == 3
    assert citadel("policy", "test", tmp_path / "none").code == 4
