"""What stands before every call: who may ask at all, X-Request-ID, and that nobody ever sees a traceback."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from citadel.api.authzen.bearers import Bearers
from citadel.api.authzen.callers import HANG_UP, NOBODY, SCOPE, Caller, CallerRules
from citadel.errors import Unauthenticated, Unavailable

VERSION_HEADER = b"citadel-policy-version"
_REQUEST_ID = b"x-request-id"
log = structlog.get_logger("citadel.authzen")


class Guard:
    """An ASGI application around another one. `version`: of the policies in force, for every answer. `bearers`: reads
    access tokens of callers; None: none are taken."""

    def __init__(
        self,
        inner: ASGIApp,
        rules: Callable[[], CallerRules],
        version: Callable[[], str],
        bearers: Bearers | None = None,
    ) -> None:
        self._inner = inner
        self._rules = rules
        self._version = version
        self._bearers = bearers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        answer = _Answer(send, self._headers(scope))
        try:
            caller = await self._caller(scope)
            if not self._rules().may_ask(caller):
                log.warning("refused a caller", caller=caller.label)
                await answer.text(403, f"{caller.label} may not ask here; authorization.authzen.allow names who may")
                return
            scope[SCOPE] = caller
            await self._inner(scope, receive, answer)
        except Unauthenticated as error:
            log.warning("refused a caller", why=error.message)
            challenge = "" if self._bearers is None else self._bearers.challenge
            await answer.text(401, error.message, (b"www-authenticate", challenge.encode("latin-1", "replace")))
        except Unavailable as error:
            log.warning("a caller could not be told", why=error.message)
            await answer.text(503, "the keys of the issuer of access tokens are not to be had")
        except Exception as error:  # the last line of defence; one that was answered is raised again by Starlette
            if not answer.begun:
                await answer.text(500, defect(error))

    async def _caller(self, scope: Scope) -> Caller:
        """By the connection, and by the token that a request brings. Raises Unauthenticated, Unavailable."""
        caller: Caller = scope.get(SCOPE, NOBODY)
        if self._bearers is None:
            return caller
        bearer = await self._bearers.caller(value for name, value in scope["headers"] if name == b"authorization")
        if bearer is not None:
            return Caller(caller.names | bearer.names, bearer.label)
        if not caller.names:
            raise Unauthenticated("expected an access token, or a certificate with a SPIFFE ID")
        return caller

    def _headers(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        headers = [(VERSION_HEADER, self._version().encode())]
        headers += [(name, value) for name, value in scope["headers"] if name == _REQUEST_ID][:1]
        if scope.get(HANG_UP):
            headers.append((b"connection", b"close"))
        return headers


class _Answer:
    """`send`, with some headers more."""

    def __init__(self, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        self._send = send
        self._headers = headers
        self.begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            message = {**message, "headers": [*message.get("headers", ()), *self._headers]}
        await self._send(message)

    async def text(self, status: int, sentence: str, *more: tuple[bytes, bytes]) -> None:
        body = json.dumps(sentence).encode()
        length = str(len(body)).encode()
        headers: list[Any] = [(b"content-type", b"application/json"), (b"content-length", length), *more]
        await self({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


def defect(error: Exception) -> str:
    """What a caller is told of a defect; the log is told the rest."""
    incident = secrets.token_hex(4)
    log.error("a call failed", incident=incident, exc_info=error)
    return f"a defect of ours; the log has it as incident {incident}"
