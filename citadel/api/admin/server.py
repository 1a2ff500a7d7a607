"""Puts the admin services on a gRPC server, with health and reflection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from citadel.api.admin import spire
from citadel.api.admin.access import Gate
from citadel.api.admin.citadel_v1 import AdminUseCases
from citadel.api.admin.decisions import DecisionLogService
from citadel.api.admin.entities import EntityStoreService
from citadel.api.admin.keys import KeysService
from citadel.api.admin.policies import PolicyStoreService
from citadel.api.admin.rotation import RotationService
from citadel.api.ports import FollowedPolicies
from citadel.api.proto.citadel.v1 import admin_pb2 as pb
from citadel.api.proto.citadel.v1 import (
    admin_pb2_grpc,
    authorization_pb2,
    decisions_pb2,
    decisions_pb2_grpc,
    entities_pb2,
    entities_pb2_grpc,
    keys_pb2,
    keys_pb2_grpc,
    policies_pb2,
    policies_pb2_grpc,
    rotation_pb2,
    rotation_pb2_grpc,
)
from citadel.api.proto.spire.api.server.agent.v1 import agent_pb2, agent_pb2_grpc
from citadel.api.proto.spire.api.server.bundle.v1 import bundle_pb2, bundle_pb2_grpc
from citadel.api.proto.spire.api.server.entry.v1 import entry_pb2, entry_pb2_grpc
from citadel.api.proto.spire.api.server.svid.v1 import svid_pb2, svid_pb2_grpc
from citadel.api.status import answering
from citadel.authz.decision_log import Lookup
from citadel.authz.entities import StoredEntities
from citadel.authz.stored import StoredPolicies
from citadel.ca.issuer import Issuer
from citadel.ca.rekeying import Rekeying
from citadel.ca.rotation.approved import ApprovedIssuers
from citadel.ca.rotation.brought import BroughtRoots
from citadel.ca.rotation.planner import Planner
from citadel.ca.rotation.rotations import Rotations


@dataclass(frozen=True)
class AdminParts:
    cases: AdminUseCases
    gate: Gate
    issuer: Issuer
    rotations: Rotations
    rekeying: Rekeying
    policies: StoredPolicies
    entities: StoredEntities
    entities_unused: str
    """Why the store's entities are not what counts here; empty: they are."""
    followed: FollowedPolicies
    decisions: Lookup
    planner: Planner
    brought: BroughtRoots
    approved: ApprovedIssuers


