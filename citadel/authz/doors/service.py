"""ext_authz as a gRPC service, on grpc.aio: bytes in, bytes out; no call is ever aborted. `over_asgi`: another edge."""

from __future__ import annotations

import time

import grpc

from citadel.authz.doors.check import Door
from citadel.authz.doors.ports import Callers, Connection
from citadel.authz.doors.unnamed import unnamed

SERVICE = "envoy.service.auth.v3.Authorization"


class AuthorizationService:
    """Serves `envoy.service.auth.v3.Authorization/Check` to callers whom `callers` knows."""

    def __init__(self, door: Door, callers: Callers) -> None:
        self._door = door
        self._callers = callers

    def add_to(self, server: grpc.aio.Server) -> None:
        handler = grpc.unary_unary_rpc_method_handler(self.answer)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Check": handler}),))

    async def answer(self, message: bytes, connection: Connection) -> bytes:
        """The answer to a serialised CheckRequest, whatever carries the two. Raises nothing but CancelledError."""
        began = time.perf_counter()
        try:
            caller = await self._callers.caller(connection)
        except Exception as error:  # whatever went wrong, who cannot be named is denied
            reason, why = unnamed(error)
            return self._door.refused(connection.peer(), reason, why, began=began).serialized
        return (await self._door.check(message, caller, began=began)).serialized
