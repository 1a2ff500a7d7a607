"""Connections to one address of Vault, kept and shared by threads: what hvac's adapter sends with.

hvac expects a Session of requests. This one stands in its place, over http.client: a call costs a third of the CPU, and
a certificate that Vault makes is mostly the call. What it does not have cannot go wrong: proxies, .netrc, cookies,
redirects that carry our token along.
"""

from __future__ import annotations

import json as json_
import select
import ssl
import time
import weakref
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection, IncompleteRead
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from citadel.vault.access import VaultAccess

_MOST_BYTES = 4 << 20
_CONNECT_SECONDS = 5.0
_PART = 64 << 10
_FRESH = 0.5  # seconds in which one that was used is not asked whether it was closed meanwhile
_NOT_QUOTED = "/?&=%:@+,;~!$'()*"


class TooLarge(Exception):
    """The answer has more bytes than any of Vault's."""

    def __init__(self) -> None:
        super().__init__(f"it is larger than {_MOST_BYTES} bytes")


class NotConnected(Exception):
    """There is no connection, so nothing was sent. `error` says why."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class Answered:
    """Status and body. `ok` is what hvac asks for."""

    status: int
    content: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


class _Plain(HTTPConnection):
    """Headers and body go in one packet: one call of the kernel, one turn of the interpreter's lock."""

    _unsent: tuple[bytes, ...] = ()

    def send(self, data: Any) -> None:
        self._unsent = (*self._unsent, data)

    def getresponse(self) -> HTTPResponse:
        whole, self._unsent = b"".join(self._unsent), ()
        super().send(whole)
        return super().getresponse()


class _Tls(_Plain, HTTPSConnection): ...


class Connections:
    """Any thread may use them. The files of TLS are read when this is made: make another when they change."""

    cert = verify = proxies = None  # hvac takes these from its Session, and gives them back to `request`

    def __init__(self, address: str, access: VaultAccess) -> None:
        """Raises OSError: the files of TLS (ssl.SSLError is one). ValueError: this is no address."""
        url = urlsplit(address)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(address)
        self._host, self._port = url.hostname, url.port
        self._origin = f"{url.scheme}://{url.netloc}"
        self._seconds = access.timeout.total_seconds()
        self._context = _context(access) if url.scheme == "https" else None
        self._idle: deque[tuple[HTTPConnection, float]] = deque(
            maxlen=access.threads
        )  # the one used last is at the end
        self._closed = False
        weakref.finalize(self, _close, self._idle)  # for whoever forgets to

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        json: Mapping[str, object] | None = None,
        params: Mapping[str, str] | None = None,
        **_: object,
    ) -> Answered:
        """One call, from its first byte to its last within the timeout.

        Raises NotConnected; TooLarge; OSError (TimeoutError is one) and HTTPException: it may have been carried out.
        """
        deadline = time.monotonic() + self._seconds
        target = quote(url.removeprefix(self._origin), _NOT_QUOTED) + (f"?{urlencode(params)}" if params else "")
        body = None
        if json is not None:
            body, headers = json_.dumps(json).encode(), {**headers, "Content-Type": "application/json"}
        connection = self._connected()
        try:
            connection.request(method.upper(), target, body, headers)
            with connection.getresponse() as response:  # ended whole or not, nothing of it is left for the next one
                answered = Answered(response.status, _content(connection, response, deadline))
            if response.will_close or self._closed:
                connection.close()
            else:
                self._keep(connection)
        except BaseException:
            connection.close()
            raise
        return answered

    def close(self) -> None:
        self._closed = True
        _close(self._idle)

    def _keep(self, connection: HTTPConnection) -> None:
        if connection.sock.gettimeout() != self._seconds:  # the answer was slow
            connection.sock.settimeout(self._seconds)
        self._idle.append((connection, time.monotonic()))

    def _connected(self) -> HTTPConnection:
        while True:
            try:
                connection, used = self._idle.pop()
            except IndexError:
                break
            if time.monotonic() - used < _FRESH or not _has_news(connection):
                return connection
            connection.close()
        seconds = min(_CONNECT_SECONDS, self._seconds)
        if self._context is None:
            made: HTTPConnection = _Plain(self._host, self._port, timeout=seconds)
        else:
            made = _Tls(self._host, self._port, timeout=seconds, context=self._context)
        try:
            made.connect()
        except OSError as error:
            made.close()
            raise NotConnected(error) from None
        made.sock.settimeout(self._seconds)
        return made


def _close(idle: deque[tuple[HTTPConnection, float]]) -> None:
    with suppress(IndexError):
        while True:
            idle.pop()[0].close()


def _has_news(connection: HTTPConnection) -> bool:
    """Nothing is awaited on an idle connection: if there is something to read, it is its end."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


def _content(connection: HTTPConnection, response: HTTPResponse, deadline: float) -> bytes:
    parts, size = [], 0
    while part := response.read1(_PART):
        parts.append(part)
        size += len(part)
        if size > _MOST_BYTES:
            raise TooLarge
        if response.length != 0 and connection.sock is not None:  # there is more to come, and less time for it
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            connection.sock.settimeout(left)
    if response.length:
        raise IncompleteRead(b"", response.length)
    return b"".join(parts)


def _context(access: VaultAccess) -> ssl.SSLContext:
    """Server certificates are verified, names too; TLS 1.2 or later."""
    context = ssl.create_default_context(cafile=str(access.ca_file) if access.ca_file else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if pair := access.client_certificate:
        context.load_cert_chain(*map(str, pair))
    return context
