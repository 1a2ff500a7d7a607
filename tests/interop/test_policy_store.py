"""Policies in the store of a real `citadel up`, from the command line: changed, refused, told, and not forgotten."""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import CommandLine
from tests.support.policies import file
from tests.support.up import Up, running

SETTINGS = '[authorization]\nsource = "store"\n'


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    with tempfile.TemporaryDirectory(prefix="citadel-") as folder, running(Path(folder) / "d", SETTINGS) as one:
        yield one


@pytest.fixture
def citadel(monkeypatch: pytest.MonkeyPatch, up: Up) -> CommandLine:
    return CommandLine(monkeypatch, up.env)


def write(folder: Path, *names: str, action: str = "DENY") -> Path:
    path = folder / "given.yaml"
    path.write_bytes(file(*names, action=action).content)
    return path


def test_policies_are_applied_changed_and_brought_back(citadel: CommandLine, up: Up, tmp_path: Path) -> None:
    assert "nothing was applied" in citadel("policy", "status").out
    given = write(tmp_path, "a", "b", "c")
    looked = citadel("policy", "apply", "-f", given, "--dry-run")
    assert (looked.code, looked.out.splitlines()[-1]) == (0, "would be: 3 created, 0 updated, 0 deleted, 0 unchanged")
    assert citadel("policy", "list", "-o", "json").json() == []

    done = citadel("policy", "apply", "-f", given, "--comment", "the first", "-o", "json").json()
    assert (done["version"]["version"], done["in_force"], len(done["created"])) == ("v1", True, 3)
    assert citadel("policy", "status", "-o", "json").json()["stored_version"] == "v1"

    mistaken = tmp_path / "bad.yaml"
    mistaken.write_text(given.read_text().replace("DENY", "DENIED"))
    refused = citadel("policy", "apply", "-f", mistaken)
    assert (refused.code, refused.err.count("bad.yaml:")) == (4, 3)

    late = citadel("policy", "apply", "-f", write(tmp_path, "d"), "--expect", "v0")
    assert late.code == 7
    assert "v1 by uid:" in late.err

    gone = citadel("policy", "delete", "shop/a", "shop/b", "--yes")
    assert (gone.code, "say --confirm" in gone.err) == (7, True)
    assert citadel("policy", "delete", "shop/a").code == 2  # nobody is there to be asked
    assert citadel("policy", "delete", "shop/a", "shop/b", "--confirm").out.splitlines()[-1].startswith("stored as v2;")
    assert [row["name"] for row in citadel("policy", "list", "-o", "json").json()] == ["shop/c"]

    back = citadel("policy", "rollback", "v1", "--comment", "they were needed", "-o", "json").json()
    assert (back["version"]["version"], back["version"]["restores"]) == ("v3", "v1")
    told = citadel("policy", "history", "-o", "json").json()
    assert [(one["version"], one["action"], one["comment"]) for one in told] == [
        ("v3", "rollback to v1", "they were needed"),
        ("v2", "delete", ""),
        ("v1", "apply", "the first"),
    ]
    assert [
        one["version"] for one in citadel("policy", "history", "AuthorizationPolicy/shop/c", "-o", "json").json()
    ] == ["v1"]
    assert citadel("policy", "diff", "v2", "store").out.splitlines() == [
        "+ AuthorizationPolicy/shop/a",
        "+ AuthorizationPolicy/shop/b",
    ]
    exported = citadel("policy", "export", "--version", "v1", "-n", "shop").out
    assert "ns[shop]-policy[a]-rule[0]" in exported
    again = tmp_path / "again.yaml"
    again.write_text(citadel("policy", "list", "--documents").out)
    assert "0 created, 0 updated, 0 deleted, 3 unchanged" in citadel("policy", "apply", "-f", again).out
    audited = [json.loads(line)["action"] for line in _audit(citadel)]
    assert audited == ["policy.apply", "policy.delete", "policy.rollback"]

    up.end(signal.SIGKILL)
    up.start()
    status = citadel("policy", "status", "-o", "json").json()
    assert (status["stored_version"], status["documents"], status["fault"]) == ("v3", 3, "")


def _audit(citadel: CommandLine) -> list[str]:
    records = citadel("audit", "list", "-o", "json").json()
    return [json.dumps(one) for one in records if str(one["action"]).startswith("policy.")]
