"""`citadel policy diff` and `export` on files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.support.cli import CommandLine
from tests.support.policies import file

SAMPLE = Path(__file__).parents[3] / "policies"


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name, names in (("old", ("a", "b")), ("new", ("b", "c"))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "p.yaml").write_bytes(file(*names, action="ALLOW" if name == "old" else "DENY").content)
    return tmp_path / "old", tmp_path / "new"


def requests(folder: Path, *lines: object) -> Path:
    path = folder / "requests.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def test_a_diff_tells_documents_and_requests(citadel: CommandLine, folders: tuple[Path, Path], tmp_path: Path) -> None:
    asked = requests(tmp_path, {"workload": {"namespace": "shop"}, "id": 5}, {"workload": {"namespace": "other"}})
    ended = citadel("policy", "diff", *folders, "--requests", asked)
    assert ended.code == 0
    assert ended.out.splitlines() == [
        "+ AuthorizationPolicy/shop/c",
        "~ AuthorizationPolicy/shop/b",
        "- AuthorizationPolicy/shop/a",
        "line 1 (5): allow (allowed-by-policy): ALLOW shop/a, rules[0] -> deny (denied-by-policy): DENY shop/b, "
        "rules[0]; a connection of shop by nobody that is known",
        "of 2 requests 1 have another outcome: 1 would be denied, 0 allowed; 0 have the same by another policy, reason "
        "or dry run",
        "  1 x deny: DENY shop/b",
    ]
    assert citadel("policy", "diff", *folders, "--requests", asked, "--fail").code == 1
    document = citadel("policy", "diff", *folders, "--requests", asked, "-o", "json").json()
    assert document["requests"]["changed"][0]["new"]["policy"] == "shop/b"
    assert document["documents"]["changed"] == ["AuthorizationPolicy/shop/b"]


def test_lines_that_are_no_requests_are_told_and_the_rest_is_compared(
    citadel: CommandLine, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    ended = citadel("policy", "diff", *folders, "--requests", requests(tmp_path, {"ports": 1}, {}))
    assert (ended.code, "line 1: ports:" in ended.err, "of 1 requests" in ended.out) == (4, True, True)


def test_records_without_a_request_are_told_with_line_and_reason_the_first_of_very_many(
    citadel: CommandLine, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    record = {"schema": "citadel.dev/decision-log/v1", "request": None, "reason": "unknown-workload"}
    ended = citadel("policy", "diff", *folders, "--requests", requests(tmp_path, {}, record))
    assert ended.code == 0
    said = "1 record has no request, since no policy was asked: line 2 (unknown-workload)"
    assert ended.out.splitlines()[-1] == said
    many = requests(tmp_path, *[record] * 25)
    said = citadel("policy", "diff", *folders, "--requests", many).out.splitlines()[-1]
    assert said.startswith("25 records have no request, since no policy was asked: line 1 (unknown-workload), line 2")
    assert said.endswith("line 20 (unknown-workload), and 5 more")
    document = citadel("policy", "diff", *folders, "--requests", many, "-o", "json").json()["requests"]
    assert (document["skipped"], len(document["skipped_lines"])) == (25, 20)
    assert document["skipped_lines"][0] == {"line": 1, "reason": "unknown-workload"}


def test_the_same_is_the_same(citadel: CommandLine, folders: tuple[Path, Path]) -> None:
    assert citadel("policy", "diff", folders[0], folders[0]).out == "the documents are the same\n"


@pytest.mark.parametrize("listener", ["all", "http", "tcp"])
def test_filters_are_exported_for_a_kind_of_listener(citadel: CommandLine, listener: str) -> None:
    given = ("policy", "export", "-f", SAMPLE, "--mesh", SAMPLE / "shop.mesh", "-n", "shop", "-l", "app=cart")
    ended = citadel(*given, "--listener", listener)
    assert ended.code == 0, ended.err
    made = ended.json()
    wanted = {"http_filters", "network_filters"} - {"http": {"network_filters"}, "tcp": {"http_filters"}}.get(
        listener, set()
    )
    assert made.keys() == {"version", "clusters", *wanted}
    for part in wanted:
        assert "citadel.authz.deny" in [one["name"] for one in made[part]]
    assert yaml.safe_load(citadel(*given, "--listener", listener, "-o", "yaml").out) == made
    assert "citadel.authz.deny" in citadel(*given, "-o", "table").out


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ((), "it needs policies"),
        (("-f", "x", "--version", "v1"), "it needs policies"),
        (("-f", SAMPLE, "--discovered", "x"), "ISSUER=https"),
    ],
)
def test_what_export_cannot_do_is_told(citadel: CommandLine, given: tuple[object, ...], why: str) -> None:
    ended = citadel("policy", "export", *given)
    assert (ended.code, why in ended.err) == (4, True)
