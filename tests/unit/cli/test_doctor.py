from __future__ import annotations

import base64
import os
import socket
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from citadel import config
from citadel.api.proto.citadel.v1 import admin_pb2 as admin
from citadel.api.proto.spire.api.types import entry_pb2, spiffeid_pb2
from citadel.ca.kek import file_kek
from citadel.cli.doctor import machine
from citadel.cli.doctor.findings import expiry
from citadel.cli.doctor.running import unmatched
from citadel.config.settings import AttestorsSettings
from tests.support.cli import CommandLine


@pytest.fixture
def home(citadel: CommandLine, tmp_path: Path) -> Path:
    """A fresh installation, whose doctor finds nothing failed."""
    tmp_path.chmod(0o755)
    path = tmp_path / "d"
    citadel("init", "--trust-domain", "example.org", "--data-dir", path)
    citadel.env |= {"CITADEL_CONFIG": str(path / "citadel.toml"), "CITADEL_HTTP__ADDRESS": ""}
    return path


def findings(citadel: CommandLine, check: str) -> list[dict[str, Any]]:
    return [row for row in citadel("doctor", "-o", "json").json() if row["check"] == check]


def failed(citadel: CommandLine, check: str) -> dict[str, Any]:
    """The one failure of `check`; the doctor's exit code must tell of it."""
    ended = citadel("doctor", "-o", "json")
    assert ended.code == 1
    (row,) = [row for row in ended.json() if row["check"] == check and row["result"] == "fail"]
    assert row["mend"]
    return dict(row)


@contextmanager
def listening(path: Path) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        yield


@pytest.mark.usefixtures("home")
def test_a_fresh_installation_is_well(citadel: CommandLine) -> None:
    ended = citadel("doctor")
    assert ended.code == 0
    assert "fail  " not in ended.out
    assert "0 fail" in ended.err


def test_a_broken_configuration_is_the_first_thing_told(citadel: CommandLine, home: Path) -> None:
    (home / "citadel.toml").write_text('trust_domain = "example.org"\nx = 1\ny = 2\n')
    ended = citadel("doctor", "-o", "json")
    assert ended.code == 1
    assert [row["message"].split(": ")[1] for row in ended.json()] == ["data_dir", "x", "y"]


def test_without_a_configuration_it_is_said_how_to_make_one(citadel: CommandLine) -> None:
    ended = citadel("doctor")
    assert ended.code == 1
    assert "citadel init" in ended.out


@pytest.mark.parametrize(
    ("name", "mode", "check", "mend"),
    [
        ("keys/kek", 0o644, "keys.kek", "chmod 600"),
        ("keys", 0o755, "files.keys", "chmod 700"),
        ("db", 0o750, "files.db", "chmod 700"),
        ("", 0o777, "files.data_dir", "chmod go-w"),
        ("run", 0o777, "sockets.admin", "chmod go-w"),
    ],
)
def test_what_others_may_touch_is_found_with_the_command_that_mends_it(
    citadel: CommandLine, home: Path, name: str, mode: int, check: str, mend: str
) -> None:
    (home / name).chmod(mode)
    assert mend in failed(citadel, check)["mend"]


def test_policies_that_everybody_can_change_are_warned_of(citadel: CommandLine, home: Path) -> None:
    (home / "p").mkdir(mode=0o755)
    citadel.env["CITADEL_AUTHORIZATION__POLICIES"] = str(home / "p")
    assert findings(citadel, "files.trusted")[0]["result"] == "ok"
    (home / "p").chmod(0o777)
    (row,) = findings(citadel, "files.trusted")
    assert (row["result"], row["mend"]) == ("warn", f"run: chmod o-w {home / 'p'}")


def test_a_hook_that_others_could_replace_is_found(citadel: CommandLine, home: Path) -> None:
    hook = home / "check"
    citadel.env["CITADEL_ROTATION__HOOKS__COMMAND"] = f"{hook} --strict"
    assert "there is no program" in failed(citadel, "files.hook")["message"]
    hook.touch(mode=0o755)
    assert findings(citadel, "files.hook")[0]["result"] == "ok"
    hook.chmod(0o777)
    assert "is not run" in failed(citadel, "files.hook")["message"]


def test_a_damaged_key_file_is_found(citadel: CommandLine, home: Path) -> None:
    (home / "keys/kek").write_text("short\n")
    assert "keys/kek" in failed(citadel, "keys.kek")["message"]


