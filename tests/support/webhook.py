"""A gate of somebody else's: an HTTPS server that a rotation's webhook asks, and that believes only what is signed.

It verifies as https://www.standardwebhooks.com says, by itself: nothing of ours is in it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.certificates import Ca

_TOLERANCE = 300.0  # seconds, as that standard recommends


class Gate:
    """`settings`: lines for [rotation.hooks]. `heard`: what it was asked, and believed. `refused`: why it did not."""

    def __init__(self, folder: Path, port: int, ca: Ca) -> None:
        self._key = b"k" * 32
        self._seen: set[str] = set()
        self.heard: list[dict[str, Any]] = []
        self.refused: list[str] = []
        secret, authority = folder / "secret", folder / "gate.pem"
        secret.touch(mode=0o600)
        secret.write_bytes(b"whsec_" + base64.b64encode(self._key) + b"\n")
        authority.write_bytes(ca.certificate.public_bytes(Encoding.PEM))
        self.settings = (
            f'webhook = "https://localhost:{port}/citadel"\n'
            f'webhook_secret = "file:{secret}"\nwebhook_ca = "{authority}"\n'
        )

    def hear(self, headers: Any, body: bytes) -> int:
        """The status to answer with."""
        name, at = headers["webhook-id"], headers["webhook-timestamp"]
        wanted = hmac.digest(self._key, f"{name}.{at}.".encode() + body, hashlib.sha256)
        given = dict(one.split(",", 1) for one in headers["webhook-signature"].split())
        if not hmac.compare_digest(base64.b64encode(wanted).decode(), given.get("v1", "")):
            self.refused.append("signature")
        elif abs(time.time() - int(at)) > _TOLERANCE:
            self.refused.append("time")
        elif name in self._seen:
            self.refused.append("replay")
        else:
            self._seen.add(name)
            self.heard.append(json.loads(body))
            return 204
        return 403


@contextmanager
def webhook_gate(folder: Path) -> Iterator[Gate]:
    ca = Ca("gate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*ca.issue(folder / "gate"))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # as the library calls it
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(gate.hear(self.headers, body))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("localhost", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        gate = Gate(folder, server.server_port, ca)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield gate
        finally:
            server.shutdown()
