"""VaultDouble: namespaces behind one socket, and the faults that a test wants."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.vault_double.answers import Refused
from tests.support.vault_double.listener import Listener
from tests.support.vault_double.namespace import Namespace


class VaultDouble:
    """`faults` maps a path's beginning to what happens instead of the answer; `sealed`, `latency` hold for all."""

    def __init__(self, tls: tuple[Path, Path] | None = None) -> None:
        """`tls`: certificate and key of the server. Client certificates are taken then, from whomever."""
        self.sealed = False
        self.latency = 0.0
        self.silent = threading.Event()  # set: it takes calls and answers none
        self.faults: dict[str, Callable[[dict[str, Any]], Any]] = {}
        self.calls: list[str] = []
        self.namespaces = {"": Namespace()}
        own = self.namespaces[""]
        self.tokens, self.sign_ins, self.pki, self.transit = own.tokens, own.sign_ins, own.pki, own.transit
        self.root_token = self.tokens.new_root()
        self._lock = threading.RLock()
        self._listener = Listener(self.answer, self._wrapped, tls)
        self.address = self._listener.address

    def __enter__(self) -> VaultDouble:
        self._listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.stop()

    def answer(
        self, namespace: str, method: str, path: str, body: dict[str, Any], token: str, peer: bytes | None = None
    ) -> tuple[int, Any]:
        time.sleep(self.latency)
        while self.silent.is_set():
            time.sleep(0.05)
        with self._lock:
            self.calls.append(f"{method} {path}")
            try:
                for start, fault in self.faults.items():
                    if path.startswith(start):
                        made = fault(body)
                        if made is not None:
                            status, document = made
                            return int(status), document
                if path == "sys/health":
                    if namespace:
                        raise Refused(400, "operation unavailable in namespaces")
                    state = {"initialized": True, "sealed": self.sealed, "standby": False, "version": "double"}
                    return 200, {**state, "cluster_name": "double"}
                if self.sealed:
                    raise Refused(503, "Vault is sealed")
                if (own := self.namespaces.get(namespace)) is None:
                    raise Refused(404, "namespace not found")
                if path.startswith("sys/wrapping/"):
                    return 200, own.tokens.unwrapped(path, body, token)
                if path.startswith("sys/namespaces/") and "root" in own.tokens.held(token).policies:
                    self.namespaces.setdefault(path.removeprefix("sys/namespaces/"), Namespace(own.tokens))
                    return 200, {"data": {}}
                found = own.answer(method, path, body, token, peer)
            except Refused as refused:
                return refused.status, {"errors": list(refused.errors)}
        if found is None:
            return 204, b""
        return 200, found if "auth" in found or "data" in found else {"data": found, "warnings": None, "auth": None}

    def kill(self) -> None:
        """As kill -9."""
        self._listener.kill()

    def start_again(self) -> None:
        """With all that it had, sealed."""
        self.sealed = True
        self._listener.start_again()

    def _wrapped(self, namespace: str, path: str, document: Any) -> dict[str, Any]:
        return self.namespaces[namespace].tokens.wrapped(path, document)