def test_a_key_of_another_database_is_found(citadel: CommandLine, home: Path) -> None:
    with closing(sqlite3.connect(home / "db/citadel.db")) as connection, connection:
        connection.execute("CREATE TABLE keys (kek_id)")
        connection.execute("CREATE TABLE audit_keys (kek_id)")
        connection.execute("INSERT INTO keys VALUES (?)", [file_kek(home / "keys/kek").id])
    (home / "db/citadel.db").chmod(0o600)
    assert findings(citadel, "store.keys")[0]["result"] == "ok"
    (home / "keys/kek").write_text(base64.b64encode(bytes(32)).decode())
    assert "keys of authorities in the database are sealed" in failed(citadel, "store.keys")["message"]


def test_a_missing_key_file_is_found(citadel: CommandLine, home: Path) -> None:
    (home / "keys/kek").unlink()
    assert "kek" in failed(citadel, "keys.kek")["message"]


def test_a_key_from_systemd_is_not_looked_for_outside_the_service(citadel: CommandLine, home: Path) -> None:
    citadel.env["CITADEL_KEYS__KEK"] = "credential:kek"
    (row,) = findings(citadel, "keys.kek")
    assert row["result"] == "skip"


def database(home: Path) -> Path:
    path = home / "db/citadel.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (x)")
        connection.executemany("INSERT INTO t VALUES (?)", [("x" * 1000,) for _ in range(100)])
        connection.commit()
    path.chmod(0o600)
    return path


def test_a_whole_database_is_well_and_left_as_it_was(citadel: CommandLine, home: Path) -> None:
    path = database(home)
    before = path.read_bytes()
    (row,) = findings(citadel, "store.database")
    assert (row["result"], row["message"]) == ("ok", f"{path} is whole")
    assert path.read_bytes() == before


def test_a_damaged_database_is_found(citadel: CommandLine, home: Path) -> None:
    path = database(home)
    content = bytearray(path.read_bytes())
    content[4096 * 2 : 4096 * 3] = b"\xff" * 4096
    path.write_bytes(content)
    assert "is damaged" in failed(citadel, "store.database")["message"]


def test_what_is_no_database_is_found(citadel: CommandLine, home: Path) -> None:
    path = home / "db/citadel.db"
    path.write_text("something else entirely, and long enough to be taken for a header\n" * 10)
    path.chmod(0o600)
    assert "is damaged" in failed(citadel, "store.database")["message"]


