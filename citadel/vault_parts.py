"""What the configuration says of Vault, as parts that are ready to use: for the server and for the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from citadel.ca.kek import LocalKek
from citadel.ca.kek_ring import KekRing
from citadel.clock import Clock
from citadel.config import SecretSource, Settings, TransitKey, secret_path
from citadel.errors import FailedPrecondition
from citadel.vault import (
    SERVICE_ACCOUNT_TOKEN,
    AppRoleSignIn,
    CertificateSignIn,
    JwtSignIn,
    Need,
    PkiMount,
    SecretFile,
    Session,
    SignIn,
    TokenSignIn,
    TransitKek,
    VaultAccess,
    VaultKeys,
    VaultRoot,
    pki_needs,
    transit_kek_needs,
    transit_signer_needs,
)


def vault_session(settings: Settings, env: Mapping[str, str], clock: Clock) -> Session | None:
    """A session that has not signed in yet; None if no Vault is configured. Raises FailedPrecondition."""
    vault = settings.vault
    if not vault.addresses:
        return None
    pair = (vault.client_cert, vault.client_key)
    access = VaultAccess(
        addresses=vault.addresses,
        sign_in=_sign_in(settings, env),
        namespace=vault.namespace,
        ca_file=vault.ca_file,
        client_certificate=(pair[0], pair[1]) if pair[0] is not None and pair[1] is not None else None,
        timeout=vault.timeout,
    )
    return Session(access, clock)


def vault_root(settings: Settings, session: Session, clock: Clock) -> VaultRoot:
    """The configured issuer."""
    mount = PkiMount(session, settings.root.vault_mount)
    return VaultRoot(mount, settings.root.vault_issuer, settings.trust_domain, clock, issuing_ttl=settings.ca.ttl)


def vault_keys(settings: Settings, session: Session) -> VaultKeys:
    """Whatever of Vault signs for issuing CAs, now or earlier."""
    signer = settings.signer
    return VaultKeys(session, signer.vault_mount if signer.kind == "vault-transit" else None)


def vault_needs(settings: Settings, issuer: str) -> list[Need]:
    """What this configuration needs of Vault, besides what every session does."""
    needs: list[Need] = []
    if settings.root.kind == "vault":
        needs += pki_needs(settings.root.vault_mount, issuer or settings.root.vault_issuer or "default")
    if settings.signer.kind == "vault-transit":
        needs += transit_signer_needs(settings.signer.vault_mount)
    if isinstance(kek := settings.keys.kek, TransitKey):
        needs += transit_kek_needs(kek.mount, kek.name)
    return needs


def _sign_in(settings: Settings, env: Mapping[str, str]) -> SignIn:
    auth = settings.vault.auth
    mount = auth.mount or auth.method
    match auth.method:
        case "token":
            return TokenSignIn(_secret(auth.token_file, env))
        case "approle":
            return AppRoleSignIn(auth.role_id, _secret(auth.secret_id_file, env), mount)
        case "kubernetes" | "jwt":
            return JwtSignIn(auth.role, auth.jwt_file or SERVICE_ACCOUNT_TOKEN, mount)
        case "cert":
            return CertificateSignIn(auth.role, mount)


def _secret(source: SecretSource | None, env: Mapping[str, str]) -> SecretFile:
    assert source is not None  # config.checks says so
    return SecretFile(secret_path(source, env), credential=source.kind == "credential")


class TransitPlace:
    """Contract: ca.kek_place.KekPlace. The key lies in Vault, and another one never takes its place here."""

    def __init__(self, kek: TransitKek) -> None:
        self._kek = kek

    def load(self) -> KekRing:
        return KekRing(self._kek)

    def stage(self, given: Path | None) -> LocalKek:  # noqa: ARG002  # the port
        raise self._refusal()

    def promote(self) -> bool:
        return False

    def forget(self) -> None:
        raise self._refusal()

    def _refusal(self) -> FailedPrecondition:
        return FailedPrecondition(
            f"the key-encryption key {self._kek.id} is in Vault: Citadel does not change it",
            mend="rotate it there: bao write -f MOUNT/keys/NAME/rotate",
        )
