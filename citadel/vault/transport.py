"""Carries one call to one address and brings back what was answered: hvac's adapters, one set for each worker thread.

hvac's adapter is used without its Client, which would take VAULT_TOKEN, ~/.vault-token and VAULT_CACERT from whoever
started us; and without its exceptions, which do not say the status (405, 412 and 473 look alike in them).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import requests

from citadel.vault import failures
from citadel.vault.access import VaultAccess

_MOST_BYTES = 4 << 20
_CONNECT_SECONDS = 5.0
_SHORTEST_SECRET = 8


@dataclass(frozen=True, slots=True)
class Reply:
    """What Vault answered. `data` may hold secrets, and `auth` does. `warnings` are Vault's own sentences."""

    data: Mapping[str, Any] = field(repr=False)
    auth: Mapping[str, Any] = field(repr=False)
    warnings: tuple[str, ...] = ()


class Transport:
    """Blocking; any thread may call it. Raises CitadelErrors, and TryAgain for what may pass."""

    def __init__(self, access: VaultAccess) -> None:
        self._access = access
        self._local = threading.local()
        self._sessions: list[requests.Session] = []
        self._lock = threading.Lock()

    def send(self, address: str, method: str, path: str, body: Mapping[str, object] | None, token: str) -> Reply:
        """One call. `token` may be empty (a login)."""
        seconds = self._access.timeout.total_seconds()
        deadline = time.monotonic() + seconds
        adapter = self._adapter(address)
        adapter.token = token
        try:
            response = adapter.request(
                method,
                f"/v1/{path}",
                raise_exception=False,
                stream=True,
                timeout=(min(_CONNECT_SECONDS, seconds), seconds),
                **({"json": dict(body)} if body is not None else {}),
            )
            with response:
                content = _content(response, deadline, address, path)
        except requests.RequestException as error:
            raise failures.of_transport(error, address, path) from None  # its cause may show what was sent
        except OSError as error:  # a CA file or client certificate that is not there
            raise failures.garbage(address, path, f"{type(error).__name__}: {error.strerror or error}") from None
        finally:
            adapter.token = ""
        return _reply(response.status_code, content, address, path, _secrets(token, body))

    def close(self) -> None:
        with self._lock:
            for session in self._sessions:
                session.close()
            self._sessions.clear()

    def _adapter(self, address: str) -> Any:
        from hvac.adapters import RawAdapter  # a start without Vault does not wait for it

        adapters: dict[str, Any] = self._local.__dict__.setdefault("adapters", {})
        if address not in adapters:
            session = requests.Session()
            session.trust_env = False  # no proxy, .netrc or CA bundle that nobody configured here
            session.verify = str(self._access.ca_file) if self._access.ca_file else True
            if pair := self._access.client_certificate:
                session.cert = (str(pair[0]), str(pair[1]))
            with self._lock:
                self._sessions.append(session)
            adapters[address] = RawAdapter(
                base_uri=address,
                token="",
                session=session,
                namespace=self._access.namespace or None,
                allow_redirects=False,  # requests would take our token along to wherever it is sent
                strict_http=True,
            )
        return adapters[address]


def _content(response: requests.Response, deadline: float, address: str, path: str) -> bytes:
    parts, size = [], 0
    for part in response.iter_content(64 << 10):
        size += len(part)
        if size > _MOST_BYTES:
            raise failures.garbage(address, path, f"it is larger than {_MOST_BYTES} bytes")
        if time.monotonic() > deadline:
            raise requests.exceptions.ReadTimeout
        parts.append(part)
    return b"".join(parts)


def _reply(status: int, content: bytes, address: str, path: str, secrets: list[str]) -> Reply:
    document: Any = {}
    if content.strip():
        try:
            document = json.loads(content)
        except ValueError:
            document = None
    if not 200 <= status < 300:
        raise failures.of_status(status, _errors(document, secrets), address, path)
    if not isinstance(document, dict):
        raise failures.garbage(address, path, "it is not an object of JSON")
    if not document.keys() & {"data", "auth"}:  # sys/health and its like have no envelope
        document = {"data": document}
    data, auth, warnings = document.get("data") or {}, document.get("auth") or {}, document.get("warnings") or []
    if not isinstance(data, dict) or not isinstance(auth, dict) or not isinstance(warnings, list):
        raise failures.garbage(address, path, "data, auth or warnings are of the wrong kind")
    return Reply(data, auth, tuple(failures.shown(_masked(str(one), secrets)) for one in warnings[:16]))


def _errors(document: object, secrets: list[str]) -> list[str]:
    errors = document.get("errors") if isinstance(document, dict) else None
    return [_masked(str(one), secrets) for one in errors[:8]] if isinstance(errors, list) else []


def _secrets(token: str, body: Mapping[str, object] | None) -> list[str]:
    """What must not come back in a message: all that we sent which is long enough to be one."""
    sent = [token, *(value for value in (body or {}).values() if isinstance(value, str))]
    return [one for one in sent if len(one) >= _SHORTEST_SECRET]


def _masked(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return text
