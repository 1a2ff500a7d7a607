"""The authorities, and what rotates them, as the settings want them."""

from __future__ import annotations

from dataclasses import dataclass

from citadel.api.holdings import Holdings
from citadel.ca.authorities import Authorities
from citadel.ca.kek_ring import KekRing
from citadel.ca.keyring import Keyring
from citadel.ca.keys import KeyType
from citadel.ca.model import KeySource
from citadel.ca.roots import CacertsRoot, DiskRoot, IssuingCas, RootMakers
from citadel.ca.rotation import RootKind
from citadel.ca.rotation.approved import ApprovedIssuers
from citadel.ca.rotation.brought import BroughtRoots
from citadel.ca.rotation.cross_signing import CrossSigner
from citadel.ca.rotation.planner import Planner
from citadel.ca.rotation.rotations import Rotations
from citadel.ca.signers import KeyPlaces, SealedKeys
from citadel.clock import Clock
from citadel.config import Settings
from citadel.server.planning import checks, planner
from citadel.server.told import authority_policy, rotation_policy
from citadel.store import Store
from citadel.telemetry.metrics import Metrics
from citadel.vault import Session
from citadel.vault_parts import vault_keys, vault_leaf_issuer, vault_root


@dataclass(frozen=True, slots=True)
class AuthorityParts:
    authorities: Authorities
    rotations: Rotations
    planner: Planner
    brought: BroughtRoots
    approved: ApprovedIssuers


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
    places = KeyPlaces(
        SealedKeys(keyring),
        vault_keys(settings, vault, clock) if vault is not None else None,
        new=KeySource.VAULT if settings.signer.kind == "vault-transit" else KeySource.SEALED,
    )
    issuing = IssuingCas(
        root,
        places,
        KeyType(settings.ca.key_type),
        clock,
        remote=remote,
        brought=vault_leaf_issuer(settings, vault, clock),
    )
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
        issuing=issuing,
        meter=metrics,
    )
    cross = CrossSigner(store.authorities, keyring, clock, settings.trust_domain)
    rotations = Rotations(
        store.rotation,
        store.authorities,
        Holdings(store.clients, settings.trust_domain),
        RootMakers(root, issuing, store.authorities, clock, settings.trust_domain, remote=remote),
        clock,
        settings.trust_domain,
        rotation_policy(settings),
        longest_leaf=settings.svid.max_ttl,
        changed=authorities.refresh,
        kind=RootKind(settings.root.kind),
        checks=checks(settings, store, clock),
        cross=cross,
    )
    brought = BroughtRoots(
        rotations, store.authorities, keyring, clock, settings.trust_domain, KeyType(settings.ca.key_type), cross
    )
    approved = ApprovedIssuers(rotations, store.authorities, remote, authorities.note_certificate)
    return AuthorityParts(authorities, rotations, planner(settings, rotations, store, clock), brought, approved)
