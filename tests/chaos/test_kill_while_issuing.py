"""kill -9 while issuing, many times, at random instants: what was handed out is on record."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from citadel.audit.auditor import Auditor
from citadel.ca.issuer import IssuancePolicy, Issuer
from citadel.ca.kek import LocalKek
from citadel.ca.model import Outcome
from citadel.ca.ports import IssuanceQuery
from citadel.clock import SystemClock
from citadel.store import Store
from tests.support import postgres
from tests.support.issuance import CurrentAuthority, make_chain
from tests.support.store import chain_is_whole

_KILLS = int(os.environ.get("CITADEL_CHAOS_KILLS", "12"))
_START_SECONDS = 60


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "postgresql":
        with postgres.server() as running:
            yield running
    else:
        with tempfile.TemporaryDirectory(prefix="citadel-kill-") as folder:
            yield f"sqlite:///{folder}/db/citadel.db"


def run_and_kill(url: str, out: Path, after: float) -> None:
    """Start a process that issues, and kill it `after` so many seconds of issuing."""
    began = out.read_bytes().count(b"started") if out.exists() else 0
    process = subprocess.Popen([sys.executable, "-m", "tests.chaos.issuing", url, "one", out], stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not out.exists() or out.read_bytes().count(b"started") == began:
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
            assert time.monotonic() < deadline, "it did not start"
            time.sleep(0.005)
        time.sleep(after)
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def handed_out(out: Path) -> list[int]:
    lines = out.read_bytes().split(b"\n")[:-1]  # one that was cut off is none
    return [int(line, 16) for line in lines if line != b"started"]


@pytest.mark.timeout(600)
def test_whatever_was_handed_out_is_on_record_and_the_rest_is_settled(url: str, tmp_path: Path) -> None:
    out, chance = tmp_path / "out", random.Random()
    for _ in range(_KILLS):
        run_and_kill(url, out, chance.uniform(0, 0.6))
    asyncio.run(_look(url, handed_out(out)))


async def _look(url: str, serials: list[int]) -> None:
    assert len(serials) > _KILLS
    assert len(set(serials)) == len(serials)
    async with Store.open(url, writer="one") as store:
        chain = await make_chain()
        issuer = Issuer(CurrentAuthority(chain.signing_authority()), store.issuance, SystemClock(), IssuancePolicy())
        await issuer.settle_unfinished()
    async with Store.open(url, writer="one") as store:  # a graceful stop wrote what was settled
        records = await store.issuance.find(IssuanceQuery(limit=10_000_000))
        outcomes = {record.intent.serial: record.outcome for record in records}
        assert len(outcomes) == len(records)
        assert set(serials) <= outcomes.keys()
        assert None not in outcomes.values()
        assert all(outcomes[serial] is not Outcome.FAILED for serial in serials)
        assert await chain_is_whole(store, "one") == len(records) + 1  # and the making of the audit key
        [report] = await Auditor(store.audit, LocalKek(bytes(32))).verify()
        assert report.faults == ()
        assert report.checkpoints > 0
