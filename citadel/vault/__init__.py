"""Vault and OpenBao: sessions, and what they keep for us. The only room that imports hvac."""

from citadel.vault.access import (
    SERVICE_ACCOUNT_TOKEN,
    AppRoleSignIn,
    CertificateSignIn,
    JwtSignIn,
    SecretFile,
    SignIn,
    TokenSignIn,
    VaultAccess,
)
from citadel.vault.keys import VaultKeys
from citadel.vault.pki import PkiMount
from citadel.vault.policy import (
    Need,
    Permission,
    beyond,
    examine,
    hcl,
    pki_needs,
    session_needs,
    transit_kek_needs,
    transit_signer_needs,
)
from citadel.vault.root import VaultRoot
from citadel.vault.session import Session, SessionStatus
from citadel.vault.transit import TransitKek, checked_kek
from citadel.vault.transit_signer import TransitKeys

__all__ = [
    "SERVICE_ACCOUNT_TOKEN",
    "AppRoleSignIn",
    "CertificateSignIn",
    "JwtSignIn",
    "Need",
    "Permission",
    "PkiMount",
    "SecretFile",
    "Session",
    "SessionStatus",
    "SignIn",
    "TokenSignIn",
    "TransitKek",
    "TransitKeys",
    "VaultAccess",
    "VaultKeys",
    "VaultRoot",
    "beyond",
    "checked_kek",
    "examine",
    "hcl",
    "pki_needs",
    "session_needs",
    "transit_kek_needs",
    "transit_signer_needs",
]
