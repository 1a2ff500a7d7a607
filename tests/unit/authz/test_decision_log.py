"""The decision log: what is in a record and what never is, what is lost under pressure, and how a record is found."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from citadel.authz import HttpRequest, MeshFacts, PolicySet, Request, Workload, compile, load_text  # noqa: A004
from citadel.authz.decision import Decision, Outcome, Reason
from citadel.authz.decision_log import DecisionLog, LogFiles, Lookup, Recorder, Share, decide_again
from citadel.authz.decision_log.backlog import Backlog
from citadel.authz.decision_log.schema import record_schema
from citadel.authz.decision_point import Ruling
from citadel.authz.doors.authzen.door import SEARCH
from citadel.authz.request import JsonValue
from citadel.errors import FailedPrecondition, NotFound, PermissionDenied
from citadel.spiffe import SpiffeId, TrustDomain
from tests.support.rulings import ruling

CART = Workload("shop", {"app": "cart"})
WEB = SpiffeId.parse("spiffe://example.org/ns/shop/sa/web")
FACTS = MeshFacts(TrustDomain("example.org"))


def policies(spec: str = '{action: DENY, rules: [{to: [{operation: {paths: ["/no*"]}}]}]}') -> PolicySet:
    head = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\n"
    return compile(load_text(f"{head}spec: {spec}\n"), FACTS)


def request(path: str = "/no/7", **headers: str) -> Request:
    given = {name.replace("_", "-"): (value,) for name, value in headers.items()}
    return Request(80, WEB, ip_address("10.0.0.1"), ip_address("192.0.2.1"), http=HttpRequest("GET", path, "a", given))


def record(ruled: Ruling, *masked: str) -> Any:
    return json.loads(json.dumps(Recorder(masked).record(ruled)))


def test_a_record_has_what_the_policies_look_at_and_nothing_else() -> None:
    when = "[{key: 'request.headers[x-kind]', values: [a]}, {key: 'request.auth.claims[groups]', values: [b]}]"
    looking = policies(f"{{action: DENY, rules: [{{when: {when}}}]}}")
    asked = request("/a?token=t1", x_kind="a", x_other="secret-1", authorization="Bearer t2", cookie="t3")
    assert asked.http is not None
    claims: dict[str, JsonValue] = {"iss": "i", "sub": "s", "groups": ["b"], "email": "secret-4"}
    made = record(ruling(looking, CART, replace(asked, http=replace(asked.http, jwt=claims))))
    assert made["request"]["http"] == {
        "method": "GET",
        "path": "/a",
        "path_normalized": False,
        "authority": "a",
        "headers": {"x-kind": ["a"]},
        "claims": {"iss": "i", "sub": "s", "groups": ["b"]},
    }
    assert (made["request"]["remote_ip"], made["request"]["source_ip"]) == (None, "10.0.0.1")
    assert (made["outcome"], made["policy"], made["altered"]) == ("deny", "shop/p", [])
    assert not [secret for secret in ("t1", "t2", "t3", "secret-1", "secret-4") if secret in json.dumps(made)]


@pytest.mark.parametrize("name", ["authorization", "cookie", "x-api-key", "x-auth-token", "mine"])
def test_what_holds_a_secret_is_masked_though_a_policy_looks_at_it(name: str) -> None:
    looking = policies(f"{{action: DENY, rules: [{{when: [{{key: 'request.headers[{name}]', values: ['*']}}]}}]}}")
    asked = request("/a")
    assert asked.http is not None
    asked = replace(asked, http=replace(asked.http, headers={name: ("hunter2",)}))
    made = record(ruling(looking, CART, asked), "Mine")
    assert made["request"]["http"]["headers"] == {name: ["***"]}
    assert made["altered"] == [f"http.headers.{name}"]
    assert "hunter2" not in json.dumps(made)
    assert "may differ" in decide_again(made, looking).notes[0]


def test_parameters_that_hold_secrets_are_masked_where_the_query_counts() -> None:
    looking = policies("{action: DENY, rules: [{when: [{key: 'request.headers[:path]', values: ['/a*']}]}]}")
    made = record(ruling(looking, CART, request("/a?q=1&access_token=hunter2&x")))
    assert made["request"]["http"]["path"] == "/a?q=1&access_token=***&x"
    assert made["altered"] == ["http.path?access_token"]


def test_claims_and_metadata_that_hold_secrets_are_masked_and_of_others_only_what_is_compared_is_kept() -> None:
    keys = [
        *("request.auth.claims[email]", "request.auth.claims[id_token]", "request.auth.claims[session][name]"),
        *("request.auth.claims[groups]", "experimental.envoy.filters.f[user]", "experimental.envoy.filters.f[api_key]"),
    ]
    when = ", ".join(f"{{key: '{key}', notValues: [x]}}" for key in keys)
    looking = policies(f"{{action: DENY, rules: [{{when: [{when}]}}]}}")
    claims: dict[str, JsonValue] = {
        "iss": "i",
        "sub": "s",
        "email": "hunter2@a",
        "id_token": "hunter2",
        "session": {"name": "hunter2"},
        "groups": ["a", {"password": "hunter2"}],
    }
    asked = request("/a")
    assert asked.http is not None
    of_filter: dict[str, JsonValue] = {"user": {"token": "hunter2"}, "api_key": ["hunter2"]}
    asked = replace(asked, http=replace(asked.http, jwt=claims), metadata={"envoy.filters.f": of_filter})
    recorder = Recorder(masked_claims=["email"])
    made = json.loads(json.dumps(recorder.record(ruling(looking, CART, asked))))
    assert made["request"]["http"]["claims"] == {
        "iss": "i",
        "sub": "s",
        "email": "***",
        "id_token": "***",
        "session": {"name": "***"},
        "groups": ["a"],
    }
    assert made["request"]["metadata"] == {"envoy.filters.f": {"user": {}, "api_key": ["***"]}}
    assert sorted(made["altered"]) == [
        *("http.claims.email", "http.claims.id_token", "http.claims.session.name", "metadata.envoy.filters.f.api_key")
    ]
    assert "hunter2" not in json.dumps(made)


def test_a_path_that_is_refused_is_logged_without_its_query() -> None:
    made = record(ruling(policies(), CART, request("/a b?access_token=hunter2")))
    assert made["reason"] == "bad-path"
    assert "/a b?…" in made["detail"]
    assert "hunter2" not in json.dumps(made)


def test_no_control_character_is_in_the_file(tmp_path: Path) -> None:
    files = LogFiles(tmp_path / "d.jsonl")
    files.write([{"id": "1", "text": "\x1b[2J\x9b31m\u2028\u202e\x7f\ufffeé"}])
    files.close()
    assert (tmp_path / "d.jsonl").read_bytes().strip().isascii()
    assert (tmp_path / "d.jsonl").read_text().strip().isprintable()
    assert files.find("1") == {"id": "1", "text": "\x1b[2J\x9b31m\u2028\u202e\x7f\ufffeé"}


def test_what_is_too_long_or_no_text_is_cut_and_named() -> None:
    made = record(ruling(policies(), CART, request("/no/" + "x" * 5000)))
    assert (len(made["request"]["http"]["path"]), made["altered"]) == (2048, ["http.path"])
    odd = record(ruling(policies(), CART, request("/no/\udcff")))
    assert (odd["request"]["http"]["path"], odd["altered"]) == ("/no/\\udcff", ["http.path"])


def test_what_came_to_no_question_is_a_record_too() -> None:
    denied = Decision(Outcome.DENY, Reason.UNKNOWN_WORKLOAD, detail="pid 1 has no registration entry")
    made = record(ruling(policies(), CART, None, decision=denied))
    assert (made["request"], made["reason"], made["policy"]) == (None, "unknown-workload", None)
    assert made.keys() == record_schema()["properties"].keys()
    again = decide_again(made, policies())
    assert again.explanation is None
    assert "nobody knew whose policies were asked: pid 1 has" in again.notes[0]


def test_a_record_under_other_policies_says_what_it_is_now() -> None:
    made = record(ruling(policies(), CART, request()))
    assert decide_again(made, policies()).notes == ()
    again = decide_again(made, policies('{action: DENY, rules: [{to: [{operation: {paths: ["/other"]}}]}]}'))
    assert "decided again, it is allow (no-allow-policy); then it was deny (denied-by-policy)" in again.notes[0]


# --- what is lost


def test_when_too_many_wait_an_allow_gives_way_to_a_denial_and_what_is_new_is_lost() -> None:
    backlog = Backlog(3)
    given = [("deny", 1), ("allow", 2), ("allow", 3), ("deny", 4), ("allow", 5), ("deny", 6), ("deny", 7)]
    lost = [backlog.add({"outcome": outcome, "n": number}) for outcome, number in given]
    assert lost == ["", "", "", "allow", "allow", "allow", "deny"]
    assert [one["n"] for one in backlog.take(2)] == [1, 4]
    assert [one["n"] for one in backlog.take(9)] == [6]
    assert len(backlog) == 0


class Meter:
    def __init__(self) -> None:
        self.counted: dict[tuple[str, str], int] = {}

    def decision_logged(self, outcome: str, fate: str, count: int = 1) -> None:
        self.counted[outcome, fate] = self.counted.get((outcome, fate), 0) + count


@asynccontextmanager
async def running(log: DecisionLog) -> AsyncIterator[DecisionLog]:
    task = asyncio.create_task(log.run())
    await asyncio.sleep(0)  # it runs
    try:
        yield log
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_every_denial_is_written_and_of_allows_their_share(tmp_path: Path) -> None:
    meter, chances = Meter(), iter([0.1, 0.9, 0.1])
    files = LogFiles(tmp_path / "d" / "log.jsonl", mode=0o640)
    share = Share(0.5, chance=lambda: next(chances))
    async with running(DecisionLog(Recorder(), share, files, stream=False, meter=meter)) as log:
        for path in ("/no", "/a", "/b", "/c", "/no"):
            log.ruled(ruling(policies(), CART, request(path)))
        log.ruled(replace(ruling(policies(), CART, request("/no")), door=SEARCH))
    written = lines(files.path)
    assert sorted(one["request"]["http"]["path"] for one in written) == ["/a", "/c", "/no", "/no"]
    assert meter.counted == {("deny", "written"): 2, ("allow", "written"): 2}
    assert (files.path.stat().st_mode & 0o777, files.path.parent.stat().st_mode & 0o777) == (0o640, 0o700)


async def test_a_flood_is_counted_and_bounded(tmp_path: Path) -> None:
    meter = Meter()
    files = LogFiles(tmp_path / "log.jsonl")
    one = ruling(policies(), CART, request())
    async with running(DecisionLog(Recorder(), Share(), files, stream=False, meter=meter, most_waiting=50)) as log:
        for _ in range(500):
            log.ruled(one)
    assert meter.counted[("deny", "written")] + meter.counted[("deny", "dropped")] == 500
    assert len(lines(files.path)) == meter.counted[("deny", "written")] == 50


def test_a_text_in_no_utf_8_costs_no_record(tmp_path: Path) -> None:
    """A client's x-request-id, for one."""
    files = LogFiles(tmp_path / "log.jsonl")
    files.write([{"id": "1", "request_id": "a\udcff", "outcome": "deny"}, {"id": "2", "outcome": "deny"}])
    files.close()
    assert [json.loads(line)["id"] for line in (tmp_path / "log.jsonl").read_bytes().splitlines()] == ["1", "2"]
    assert files.find("1") == {"id": "1", "request_id": "a\udcff", "outcome": "deny"}


