"""Policies in the store of a real `citadel up`, from the command line: changed, refused, told, and not forgotten."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.cli import CommandLine
from tests.support.envoys import wait_for
from tests.support.policies import file
from tests.support.up import Up, running

SETTINGS = f"""
[authorization]
source = "store"
[authorization.authzen]
socket = "../authzen.sock"
allow = ["uid:{os.geteuid()}"]
entities_source = "store"
"""
WORKLOAD = {"workload": {"namespace": "crm", "labels": {"app": "records"}}}


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


def test_entities_are_applied_listed_deleted_and_count(citadel: CommandLine, up: Up, tmp_path: Path) -> None:
    def asked(path: str, subject: dict[str, str]) -> httpx.Response:
        resource = {"type": "record", "id": "1", "properties": WORKLOAD}
        body = {"subject": subject, "action": {"name": "read"}, "resource": resource}
        transport = httpx.HTTPTransport(uds=str(up.home.parent / "authzen.sock"))
        with httpx.Client(transport=transport, base_url="http://localhost") as client:
            return client.post(f"/access/v1/{path}", json=body)

    ann = {"type": "user", "id": "ann"}
    (tmp_path / "p.yaml").write_text(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: gold, namespace: crm}\n"
        "spec: {selector: {matchLabels: {app: records}}, rules: ["
        '{when: [{key: "request.auth.claims[tier]", values: [gold]}]}]}\n'
    )
    assert citadel("policy", "apply", "-f", tmp_path / "p.yaml").code == 0
    assert asked("evaluation", ann).json() == {"decision": False}
    assert asked("search/subject", {"type": "user"}).status_code == 503
    checks = {one["name"]: one for one in citadel("status", "-o", "json").json()["checks"]}
    assert "citadel entity apply" in checks["entities"]["reason"]

    given = tmp_path / "e.yaml"
    given.write_text("entities: [{type: user, id: ann, properties: {tier: gold}}, {type: user, id: ben}]\n")
    assert citadel("entity", "apply", "-f", given, "--dry-run").out.endswith("0 deleted, 0 unchanged\n")
    done = citadel("entity", "apply", "-f", given, "-m", "the first")
    assert (done.code, done.out.splitlines()[-1]) == (0, "the directory is v1")
    wait_for("the entities", lambda: asked("evaluation", ann).json() == {"decision": True})
    assert asked("search/subject", {"type": "user"}).json() == {"results": [ann]}
    rows = citadel("entity", "list", "--type", "user", "-o", "json").json()
    assert [(row["id"], row["properties"]) for row in rows] == [("ann", {"tier": "gold"}), ("ben", {})]
    again = tmp_path / "again.yaml"
    again.write_text(citadel("entity", "list", "--file").out)
    assert "0 created, 0 updated, 0 deleted, 2 unchanged" in citadel("entity", "apply", "-f", again, "--prune").out

    assert citadel("entity", "delete", "user", "ann", "nobody", "--yes").code == 3
    assert citadel("entity", "delete", "user", "ann").code == 2  # nobody is there to be asked
    assert "- user ann" in citadel("entity", "delete", "user", "ann", "--yes").out
    wait_for("the change", lambda: asked("evaluation", ann).json() == {"decision": False})
    given.write_text("entities: [{type: user}]\n")
    refused = citadel("entity", "apply", "-f", given)
    assert (refused.code, "e.yaml:1:12: entities[0].id" in refused.err) == (4, True)
    records = citadel("audit", "list", "-o", "json").json()
    told = [(one["action"], one["subject"]) for one in records if str(one["action"]).startswith("entity.")]
    assert told == [("entity.apply", "v1"), ("entity.delete", "v2")]


def _audit(citadel: CommandLine) -> list[str]:
    records = citadel("audit", "list", "-o", "json").json()
    return [json.dumps(one) for one in records if str(one["action"]).startswith("policy.")]
