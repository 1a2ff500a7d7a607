"""What may listen at a socket instead of the Citadel that one meant: `python -m tests.support.odd_server KIND PATH`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import grpc

#: What each does with a call, or a connection.
KINDS = ("older", "dies", "slow", "garbage", "http", "closes", "silent", "noise")


@contextmanager
def listening(kind: str, path: Path) -> Iterator[Callable[[], object]]:
    """Run one in a process of its own. Gives what waits until a `slow` one was called."""
    program = [sys.executable, "-m", "tests.support.odd_server", kind, str(path)]
    process = subprocess.Popen(program, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.stdout.readline
    finally:
        process.kill()
        process.communicate()


def _answer(kind: str) -> Callable[[bytes, Any], bytes]:
    def dies(_request: bytes, _context: Any) -> NoReturn:
        os._exit(9)

    def slow(_request: bytes, _context: Any) -> bytes:
        print(flush=True)
        time.sleep(600)
        return b""

    def garbage(_request: bytes, _context: Any) -> bytes:
        return b"\xff\xff\xff\xff\x07"

    return {"dies": dies, "slow": slow, "garbage": garbage}[kind]


class _Any(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic only in its stubs
    """Answers every call alike; as `older`, none."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def service(self, _details: Any) -> Any:
        return None if self._kind == "older" else grpc.unary_unary_rpc_method_handler(_answer(self._kind))


def _grpc(kind: str, path: str) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((_Any(kind),))
    server.add_insecure_port(f"unix:{path}")
    server.start()
    print(flush=True)
    server.wait_for_termination()


def _plain(kind: str, path: str) -> None:
    held = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print(flush=True)
        while True:
            client, _ = listener.accept()
            if kind == "http":
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            elif kind == "noise":
                client.sendall(bytes(range(256)) * 16)
            if kind == "silent":
                held.append(client)
            else:
                client.close()


if __name__ == "__main__":
    _kind, _path = sys.argv[1:]
    (_grpc if _kind in ("older", "dies", "slow", "garbage") else _plain)(_kind, _path)
