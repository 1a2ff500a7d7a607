"""Compiled policies in a real Envoy, beside the engine and both doors: requests are really sent, and all must agree.

CITADEL_AUTHZ_ENVOY=20 pytest -s tests/interop/test_authz_envoy.py: twenty times as many cases, and how many, with
CITADEL_AUTHZ_SEED for others. A difference is written to a file; CITADEL_AUTHZ_REPLAY=that file asks it again.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from citadel.authz import Action, Decision, HttpRequest, Match, Outcome, PolicySet, Reason, Request, decide
from citadel.authz.envoy import policy_id
from tests.support import authz_cases
from tests.support.doors import DOORS, Doors
from tests.support.envoy_cases import FIELDS, Generator
from tests.support.envoy_rbac import Answered, Case, Connection, Difference, Doc, Enforcer

pytestmark = [pytest.mark.envoy, pytest.mark.skipif(shutil.which("envoy") is None, reason="needs envoy")]

TIMES = int(os.environ.get("CITADEL_AUTHZ_ENVOY", "1"))
SEED = int(os.environ.get("CITADEL_AUTHZ_SEED", "1"))
REPLAY = os.environ.get("CITADEL_AUTHZ_REPLAY")


class Run:
    """What was asked, by case: how often both allowed, and how often both denied."""

    def __init__(self, folder: Path, all_cases: Sequence[Case]) -> None:
        self.met: Counter[tuple[str, bool]] = Counter()
        self.refused = 0
        self.differences: list[Difference] = []
        self._doors: dict[str, Doors] = {}
        self.asked_doors = 0
        self.cases = len(all_cases)
        self._enforcer = Enforcer(folder, all_cases)
        self._enforcer.start()
        try:
            for case in all_cases:
                for connection, asked in case.asked:
                    if case.http:
                        self._ask_http(case, connection, asked)
                    else:
                        self._ask_tcp(case, connection)
        finally:
            self._enforcer.end()

    def _doors_agree(self, case: Case, connection: Connection, http: Doc | None, request: Request) -> None:
        doors = self._doors.get(case.name)
        if doors is None:
            workload = authz_cases.to_workload(case.workload)
            doors = self._doors[case.name] = Doors(self._enforcer.sets[case.name], workload)
        claims = None if http is None else http["jwt"]
        self.asked_doors += 1
        which = DOORS if TIMES > 1 else (DOORS[self.asked_doors % len(DOORS)],)
        token = None if claims is None else self._enforcer.authority.token(claims)
        for disagreement in doors.disagreements(request, token, which):
            self.differences.append(Difference(case, connection, http, "", disagreement))

    def _ask_http(self, case: Case, connection: Connection, asked: list[Doc]) -> None:
        policies = self._enforcer.sets[case.name]
        for http, answer in zip(asked, self._enforcer.http_answers(case.name, connection, asked), strict=True):
            status = answer.status
            request = HttpRequest(
                http["method"],
                http["path"],
                http["authority"],
                {name: tuple(values) for name, values in http["headers"].items()},
                http["jwt"],
            )
            asked_now = connection.request(request, case.metadata)
            decision = decide(policies, authz_cases.to_workload(case.workload), asked_now)
            self._doors_agree(case, connection, http, asked_now)
            if status in (200, 403):
                engine = f"{decision.sentence()}; {_named(decision)}"
                self._compare(case, connection, http, decision.outcome, status == 200, engine)
                if (named := _named(decision)) and named != (found := _named_by_envoy(answer)):
                    self.differences.append(Difference(case, connection, http, engine, f"{status}, {found}"))
            elif decision.allowed or decision.reason is not Reason.BAD_PATH:
                # refused before any policy was asked: so must it be where there is none
                (control,) = self._enforcer.http_status(f"control-{case.mesh['normalization']}", connection, [http])
                assert status == control, (status, control, http)
                self.refused += 1

    def _ask_tcp(self, case: Case, connection: Connection) -> None:
        policies: PolicySet = self._enforcer.sets[case.name]
        request = connection.request(None, {})
        decision = decide(policies, authz_cases.to_workload(case.workload), request)
        self._doors_agree(case, connection, None, request)
        echoed = self._enforcer.tcp_echoed(case.name, connection)
        self._compare(case, connection, None, decision.outcome, echoed, decision.sentence())

    def _compare(
        self, case: Case, connection: Connection, http: Doc | None, outcome: Outcome, allowed: bool, engine: str
    ) -> None:
        if (outcome is Outcome.ALLOW) == allowed:
            self.met[case.name, allowed] += 1
        else:
            self.differences.append(Difference(case, connection, http, engine, "allow" if allowed else "deny"))

    def sides(self) -> set[tuple[str, bool]]:
        """Fields that some HTTP request, whatever the form, was allowed or denied for."""
        ends = re.compile("(-not)?-(ALLOW|DENY)-http")
        return {(ends.sub("", name), allowed) for name, allowed in self.met if ends.search(name)}

    def agreed(self) -> None:
        """Fails the test with the first difference; all of them are in files then."""
        if TIMES > 1:  # shown with -s
            asked = f"{self.met.total()} decided by both, {self.refused} refused by both before that"
            print(f"\n{self.cases} cases, {asked}, {self.asked_doors} asked of the doors")
        if not self.differences:
            return
        folder = Path(tempfile.mkdtemp(prefix="authz-differences-"))
        for number, difference in enumerate(self.differences):
            (folder / f"{number}.json").write_text(difference.to_json())
        first = self.differences[0]
        pytest.fail(
            f"{len(self.differences)} differences, see {folder}; the first of {first.case.name}:\n{first.to_json()}"
        )


def _named(decision: Decision) -> dict[str, str | None] | None:
    """The rules that a decision names, as Envoy can show them; None where it cannot."""
    if decision.allowed:
        first = {match.action: policy_id(match) for match in reversed(decision.dry_run)}
        return {action: first.get(Action(action.upper())) for action in ("allow", "deny")}
    if decision.policy is not None and decision.rule is not None:
        return {"denied": policy_id(Match(decision.policy, decision.rule, Action.DENY))}
    return {"denied": None} if decision.reason is Reason.NO_ALLOW_MATCHED else None


def _named_by_envoy(answer: Answered) -> dict[str, str | None]:
    if answer.status == 200:
        return {action: answer.dry_run(action) for action in ("allow", "deny")}
    found = re.fullmatch(r"rbac_access_denied_matched_policy\[(.*)\]", answer.details)
    return {"denied": None if found is None or found[1] == "none" else found[1]}


@pytest.mark.timeout(120 if TIMES == 1 else 0)  # a long run takes its time
def test_each_field_is_decided_by_envoy_as_by_the_engine(tmp_path: Path) -> None:
    for round_ in range(TIMES):
        folder = tmp_path / str(round_)
        folder.mkdir()
        run = Run(folder, list(Generator(SEED + round_).by_field(connections=4, requests=4)))
        run.agreed()
        if SEED + round_ == 1:  # with others it is likely, with this one it is so
            assert {(name, allowed) for _, name in FIELDS for allowed in (True, False)} == run.sides()


@pytest.mark.timeout(120 if TIMES == 1 else 0)  # a long run takes its time
def test_policy_sets_are_decided_by_envoy_as_by_the_engine(tmp_path: Path) -> None:
    for round_ in range(TIMES):
        folder = tmp_path / str(round_)
        folder.mkdir()
        run = Run(folder, list(Generator(1000 + SEED + round_).sets(60, connections=4, requests=6)))
        run.agreed()


@pytest.mark.skipif(REPLAY is None, reason="CITADEL_AUTHZ_REPLAY names no difference")
def test_a_difference_is_asked_again(tmp_path: Path) -> None:
    assert REPLAY is not None
    Run(tmp_path, [Difference.case_of(Path(REPLAY).read_text())]).agreed()
