"""Bad input, from the command line to the running Citadel and back: what, where, how to mend it; nothing is changed."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from citadel.cli import init
from citadel.spiffe import TrustDomain
from tests.support.cacerts import Mint
from tests.support.cli import CommandLine
from tests.support.up import Up, command, running

DOMAIN = TrustDomain("example.org")
ID, SELECTOR = ("--spiffe-id", "spiffe://example.org/a"), ("--selector", "unix:uid:4242")


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    with tempfile.TemporaryDirectory(prefix="citadel-") as folder, running(Path(folder) / "d") as one:
        made = command("entry", "create", "--spiffe-id", "spiffe://example.org/there", *SELECTOR, "--id", "there",
                       "--config", one.config)  # fmt: skip
        subprocess.run(made, check=True, capture_output=True, timeout=60)
        yield one


@pytest.fixture
def citadel(monkeypatch: pytest.MonkeyPatch, up: Up) -> CommandLine:
    return CommandLine(monkeypatch, up.env)


def state(citadel: CommandLine) -> tuple[str, str]:
    """All that a command could have changed: the entries, and the end of the audit log."""
    return citadel("entry", "list", "-o", "json").out, citadel("audit", "list", "--limit", "1", "-o", "json").out


def create(spiffe_id: str = ID[1], selector: str = SELECTOR[1], *more: str) -> tuple[str, ...]:
    return ("entry", "create", "--spiffe-id", spiffe_id, "--selector", selector, *more)


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        # SPIFFE IDs (SPIFFE-ID, 2)
        (create("web"), 4, r"--spiffe-id: 'web' is not a SPIFFE ID: it must start with 'spiffe://'"),
        (create("SPIFFE://example.org/a"), 4, r"it must start with 'spiffe://', in lower case"),
        (create("spiffe://Example.org/a"), 4, r"'E' is not allowed in a trust domain"),
        (create("spiffe://example.org:80/a"), 4, r"--spiffe-id: .* is not a SPIFFE ID: "),
        (create("spiffe://u@example.org/a"), 4, r"--spiffe-id: .* is not a SPIFFE ID: "),
        (create("spiffe://example.org/a/"), 4, r"--spiffe-id: .* is not a SPIFFE ID: .*slash"),
        (create("spiffe://example.org/a//b"), 4, r"--spiffe-id: .* is not a SPIFFE ID: .*empty"),
        (create("spiffe://example.org/../b"), 4, r"--spiffe-id: .* is not a SPIFFE ID: dot segments"),
        (create("spiffe://example.org/%61"), 4, r"--spiffe-id: .* is not a SPIFFE ID: percent"),
        (create("spiffe://example.org/a,b"), 4, r"--spiffe-id: .* is not a SPIFFE ID: a comma"),
        (create("spiffe://example.org/a?x"), 4, r"--spiffe-id: .* is not a SPIFFE ID: "),
        (create("spiffe://example.org/" + "a" * 2048), 4, r"--spiffe-id: .* is not a SPIFFE ID: .*2048"),
        (create("spiffe://example.org"), 4, r"spiffe_id: .* has no path"),
        (create("spiffe://other.org/a"), 4, r"spiffe_id: .*our trust domain example\.org"),
        (create("spiffe://example.org/spire/server"), 4, r"spiffe_id: .*/spire are reserved"),
        # selectors
        (create(ID[1], "unix"), 4, r"--selector: 'unix' is not a selector: expected type:value, as in unix:uid:1000"),
        (create(ID[1], "unix:uid:root"), 4, r"selectors: unix:uid:root: it must be a number"),
        (create(ID[1], "unix:udi:1"), 4, r"selectors: unix:udi:1: unix has no 'udi'; did you mean 'uid'\?"),
        (create(ID[1], "unx:uid:1"), 4, r"selectors: unx:uid:1: unknown type 'unx'; did you mean 'unix'\?"),
        (("entry", "create", *ID), 4, r"--selector: at least one must be given, as in unix:uid:1000"),
        # lifetimes
        (create(*ID[1:], SELECTOR[1], "--ttl=-5m"), 4, r"--ttl: '-5m' is negative"),
        (create(*ID[1:], SELECTOR[1], "--ttl", "5"), 4, r"--ttl: '5' has no unit; write 5s for seconds"),
        (create(*ID[1:], SELECTOR[1], "--ttl", "1s"), 4, r"x509_ttl: .*not between"),
        (create(*ID[1:], SELECTOR[1], "--ttl", "8d"), 4, r"x509_ttl: .*not between"),  # the issuing CA has 7 d
        (create(*ID[1:], SELECTOR[1], "--ttl", "200y"), 4, r"--ttl: '200y' is longer than 100 years"),
        (create(*ID[1:], SELECTOR[1], "--jwt-ttl", "1500ms"), 4, r"jwt_ttl: .*not in whole seconds"),
        (create(*ID[1:], SELECTOR[1], "--expires", "yesterday"), 4, r"--expires: .*write it as 2027-01-31T12:00:00Z"),
        (create(*ID[1:], SELECTOR[1], "--expires", "2020-01-01T00:00:00Z"), 4, r"expires_at: .*past"),
        # the rest of an entry
        (create(*ID[1:], SELECTOR[1], "--dns", "a b"), 4, r"dns_names: 'a b' is not a DNS name"),
        (create(*ID[1:], SELECTOR[1], "--parent", "spiffe://other.org/n"), 4, r"parent_id: .*our trust domain"),
        (create(*ID[1:], SELECTOR[1], "--label", "x"), 4, r"--label: 'x' is not KEY=VALUE"),
        (create(*ID[1:], SELECTOR[1], "--federates-with", "A"), 4, r"--federates-with: 'A' is not a trust domain"),
        # duplicates, and what is not there
        (create("spiffe://example.org/there"), 7, r"is registered already; see: citadel entry show there"),
        (create(*ID[1:], SELECTOR[1], "--id", "there"), 7, r"id there is taken; see: citadel entry show there"),
        (("entry", "show", "none"), 3, r"there is no entry 'none'; see: citadel entry list"),
        (("entry", "update", "none", "--ttl", "5m"), 3, r"there is no entry 'none'; see: citadel entry list"),
        (("entry", "update", "there"), 4, r"there is nothing to change; say what, such as --ttl 30m"),
        (("entry", "update", "there", "--ttl", "8d"), 4, r"x509_ttl: .*not between"),
        (("entry", "delete", "there", "none", "--yes"), 3, r"there is no entry 'none'"),
        (("entry", "delete", "there"), 2, r"say --yes to do it; nothing was changed"),
        (("ca", "show", "zz"), 3, r"there is no authority 'zz'; see: citadel ca list"),
        (("svid", "show", "xyz"), 4, r"'xyz' is no serial number: expected hex"),
        (("svid", "show", "00"), 3, r"no certificate with serial 0 .*; see: citadel svid list"),
        (("svid", "list", "--authority", "zz"), 3, r"there is no authority 'zz'; see: citadel ca list"),
        (("svid", "list", "--expires-before", "junk"), 4, r"--expires-before: .*write it as"),
        (("bundle", "show", "--trust-domain", "other.org"), 3, r"there is no bundle of other\.org"),
        # the command line itself
        (("entry", "lst"), 2, r"No such command 'lst'. Did you mean 'list'\?"),
        (("entry", "list", "--selctor", "x"), 2, r"No such option: --selctor \(Possible options: --selector"),
        (("status", "-o", "xml"), 2, r"'xml' is not one of 'table', 'json', 'yaml'"),
        (("status", "--wait", "soon"), 4, r"--wait: 'soon' is not a length of time; write it as 30s"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_a_wrong_command_says_what_is_wrong_and_changes_nothing(
    citadel: CommandLine, args: tuple[str, ...], code: int, said: str
) -> None:
    before = state(citadel)
    ended = citadel(*args)
    assert (ended.code, ended.out) == (code, ""), ended.err
    assert re.search(said, ended.err)
    if code != 2:  # a usage error shows the usage too
        assert len(ended.err.splitlines()) == 1
    assert state(citadel) == before


BROKEN = """\
entries:
- spiffe_id: spiffe://example.org/ok
  selectors: [unix:uid:4242]
