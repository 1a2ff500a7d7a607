"""A leaf that somebody kept: taken from a Citadel as a workload does, and presented to Envoys later."""

from __future__ import annotations

import os
import queue
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.support.envoys import Pair
from tests.support.up import Up, Workload, me


class Presented:
    """It is not our part here to verify the server."""

    def __init__(self, chain: bytes, key: bytes) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            file.write(chain + b"\n" + key)
            file.flush()
            self._context.load_cert_chain(file.name)

    def is_welcome_at(self, pair: Pair) -> bool:
        """Whether the pair's server takes a connection with it."""
        path = pair.server.program.parent / f"{pair.name}.mtls"
        with socket.socket(socket.AF_UNIX) as plain:
            plain.settimeout(10)
            plain.connect(os.fspath(path))
            try:
                with self._context.wrap_socket(plain) as secure:  # TLS 1.3: a refusal comes with the first read
                    secure.sendall(b"GET /hello HTTP/1.1\r\nhost: app.test\r\nconnection: close\r\n\r\n")
                    return secure.recv(1024).startswith(b"HTTP/1.1 200")
            except (ssl.SSLError, ConnectionError):
                return False


@contextmanager
def taken_from(up: Up, ttl: str) -> Iterator[Presented]:
    """A leaf of whoever signs now. Its workload goes on acknowledging what it gets, so it holds up no rotation.

    Its entry ends with it: every Envoy of this user matches it, and one that came later would be `/kept`."""
    entry = up.register("/kept", me(), "--ttl", ttl)
    with Workload(up.workload_socket, "default", "ROOTCA", node="kept") as stream:
        found: dict[str, object] = {}
        while "default" not in found:
            found |= stream.take()
        secret = found["default"].tls_certificate  # type: ignore[attr-defined]  # protobuf's classes have no stubs
        ending = threading.Event()
        taking = threading.Thread(target=_take_until, args=(stream, ending))
        taking.start()
        try:
            yield Presented(secret.certificate_chain.inline_bytes, secret.private_key.inline_bytes)
        finally:
            ending.set()
            taking.join()
            up.run("entry", "delete", entry, "--yes")


def _take_until(stream: Workload, ending: threading.Event) -> None:
    while not ending.is_set():
        with suppress(queue.Empty):
            stream.take(0.2)