async def test_a_disk_that_does_not_take_it_is_told_and_nobody_waits(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    meter = Meter()
    files = LogFiles(tmp_path / "file" / "log.jsonl")
    log = DecisionLog(Recorder(), Share(), files, stream=False, meter=meter)
    async with running(log):
        log.ruled(ruling(policies(), CART, request()))
    assert "cannot be written" in log.fault
    assert meter.counted == {("deny", "failed"): 1}


def test_files_are_rotated_and_records_found_in_all_of_them(tmp_path: Path) -> None:
    files = LogFiles(tmp_path / "log.jsonl", size=4000, files=3)
    made = [Recorder().record(ruling(policies(), CART, request(), log_id=f"boot-{n:x}")) for n in range(40)]
    for one in made:
        files.write([one])
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["log.jsonl", "log.jsonl.1", "log.jsonl.2"]
    assert all(path.stat().st_size <= 4000 and path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir())
    last, gone = files.find("boot-27"), files.find("boot-0")
    assert last is not None
    assert (last["id"], gone) == ("boot-27", None)
    older = json.loads((tmp_path / "log.jsonl.2").read_text().splitlines()[0])["id"]
    assert files.find(older) is not None
    assert files.find("boot-2") is None  # not the start of another
    files.close()


def test_a_link_in_its_place_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").symlink_to(tmp_path / "victim")
    with pytest.raises(PermissionDenied):
        LogFiles(tmp_path / "log.jsonl").write([{"outcome": "deny"}])
    assert not (tmp_path / "victim").exists()


# --- which policy denied me?


class Former:
    def __init__(self, *sets: PolicySet) -> None:
        self._sets = {one.version: one for one in sets}

    async def compiled(self, set_version: str) -> tuple[str, PolicySet] | None:
        found = self._sets.get(set_version)
        return None if found is None else ("v7", found)


async def test_a_decision_is_explained_by_the_policies_of_then(tmp_path: Path) -> None:
    then, now = policies(), policies("{action: ALLOW, rules: [{}]}")
    files = LogFiles(tmp_path / "log.jsonl")
    files.write([Recorder().record(ruling(then, CART, request(), log_id="boot-1"))])
    files.close()
    for lookup, version, stored, notes in (
        (Lookup(files, lambda: then, Former()), then.version, "", ()),
        (Lookup(files, lambda: now, Former(then)), then.version, "v7", ("explained by the policies of then, v7",)),
        (Lookup(files, lambda: now, Former()), now.version, "", ("are not known any more", "it is allow")),
    ):
        found = await lookup.explain("boot-1")
        assert (found.version, found.stored_version, found.record["id"]) == (version, stored, "boot-1")
        assert len(found.again.notes) == len(notes)
        assert all(part in note for part, note in zip(notes, found.again.notes, strict=True))
        assert found.again.explanation is not None
        assert found.again.explanation.version == version


async def test_what_is_not_in_the_log_and_a_log_without_a_file_are_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="not in the log of this server"):
        await Lookup(LogFiles(tmp_path / "log.jsonl"), policies, Former()).explain("boot-1")
    with pytest.raises(FailedPrecondition, match="not logged to a file"):
        await Lookup(None, policies, Former()).explain("boot-1")
