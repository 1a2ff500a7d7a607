"""Path normalisation beside a real Envoy: thousands of generated paths over its socket, in each of Istio's modes.

CITADEL_AUTHZ_PATHS=100000 pytest tests/interop/test_authz_paths.py --timeout 0: as many as you like.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from citadel.authz.facts import PathNormalization
from citadel.authz.paths import BadPath, normalize
from tests.support.envoys import Envoy, wait_for

pytestmark = [pytest.mark.envoy, pytest.mark.skipif(shutil.which("envoy") is None, reason="needs envoy")]

PATHS = int(os.environ.get("CITADEL_AUTHZ_PATHS", "4000"))
SEED = int(os.environ.get("CITADEL_AUTHZ_SEED", "1"))
PIECES = [
    *("/", "/", "/", "a", "b", ".", "..", ".", "%2e", "%2E", "%2f", "%2F", "%5c", "%5C", "\\", ";", ";x", "..;"),
    *("%", "%%", "%3", "%2", "2", "5", "f", "e", "%32", "%66", "%65", "%25", "%00", "%61", "%7e", "%3b", "%2e%2e;"),
    *("{", "|", "^", "<", '"', "`", "[", "=", "~", "?", "#", "%3f", "&", "*", ":", "@", "%c3%A9", "%z", "+", "$", "'"),
]
# what Istio sets in the connection manager (MeshConfig.pathNormalization)
LISTENERS: dict[PathNormalization, dict[str, Any]] = {
    PathNormalization.NONE: {"normalize_path": False},
    PathNormalization.BASE: {"normalize_path": True},
    PathNormalization.MERGE_SLASHES: {"normalize_path": True, "merge_slashes": True},
    PathNormalization.DECODE_AND_MERGE_SLASHES: {
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD",
    },
}


class PathEcho:
    """Envoy's answer to a path: the `:path` that its filters see, or the status with which it refuses."""

    def __init__(self, address: Path) -> None:
        self._address = address
        self._connection: socket.socket | None = None

    def ask(self, path: str) -> str | int:
        try:
            return self._ask(path)
        except ConnectionError:  # closed after the refusal before
            self.close()
            return self._ask(path)

    def _ask(self, path: str) -> str | int:
        if self._connection is None:
            self._connection = socket.socket(socket.AF_UNIX)
            self._connection.settimeout(10)
            self._connection.connect(os.fspath(self._address))
        self._connection.sendall(b"GET " + path.encode() + b" HTTP/1.1\r\nhost: a\r\n\r\n")
        head = b""
        while b"\r\n\r\n" not in head:
            received = self._connection.recv(65536)
            if not received:
                raise ConnectionResetError
            head += received
        status = int(head.split()[1])
        if status != 200:
            self.close()
            return status
        found = re.search(rb"\r\nx-path: ([^\r]*)\r\n", head)
        assert found is not None, head
        return found[1].decode()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def listener(folder: Path, mode: PathNormalization) -> dict[str, Any]:
    route = {
        "match": {"prefix": ""},
        "direct_response": {"status": 200},
        "response_headers_to_add": [{"header": {"key": "x-path", "value": "%REQ(:PATH)%"}}],
    }
    filters = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{filters}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": mode.value,
        "codec_type": "HTTP1",
        **LISTENERS[mode],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{filters}.http.router.v3.Router"}}],
    }
    return {
        "name": mode.value,
        "address": {"pipe": {"path": os.fspath(folder / mode.value)}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


@pytest.fixture(scope="module")
def echoes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[PathNormalization, PathEcho]]:
    folder = tmp_path_factory.mktemp("e")
    envoy = Envoy(folder, "paths", {"static_resources": {"listeners": [listener(folder, mode) for mode in LISTENERS]}})
    envoy.start()
    found = {mode: PathEcho(folder / mode.value) for mode in LISTENERS}
    try:
        wait_for("Envoy", envoy.ready)
        yield found
    finally:
        for echo in found.values():
            echo.close()
        envoy.end()


def paths() -> Iterator[str]:
    generated = random.Random(SEED)
    for _ in range(PATHS):
        yield "/" + "".join(generated.choice(PIECES) for _ in range(generated.randint(0, 9)))


@pytest.mark.parametrize("mode", PathNormalization)
def test_paths_are_normalised_as_envoy_does(echoes: dict[PathNormalization, PathEcho], mode: PathNormalization) -> None:
    for path in paths():
        seen = echoes[mode].ask(path)
        try:
            ours: str | int = normalize(path, mode)
        except BadPath as bad:
            ours = 400
            if "left over" in str(bad):  # refused by us alone: see normalize()
                assert isinstance(seen, str), path
                assert re.search(r"/\.{1,2};", seen.partition("?")[0]), path
                continue
        assert ours == seen, path
        if isinstance(ours, str):
            assert normalize(ours, mode) == ours, path
