"""Webhook: a POST to an HTTPS address, signed as standard-webhooks.com says. An answer of 2xx says yes."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ssl
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

from citadel.ca.rotation.hooks import Question, Verdict
from citadel.errors import CitadelError, InvalidInput
from citadel.hooks.document import document, said

_MOST_ANSWER = 64 * 1024
_SHORTEST_KEY = 16  # bytes
_RETRIES = 2  # of connections that could not be made


class Webhook:
    """Contract: ca.rotation.hooks.Hook. No redirect is followed, no proxy of the environment used."""

    def __init__(
        self,
        url: str,
        *,
        timeout: float,
        secret: Callable[[], bytes] | None = None,
        tls: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    ) -> None:
        """`secret` and `tls` are asked each time: the files behind them may change. `timeout` is in seconds, for all of
        it."""
        self._url = url
        self._timeout = timeout
        self._secret = secret
        self._tls = tls

    async def ask(self, question: Question) -> Verdict:
        import httpx  # here: most servers have no webhook, and it takes a tenth of a second

        host = urlsplit(self._url).netloc
        try:
            status, answer = await self._post(document(question))
        except (httpx.TimeoutException, TimeoutError):
            return Verdict(False, f"{host} gave no answer within {self._timeout:g} s")
        except (CitadelError, OSError) as error:
            return Verdict(False, f"{host} could not be asked: {getattr(error, 'message', error)}")
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:  # ValueError: a host that is no name at all
            return Verdict(False, f"{host} could not be asked: {said(str(error).encode()) or type(error).__name__}")
        text = said(answer)
        if 200 <= status < 300:
            return Verdict(True, text)
        return Verdict(False, f"{host} answered {status}{f': {text}' if text else ''}")

    async def _post(self, body: bytes) -> tuple[int, bytes]:
        import httpx

        transport = httpx.AsyncHTTPTransport(verify=self._tls(), retries=_RETRIES, trust_env=False)
        headers = {"content-type": "application/json", "user-agent": "citadel", "accept-encoding": "identity"}
        if self._secret is not None:
            headers |= _signature(self._secret(), body)
        async with (
            asyncio.timeout(self._timeout),
            httpx.AsyncClient(transport=transport, trust_env=False, follow_redirects=False, timeout=None) as client,  # noqa: S113  # the one around it
            client.stream("POST", self._url, content=body, headers=headers) as response,
        ):
            answer = b""
            async for part in response.aiter_raw():
                answer += part
                if len(answer) > _MOST_ANSWER:
                    break
            return response.status_code, answer


def _signature(secret: bytes, body: bytes) -> dict[str, str]:
    """Headers by which the other side knows that it is us who ask, and that nobody repeats what we asked before."""
    name, at = f"msg_{uuid.uuid4().hex}", str(int(time.time()))
    signed = f"{name}.{at}.".encode() + body
    digest = hmac.new(signing_key(secret), signed, hashlib.sha256).digest()
    return {
        "webhook-id": name,
        "webhook-timestamp": at,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def signing_key(secret: bytes) -> bytes:
    """`whsec_` with base64 behind it, as that standard writes keys; anything else is the key itself. Raises
    InvalidInput if it is so short that others may find it."""
    key = secret.strip()
    if key.startswith(b"whsec_"):
        with suppress(ValueError):
            key = base64.b64decode(key.removeprefix(b"whsec_"), validate=True)
    if len(key) < _SHORTEST_KEY:
        raise InvalidInput(
            f"the webhook secret has {len(key)} bytes; expected {_SHORTEST_KEY} or more",
            mend="make one: openssl rand -base64 32",
        )
    return key
