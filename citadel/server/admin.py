"""The admin socket of a server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2

from citadel.api.admin import AdminParts, add_services
from citadel.api.admin.access import Gate
from citadel.api.admin.citadel_v1 import AdminUseCases
from citadel.api.authorization.askers import Operators
from citadel.api.authorization.service import CheckService
from citadel.audit.auditor import Auditor
from citadel.authz.decision_log import Lookup
from citadel.authz.decision_point import DecisionPoint
from citadel.authz.entities import StoredEntities
from citadel.ca.federation import Federation
from citadel.config import Settings
from citadel.server.mesh_view import MeshView
from citadel.server.policies import stored_policies
from citadel.server.server import Server
from citadel.server.told import access_rules
from citadel.workload.peer import PeerTable
from citadel.workload.relay import Relay

_GRACE_SECONDS = 2.0


@asynccontextmanager
async def admin_socket(server: Server, private: Path, point: DecisionPoint, mesh: MeshView) -> AsyncIterator[None]:
    """Serve the admin services inside the context; `private` is a folder that only we may reach."""
    settings = server.settings
    table = PeerTable()
    socket = settings.sockets.admin
    gate = server.gate = Gate(table.lookup, access_rules(settings))
    cases = AdminUseCases(
        settings.trust_domain,
        server.node_id,
        server.store.kind,
        server.clock,
        server.registry,
        server.directory,
        server.directory.node(server.node_id),
        Federation(server.store.authorities, server.store.federation, settings.trust_domain, server.clock),
        server.authorities,
        server.store.authorities,
        server.store.issuance,
        server.store.clients,
        server.store.audit,
        Auditor(server.store.audit, server.kek),
        server.notary,
        server.situation,
    )
    grpc_server = grpc.aio.server(options=[("grpc.max_receive_message_length", 32 << 20), ("grpc.so_reuseport", 0)])
    stored = stored_policies(settings, server.store, server.clock)
    decisions = Lookup(server.decision_log.files, server.policy_set, stored)
    parts = AdminParts(
        cases,
        gate,
        server.issuer,
        server.rotations,
        server.rekeying,
        stored,
        StoredEntities(server.store.entities, server.clock),
        _unused(settings),
        server.followed,
        decisions,
        planner=server.planner,
        brought=server.brought,
        approved=server.approved,
    )
    healthy = add_services(grpc_server, parts)
    CheckService(point, Operators(gate, mesh.find, mesh.trust_domains)).add_to(grpc_server)
    inner = private / "admin.sock"
    inner.unlink(missing_ok=True)
    grpc_server.add_insecure_port(f"unix:{inner}")
    await grpc_server.start()
    await healthy.set("", health_pb2.HealthCheckResponse.SERVING)
    try:
        async with Relay(socket.path, inner, table, mode=socket.mode, group=socket.group):
            yield
    finally:
        await healthy.enter_graceful_shutdown()
        await grpc_server.stop(_GRACE_SECONDS)


def _unused(settings: Settings) -> str:
    """Why the entities in the store are not what AuthZEN is answered by; empty: they are."""
    told = settings.authorization.authzen
    if told.entities_source == "store":
        return ""
    where = "has no directory of entities" if told.entities is None else f"takes its entities from {told.entities}"
    return f"this Citadel {where}; the store is not asked (authorization.authzen.entities_source)"
