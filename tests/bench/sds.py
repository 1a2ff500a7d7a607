"""An SDS stream for benches, in asyncio: it acknowledges what it gets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from envoy.service.discovery.v3 import discovery_pb2

from citadel.sds.stream import SECRET_TYPE


@asynccontextmanager
async def secrets_of(
    socket: Path, *names: str, node: str = "bench"
) -> AsyncIterator[AsyncIterator[discovery_pb2.DiscoveryResponse]]:
    """A StreamSecrets subscription that acknowledges everything; gives each response."""
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        call = channel.stream_stream(
            "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
            request_serializer=discovery_pb2.DiscoveryRequest.SerializeToString,
            response_deserializer=discovery_pb2.DiscoveryResponse.FromString,
        )(None)
        request = discovery_pb2.DiscoveryRequest(type_url=SECRET_TYPE, resource_names=names)
        request.node.id = node
        await call.write(request)

        async def responses() -> AsyncIterator[discovery_pb2.DiscoveryResponse]:
            while isinstance(answer := await call.read(), discovery_pb2.DiscoveryResponse):
                await call.write(
                    discovery_pb2.DiscoveryRequest(
                        type_url=SECRET_TYPE,
                        resource_names=names,
                        response_nonce=answer.nonce,
                        version_info=answer.version_info,
                    )
                )
                yield answer

        try:
            yield responses()
        finally:
            call.cancel()
