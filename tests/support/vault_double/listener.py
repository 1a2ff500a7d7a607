"""The double's socket: HTTP/1.1, on TLS if wanted; each call is answered, wrapped if that was asked for, or cut off."""

from __future__ import annotations

import json
import ssl
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

#: Method, path, body, token, the client's certificate (DER): status and document. Status 0: the connection is cut.
Answer = Callable[[str, str, dict[str, Any], str, bytes | None], tuple[int, Any]]


class Listener:
    """`wrapped` makes of a path and its answer a wrapping."""

    def __init__(
        self, answer: Answer, wrapped: Callable[[str, Any], dict[str, Any]], tls: tuple[Path, Path] | None
    ) -> None:
        self._server = _Server(("127.0.0.1", 0), _handler(answer, wrapped))
        self._server.daemon_threads = True
        port = self._server.server_address[1]
        self.address = f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*map(str, tls))
            context.verify_mode = ssl.CERT_OPTIONAL
            context.load_verify_locations(str(tls[0].parent / "clients.pem"))
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up before its answer is what tests of time limits do; of all else the traceback stays."""
        if not isinstance(sys.exception(), ConnectionError | ssl.SSLError):
            super().handle_error(request, client_address)


def _handler(answer: Answer, wrapped: Callable[[str, Any], dict[str, Any]]) -> type[BaseHTTPRequestHandler]:
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
            status, document = answer(method, path, body, token, peer)
            if wrap and status == 200:
                document = wrapped(path, document)
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
