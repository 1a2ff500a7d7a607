"""How Vault stands, for checks and `status`, and what is watched there."""

from __future__ import annotations

from citadel.api.ports import VaultFindingView, VaultView
from citadel.ca.authorities import Authorities
from citadel.ca.kek_place import KekPlace
from citadel.clock import Clock
from citadel.config import Settings
from citadel.errors import CitadelError
from citadel.store import Store
from citadel.vault import PkiCertifier, Session, TransitSigner, VaultMeter, VaultWatch, Watched
from citadel.vault_parts import TransitPlace, root_watch


def lasts(authorities: Authorities) -> str:
    """How long what is held will last while Vault is away."""
    try:
        current = authorities.current()
    except CitadelError:
        return "nothing that we hold can sign"
    if current.elsewhere:
        return "no certificates are issued meanwhile; workloads go on with theirs"
    return f"certificates are issued from what we hold until {current.ends:%Y-%m-%dT%H:%M:%SZ}"


def vault_watch(
    settings: Settings,
    session: Session | None,
    keks: KekPlace,
    authorities: Authorities,
    store: Store,
    clock: Clock,
    meter: VaultMeter,
) -> VaultWatch | None:
    """What looks at the issuers and keys that this configuration relies on; None if no Vault is configured."""
    if session is None:
        return None

    def signer() -> Watched | None:
        try:
            found = authorities.current().signer
        except CitadelError:
            return None
        return found if isinstance(found, TransitSigner | PkiCertifier) else None

    return VaultWatch(
        clock,
        root=root_watch(settings, session, clock),
        kek=keks.kek if isinstance(keks, TransitPlace) else None,
        authorities=authorities.all,
        signer=signer,
        record=store.audit.record,
        meter=meter,
    )


def vault_view(session: Session | None, watch: VaultWatch | None, authorities: Authorities) -> VaultView | None:
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
        findings=[
            VaultFindingView(f.kind, f.subject, f.sentence, f.mend, f.stops, one.since)
            for one in (watch.findings() if watch is not None else ())
            for f in (one.finding,)
        ],
    )
