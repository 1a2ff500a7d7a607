"""The authorities, and what rotates them, as the settings want them."""

from __future__ import annotations

from dataclasses import dataclass

from citadel.api.holdings import Holdings
from citadel.ca.authorities import Authorities
from citadel.ca.kek_ring import KekRing
from citadel.ca.keyring import Keyring
from citadel.ca.keys import KeyType
from citadel.ca.roots import CacertsRoot, DiskRoot, DiskRootMaker, RemoteRootMaker
from citadel.ca.rotation import RootKind
from citadel.ca.rotation.ports import RootMaker
from citadel.ca.rotation.rotations import Rotations
from citadel.clock import Clock
from citadel.config import Settings
from citadel.server.told import authority_policy, rotation_policy
from citadel.store import Store
from citadel.telemetry.metrics import Metrics
from citadel.vault import Session
from citadel.vault_parts import vault_root


@dataclass(frozen=True, slots=True)
class AuthorityParts:
    authorities: Authorities
    rotations: Rotations


def authority_parts(
    settings: Settings, store: Store, kek: KekRing, clock: Clock, metrics: Metrics, vault: Session | None
) -> AuthorityParts:
    """`vault`: for a root that is there."""
    keyring = Keyring(store.authorities, kek)
    root = DiskRoot(
        store.authorities,
        keyring,
        clock,
        settings.trust_domain,
        ttl=settings.root.ttl,
        issuing_ttl=settings.ca.ttl,
        key_type=KeyType(settings.root.key_type),
    )
    folder = settings.root.cacerts_dir if settings.root.kind == "cacerts" else None
    remote = vault_root(settings, vault, clock) if vault is not None else None
    authorities = Authorities(
        store.authorities,
        keyring,
        root,
        clock,
        settings.trust_domain,
        authority_policy(settings),
        plugged=CacertsRoot(folder, settings.trust_domain, clock) if folder is not None else None,
        remote=remote,
        wants_remote=settings.root.kind == "vault",
        meter=metrics,
    )
    issuing_key = KeyType(settings.ca.key_type)
    maker: RootMaker = DiskRootMaker(root, keyring, clock, issuing_key)
    if settings.root.kind == "vault" and remote is not None:
        maker = RemoteRootMaker(remote, store.authorities, keyring, clock, settings.trust_domain, issuing_key)
    rotations = Rotations(
        store.rotation,
        store.authorities,
        Holdings(store.clients, settings.trust_domain),
        maker,
        clock,
        settings.trust_domain,
        rotation_policy(settings),
        longest_leaf=settings.svid.max_ttl,
        changed=authorities.refresh,
        kind=RootKind.CACERTS if settings.root.kind == "cacerts" else RootKind.DISK,  # Vault's has a maker too
    )
    return AuthorityParts(authorities, rotations)