class AdminService(admin_pb2_grpc.AdminServicer):
    """citadel.v1.Admin: each call names its caller, then is a use case."""

    def __init__(self, cases: AdminUseCases, gate: Gate) -> None:
        self._cases = cases
        self._gate = gate

    async def _answer(self, context: Any, work: Callable[[str], Awaitable[Any]]) -> Any:
        async with answering(context):
            return await work(self._gate.actor(context))

    async def GetStatus(self, request: pb.GetStatusRequest, context: Any) -> Any:
        return await self._answer(context, lambda _: self._cases.get_status())

    async def ListAuthorities(self, request: pb.ListAuthoritiesRequest, context: Any) -> Any:
        return await self._answer(context, lambda _: self._cases.list_authorities())

    async def GetBundle(self, request: pb.GetBundleRequest, context: Any) -> Any:
        return await self._answer(context, lambda _: self._cases.get_bundle(request))

    async def ListIssuances(self, request: pb.ListIssuancesRequest, context: Any) -> Any:
        return await self._answer(context, lambda _: self._cases.list_issuances(request))

    async def GetIssuance(self, request: pb.GetIssuanceRequest, context: Any) -> Any:
        return await self._answer(context, lambda _: self._cases.get_issuance(request))

    async def ListClients(self, request: pb.ListClientsRequest, context: Any) -> Any:
        return await self._answer(context, lambda _: self._cases.list_clients(request))

    async def CreateEntries(self, request: pb.CreateEntriesRequest, context: Any) -> Any:
        return await self._answer(context, lambda actor: self._cases.create_entries(request, actor))

    async def UpdateEntries(self, request: pb.UpdateEntriesRequest, context: Any) -> Any:
        return await self._answer(context, lambda actor: self._cases.update_entries(request, actor))

    async def ApplyEntries(self, request: pb.ApplyEntriesRequest, context: Any) -> Any:
        return await self._answer(context, lambda actor: self._cases.apply_entries(request, actor))

    async def ListEntries(self, request: pb.ListEntriesRequest, context: Any) -> Any:
        return await self._answer(context, lambda _: self._cases.list_entries(request))

    async def ListAudit(self, request: pb.ListAuditRequest, context: Any) -> Any:
        return await self._answer(context, lambda _: self._cases.list_audit(request))

    async def VerifyAudit(self, request: pb.VerifyAuditRequest, context: Any) -> Any:
        return await self._answer(context, lambda _: self._cases.verify_audit(request))

    async def ListAuditKeys(self, request: pb.ListAuditKeysRequest, context: Any) -> Any:
        return await self._answer(context, lambda _: self._cases.list_audit_keys())

    async def CreateAuditCheckpoint(self, request: pb.CreateAuditCheckpointRequest, context: Any) -> Any:
        return await self._answer(context, lambda _: self._cases.create_audit_checkpoint())

    async def ConfirmPolicies(self, request: pb.ConfirmPoliciesRequest, context: Any) -> Any:
        return await self._answer(context, lambda actor: self._cases.confirm_policies(request, actor))


def add_services(server: grpc.aio.Server, parts: AdminParts) -> HealthServicer:
    """Register everything on `server`; the health service comes back, to be told how we are."""
    admin_pb2_grpc.add_AdminServicer_to_server(AdminService(parts.cases, parts.gate), server)
    rotation = RotationService(parts.rotations, parts.planner, parts.brought, parts.approved, parts.gate)
    rotation_pb2_grpc.add_RotationServicer_to_server(rotation, server)
    keys_pb2_grpc.add_KeysServicer_to_server(KeysService(parts.rekeying, parts.gate), server)
    policies = PolicyStoreService(parts.policies, parts.followed, parts.gate)
    policies_pb2_grpc.add_PolicyStoreServicer_to_server(policies, server)
    entities = EntityStoreService(parts.entities, parts.gate, parts.entities_unused)
    entities_pb2_grpc.add_EntityStoreServicer_to_server(entities, server)
    decisions_pb2_grpc.add_DecisionLogServicer_to_server(DecisionLogService(parts.decisions, parts.gate), server)
    entry_pb2_grpc.add_EntryServicer_to_server(spire.EntryService(parts.cases, parts.gate), server)
    bundle_pb2_grpc.add_BundleServicer_to_server(spire.BundleService(parts.cases, parts.gate), server)
    svid_pb2_grpc.add_SVIDServicer_to_server(spire.SvidService(parts.cases, parts.gate, parts.issuer), server)
    agent_pb2_grpc.add_AgentServicer_to_server(spire.AgentService(parts.cases, parts.gate), server)
    healthy = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    names = [
        pb.DESCRIPTOR,
        rotation_pb2.DESCRIPTOR,
        keys_pb2.DESCRIPTOR,
        authorization_pb2.DESCRIPTOR,
        policies_pb2.DESCRIPTOR,
        decisions_pb2.DESCRIPTOR,
        entities_pb2.DESCRIPTOR,
        entry_pb2.DESCRIPTOR,
        bundle_pb2.DESCRIPTOR,
        svid_pb2.DESCRIPTOR,
        agent_pb2.DESCRIPTOR,
    ]
    services = [service.full_name for file in names for service in file.services_by_name.values()]
    health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
    reflection.enable_server_reflection([*services, health_name, reflection.SERVICE_NAME], server)
    return healthy
