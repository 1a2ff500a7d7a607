"""Listeners of a real Envoy that answer by themselves, and a client that sends bytes as they are, over unix sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_FILTERS = "type.googleapis.com/envoy.extensions.filters"


def listener(
    address: Path, *, manager: dict[str, Any] | None = None, filters: Sequence[dict[str, Any]] = (), **route: Any
) -> dict[str, Any]:
    """An HTTP/1.1 listener at a unix socket: what passes `filters` is answered 200. `route` is added to its route."""
    answer = {"match": {"prefix": ""}, "direct_response": {"status": 200}, **route}
    router = {"name": "router", "typed_config": {"@type": f"{_FILTERS}.http.router.v3.Router"}}
    connection_manager = {
        "@type": f"{_FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": address.name,
        "codec_type": "HTTP1",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [answer]}]},
        "http_filters": [*filters, router],
        **(manager or {}),
    }
    return {
        "name": address.name,
        "address": {"pipe": {"path": os.fspath(address)}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": connection_manager}]}],
    }


def rbac(rules: dict[str, Any]) -> dict[str, Any]:
    return {"name": "rbac", "typed_config": {"@type": f"{_FILTERS}.http.rbac.v3.RBAC", "rules": rules}}


class RawClient:
    """One connection that is kept, and made anew where Envoy closes it."""

    def __init__(self, address: Path) -> None:
        self._address = address
        self._connection: socket.socket | None = None

    def get(self, path: bytes, *lines: bytes) -> tuple[int, dict[bytes, bytes]]:
        """Status and headers of the answer to a GET with these header lines."""
        return self.ask(b"GET", path, *lines)

    def ask(self, method: bytes, path: bytes, *lines: bytes) -> tuple[int, dict[bytes, bytes]]:
        """The same with any method, without a body."""
        request = b"\r\n".join([method + b" " + path + b" HTTP/1.1", b"host: a", *lines, b"", b""])
        try:
            return self._ask(request)
        except ConnectionError:  # closed after a refusal before
            self.close()
            return self._ask(request)

    def _ask(self, request: bytes) -> tuple[int, dict[bytes, bytes]]:
        if self._connection is None:
            self._connection = socket.socket(socket.AF_UNIX)
            self._connection.settimeout(10)
            self._connection.connect(os.fspath(self._address))
        self._connection.sendall(request)
        head = b""
        while b"\r\n\r\n" not in head:
            received = self._connection.recv(65536)
            if not received:
                raise ConnectionResetError
            head += received
        first, *lines = head.partition(b"\r\n\r\n")[0].split(b"\r\n")
        status = int(first.split()[1])
        if status != 200:  # there is a body, and perhaps an end
            self.close()
        return status, dict(line.split(b": ", 1) for line in lines)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
