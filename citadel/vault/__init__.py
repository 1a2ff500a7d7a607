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
from citadel.vault.pki import PkiMount
from citadel.vault.root import VaultRoot
from citadel.vault.session import Session, SessionStatus

__all__ = [
    "SERVICE_ACCOUNT_TOKEN",
    "AppRoleSignIn",
    "CertificateSignIn",
    "JwtSignIn",
    "PkiMount",
    "SecretFile",
    "Session",
    "SessionStatus",
    "SignIn",
    "TokenSignIn",
    "VaultAccess",
    "VaultRoot",
]