- spiffe_id: spiffe://Example.org/a
  selectors: [unix]
  x509_ttl: -5m
- selectors: []
  dns: [x]
- spiffe_id: spiffe://example.org/ok
  selectors: [unix:uid:4242]
- spiffe_id: spiffe://example.org/b
  spiffe_id: spiffe://example.org/c
  selectors: unix:uid:1
  admin: maybe
  expires_at: soon
- just text
more: 1
"""


@pytest.mark.parametrize("verb", [("create", "-f"), ("apply",), ("apply", "--dry-run")], ids=" ".join)
def test_every_mistake_of_a_file_is_told_with_its_line_and_field(
    citadel: CommandLine, tmp_path: Path, verb: tuple[str, ...]
) -> None:
    file = tmp_path / "entries.yaml"
    file.write_text(BROKEN)
    before = state(citadel)
    ended = citadel("entry", *verb, file)
    assert (ended.code, ended.out) == (4, "")
    places = [(line.split(":")[1], line.split(": ")[1]) for line in ended.err.splitlines()]
    assert all(line.startswith(f"{file}:") for line in ended.err.splitlines())
    assert places == [
        ("4", "entries[1].spiffe_id"), ("5", "entries[1].selectors"), ("6", "entries[1].x509_ttl"),
        ("7", "entries[2].selectors"), ("7", "entries[2]"), ("8", "entries[2].dns"), ("9", "spiffe://example.org/ok"),
        ("12", "entries[4].spiffe_id"), ("13", "entries[4].selectors"), ("14", "entries[4].admin"),
        ("15", "entries[4].expires_at"), ("16", "entries[5]"), ("17", "more"),
    ], ended.err  # fmt: skip
    assert state(citadel) == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"entries: [\n", r":2:1: not YAML: "),
        (b"entries:\n- {a: 1\n  b: 2}\n", r":3:\d+: not YAML: "),
        (b"entries:\n\t- x\n", r":2:\d+: not YAML: "),
        (b"\xff\xfe\n", r":1: it is not UTF-8 text"),
        (b"a: &a [*a, *a]\n", r":1: a: there is no such field"),
        (b"[" * 5000, r"nested too deeply|not YAML"),
        (b"entries: {}\n", r":1: entries: it must be a list of entries"),
        (b"- spiffe_id: 'spiffe://other.org/a'\n  selectors: ['unix:uid:1']\n", r":1: .*our trust domain example\.org"),
        (b"x" * (8 << 20) + b"\n", r"it is larger than 8388608 bytes"),
    ],
    ids=range(9),
)  # fmt: skip
def test_what_is_no_file_of_entries_is_named(citadel: CommandLine, tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "entries.yaml"
    file.write_bytes(content)
    before = state(citadel)
    ended = citadel("entry", "apply", file)
    assert (ended.code, ended.out) == (4, "")
    assert ended.err.startswith(str(file))
    assert re.search(said, ended.err)
    assert state(citadel) == before


def _append(text: str) -> Callable[[Path], None]:
    def damage(home: Path) -> None:
        with (home / "citadel.toml").open("a") as file:
            file.write(text)

    return damage


def _key(content: str, mode: int = 0o600) -> Callable[[Path], None]:
    def damage(home: Path) -> None:
        (home / "keys" / "kek").write_text(content)
        (home / "keys" / "kek").chmod(mode)

    return damage


def _other_key(home: Path) -> None:
    """The database is of another key."""
    with running(home):
        pass
    (home / "keys" / "kek").write_text("A" * 43 + "=\n")


def _other_domain(home: Path) -> None:
    with running(home):
        pass
    file = home / "citadel.toml"
    file.write_text(file.read_text().replace("example.org", "other.org"))


def _cacerts(spoil: Callable[[Path], object]) -> Callable[[Path], None]:
    def damage(home: Path) -> None:
        Mint(DOMAIN).write(home / "cacerts")
        spoil(home / "cacerts")
        _append(f'[root]\nkind = "cacerts"\ncacerts_dir = "{home}/cacerts"\n')(home)

    return damage


def _another_key_beside(folder: Path) -> None:
    other = Mint(DOMAIN)
    other.write(folder / "other")
    (folder / "other" / "ca-key.pem").replace(folder / "ca-key.pem")


@pytest.mark.parametrize(
    ("damage", "code", "said"),
    [
        (_key(""), 4, r"keys/kek: expected 32 bytes in base64\nrestore it from your copy"),
        (_key("A" * 44 + "\n", 0o640), 5, r"others may read or write .*/keys/kek; run: chmod 600 .*/keys/kek"),
        (lambda home: (home / "keys" / "kek").unlink(), 3, r"there is no key file .*/keys/kek; "),
        (lambda home: (home / "keys").chmod(0o777), 5, r"keys may be written to by everybody.*; run: chmod go-w "),
        (lambda home: (home / "run").chmod(0o777), 5, r"run may be written to by everybody.*; run: chmod go-w "),
        (_other_key, 7, r"the key of authority .*; put back the key file that belongs to this database"),
        (_other_domain, 7, r"belongs to the trust domain example\.org, not other\.org; set trust_domain back"),
        (_cacerts(lambda folder: (folder / "ca-key.pem").unlink()), 4, r"cacerts/ca-key\.pem: "),
        (_cacerts(lambda folder: (folder / "ca-key.pem").chmod(0o644)), 5, r"ca-key\.pem; run: chmod 600 .*/ca-key"),
        (_cacerts(lambda folder: (folder / "ca-cert.pem").write_text("junk")), 4, r"cacerts/ca-cert\.pem: "),
        (_cacerts(_another_key_beside), 4, r"ca-key\.pem: .*key"),
        (_append('[sockets.admin]\npath = "/tmp/' + "x" * 120 + '"\n'), 4, r"sockets\.admin\.path: .*at most 107"),
        (_append('[sockets.admin]\npath = "DATA_DIR/citadel.toml"\n'), 7, r"is there, and is no socket; move it away"),
        (_append('[sockets.admin]\ngroup = "no-such-group"\n'), 4, r"sockets\.admin\.group: this machine has no group"),
        (_append("[svid]\nmax_tll = 1\n"), 4, r"svid\.max_tll: there is no such setting; did you mean svid\.max_ttl\?"),
        (_append('[svid]\nmax_ttl = "5d"\n'), 4, r"svid\.max_ttl.* is more than half of ca\.ttl"),
        (_append("x = = 1\n"), 4, r"citadel\.toml:\d+:\d+: not TOML: "),
        (lambda home: (home / "citadel.toml").chmod(0o666), 5, r"can be written by everybody; run: chmod o-w "),
    ],
    ids=range(18),
)  # fmt: skip
def test_what_keeps_it_from_starting_is_told_and_nothing_is_lost(
    damage: Callable[[Path], object], code: int, said: str
) -> None:
    with tempfile.TemporaryDirectory(prefix="citadel-") as folder:
        home = Path(folder) / "d"
        init.lay_out(home, DOMAIN)
        damage(home)
        before = _contents(home)
        ended = _up(home)
        assert ended.returncode == code, ended.stderr
        text = "\n".join(line for line in ended.stderr.splitlines() if not line.startswith("{"))  # {: the log
        assert re.search(said, text), text
        assert "Traceback" not in ended.stderr
        assert _contents(home) == before
        assert not [path for path in home.rglob("*") if path.is_socket()]


def _clean() -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("CITADEL_")}
    return env | {"CITADEL_HTTP__ADDRESS": ""}


def _up(home: Path, **env: str) -> subprocess.CompletedProcess[str]:
    started = command("up", "--config", home / "citadel.toml")
    return subprocess.run(started, capture_output=True, text=True, timeout=60, env=_clean() | env)


def _contents(home: Path) -> dict[str, bytes]:
    """What a user put there: configuration, keys and certificates."""
    chosen = [path for path in home.rglob("*") if path.suffix in (".toml", ".pem") or path.name == "kek"]
    return {str(path): path.read_bytes() for path in chosen if path.is_file()}


def test_wrong_variables_are_all_told_with_the_nearest_that_there_is(up: Up) -> None:
    ended = _up(
        up.home, CITADEL_HTTP__ADRESS="x", CITADEL_LOG__LEVEL="loud", CITADEL_SVID__MAX_TTL="-3h",
        CITADEL_SOCKETS__ADMIN__MODE="9", CITADEL_COFIG="x",
    )  # fmt: skip
    assert ended.returncode == 4
    assert sorted(line.split(": ", 1)[0] for line in ended.stderr.splitlines()) == [
        "CITADEL_COFIG", "CITADEL_HTTP__ADRESS", "CITADEL_LOG__LEVEL", "CITADEL_SOCKETS__ADMIN__MODE",
        "CITADEL_SVID__MAX_TTL",
    ]  # fmt: skip
    assert "did you mean CITADEL_CONFIG?" in ended.stderr
    assert "did you mean CITADEL_HTTP__ADDRESS?" in ended.stderr


def test_a_second_server_and_a_taken_socket_leave_the_first_as_it_is(up: Up, citadel: CommandLine) -> None:
    second = _up(up.home)
    assert second.returncode == 7
    assert f"another Citadel (pid {up.process.pid}) uses" in second.stderr
    with tempfile.TemporaryDirectory(prefix="citadel-") as folder:
        other = Path(folder) / "d"
        init.lay_out(other, DOMAIN)
        third = _up(other, CITADEL_SOCKETS__ADMIN__PATH=str(up.home / "run" / "admin.sock"))
    assert third.returncode == 7
    assert "listens on" in third.stderr
    assert json.loads(citadel("status", "-o", "json").out)["ready"]


def test_a_stale_socket_is_taken_over() -> None:
    with tempfile.TemporaryDirectory(prefix="citadel-") as folder:
        home = Path(folder) / "d"
        init.lay_out(home, DOMAIN)
        for name in ("admin", "workload"):
            with socket.socket(socket.AF_UNIX) as dead:
                dead.bind(str(home / "run" / f"{name}.sock"))
        with running(home, env={"CITADEL_HTTP__ADDRESS": ""}) as up:
            status = subprocess.run(command("status", "--config", up.config), capture_output=True, timeout=60)
            assert status.returncode == 0
