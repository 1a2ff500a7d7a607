"""A provider that speaks ext_authz over gRPC."""

from __future__ import annotations

import grpc
from envoy.service.auth.v3 import external_auth_pb2

from citadel.authz.decision_point import ProviderReply
from citadel.authz.facts import ExtensionProvider
from citadel.authz.providers.message import check_request
from citadel.authz.providers.replies import BadReply, failed, of_grpc
from citadel.authz.providers.tls import ProviderTls
from citadel.authz.request import Request

CHECK = "/envoy.service.auth.v3.Authorization/Check"
_OPTIONS = (
    ("grpc.max_receive_message_length", 1 << 20),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


class GrpcProvider:
    """One provider; the connection is made when it is first asked, and again whenever it is lost."""

    def __init__(self, provider: ExtensionProvider, tls: ProviderTls | None) -> None:
        host = provider.service.rpartition("/")[2]
        target = f"dns:///{host}:{provider.port}"
        if tls is None:
            self._channel = grpc.aio.insecure_channel(target, _OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(tls.roots), _OPTIONS)
        self._check = self._channel.unary_unary(
            CHECK, external_auth_pb2.CheckRequest.SerializeToString, external_auth_pb2.CheckResponse.FromString
        )
        self._timeout = provider.timeout.total_seconds()

    async def ask(self, request: Request) -> ProviderReply:
        try:
            return of_grpc(await self._check(check_request(request), timeout=self._timeout))
        except grpc.aio.AioRpcError as error:
            return failed(f"{error.code().name}: {(error.details() or '')[:200]}")
        except BadReply as bad:
            return failed(str(bad))

    async def aclose(self) -> None:
        await self._channel.close(None)
