"""Connections of the AuthZEN port: each names its caller, whose certificate is looked at again at every request."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import structlog
from cryptography import x509
from starlette.types import ASGIApp

from citadel.api.authzen.callers import HANG_UP, NOBODY, SCOPE, Caller, holder_of, process_at
from citadel.api.authzen.tls import Contexts
from citadel.api.serving import Bounds, Facts, served
from citadel.authz.doors.certificates import ClientCertificate

_BOUNDS = Bounds(connections=512, requests=256, idle_seconds=300)
log = structlog.get_logger("citadel.authzen")


@asynccontextmanager
async def serving(app: ASGIApp, listener: socket.socket, contexts: Contexts | None = None) -> AsyncIterator[None]:
    """Serve on `listener` inside the context: a unix socket; or, with `contexts`, by TLS.

    Raises OSError if that cannot be."""

    def met(transport: asyncio.Transport) -> Facts:
        try:
            return _facts(transport, contexts)
        except Exception as error:  # whoever cannot be named is nobody
            log.warning("a caller could not be named", exc_info=error)
            return lambda: {SCOPE: NOBODY}

    tls = None if contexts is None else contexts.public
    async with served(app, listener, _BOUNDS, met, tls=tls):
        yield


def _facts(transport: asyncio.Transport, contexts: Contexts | None) -> Facts:
    if contexts is not None:
        tls = transport.get_extra_info("ssl_object")
        assert isinstance(tls, ssl.SSLObject)
        der = tls.getpeercert(binary_form=True)
        return _Holder(contexts, der) if der is not None else lambda: {SCOPE: NOBODY}
    with socket.socket(fileno=socket.dup(transport.get_extra_info("socket").fileno())) as connection:
        caller = process_at(connection) if connection.family == socket.AF_UNIX else NOBODY
    return lambda: {SCOPE: caller}


class _Holder:
    """Who shows a certificate: it counts until it ends or is revoked, and if what it was verified by has changed, the
    next request is to come by another handshake."""

    def __init__(self, contexts: Contexts, der: bytes) -> None:
        self._contexts = contexts
        self._verified_by = contexts.anchors()
        self._certificate = ClientCertificate.of(x509.load_der_x509_certificate(der))
        self._caller = holder_of(self._certificate, self._verified_by.trust_domains)

    def __call__(self) -> Mapping[str, Any]:
        caller, anchors = self._caller, self._contexts.anchors()
        stale = anchors != self._verified_by
        if self._certificate.not_after <= datetime.now(UTC):
            return {SCOPE: Caller(frozenset(), f"a certificate of {caller.label} that has ended"), HANG_UP: True}
        if self._certificate.revoked_by(anchors.crls):
            return {SCOPE: Caller(frozenset(), f"a revoked certificate of {caller.label}"), HANG_UP: stale}
        return {SCOPE: caller, HANG_UP: stale}
