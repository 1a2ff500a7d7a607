"""Vault and OpenBao: sessions, and what they keep for us. The only room that imports hvac."""

from citadel.vault.access import (
    SERVICE_ACCOUNT_TOKEN,
    AppRoleSignIn,
    CertificateSignIn,
    GivenToken,
    JwtSignIn,
    SecretFile,
    SignIn,
    TokenSignIn,
    VaultAccess,
)
from citadel.vault.findings import Finding, FindingKind
from citadel.vault.keys import VaultKeys
from citadel.vault.leaf_issuer import PkiCertifier, VaultLeafIssuer
from citadel.vault.pki import IssuerReference, PkiMount
from citadel.vault.policy import (
    Need,
    Permission,
    beyond,
    examine,
    hcl,
    leaf_issuer_needs,
    pki_needs,
    session_needs,
    transit_kek_needs,
    transit_signer_needs,
)
from citadel.vault.role import LeafProfile, RoleDifference, role_differences
from citadel.vault.root import VaultRoot
from citadel.vault.root_watch import RootWatch
from citadel.vault.session import Session
from citadel.vault.setup import ISSUER, LEAF_ISSUER, LeafTarget, Setup, Target
from citadel.vault.setup_sign_in import (
    AppRoleTarget,
    CertificateTarget,
    JwtTarget,
    KubernetesTarget,
    SignInTarget,
)
from citadel.vault.setup_steps import Step
from citadel.vault.standing import ServerState, SessionStatus, VaultMeter
from citadel.vault.transit import TransitKek
from citadel.vault.transit_signer import TransitKeys, TransitSigner
from citadel.vault.watch import Standing, VaultWatch, Watched

__all__ = [
    "ISSUER",
    "LEAF_ISSUER",
    "SERVICE_ACCOUNT_TOKEN",
    "AppRoleSignIn",
    "AppRoleTarget",
    "CertificateSignIn",
    "CertificateTarget",
    "Finding",
    "FindingKind",
    "GivenToken",
    "IssuerReference",
    "JwtSignIn",
    "JwtTarget",
    "KubernetesTarget",
    "LeafProfile",
    "LeafTarget",
    "Need",
    "Permission",
    "PkiCertifier",
    "PkiMount",
    "RoleDifference",
    "RootWatch",
    "SecretFile",
    "ServerState",
    "Session",
    "SessionStatus",
    "Setup",
    "SignIn",
    "SignInTarget",
    "Standing",
    "Step",
    "Target",
    "TokenSignIn",
    "TransitKek",
    "TransitKeys",
    "TransitSigner",
    "VaultAccess",
    "VaultKeys",
    "VaultLeafIssuer",
    "VaultMeter",
    "VaultRoot",
    "VaultWatch",
    "Watched",
    "beyond",
    "examine",
    "hcl",
    "leaf_issuer_needs",
    "pki_needs",
    "role_differences",
    "session_needs",
    "transit_kek_needs",
    "transit_signer_needs",
]
