"""`citadel up` as a process: what it tells systemd and Prometheus, how it takes a reload, how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.cli import CommandLine
from tests.support.policies import file
from tests.support.up import Workload, command, running

MINE = f"unix:uid:{os.getuid()}"
_PATIENCE = 15.0


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="citadel-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "d"


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def eventually(look: Callable[[], Any]) -> Any:
    end = time.monotonic() + _PATIENCE
    while not (found := look()):
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.05)
    return found


def register(citadel: CommandLine, path: str) -> None:
    ended = citadel("entry", "create", "--spiffe-id", f"spiffe://example.org/{path}", "--selector", MINE)
    assert ended.code == 0, ended.err


def test_sigterm_with_open_streams_ends_them_all_and_is_a_success(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as streams, running(home) as up:
        register(CommandLine(monkeypatch, up.env), "web")
        for number in range(5):
            stream = Workload(up.workload_socket, "default", node=f"envoy-{number}")
            streams.callback(stream.close)
            assert "default" in stream.take()
        waiting = Workload(up.workload_socket, "spiffe://example.org/nobody", node="waits")
        streams.callback(waiting.close)
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(_PATIENCE) == 0
        events = [line["event"] for line in lines(up.log)]  # each line is JSON: no traceback, no complaint of Python's
        assert (events.count("stopping"), events[-1]) == (1, "stopped")
        assert [line for line in lines(up.log) if line["level"] in ("error", "critical")] == []
        assert not list((home / "run").glob("*.sock"))
        assert not list((home / "run" / ".private").glob("*.sock"))
        assert list(lines(up.log)[0])[:4] == ["timestamp", "level", "logger", "event"]


def test_a_reload_says_what_changed_and_what_waits_for_a_restart(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(home) as up:
        citadel = CommandLine(monkeypatch, up.env)
        text = up.config.read_text()

        def reload(new: str) -> list[dict[str, Any]]:
            before = len(lines(up.log))
            up.config.write_text(new)
            up.process.send_signal(signal.SIGHUP)
            ends = ("configuration read again", "the changed configuration is not used")
            eventually(lambda: any(line["event"] in ends for line in lines(up.log)[before:]))
            return lines(up.log)[before:]

        added = '[svid]\nmax_ttl = "2h"\n[ca]\nttl = "8d"\n'
        for _ in range(2):  # what waits is told again at the next reload
            told = reload(text + added)
            waits = [line for line in told if line["event"] == "a setting waits for a restart"]
            assert [(line["setting"], line["old"], line["new"]) for line in waits] == [("ca.ttl", "7d", "8d")]
            assert citadel("status", "-o", "json").json()["waiting"] == ["a restart, for ca.ttl: 7d -> 8d"]
        broken = reload(text + "[svid]\nmax_tll = 3\n")
        assert "did you mean svid.max_ttl?" in broken[-1]["error"]
        assert "x509_ttl" in citadel("entry", "create", "--spiffe-id", "spiffe://example.org/x", "--selector", MINE,
                                     "--ttl", "3h", "--socket", home / "run" / "admin.sock").err  # fmt: skip
        changed = [line for line in reload(text) if line["event"] == "a setting changed"]
        assert [(line["setting"], line["new"]) for line in changed] == [("svid.max_ttl", "1d")]
        assert citadel("status", "-o", "json").json()["waiting"] == []


def test_policies_from_the_store_that_wait_for_a_restart_are_told_as_such(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = tmp_path / "policies.yaml"
    given.write_bytes(file("a").content)
    with running(home) as up:
        citadel = CommandLine(monkeypatch, up.env)
        assert "not from the store; set authorization.source" in citadel("policy", "apply", "-f", given).err
        assert "authorization.source" in citadel("policy", "status").err
        up.config.write_text(up.config.read_text() + '[authorization]\nsource = "store"\n')
        up.process.send_signal(signal.SIGHUP)
        eventually(lambda: citadel("status", "-o", "json").json()["waiting"])
        status = citadel("policy", "status")
        assert (status.code, "a restart, for authorization.source: files -> store" in status.err) == (3, True)
        for more in ((), ("--prune", "--yes")):
            refused = citadel("policy", "apply", "-f", given, *more)
            assert (refused.code, "until it is restarted" in refused.err, "set authorization" in refused.err) == (
                7,
                True,
                False,
            )
        looked = citadel("policy", "apply", "-f", given, "--dry-run")
        assert looked.code == 0
        assert "it would be refused: this Citadel takes its policies from nowhere" in looked.out
        assert "restart it: until you apply the first set, every check is denied" in looked.out
    with running(home) as up:
        citadel = CommandLine(monkeypatch, up.env)
        eventually(lambda: "until then every check is denied" in citadel("policy", "status").out)
        assert "in force here" in citadel("policy", "apply", "-f", given).out


def test_systemd_is_told_when_it_is_ready_reloads_and_stops(home: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(_PATIENCE)
        manager.bind(str(home.parent / "notify"))
        with running(home, env={"NOTIFY_SOCKET": str(home.parent / "notify")}) as up:
            assert manager.recv(200).startswith(b"READY=1\n")
            up.process.send_signal(signal.SIGHUP)
            assert manager.recv(200).startswith(b"RELOADING=1\n")
            assert manager.recv(200).startswith(b"READY=1\n")
            up.process.send_signal(signal.SIGTERM)
            assert manager.recv(200) == b"STOPPING=1"


def test_metrics_tell_what_ends_when_and_how_the_checks_are(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def get(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=_PATIENCE) as answer:
            return str(answer.read().decode())

    def gauge(name: str, **labels: str) -> float | None:
        families = {family.name: family for family in text_string_to_metric_families(get("/metrics"))}
        found = [sample.value for sample in families[name].samples if sample.labels == labels]
        return float(found[0]) if found else None

    with running(home, env={"CITADEL_HTTP__ADDRESS": f"127.0.0.1:{port}"}) as up:
        citadel = CommandLine(monkeypatch, up.env)
        assert gauge("citadel_health_check", check="store") == 1
        assert gauge("citadel_not_after_timestamp_seconds", what="leaf") is None
        register(citadel, "web")
        stream = Workload(up.workload_socket, "default")
        try:
            stream.take()
            ends = {what: gauge("citadel_not_after_timestamp_seconds", what=what) or 0
                    for what in ("leaf", "issuing_ca", "root")}  # fmt: skip
        finally:
            stream.close()
        assert time.time() < ends["leaf"] < ends["issuing_ca"] < ends["root"]
        assert gauge("citadel_issuances", result="issued") == 1
        assert json.loads(get("/livez")) == {"live": True, "reasons": []}
        assert json.loads(get("/readyz")) == {"ready": True, "reasons": []}


def test_the_log_of_an_issuance_is_one_line_without_secrets(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(home) as up:
        register(CommandLine(monkeypatch, up.env), "web")
        stream = Workload(up.workload_socket, "default", node="evil\n\x1b[31m{}")
        try:
            stream.take()
        finally:
            stream.close()
        (issued,) = eventually(lambda: [line for line in lines(up.log) if line["event"] == "issued"])
    assert issued["spiffe_id"] == "spiffe://example.org/web"
    text = up.log.read_text()
    assert "PRIVATE" not in text
    assert "\x1b" not in text
    assert (home / "keys" / "kek").read_text().strip() not in text
    assert command()[0] not in text