def test_a_database_that_others_can_read_is_found(citadel: CommandLine, home: Path) -> None:
    database(home).chmod(0o644)
    assert "chmod 600" in failed(citadel, "store.database")["mend"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to give files away")
def test_root_looks_as_the_user_to_whom_it_all_belongs(citadel: CommandLine) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        home = Path(folder) / "d"
        citadel("init", "--trust-domain", "example.org", "--data-dir", home)
        database(home)
        for file in (home, *home.rglob("*")):
            os.chown(file, 65534, 65534)
        ended = citadel("doctor", "--config", home / "citadel.toml", CITADEL_HTTP__ADDRESS="")
        assert (ended.code, os.geteuid()) == (0, 0)
        os.chown(home / "keys" / "kek", 0, 0)
        assert "cannot be read" in citadel("doctor", "--config", home / "citadel.toml").out
        assert {file.stat().st_uid for file in (home / "db").iterdir()} == {65534}


def test_a_postgresql_that_is_away_is_found(citadel: CommandLine, home: Path) -> None:
    citadel.env["CITADEL_STORE__URL"] = f"postgresql://u@/db?host={home}"
    assert "cannot be reached" in failed(citadel, "store.database")["message"]
    with listening(home / ".s.PGSQL.5432"):
        (row,) = findings(citadel, "store.database")
    assert row["result"] == "ok"


def test_sockets_that_nobody_serves_are_told_from_those_that_somebody_does(citadel: CommandLine, home: Path) -> None:
    path = home / "run/workload.sock"
    assert [row["result"] for row in findings(citadel, "sockets.workload")] == ["skip"]
    with listening(path):
        path.chmod(0o666)
        (row,) = findings(citadel, "sockets.workload")
        assert (row["result"], f"process {os.getpid()} listens" in row["message"]) == ("ok", True)
        path.chmod(0o600)
        (row,) = findings(citadel, "sockets.workload")
        assert (row["result"], "has mode 0600" in row["message"]) == ("warn", True)
    (row,) = findings(citadel, "sockets.workload")
    assert (row["result"], "left over" in row["message"]) == ("warn", True)


def test_a_file_in_the_place_of_a_socket_is_found(citadel: CommandLine, home: Path) -> None:
    (home / "run/workload.sock").touch()
    assert "is not a socket" in failed(citadel, "sockets.workload")["message"]


def test_an_http_address_that_another_program_has_is_found(citadel: CommandLine, home: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        citadel.env["CITADEL_HTTP__ADDRESS"] = f"127.0.0.1:{other.getsockname()[1]}"
        assert "another program listens" in failed(citadel, "sockets.http")["message"]


def test_an_http_address_that_other_machines_reach_is_pointed_out(citadel: CommandLine, home: Path) -> None:
    citadel.env["CITADEL_HTTP__ADDRESS"] = "0.0.0.0:1"
    assert "warn" in [row["result"] for row in findings(citadel, "sockets.http")]


def test_a_clock_before_this_release_is_wrong(home: Path) -> None:
    settings = config.load(home / "citadel.toml", {})
    found = {f.check: f for f in machine.clock(settings, datetime(1970, 1, 1, tzinfo=UTC))}
    assert found["clock.time"].level == "fail"


def test_a_clock_that_was_set_back_is_noticed_by_what_was_written(home: Path) -> None:
    settings = config.load(home / "citadel.toml", {})
    database(home)
    now = datetime.now(UTC)
    assert "clock.back" in [f.check for f in machine.clock(settings, now - timedelta(hours=1))]
    assert "clock.back" not in [f.check for f in machine.clock(settings, now)]


def test_the_file_limit_is_compared_with_what_the_quotas_promise(home: Path) -> None:
    env = {"CITADEL_SOCKETS__WORKLOAD__MAX_CONNECTIONS": "10"}
    (few,) = machine.file_limit(config.load(home / "citadel.toml", env), None)
    assert few.level == "ok"
    env = {"CITADEL_SOCKETS__WORKLOAD__MAX_CONNECTIONS": "1000000000"}
    (many,) = machine.file_limit(config.load(home / "citadel.toml", env), os.getpid())
    assert many.level == "warn"
    assert f"process {os.getpid()}" in many.message


def test_plugged_in_ca_files_are_verified(citadel: CommandLine, home: Path) -> None:
    folder = home / "cacerts"
    folder.mkdir()
    citadel.env |= {"CITADEL_ROOT__KIND": "cacerts", "CITADEL_ROOT__CACERTS_DIR": str(folder)}
    assert {row["message"] for row in findings(citadel, "keys.cacerts")} == {
        f"{folder}/{name}: there is no such file"
        for name in ("ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem")
    }


def test_expiry_is_told_early_enough_to_plan() -> None:
    now = datetime(2026, 11, 23, tzinfo=UTC)

    def found(days_ago: float, days_left: float) -> str:
        return expiry("x", "it", (now - timedelta(days=days_ago), now + timedelta(days=days_left)), now).level

    assert found(3, 4) == "ok"
    assert found(6, 1) == "warn"
    assert found(3650 * 2, 900) == "ok"
    assert found(3650 * 2, 700) == "warn"
    assert found(7, 0) == "fail"
    assert found(-1, 7) == "fail"


def test_an_entry_that_no_process_can_match_is_named_with_what_it_needs() -> None:
    def of(*selectors: str) -> admin.EntryDetails:
        entry = entry_pb2.Entry(id=selectors[0], spiffe_id=spiffeid_pb2.SPIFFEID(trust_domain="td", path="/a"))
        for text in selectors:
            kind, _, value = text.partition(":")
            entry.selectors.add(type=kind, value=value)
        return admin.EntryDetails(entry=entry)

    entries = [of("unix:uid:1"), of("unix:path:/x", "unix:uid:1"), of("uid:0"), of("docker:label:a:b")]
    off = AttestorsSettings.model_validate({"docker": {"enabled": False}})
    said = [finding.message for finding in unmatched(entries, off)]
    assert said == [
        "no process matches spiffe://td/a (unix:path:/x): unix:path:/x needs attestors.unix.discover_path = true",
        "no process matches spiffe://td/a (uid:0): nothing here makes uid:0",
        "no process matches spiffe://td/a (docker:label:a:b): docker:label:a:b needs attestors.docker.enabled = true",
    ]
    on = AttestorsSettings.model_validate({"unix": {"discover_path": True}})
    assert [finding.message for finding in unmatched(entries, on)] == said[1:2]
    many = list(unmatched([of(f"k8s:ns:{n}") for n in range(25)], on))
    assert len(many) == 11
    assert many[-1].message == "15 more entries like these"


def test_a_database_that_is_remembered_and_gone_is_told(citadel: CommandLine, home: Path) -> None:
    (home / "database-id").write_text("0" * 32)
    assert "remembers one" in failed(citadel, "store.database")["message"]
