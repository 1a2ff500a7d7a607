"""What the certificate authority needs from the world. Each comment is a contract; tests/contract checks it."""

from citadel.ca.ports.issuance import IssuanceLog, IssuanceQuery
from citadel.ca.ports.keys import KeyEncryptionKey
from citadel.ca.ports.meters import AuthorityMeter, IssuanceMeter
from citadel.ca.ports.roots import IssuingGrant, PluggedCa, RemoteRoot, RootAuthority, RootState
from citadel.ca.ports.signing import (
    BroughtIssuingCa,
    Certifier,
    IssuingKey,
    IssuingKeys,
    LeafSigner,
    Signer,
    SigningAuthorities,
    SigningAuthority,
)
from citadel.ca.ports.stores import AuthorityStore, FederationStore

__all__ = [
    "AuthorityMeter",
    "AuthorityStore",
    "BroughtIssuingCa",
    "Certifier",
    "FederationStore",
    "IssuanceLog",
    "IssuanceMeter",
    "IssuanceQuery",
    "IssuingGrant",
    "IssuingKey",
    "IssuingKeys",
    "KeyEncryptionKey",
    "LeafSigner",
    "PluggedCa",
    "RemoteRoot",
    "RootAuthority",
    "RootState",
    "Signer",
    "SigningAuthorities",
    "SigningAuthority",
]
