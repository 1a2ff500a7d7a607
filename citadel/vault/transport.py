"""Carries one call to one address and brings back what was answered: hvac's adapters, one for each address.

hvac's adapter is used without its Client, which would take VAULT_TOKEN, ~/.vault-token and VAULT_CACERT from whoever
started us; and without its exceptions, which do not say the status (405, 412 and 473 look alike in them).
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any

from citadel.vault import failures
from citadel.vault.access import VaultAccess
from citadel.vault.connections import Answered, Connections, NotConnected, TooLarge

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
        self._adapters: dict[str, Any] = {}
        self._lock = threading.Lock()

    def send(self, address: str, method: str, path: str, body: Mapping[str, object] | None, token: str) -> Reply:
        """One call. `token` may be empty (a login)."""
        try:
            if not token and self._access.client_certificate:
                self._forget(address)  # at each login its files are read again, as all that we sign in with
            answered: Answered = self._adapter(address).request(
                method,
                f"/v1/{path}",
                headers=self._headers(path, token),
                raise_exception=False,
                **({"json": body} if body is not None else {}),
            )
        except TooLarge as error:
            raise failures.garbage(address, path, str(error)) from None
        except (NotConnected, OSError, HTTPException) as error:
            if isinstance(error, NotConnected) and isinstance(error.error, ssl.SSLError):
                self._forget(address)  # the next one reads the CA file again: it may have been replaced
            raise failures.of_transport(error, address, path) from None  # its cause may show what was sent
        except ValueError:  # of http.client, and shows the header
            raise failures.unsendable(address, path) from None
        return _reply(answered, address, path, token, body)

    def close(self) -> None:
        with self._lock:
            for adapter in self._adapters.values():
                adapter.close()
            self._adapters.clear()

    def _adapter(self, address: str) -> Any:
        with self._lock:
            found = self._adapters.get(address)
            if found is None:
                found = self._adapters[address] = self._made(address)
        return found

    def _made(self, address: str) -> Any:
        from hvac.adapters import RawAdapter  # a start without Vault does not wait for it

        try:
            connections = Connections(address, self._access)
        except OSError as error:
            raise failures.of_files(error, address) from None
        except ValueError:
            raise failures.of_address(address) from None
        # without a token, which is given with each call, for one adapter is for all threads
        return RawAdapter(base_uri=address, session=connections, strict_http=True)

    def _headers(self, path: str, token: str) -> dict[str, str]:
        """The server's own state is asked for in no namespace: in one, `sys/health` is refused."""
        headers = {"X-Vault-Token": token} if token else {}
        if self._access.namespace and not path.startswith("sys/health"):
            headers["X-Vault-Namespace"] = self._access.namespace
        return headers

    def _forget(self, address: str) -> None:
        """Calls that are under way end on the connections that they have."""
        with self._lock:
            found = self._adapters.pop(address, None)
        if found is not None:
            found.close()


def _reply(answered: Answered, address: str, path: str, token: str, body: Mapping[str, object] | None) -> Reply:
    status, document = answered.status, _document(answered.content)
    if not answered.ok:
        raise failures.of_status(status, _errors(document, _secrets(token, body)), address, path)
    if not isinstance(document, dict):
        raise failures.garbage(address, path, "it is not an object of JSON")
    if not document.keys() & {"data", "auth"}:  # sys/health and its like have no envelope
        document = {"data": document}
    data, auth, warnings = document.get("data") or {}, document.get("auth") or {}, document.get("warnings") or []
    if not isinstance(data, dict) or not isinstance(auth, dict) or not isinstance(warnings, list):
        raise failures.garbage(address, path, "data, auth or warnings are of the wrong kind")
    if not warnings:
        return Reply(data, auth)
    secrets = _secrets(token, body)
    return Reply(data, auth, tuple(failures.shown(_masked(str(one), secrets)) for one in warnings[:16]))


def _document(content: bytes) -> object:
    """What is no JSON is None; nothing at all is an empty object."""
    if not content.strip():
        return {}
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


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
