"""All providers of a mesh, each asked in its own protocol. Contract: decision_point.ports.Providers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

import structlog

from citadel.authz.decision_point import ProviderReply
from citadel.authz.facts import ExtensionProvider, ProviderProtocol
from citadel.authz.providers.over_grpc import GrpcProvider
from citadel.authz.providers.replies import failed
from citadel.authz.providers.tls import ProviderTls
from citadel.authz.request import Request

if TYPE_CHECKING:
    from citadel.authz.providers.over_http import HttpProvider

MOST_AT_ONCE = 256
"""Questions to one provider; who comes when there are so many has failed."""
_GRACE = 0.1  # seconds beyond the provider's timeout, in which it is to notice itself
log = structlog.get_logger("citadel.authz")


class ProviderClients:
    """An async context manager: at its end all connections are closed, and nobody is asked any more."""

    def __init__(self, tls: Mapping[str, ProviderTls] | None = None) -> None:
        """`tls`: of the providers, by name, that are reached by TLS; the others are asked in plaintext."""
        self._tls = tls or {}
        self._clients: dict[ExtensionProvider, GrpcProvider | HttpProvider] = {}
        self._asking: dict[str, int] = {}
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        for client in self._clients.values():
            await client.aclose()

    async def ask(self, provider: ExtensionProvider, request: Request) -> ProviderReply:
        if self._closed:
            return failed("Citadel is stopping")
        if provider.max_request_bytes:
            return failed("it wants the body of requests, which only an Envoy has: let that one ask it")
        asking = self._asking.get(provider.name, 0)
        if asking >= MOST_AT_ONCE:
            return failed(f"it has {MOST_AT_ONCE} questions to answer already")
        self._asking[provider.name] = asking + 1
        try:
            async with asyncio.timeout(provider.timeout.total_seconds() + _GRACE):
                return await self._client(provider).ask(request)
        except TimeoutError:
            return failed(f"no answer within {provider.timeout.total_seconds():g} s")
        except Exception as defect:
            log.error("a provider could not be asked", provider=provider.name, exc_info=defect)
            return failed(type(defect).__name__)
        finally:
            self._asking[provider.name] -= 1

    def _client(self, provider: ExtensionProvider) -> GrpcProvider | HttpProvider:
        if provider not in self._clients:
            self._clients[provider] = _client(provider, self._tls.get(provider.name))
        return self._clients[provider]


def _client(provider: ExtensionProvider, tls: ProviderTls | None) -> GrpcProvider | HttpProvider:
    if provider.protocol is ProviderProtocol.GRPC:
        return GrpcProvider(provider, tls)
    from citadel.authz.providers.over_http import HttpProvider  # its library would cost every start a tenth of a second

    return HttpProvider(provider, tls)
