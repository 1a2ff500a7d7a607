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
    IssuerReference,
    JwtSignIn,
    LeafProfile,
    LeafTarget,
    Need,
    PkiMount,
    RootWatch,
    SecretFile,
    Session,
    SignIn,
    SignInTarget,
    Target,
    TokenSignIn,
    TransitKek,
    VaultAccess,
    VaultKeys,
    VaultLeafIssuer,
    VaultMeter,
    VaultRoot,
    leaf_issuer_needs,
    pki_needs,
    session_needs,
    transit_kek_needs,
    transit_signer_needs,
)


def vault_session(
    settings: Settings,
    env: Mapping[str, str],
    clock: Clock,
    *,
    sign_in: SignIn | None = None,
    meter: VaultMeter | None = None,
) -> Session | None:
    """A session that has not signed in yet, by `sign_in` or as configured; None if no Vault is configured."""
    vault = settings.vault
    if not vault.addresses:
        return None
    pair = (vault.client_cert, vault.client_key)
    access = VaultAccess(
        addresses=vault.addresses,
        sign_in=sign_in or _sign_in(settings, env),
        namespace=vault.namespace,
        ca_file=vault.ca_file,
        client_certificate=(pair[0], pair[1]) if pair[0] is not None and pair[1] is not None else None,
        timeout=vault.timeout,
    )
    return Session(access, clock, meter=meter)


def vault_root(settings: Settings, session: Session, clock: Clock) -> VaultRoot:
    """The configured issuer."""
    mount = PkiMount(session, settings.root.vault_mount)
    return VaultRoot(mount, settings.root.vault_issuer, settings.trust_domain, clock, issuing_ttl=settings.ca.ttl)


def root_watch(settings: Settings, session: Session, clock: Clock) -> RootWatch | None:
    """What looks at the issuers of the root's mount; None if the root is to be elsewhere."""
    if settings.root.kind != "vault":
        return None
    mount = PkiMount(session, settings.root.vault_mount)
    return RootWatch(mount, vault_root(settings, session, clock), settings.root.vault_issuer)


def vault_keys(settings: Settings, session: Session, clock: Clock) -> VaultKeys:
    """Whatever of Vault signs for issuing CAs, now or earlier."""
    signer = settings.signer
    transit = signer.vault_mount if signer.kind == "vault-transit" else None
    return VaultKeys(session, clock, transit=transit, role=signer.vault_role)


def vault_leaf_issuer(settings: Settings, session: Session | None, clock: Clock) -> VaultLeafIssuer | None:
    """The issuing CA in Vault's PKI that makes leaves itself, if it is to."""
    if settings.signer.kind != "vault-pki" or session is None:
        return None
    where = IssuerReference(settings.signer.vault_mount.strip("/"), settings.signer.vault_issuer)
    return VaultLeafIssuer(session, where, settings.trust_domain, clock)


def leaf_profile(settings: Settings) -> LeafProfile:
    """What is asked of the role by which Vault makes leaves."""
    kind, _, bits = settings.svid.key_type.partition("-")
    return LeafProfile(
        settings.trust_domain,
        settings.svid.max_ttl,
        settings.svid.default_ttl,
        settings.svid.backdate,
        kind,
        int(bits.removeprefix("p")),
    )


def vault_needs(settings: Settings, issuer: str, leaf_issuer: str = "", also: str = "") -> list[Need]:
    """What this configuration needs of Vault, besides what every session does. `also`: an issuer of the root's mount
    that a rotation leads to or from."""
    needs: list[Need] = []
    if settings.root.kind == "vault":
        reference = issuer or settings.root.vault_issuer or "default"
        needs += pki_needs(settings.root.vault_mount, reference, signs=settings.signer.kind != "vault-pki")
        needs += pki_needs(settings.root.vault_mount, also, signs=settings.signer.kind != "vault-pki") if also else []
    signer = settings.signer
    if signer.kind == "vault-pki":
        needs += leaf_issuer_needs(
            signer.vault_mount, leaf_issuer or signer.vault_issuer or "default", signer.vault_role
        )
    if signer.kind == "vault-transit":
        needs += transit_signer_needs(settings.signer.vault_mount)
    if isinstance(kek := settings.keys.kek, TransitKey):
        needs += transit_kek_needs(kek.mount, kek.name)
    return list(dict.fromkeys(needs))


def setup_target(settings: Settings, name: str, sign_in: SignInTarget | None, also: str = "") -> Target:
    """What Vault must have for this configuration. `name`: of the policy. `also`: see vault_needs."""
    signer = settings.signer
    kek = settings.keys.kek if isinstance(settings.keys.kek, TransitKey) else None
    leaf = None
    if signer.kind == "vault-pki":
        leaf = LeafTarget(signer.vault_mount, signer.vault_issuer, signer.vault_role, leaf_profile(settings))
    return Target(
        trust_domain=settings.trust_domain,
        root_ttl=settings.root.ttl,
        needs=lambda issuer, leaf_issuer: [*session_needs(), *vault_needs(settings, issuer, leaf_issuer, also)],
        root_mount=settings.root.vault_mount if settings.root.kind == "vault" else "",
        root_issuer=settings.root.vault_issuer,
        leaf=leaf,
        signer_mount=signer.vault_mount if signer.kind == "vault-transit" else "",
        kek_mount=kek.mount if kek else "",
        kek_name=kek.name if kek else "",
        sign_in=sign_in,
        name=name,
    )


def secret_id_file(settings: Settings) -> Path | None:
    """Where the AppRole's secret id is to be, if that is a file that we may write."""
    auth = settings.vault.auth
    given = auth.secret_id_file
    return Path(given.where) if auth.method == "approle" and given and given.kind == "file" else None


def _sign_in(settings: Settings, env: Mapping[str, str]) -> SignIn:
    auth = settings.vault.auth
    mount = auth.mount or auth.method
    match auth.method:
        case "token":
            return TokenSignIn(_secret(auth.token_file, env), auth.wrapped)
        case "approle":
            return AppRoleSignIn(auth.role_id, _secret(auth.secret_id_file, env), mount, auth.wrapped)
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

    @property
    def kek(self) -> TransitKek:
        return self._kek

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
