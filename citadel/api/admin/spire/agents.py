"""spire.api.server.agent.v1: the one agent that there is, the node in this process. Others come with the network."""

from __future__ import annotations

from typing import Any

from citadel import __version__
from citadel.api.admin import convert, masks
from citadel.api.admin.access import Gate
from citadel.api.admin.citadel_v1 import AdminUseCases
from citadel.api.admin.spire import messages
from citadel.api.proto.spire.api.server.agent.v1 import agent_pb2, agent_pb2_grpc
from citadel.api.proto.spire.api.types import agent_pb2 as types_agent
from citadel.api.status import answering
from citadel.errors import NotFound

_LOCAL = "local"
_NO_NETWORK = "the only agent is the node in this process; agents over the network are not served yet"


class AgentService(agent_pb2_grpc.AgentServicer):
    def __init__(self, cases: AdminUseCases, gate: Gate) -> None:
        self._cases = cases
        self._gate = gate

    async def CountAgents(self, request: agent_pb2.CountAgentsRequest, context: Any) -> Any:
        async with answering(context):
            self._gate.actor(context)
            return agent_pb2.CountAgentsResponse(count=int(_fits(request.filter)))

    async def ListAgents(self, request: agent_pb2.ListAgentsRequest, context: Any) -> Any:
        async with answering(context):
            self._gate.actor(context)
            messages.page_size(request.page_size)
            found = [self._local()] if _fits(request.filter) and not request.page_token else []
            mask = masks.mask_of(request)
            return agent_pb2.ListAgentsResponse(agents=[masks.masked(one, mask, always="id") for one in found])

    async def GetAgent(self, request: agent_pb2.GetAgentRequest, context: Any) -> Any:
        async with answering(context):
            self._gate.actor(context)
            wanted = convert.read_id(request.id)
            if wanted != self._cases.node_id:
                raise NotFound(f"there is no agent {wanted}")
            return masks.masked(self._local(), masks.mask_of(request), always="id")

    async def DeleteAgent(self, request: agent_pb2.DeleteAgentRequest, context: Any) -> Any:
        await self._missing(context)

    async def BanAgent(self, request: agent_pb2.BanAgentRequest, context: Any) -> Any:
        await self._missing(context)

    async def AttestAgent(self, requests: Any, context: Any) -> Any:
        await self._missing(context)
        yield  # it answers with a stream

    async def RenewAgent(self, request: agent_pb2.RenewAgentRequest, context: Any) -> Any:
        await self._missing(context)

    async def CreateJoinToken(self, request: agent_pb2.CreateJoinTokenRequest, context: Any) -> Any:
        await self._missing(context)

    async def PostStatus(self, request: agent_pb2.PostStatusRequest, context: Any) -> Any:
        await self._missing(context)

    async def _missing(self, context: Any) -> None:
        async with answering(context):
            self._gate.actor(context)
            await messages.missing(context, _NO_NETWORK)

    def _local(self) -> types_agent.Agent:
        """It needs no certificate to reach us, so it has none that could expire."""
        return types_agent.Agent(
            id=convert.id_message(self._cases.node_id), attestation_type=_LOCAL, agent_version=__version__
        )


def _fits(wanted: Any) -> bool:
    """Whether the local agent is what a filter (the same in CountAgents and ListAgents) asks for. Raises
    InvalidInput."""
    if wanted.HasField("by_selector_match"):
        messages.selector_match(wanted.by_selector_match)
        return False  # it has no selectors
    if wanted.by_expires_before:
        return False  # it does not expire
    return not (
        (wanted.by_attestation_type and wanted.by_attestation_type != _LOCAL)
        or (wanted.HasField("by_banned") and wanted.by_banned.value)
        or (wanted.HasField("by_can_reattest") and wanted.by_can_reattest.value)
    )
