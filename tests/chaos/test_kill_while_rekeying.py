"""kill -9 while the key-encryption key is replaced: every start opens every key, and the rekeying ends."""

from __future__ import annotations

import random
import signal
import subprocess
import threading
from pathlib import Path

from citadel.ca.kek import file_kek
from citadel.store import Store
from tests.support.up import QUICK, Up, Workload, command, me

KILLS = 8
LONGEST = 0.9  # seconds from the command's start to the kill; an undisturbed one takes about that long


async def kek_ids(up: Up) -> set[str]:
    async with Store.open(f"sqlite:///{up.home}/db/citadel.db", writer="test") as store:
        ids = {key.kek_id for key in await store.audit.keys()}
        for authority in await store.authorities.authorities():
            ids.add((await store.authorities.sealed_key(authority.skid)).kek_id)
    return ids


def rekey_and_kill(up: Up, after: float) -> None:
    environment = up._env | up.env
    asking = subprocess.Popen(
        command("keys", "rekey"), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    timer = threading.Timer(after, lambda: up.end(signal.SIGKILL))
    timer.start()
    timer.join()
    asking.wait(30)


async def test_killed_while_rekeying(tmp_path: Path) -> None:
    up = Up(tmp_path / "c", QUICK)
    up.start()
    up.register("/me", me())
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    seen = {file_kek(up.home / "keys" / "kek").id}
    try:
        for number in range(KILLS):
            rekey_and_kill(up, LONGEST * (number + chance.random()) / KILLS)
            up.start()
            with Workload(up.workload_socket, "default") as workload:
                assert "default" in workload.take()  # it signs: the issuing CA's key opens
            assert up.json("audit", "verify")[0]["intact"]
            if (up.home / "keys" / "kek.previous").exists():
                up.run("keys", "forget", "--yes")
            seen.add(file_kek(up.home / "keys" / "kek").id)
        up.run("keys", "rekey")
        up.run("keys", "forget", "--yes")
        up.end()
        assert sorted(file.name for file in (up.home / "keys").iterdir()) == ["kek"]
        assert await kek_ids(up) == {file_kek(up.home / "keys" / "kek").id}
        print(f"{len(seen)} keys were in force in {KILLS} kills")
    finally:
        if up.process.poll() is None:
            up.end(signal.SIGKILL)
