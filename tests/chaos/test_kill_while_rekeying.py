"""kill -9 while the key-encryption key is replaced: every start opens every key, and the rekeying ends."""

from __future__ import annotations

import random
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import grpc

from citadel.api.proto.citadel.v1 import keys_pb2 as pb
from citadel.api.proto.citadel.v1.keys_pb2_grpc import KeysStub
from citadel.ca.kek import file_kek
from citadel.store import Store
from tests.support.up import QUICK, Up, Workload, me

KILLS = 6


async def kek_ids(up: Up) -> set[str]:
    async with Store.open(f"sqlite:///{up.home}/db/citadel.db", writer="test") as store:
        ids = {key.kek_id for key in await store.audit.keys()}
        for authority in await store.authorities.authorities():
            ids.add((await store.authorities.sealed_key(authority.skid)).kek_id)
    return ids


def rekey(up: Up) -> float:
    """Ask for it; how many seconds it took. A server that is killed answers nothing."""
    began = time.monotonic()
    with grpc.insecure_channel(f"unix:{up.admin_socket}") as channel, suppress(grpc.RpcError):
        KeysStub(channel).Rekey(pb.RekeyRequest(), timeout=30)
    return time.monotonic() - began


def rekey_and_kill(up: Up, after: float) -> None:
    asking = threading.Thread(target=rekey, args=(up,))
    asking.start()
    time.sleep(after)  # the random instant
    up.end(signal.SIGKILL)
    asking.join()


def state(up: Up) -> str:
    return "+".join(sorted(file.name for file in (up.home / "keys").iterdir()))


async def test_killed_while_rekeying(tmp_path: Path) -> None:
    up = Up(tmp_path / "c", QUICK)
    up.start()
    up.register("/me", me())
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    seen: set[str] = set()
    try:
        whole = rekey(up)
        up.run("keys", "forget", "--yes")
        for _ in range(KILLS):
            rekey_and_kill(up, 1.2 * whole * chance.random())
            seen.add(state(up))
            up.start()
            with Workload(up.workload_socket, "default") as workload:
                assert "default" in workload.take()  # it signs: the issuing CA's key opens
            if (up.home / "keys" / "kek.previous").exists():
                up.run("keys", "forget", "--yes")
        assert up.json("audit", "verify")[0]["intact"]
        if "kek.previous" not in state(up):
            up.run("keys", "rekey")
        up.run("keys", "forget", "--yes")
        up.end()
        assert sorted(file.name for file in (up.home / "keys").iterdir()) == ["kek"]
        assert await kek_ids(up) == {file_kek(up.home / "keys" / "kek").id}
        print(f"undisturbed {whole:.3f} s; left by the kills: {seen}")
    finally:
        if up.process.poll() is None:
            up.end(signal.SIGKILL)
