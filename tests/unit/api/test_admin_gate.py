"""Nobody gets past the gate of the admin socket: not by any call of any service."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import grpc
import pytest

from citadel.api.admin import spire
from citadel.api.admin.access import AccessRules, Gate
from citadel.api.admin.rotation import RotationService
from citadel.api.admin.server import AdminService
from citadel.api.proto.citadel.v1 import admin_pb2, rotation_pb2
from citadel.api.proto.spire.api.server.agent.v1 import agent_pb2
from citadel.api.proto.spire.api.server.bundle.v1 import bundle_pb2
from citadel.api.proto.spire.api.server.entry.v1 import entry_pb2
from citadel.api.proto.spire.api.server.svid.v1 import svid_pb2
from citadel.errors import PermissionDenied


class Behind:
    """What is behind the gate, and never reached."""

    def __getattr__(self, name: str) -> Behind:
        return self

    def __call__(self, *_: object, **__: object) -> NoReturn:
        raise AssertionError("somebody got past the gate")


NOTHING = cast(Any, Behind())


@dataclass(frozen=True)
class Stranger:
    pid: int = 1 << 30
    uid: int = 4242
    gid: int = 4242
    same: bool = True

    def same_process(self) -> bool:
        return self.same


class Context:
    def peer(self) -> str:
        return "unix-abstract:token"

    async def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        assert code is grpc.StatusCode.PERMISSION_DENIED, details
        raise grpc.aio.AbortError


GATE = Gate(lambda _: Stranger(), AccessRules())
SERVICES = {
    "citadel.v1.Admin": (AdminService(NOTHING, GATE), admin_pb2),
    "Rotation": (RotationService(NOTHING, NOTHING, NOTHING, NOTHING, GATE), rotation_pb2),
    "Entry": (spire.EntryService(NOTHING, GATE), entry_pb2),
    "Bundle": (spire.BundleService(NOTHING, GATE), bundle_pb2),
    "SVID": (spire.SvidService(NOTHING, GATE, NOTHING), svid_pb2),
    "Agent": (spire.AgentService(NOTHING, GATE), agent_pb2),
}
CALLS = [
    pytest.param(service, file, method, id=f"{name}.{method.name}")
    for name, (service, file) in SERVICES.items()
    for described in file.DESCRIPTOR.services_by_name.values()
    for method in described.methods
]


@pytest.mark.parametrize(("service", "file", "method"), CALLS)
async def test_a_stranger_is_refused(service: Any, file: Any, method: Any) -> None:
    request = getattr(file, method.input_type.name)()
    answer = getattr(service, method.name)(request, Context())
    with pytest.raises(grpc.aio.AbortError):
        await (anext(answer) if method.server_streaming else answer)


@contextmanager
def process(name: str = "plain") -> Iterator[int]:
    """The pid of one that calls itself `name`, with our groups."""
    code = f"import ctypes; ctypes.CDLL(None).prctl(15, b'{name}', 0, 0, 0); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline()
        try:
            yield child.pid
        finally:
            child.kill()


def test_a_member_of_a_group_that_is_let_in_is_let_in() -> None:
    if not (ours := frozenset(os.getgroups())):
        pytest.skip("this process has no supplementary groups")
    with process() as pid:
        assert Gate(lambda _: Stranger(pid), AccessRules(gids=ours)).actor(Context()) == "uid:4242"


def test_a_process_is_in_no_group_because_its_name_says_so() -> None:
    with process(r"\rGroups: 31337") as pid:
        gate = Gate(lambda _: Stranger(pid), AccessRules(gids=frozenset({31337})))
        with pytest.raises(PermissionDenied):
            gate.actor(Context())


def test_who_got_the_pid_of_a_caller_lends_it_no_groups() -> None:
    with process() as pid:
        gate = Gate(lambda _: Stranger(pid, same=False), AccessRules(gids=frozenset(os.getgroups())))
        with pytest.raises(PermissionDenied):
            gate.actor(Context())
