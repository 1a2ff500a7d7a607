"""What `citadel vault setup` must know of how Citadel will sign in, from its options and from files that are there."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from citadel.ca.certificates import parse_pem
from citadel.ca.files import read_public
from citadel.config import Settings
from citadel.errors import BadFile, CitadelError, FailedPrecondition, InvalidInput, Mistake
from citadel.vault import (
    SERVICE_ACCOUNT_TOKEN,
    AppRoleTarget,
    CertificateTarget,
    JwtTarget,
    KubernetesTarget,
    SignInTarget,
)

_ACCOUNT = "system:serviceaccount:"  # kubernetes.io, "Authenticating", service account tokens


@dataclass(frozen=True, slots=True)
class Told:
    """The options. What is empty comes from the token or certificate that Citadel signs in with, if that is here."""

    service_account: str = ""
    audience: str = ""
    subject: str = ""
    token_issuer: str = ""
    kubernetes_host: str = ""
    ca_file: Path | None = None


def sign_in_target(settings: Settings, name: str, told: Told) -> SignInTarget | None:
    """What is to be set up; None: Citadel has a token. Raises InvalidInput for what is missing, BadFile, NotFound."""
    auth = settings.vault.auth
    mount = auth.mount or auth.method
    match auth.method:
        case "token":
            return None
        case "approle":
            return AppRoleTarget(mount, name, auth.role_id)
        case "kubernetes":
            claims = _claims(auth.jwt_file or SERVICE_ACCOUNT_TOKEN)
            account = told.service_account or claims.subject.removeprefix(_ACCOUNT).replace(":", "/")
            namespace, _, account = account.partition("/")
            if not account or "/" in account or "*" in namespace + account:
                raise InvalidInput(
                    "which service account may sign in is not known",
                    mend="say --service-account NAMESPACE/NAME: the one of Citadel's pod",
                )
            ca = _text(told.ca_file) if told.ca_file else ""
            audience = told.audience or claims.audience
            return KubernetesTarget(mount, auth.role, namespace, account, audience, told.kubernetes_host, ca)
        case "jwt":
            return _jwt(mount, auth.role, _claims(auth.jwt_file or SERVICE_ACCOUNT_TOKEN), told)
        case "cert":
            return _certificate(mount, auth.role or name, settings.vault.client_cert, told)


def _jwt(mount: str, role: str, claims: _Claims, told: Told) -> JwtTarget:
    audience, subject = told.audience or claims.audience, told.subject or claims.subject
    missing = [one for one, given in (("--audience", audience), ("--subject", subject)) if not given]
    if missing:
        raise InvalidInput(
            f"which token may sign in is not known: {' and '.join(missing)}",
            mend="say what Citadel's token has as aud and sub, or run this where the token is (vault.auth.jwt_file)",
        )
    if not told.token_issuer or told.token_issuer.startswith("https://"):
        return JwtTarget(mount, role, audience, subject, told.token_issuer)
    if told.token_issuer.startswith("http://"):
        raise InvalidInput("the keys of tokens are not taken over plain http", mend="name an https:// URL, or a file")
    keys = _text(Path(told.token_issuer)).split("-----BEGIN ")[1:]
    if not keys or not all(one.startswith("PUBLIC KEY") for one in keys):
        raise BadFile([Mistake(told.token_issuer, "", "expected public keys in PEM: -----BEGIN PUBLIC KEY-----")])
    return JwtTarget(mount, role, audience, subject, keys=tuple(f"-----BEGIN {one.strip()}\n" for one in keys))


def _certificate(mount: str, role: str, file: Path | None, told: Told) -> CertificateTarget:
    assert file is not None  # config.checks says so
    own = parse_pem(read_public(file, what="client certificate"), most=8)[0]
    try:
        names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns, uris = (tuple(names.get_values_for_type(kind)) for kind in (x509.DNSName, x509.UniformResourceIdentifier))
    except x509.ExtensionNotFound:
        dns, uris = (), ()
    common = "".join(str(one.value) for one in own.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[:1])
    if not common:
        raise FailedPrecondition(
            f"the client certificate {file} has no common name, and Vault names whoever signs in by it",
            mend="use one that has a common name",
        )
    if told.ca_file is None:
        raise InvalidInput(
            f"which CA signs the client certificate {file} is not known", mend="say --ca FILE: its certificate in PEM"
        )
    ca = parse_pem(read_public(told.ca_file, what="CA of the client certificate"), most=8)
    try:
        own.verify_directly_issued_by(ca[0])
    except Exception:  # cryptography raises many kinds
        raise InvalidInput(
            f"{told.ca_file} did not sign the client certificate {file}", mend="name the CA that did, first in its file"
        ) from None
    return CertificateTarget(mount, role, _text(told.ca_file), common, dns, uris)


@dataclass(frozen=True, slots=True)
class _Claims:
    subject: str = ""
    audience: str = ""


def _claims(file: Path) -> _Claims:
    """What the token says of itself: not verified, Vault will. Nothing if it is not here."""
    try:
        _, body, _ = read_public(file, what="token file").decode("ascii").strip().split(".")
        found = json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (CitadelError, ValueError):
        return _Claims()
    if not isinstance(found, dict):
        return _Claims()
    audience = found.get("aud")
    first = audience[0] if isinstance(audience, list) and audience else audience
    subject = found.get("sub")
    return _Claims(subject if isinstance(subject, str) else "", first if isinstance(first, str) else "")


def _text(file: Path) -> str:
    try:
        return read_public(file).decode("ascii")
    except UnicodeDecodeError:
        raise BadFile([Mistake(str(file), "", "expected PEM, which is ASCII")]) from None


__all__ = ["Told", "sign_in_target"]
