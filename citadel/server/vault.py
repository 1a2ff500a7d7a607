"""How Vault stands, for checks and `status`."""

from __future__ import annotations

from citadel.api.ports import VaultView
from citadel.ca.authorities import Authorities
from citadel.errors import CitadelError
from citadel.vault import Session


def lasts(authorities: Authorities) -> str:
    """How long what is held will last while Vault is away."""
    try:
        current = authorities.current()
    except CitadelError:
        return "nothing that we hold can sign"
    if current.elsewhere:
        return "no certificates are issued meanwhile; workloads go on with theirs"
    return f"certificates are issued from what we hold until {current.ends:%Y-%m-%dT%H:%M:%SZ}"


def vault_view(session: Session | None, authorities: Authorities) -> VaultView | None:
    if session is None:
        return None
    now = session.status()
    server = now.server
    return VaultView(
        address=now.address,
        signed_in_as=now.signed_in_as,
        policies=now.policies,
        token_until=now.until,
        token_renewed_at=now.renewed_at,
        fault=now.fault,
        fault_since=now.since,
        last_fault=now.last_fault,
        last_fault_at=now.last_fault_at,
        server_version=server.version if server else "",
        cluster=server.cluster if server else "",
        initialised=server is not None and server.initialised,
        sealed=server is not None and server.sealed,
        standby=server is not None and server.standby,
        lasts=lasts(authorities),
    )
