"""The double's socket: HTTP/1.1, on TLS if wanted; each call is answered, wrapped if that was asked for, or cut off."""

from __future__ import annotations

import json
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

#: Namespace, method, path, body, token, the client's certificate (DER): status and document. Status 0: the connection
#: is cut.
Answer = Callable[[str, str, str, dict[str, Any], str, bytes | None], tuple[int, Any]]


class Listener:
    """`wrapped` makes of a namespace, a path and its answer a wrapping."""

    def __init__(
        self, answer: Answer, wrapped: Callable[[str, str, Any], dict[str, Any]], tls: tuple[Path, Path] | None
    ) -> None:
        self._handler = _handler(answer, wrapped)
        self._tls = tls
        self._listen(0)
        port = self._server.server_address[1]
        self.address = f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def kill(self) -> None:
        """As kill -9: what is under way is cut off, and nobody listens."""
        self.stop()
        for connection in list(self._server.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def start_again(self) -> None:
        self._listen(int(self._server.server_address[1]))
        self.start()

    def _listen(self, port: int) -> None:
        self._server = _Server(("127.0.0.1", port), self._handler)
        self._server.daemon_threads = True
        if self._tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*map(str, self._tls))
            context.verify_mode = ssl.CERT_OPTIONAL
            context.load_verify_locations(str(self._tls[0].parent / "clients.pem"))
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)


class _Server(ThreadingHTTPServer):
    def __init__(self, *more: Any) -> None:
        super().__init__(*more)
        self.connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up before its answer is what tests of time limits do; of all else the traceback stays."""
        if not isinstance(sys.exception(), ConnectionError | ssl.SSLError):
            super().handle_error(request, client_address)


def _handler(answer: Answer, wrapped: Callable[[str, str, Any], dict[str, Any]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # as Vault; else each answer waits for the client's kernel to acknowledge

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            path, _, query = self.path.removeprefix("/v1/").partition("?")
            method = "LIST" if "list=true" in query else self.command
            peer = self.connection.getpeercert(True) if isinstance(self.connection, ssl.SSLSocket) else None
            token, wrap = self.headers.get("X-Vault-Token") or "", self.headers.get("X-Vault-Wrap-TTL") or ""
            namespace = (self.headers.get("X-Vault-Namespace") or "").strip("/")
            status: int
            document: Any
            if method == "PATCH" and self.headers.get("Content-Type") != "application/merge-patch+json":
                status, document = 415, {"errors": ["PATCH requires Content-Type of application/merge-patch+json"]}
            else:
                status, document = answer(namespace, method, path, body, token, peer)
            if wrap and status == 200:
                document = wrapped(namespace, path, document)
            content = document if isinstance(document, bytes) else json.dumps(document).encode()
            if status == 0:  # a cut connection
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = do_LIST = do_PATCH = _answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    return Handler
