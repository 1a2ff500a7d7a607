"""A certificate that somebody kept: taken as a workload does, and presented to an Envoy later."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.service.discovery.v3 import discovery_pb2

_STREAM = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets"
_SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # the type's name
_SECONDS = 10.0


class KeptLeaf:
    """A certificate and its key. Whether the server's own is to be trusted is not looked at."""

    def __init__(self, secret: secret_pb2.TlsCertificate, file: Path) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        file.touch(mode=0o600)
        file.write_bytes(secret.certificate_chain.inline_bytes + b"\n" + secret.private_key.inline_bytes)
        self._context.load_cert_chain(file)
        file.unlink()

    async def is_welcome_at(self, port: int) -> bool:
        """Whether the Envoy there answers to a request with it."""
        try:
            async with asyncio.timeout(_SECONDS):
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=self._context)
                try:
                    writer.write(b"GET /kept HTTP/1.1\r\nhost: upstream.demo\r\nconnection: close\r\n\r\n")
                    return (await reader.readline()).startswith(b"HTTP/1.1 200")  # TLS 1.3: a refusal comes here
                finally:
                    writer.close()
        except (ssl.SSLError, ConnectionError):
            return False


@asynccontextmanager
async def taken_from(workload_socket: Path, folder: Path) -> AsyncIterator[KeptLeaf]:
    """The leaf that Citadel gives to this very process now. Its stream goes on acknowledging: it holds up no rotation.

    Raises TimeoutError, grpc.RpcError.
    """
    async with grpc.aio.insecure_channel(f"unix:{workload_socket}") as channel:
        call = channel.stream_stream(
            _STREAM,
            request_serializer=discovery_pb2.DiscoveryRequest.SerializeToString,
            response_deserializer=discovery_pb2.DiscoveryResponse.FromString,
        )(None)
        first: asyncio.Future[secret_pb2.TlsCertificate] = asyncio.get_running_loop().create_future()
        taking = asyncio.create_task(_take(call, first))
        try:
            async with asyncio.timeout(_SECONDS):
                await asyncio.wait([first, taking], return_when=asyncio.FIRST_COMPLETED)
            if taking.done():
                await taking
            yield KeptLeaf(first.result(), folder / "kept.pem")
        finally:
            call.cancel()
            taking.cancel()
            with suppress(asyncio.CancelledError, grpc.RpcError):
                await taking


async def _take(call: Any, first: asyncio.Future[secret_pb2.TlsCertificate]) -> None:
    """Acknowledge what comes; the first certificate of it is given to `first`."""
    request = discovery_pb2.DiscoveryRequest(type_url=_SECRET, resource_names=["default", "ROOTCA"])
    request.node.id = "kept"
    await call.write(request)
    while isinstance(answer := await call.read(), discovery_pb2.DiscoveryResponse):
        request.version_info, request.response_nonce = answer.version_info, answer.nonce
        await call.write(request)
        for resource in answer.resources:
            secret = secret_pb2.Secret.FromString(resource.value)
            if secret.HasField("tls_certificate") and not first.done():
                first.set_result(secret.tls_certificate)
