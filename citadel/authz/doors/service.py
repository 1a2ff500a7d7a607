"""ext_authz on grpc.aio: the transport of `check`. Bytes in, bytes out; no call is ever aborted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import grpc
import structlog

from citadel.authz.decision import Decision, Reason
from citadel.authz.doors.check import Checked, Door, DoorRules, refused
from citadel.authz.doors.ports import Callers, DoorMeter, NoMeter
from citadel.authz.policyset import PolicySet
from citadel.errors import CitadelError, PermissionDenied, Unavailable

SERVICE = "envoy.service.auth.v3.Authorization"
DOOR = "ext_authz"
_TELL_AGAIN = 60.0  # seconds
log = structlog.get_logger("citadel.authz")


class AuthorizationService:
    """Serves `envoy.service.auth.v3.Authorization/Check` to callers of the workload socket."""

    def __init__(
        self,
        policies: Callable[[], PolicySet | None],
        callers: Callers,
        rules: DoorRules,
        *,
        meter: DoorMeter | None = None,
    ) -> None:
        """`policies`: the set in force now; None: there is none yet."""
        self._policies = policies
        self._callers = callers
        self._rules = rules
        self._door = Door(policies(), rules)
        self._meter = meter or NoMeter()
        self._told: dict[str, float] = {}

    def add_to(self, server: grpc.aio.Server) -> None:
        handler = grpc.unary_unary_rpc_method_handler(self._check)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Check": handler}),))

    async def _check(self, message: bytes, context: Any) -> bytes:
        started = time.perf_counter()
        checked = await self._checked(message, context.peer())
        self._meter.decided(DOOR, checked.decision, time.perf_counter() - started)
        self._tell(checked.decision)
        serialized: bytes = checked.response.SerializeToString()
        return serialized

    async def _checked(self, message: bytes, peer: str) -> Checked:
        try:
            caller = await self._callers.caller(peer)
        except PermissionDenied as error:
            return refused(Reason.UNKNOWN_WORKLOAD, error.message)
        except Unavailable as error:
            return refused(Reason.NOT_LOADED, error.message)
        except CitadelError as error:  # it may be over in a moment
            return refused(Reason.INTERNAL_ERROR, error.message)
        except Exception as defect:
            log.error("a caller could not be looked up", exc_info=defect)
            return refused(Reason.INTERNAL_ERROR, type(defect).__name__)
        policies = self._policies()
        if self._door.policies is not policies:
            self._door = Door(policies, self._rules)
        return self._door.check(message, caller)

    def _tell(self, decision: Decision) -> None:
        """What is no policy's doing and somebody should mend, once a minute for each reason."""
        if decision.allowed or decision.policy is not None or not decision.detail:
            return
        now = time.monotonic()
        if now - self._told.get(decision.reason, -_TELL_AGAIN) >= _TELL_AGAIN:
            self._told[decision.reason] = now
            log.warning("a check was denied", reason=decision.reason.value, why=decision.detail[:500])
