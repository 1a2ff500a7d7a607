"""A leaf that somebody kept: taken from a Citadel as a workload does, and presented to Envoys later."""

from __future__ import annotations

import os
import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.envoys import Pair
from tests.support.up import Up, Workload, me


class Presented:
    def __init__(self, folder: Path, chain: bytes, key: bytes) -> None:
        self._file = folder / "kept.pem"
        self._file.touch(mode=0o600)
        self._file.write_bytes(chain + b"\n" + key)

    def is_welcome_at(self, pair: Pair) -> bool:
        """Whether the pair's server takes a connection with it. It is not our part here to verify the server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(self._file)
        path = pair.server.program.parent / f"{pair.name}.mtls"
        with socket.socket(socket.AF_UNIX) as plain:
            plain.settimeout(10)
            plain.connect(os.fspath(path))
            try:
                with context.wrap_socket(plain) as secure:  # TLS 1.3: the server's refusal comes with the first read
                    secure.sendall(b"GET /hello HTTP/1.1\r\nhost: app.test\r\nconnection: close\r\n\r\n")
                    return secure.recv(1024).startswith(b"HTTP/1.1 200")
            except (ssl.SSLError, ConnectionError):
                return False


@contextmanager
def taken_from(up: Up) -> Iterator[Presented]:
    """A leaf of whoever signs now."""
    up.register("/kept", me(), "--ttl", "1h")
    with tempfile.TemporaryDirectory() as folder, Workload(up.workload_socket, "default", node="kept") as stream:
        secret = stream.take()["default"].tls_certificate
        yield Presented(Path(folder), secret.certificate_chain.inline_bytes, secret.private_key.inline_bytes)
