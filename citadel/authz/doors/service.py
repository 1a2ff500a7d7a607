"""ext_authz on grpc.aio: the transport of `check`. Bytes in, bytes out; no call is ever aborted."""

from __future__ import annotations

import time
from typing import Any

import grpc
import structlog

from citadel.authz.decision import Reason
from citadel.authz.doors.check import Checked, Door
from citadel.authz.doors.ports import Callers
from citadel.errors import CitadelError, PermissionDenied, Unavailable

SERVICE = "envoy.service.auth.v3.Authorization"
log = structlog.get_logger("citadel.authz")


class AuthorizationService:
    """Serves `envoy.service.auth.v3.Authorization/Check` to callers whom `callers` knows."""

    def __init__(self, door: Door, callers: Callers) -> None:
        self._door = door
        self._callers = callers

    def add_to(self, server: grpc.aio.Server) -> None:
        handler = grpc.unary_unary_rpc_method_handler(self._check)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Check": handler}),))

    async def _check(self, message: bytes, context: Any) -> bytes:
        checked = await self._checked(message, context, time.perf_counter())
        serialized: bytes = checked.response.SerializeToString()
        return serialized

    async def _checked(self, message: bytes, context: Any, began: float) -> Checked:
        reason, why = Reason.INTERNAL_ERROR, ""
        try:
            caller = await self._callers.caller(context)
        except PermissionDenied as error:
            reason, why = Reason.UNKNOWN_WORKLOAD, error.message
        except Unavailable as error:
            reason, why = Reason.NOT_LOADED, error.message
        except CitadelError as error:  # it may be over in a moment
            why = error.message
        except Exception as defect:
            log.error("a caller could not be looked up", exc_info=defect)
            why = type(defect).__name__
        else:
            return await self._door.check(message, caller, began=began)
        return self._door.refused(context.peer(), reason, why, began=began)
