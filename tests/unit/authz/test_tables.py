"""Tables of decisions: what passes, what fails, and what is no table."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml

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


def test_the_sample_mesh_passes_its_tables_and_every_rule_and_field_is_met(citadel: CommandLine) -> None:
    ended = citadel("policy", "test", ROOT / "policies", "--min-coverage", "100", "--min-field-coverage", "100")
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
        "fields tested from both sides: 1 of 2 (50.0 %)",
        "  no case matches through shop/readers, rules[1].to[0].operation.methods",
        "2 passed, 0 failed",
    ]
    assert citadel("policy", "test", folder, "--min-coverage", "50", "--min-field-coverage", "50").code == 0
    assert citadel("policy", "test", folder, "--min-field-coverage", "51").code == 1
    assert citadel("policy", "test", folder, "--min-coverage", "51").code == 1


@pytest.mark.parametrize(
    ("cases", "untold"),
    [
        ("{http: {}}, {http: {method: PUT}}, {http: {path: /b}}, {peer: '', http: {}}", []),
        ("{http: {}}, {http: {method: PUT, path: /b}}", ["from[0].source.principals", "methods", "paths"]),
        ("{http: {}}, {http: {method: PUT}}, {http: {path: /b}}", ["from[0].source.principals"]),
    ],
)
def test_a_field_is_tested_if_a_case_fails_on_it_alone(
    citadel: CommandLine, folder: Path, cases: str, untold: list[str]
) -> None:
    (folder / "shop.yaml").write_text(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\n"
        "spec:\n  rules:\n  - from: [{source: {principals: ['*/sa/web']}}, {source: {namespaces: [other]}}]\n"
        "    to: [{operation: {methods: [GET], paths: [/a]}}, {operation: {ports: ['1']}}]\n"
    )
    given = yaml.safe_load(f"[{cases}]")
    peer = "spiffe://cluster.local/ns/shop/sa/web"
    made = [
        {
            "name": f"c{n}",
            "workload": "cart",
            "peer": peer,
            "expect": "allow",
            **one,
            "http": {"path": "/a"} | one["http"],
        }
        for n, one in enumerate(given)
    ]
    for one in made:
        one["peer"] = one["peer"] or None
        if made.index(one):
            one["expect"] = "deny"
    table = {"schema": "citadel.dev/policy-test/v1", "workloads": {"cart": {"namespace": "shop"}}, "cases": made}
    (folder / "shop_test.yaml").write_text(yaml.safe_dump(table))
    ended = citadel("policy", "test", folder, "-v")
    assert ended.code == 0, ended.out
    found = [line.split("rules[0].")[1].removesuffix(" alone") for line in ended.out.splitlines() if "alone" in line]
    assert [one.removeprefix("to[0].operation.") for one in found] == untold


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
        ("http: {method: POST}", "http: {methods: POST}", [":8:", "http.methods", "did you mean method?"]),
        ("expect: deny", "expect: {outcom: deny}", [":8:", "did you mean outcome?", "expect.outcome: it is missing"]),
        ("cases:", "mesh: {trust_domian: a}\ncases:", ["mesh.trust_domian", "did you mean trust_domain?"]),
        ("workloads: {cart: {namespace", "workloads: {cart: {namspace", ["cart.namspace", "did you mean namespace?"]),
        ("cases:", "casses:", ["casses: there is no such field; did you mean cases?", "cases: it is missing"]),
        (TABLE, POLICIES, ["no table of decisions", "docs/authorization-tests.md"]),
        (TABLE, POLICIES + "---\n" + POLICIES, ["no table of decisions", "docs/authorization-tests.md"]),
        ("cases:", "caes:", ["caes"]),
        ("cases:", 'mesh: "a\\0b"\ncases:', ["zero byte"]),
        ("cases:", 'policies: ["a\\0b"]\ncases:', [":6:", "policies.0", "no such file"]),
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
    for of_pydantic in ("Extra inputs", "Field required", "Value error", "MeshBlock", "valid string"):
        assert of_pydantic not in caught.value.sentence()
    assert citadel("policy", "test", folder).code == 4


def test_all_that_is_wrong_with_a_table_is_told_at_once_in_its_order(folder: Path) -> None:
    table = folder / "shop_test.yaml"
    (folder / "mesh").write_text("trust_domian: a\n")
    table.write_text("""
schema: citadel.dev/policy-test/v1
mesh: mesh
policies: [., none]
workloads: {cart: {namespac: shop}}
cases:
- {name: a, workload: crat, peer: bew, http: {method: 3, claims: eve}, expect: alow}
- {name: a, workload: cart, peer: "spiffe:///b", expect: deny}
- {name: b, workload: cart, peer: "spiffe://a/b", unknown_peer: "spiffe://c/d", port: -1, expect: deny}
- {name: c, workload: cart, peer: "spiffe://a/b", unknown_peer: "spiffe://c/d", expect: deny}
- 7
""")
    with pytest.raises(BadFile) as caught:
        read_table(table)
    assert [(Path(one.file).name, one.line, one.field) for one in caught.value.mistakes] == [
        ("shop_test.yaml", 4, "policies.1"),
        ("shop_test.yaml", 5, "workloads.cart.namespac"),
        ("shop_test.yaml", 7, "cases.0.workload"),
        ("shop_test.yaml", 7, "cases.0.peer"),
        ("shop_test.yaml", 7, "cases.0.http.method"),
        ("shop_test.yaml", 7, "cases.0.http.claims"),
        ("shop_test.yaml", 7, "cases.0.expect.outcome"),
        ("shop_test.yaml", 8, "cases.1.name"),
        ("shop_test.yaml", 8, "cases.1.peer"),
        ("shop_test.yaml", 9, "cases.2"),
        ("shop_test.yaml", 9, "cases.2.port"),
        ("shop_test.yaml", 10, "cases.3"),
        ("shop_test.yaml", 11, "cases.4"),
        ("mesh", 1, "trust_domian"),
    ]


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
