"""Who asks, and whose policies he may ask: an attested caller those of his own entry, an operator those of anybody."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from citadel.api.admin.access import Gate
from citadel.api.authorization.messages import Believed
from citadel.api.proto.citadel.v1 import authorization_pb2 as pb
from citadel.authz.decision import Reason
from citadel.authz.doors.check import DoorRules
from citadel.authz.doors.ports import Caller, Callers
from citadel.authz.doors.unnamed import unnamed
from citadel.authz.doors.whose import LABEL, NAMESPACE, WORKLOAD, Unknown, whose
from citadel.authz.request import Workload, WorkloadKind
from citadel.errors import CitadelError, FailedPrecondition, InvalidInput, NotFound, Unavailable
from citadel.spiffe import SpiffeId, TrustDomain


class NobodyKnown(Exception):
    """It is not known who asks, or of whom: a denial with this reason. The message is for the log."""

    def __init__(self, reason: Reason, detail: str, caller: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.caller = caller


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, and what of his question may be believed."""

    name: str
    workload: Workload
    believed: Believed


class Askers(Protocol):
    """Names who asks on a connection. Implementations: AttestedAskers, Operators."""

    async def caller(self, context: Any) -> object:
        """Who it is, once for each call. Raises NobodyKnown; CitadelErrors for those whom this socket is not for."""

    async def asker(self, caller: object, chosen: pb.AskedWorkload) -> Asker:
        """What `caller` may ask of `chosen`. Raises NobodyKnown."""


class AttestedAskers:
    """On the workload socket."""

    def __init__(self, callers: Callers, rules: DoorRules) -> None:
        self._callers = callers
        self._rules = rules

    async def caller(self, context: Any) -> Caller:
        try:
            return await self._callers.caller(context)
        except CitadelError as error:
            reason, why = unnamed(error)
            raise NobodyKnown(reason, why, context.peer()) from None

    async def asker(self, caller: object, chosen: pb.AskedWorkload) -> Asker:
        assert isinstance(caller, Caller)
        wanted = {LABEL + name: value for name, value in chosen.labels.items()}
        if chosen.spiffe_id:
            wanted[WORKLOAD] = chosen.spiffe_id
        if chosen.namespace:
            wanted[NAMESPACE] = chosen.namespace
        try:
            if chosen.kind or chosen.gateway or chosen.gateway_class:
                raise Unknown("kind, gateway and gateway_class are for operators to state")
            asks_for = whose(caller, wanted, {}, frozenset(), self._rules.default_namespace)
        except Unknown as unknown:
            raise NobodyKnown(Reason.UNKNOWN_WORKLOAD, str(unknown), caller.name) from None
        claims = caller.local and asks_for.entry.spiffe_id in self._rules.claims_from
        return Asker(caller.name, asks_for.workload, Believed(asks_for.trust_domains, claims))


class Operators:
    """On the admin socket: they may ask about any workload, and state anything of a request."""

    def __init__(
        self,
        gate: Gate,
        find: Callable[[SpiffeId], Awaitable[Workload]],
        trust_domains: Callable[[], frozenset[TrustDomain]],
    ) -> None:
        """`find`: the workload that is registered by this name. Raises NotFound, FailedPrecondition, Unavailable."""
        self._gate = gate
        self._find = find
        self._trust_domains = trust_domains

    async def caller(self, context: Any) -> str:
        return self._gate.actor(context)

    async def asker(self, caller: object, chosen: pb.AskedWorkload) -> Asker:
        name = str(caller)
        try:
            return Asker(name, await self._workload(chosen), Believed(self._trust_domains(), claims=True))
        except (NotFound, FailedPrecondition, InvalidInput) as error:
            raise NobodyKnown(Reason.UNKNOWN_WORKLOAD, error.message, name) from None
        except Unavailable as error:
            raise NobodyKnown(Reason.INTERNAL_ERROR, error.message, name) from None

    async def _workload(self, chosen: pb.AskedWorkload) -> Workload:
        stated = bool(chosen.namespace or chosen.labels or chosen.kind or chosen.gateway or chosen.gateway_class)
        if chosen.spiffe_id:
            if stated:
                raise InvalidInput("workload: state a SPIFFE ID, or what the workload is, and not both")
            return await self._find(SpiffeId.parse(chosen.spiffe_id))
        if not chosen.namespace:
            raise InvalidInput("workload: it must have a namespace or a SPIFFE ID")
        kinds = {kind.value: kind for kind in WorkloadKind}
        kind = kinds.get(chosen.kind or WorkloadKind.WORKLOAD.value)
        if kind is None:
            raise InvalidInput(f"workload.kind: {chosen.kind[:60]!r} is none of {', '.join(kinds)}")
        return Workload(chosen.namespace, dict(chosen.labels), kind, chosen.gateway, chosen.gateway_class)
