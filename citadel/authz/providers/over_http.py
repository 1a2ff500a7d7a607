"""A provider that speaks ext_authz over HTTP: it is sent the request's own method and path, behind a prefix."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Iterator

import httpx

from citadel.authz.decision_point import ProviderReply
from citadel.authz.facts import ExtensionProvider
from citadel.authz.patterns import Patterns
from citadel.authz.providers.message import text
from citadel.authz.providers.replies import MAX_BODY, BadReply, failed, of_http
from citadel.authz.providers.tls import ProviderTls
from citadel.authz.request import HttpRequest, Request

_ALWAYS = frozenset(["authorization"])
"""Beside Host, method, path and length: what an Envoy forwards without being told."""
_NEVER = frozenset(
    [
        "host",
        "connection",
        "content-length",
        "transfer-encoding",
        "upgrade",
        "te",
        "trailer",
        "proxy-connection",
        "expect",
    ]
)


class HttpProvider:
    """One provider, with its connections."""

    def __init__(self, provider: ExtensionProvider, tls: ProviderTls | None) -> None:
        host = provider.service.rpartition("/")[2]
        self._provider = provider
        self._base = httpx.URL(scheme="http" if tls is None else "https", host=host, port=provider.port)
        self._wanted = _patterns(provider.include_request_headers_in_check)
        self._upstream = _patterns(provider.headers_to_upstream_on_allow)
        self._success = _patterns(provider.headers_to_downstream_on_allow)
        self._denial = _patterns(provider.headers_to_downstream_on_deny)
        verify: ssl.SSLContext | bool = False
        if tls is not None:
            verify = ssl.create_default_context(cadata=None if tls.roots is None else tls.roots.decode("ascii"))
        self._client = httpx.AsyncClient(
            verify=verify,
            trust_env=False,
            follow_redirects=False,
            timeout=provider.timeout.total_seconds(),
            limits=httpx.Limits(max_connections=256, max_keepalive_connections=64),
        )
        self._client.headers.clear()

    async def ask(self, request: Request) -> ProviderReply:
        http = request.http
        if http is None:
            return failed("it speaks HTTP, and cannot be asked about a connection")
        try:
            async with asyncio.timeout(self._provider.timeout.total_seconds()):
                return await self._asked(http)
        except TimeoutError:
            return failed(f"no answer within {self._provider.timeout.total_seconds():g} s")
        except (httpx.HTTPError, OSError, ValueError, BadReply) as error:
            return failed(f"{type(error).__name__}: {error}"[:300])

    async def _asked(self, http: HttpRequest) -> ProviderReply:
        path = (self._provider.path_prefix + http.path).encode("utf-8", "surrogateescape")
        url = self._base.copy_with(raw_path=path)
        if url.raw_path != path:
            raise BadReply("the path has characters that cannot be sent on as they are")
        outgoing = self._client.build_request(http.method, url, headers=list(self._headers(http)))
        response = await self._client.send(outgoing, stream=True)
        try:
            body = bytearray()
            async for part in response.aiter_raw():
                body += part
                if len(body) > MAX_BODY:
                    raise BadReply(f"its answer has more than {MAX_BODY} bytes")
            given = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers.raw]
            return of_http(
                response.status_code,
                given,
                bytes(body),
                upstream=self._upstream,
                success=self._success,
                denial=self._denial,
            )
        finally:
            await response.aclose()

    def _headers(self, http: HttpRequest) -> Iterator[tuple[bytes, bytes]]:
        yield b"host", text(http.authority or self._base.netloc.decode()).encode()
        yield b"content-length", b"0"
        additional = {name.lower(): value for name, value in self._provider.include_additional_headers_in_check}
        for name, values in http.headers.items():
            wanted = name in _ALWAYS or self._wanted.match(name)
            if wanted and name not in _NEVER and name not in additional and not name.startswith(":"):
                for value in values:
                    yield name.encode("ascii", "replace"), value.encode("utf-8", "surrogateescape")
        yield from ((name.encode(), value.encode()) for name, value in additional.items())

    async def aclose(self) -> None:
        await self._client.aclose()


def _patterns(names: Iterable[str]) -> Patterns:
    return Patterns.parse(name.lower() for name in names)
