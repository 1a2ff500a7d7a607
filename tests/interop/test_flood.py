"""What one user does to the workload socket costs that user; another is served all the while, by a real Citadel."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest

from tests.support.up import QUICK, Up, Workload, running

NOBODY = 65534
_REFUSED = "connections were refused"
SETTINGS = (
    QUICK
    + """
[sockets.workload]
quota_connections_per_uid = 300
quota_streams_per_uid = 40
quota_clients_per_process = 5
"""
)

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as two users"),
]

#: What a hostile user's process does for as long as it lives. `path` is the socket's.
_HOLD_SILENT = """
while True:
    try:
        s = socket.socket(socket.AF_UNIX); s.connect(path); held.append(s)
    except OSError:
        time.sleep(0.01)
    if len(held) > 3000: held.pop(0).close()
"""
_HANG_UP = """
while True:
    try:
        with socket.socket(socket.AF_UNIX) as s: s.connect(path)
    except OSError: pass
"""
_GARBAGE = """
while True:
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(path); s.settimeout(1); s.sendall(os.urandom(65536)); s.recv(10)
    except OSError: pass
"""
_PREFACE_AND_NOTHING = """
while True:
    try:
        s = socket.socket(socket.AF_UNIX); s.connect(path); held.append(s)
        s.sendall(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + bytes(3) + b"\\4" + bytes(5))
        s.shutdown(socket.SHUT_WR)
    except OSError:
        time.sleep(0.01)
    if len(held) > 3000: held.pop(0).close()
"""


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    home = Path(tempfile.mkdtemp(prefix="c"))  # not below pytest's folder, into which nobody else may look
    home.chmod(0o755)
    try:
        with running(home / "c", SETTINGS) as one:
            one.register("/root", "unix:uid:0", "--ttl", "6s")
            yield one
    finally:
        shutil.rmtree(home)


@contextmanager
def as_nobody(up: Up, what: str) -> Iterator[subprocess.Popen[str]]:
    """Run `what` as another user, which it becomes when all is loaded: that user may not read where it comes from."""
    script = f"""
import os, queue, socket, sys, time, grpc
from envoy.service.discovery.v3 import discovery_pb2
held, path = [], {str(up.workload_socket)!r}
os.setgroups([]); os.setresgid({NOBODY}, {NOBODY}, {NOBODY}); os.setresuid({NOBODY}, {NOBODY}, {NOBODY})
{what}
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    "attack",
    [_HOLD_SILENT, _HANG_UP, _GARBAGE, _PREFACE_AND_NOTHING],
    ids=["holds silent connections", "hangs up at once", "sends garbage", "begins and says no more"],
)
def test_another_user_is_served_and_renewed_while_one_floods(up: Up, attack: str) -> None:
    with Workload(up.workload_socket, "default") as before:
        before.take()
        refused = up.log.read_text().count(_REFUSED)
        with as_nobody(up, attack) as flood:
            for _ in range(200):
                if up.log.read_text().count(_REFUSED) > refused + 1:
                    break
                time.sleep(0.1)
            else:
                raise AssertionError("nobody was refused")
            with Workload(up.workload_socket, "default") as meanwhile:
                assert meanwhile.take(10)
                assert meanwhile.take(10), "its certificate is renewed"
            assert before.take(10), "who was there before is, too"
            assert flood.poll() is None


def test_one_users_streams_are_counted_and_another_has_his_own_count(up: Up) -> None:
    script = """
calls = []
with grpc.insecure_channel("unix:" + path) as channel:
    call = channel.stream_stream(
        "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
        discovery_pb2.DiscoveryRequest.SerializeToString, discovery_pb2.DiscoveryResponse.FromString)
    for _ in range(40):
        calls.append(call(iter(queue.SimpleQueue().get, None), wait_for_ready=True))
        time.sleep(0.05)
    try:
        next(call(iter(queue.SimpleQueue().get, None)))
    except grpc.RpcError as error:
        print(error.code().name, error.details(), flush=True)
    os._exit(0)
"""
    with as_nobody(up, script) as greedy:
        out, _ = greedy.communicate(timeout=60)
    assert out == "RESOURCE_EXHAUSTED uid 65534 has 40 streams open, which is its quota\n"
    with Workload(up.workload_socket, "default") as other:
        assert other.take(10)


def test_a_process_that_goes_by_ever_new_names_is_told_so_and_fills_no_records(up: Up) -> None:
    own = "test-envoy"
    for number in range(4):
        with Workload(up.workload_socket, "default", node=f"n{number}") as one:
            one.take(10)
    with Workload(up.workload_socket, "default", node=own) as usual:
        usual.take(10)
        with Workload(up.workload_socket, "default", node="one-more") as junk, pytest.raises(grpc.RpcError) as caught:
            junk.take(10)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "goes by 5 node ids already" in str(caught.value.details())
    clients = {one["client"].partition("@")[0] for one in up.json("status", "--clients")}
    assert clients == {own, *(f"n{number}" for number in range(4))}


def test_streams_that_are_reset_at_once_cost_no_memory_that_stays(up: Up) -> None:
    """HTTP/2's rapid reset: what is begun and taken back at once counts against no limit of open streams."""
    script = """
def frame(kind, flags, stream, body=b""):
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body

def header(name, value):
    return b"\\0" + bytes([len(name)]) + name + bytes([len(value)]) + value

method = b"/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets"
fields = b"\\x83\\x86" + header(b":path", method) + header(b":authority", b"x") + header(b"te", b"trailers")
fields += header(b"content-type", b"application/grpc")
s = socket.socket(socket.AF_UNIX); s.connect(path)
s.sendall(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + frame(4, 0, 0))
for stream in range(1, 200_000, 2):
    s.sendall(frame(1, 4, stream, fields) + frame(3, 0, stream, (8).to_bytes(4, "big")))
    with suppress(BlockingIOError):
        answered = s.recv(65536, socket.MSG_DONTWAIT)
        for at in (i for i in range(len(answered) - 16) if answered[i : i + 5] == b"\\0\\0\\x08\\x06\\0"):
            s.sendall(frame(6, 1, 0, answered[at + 9 : at + 17]))
print("done", flush=True)
"""
    before = resident(up)
    with as_nobody(up, "from contextlib import suppress\n" + script) as flood:
        out, _ = flood.communicate(timeout=60)
        assert out == "done\n"
    with Workload(up.workload_socket, "default") as other:
        assert other.take(10)
    assert resident(up) - before < 100 << 20


def resident(up: Up) -> int:
    """Bytes of the server's memory."""
    return int(Path(f"/proc/{up.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_ten_thousand_names_end_the_stream_with_one_line(up: Up) -> None:
    names = [f"spiffe://example.org/{number}" for number in range(10_000)]
    with Workload(up.workload_socket, *names) as greedy, pytest.raises(grpc.RpcError) as caught:
        greedy.take(10)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    details = str(caught.value.details())
    assert "\n" not in details
    assert len(details) < 300


def test_a_silent_connection_is_ended(up: Up) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(up.workload_socket))
        silent.settimeout(20)
        with suppress(ConnectionResetError):
            assert silent.recv(65536) != b"never"  # the server's settings, or the end
            while silent.recv(65536):
                pass
