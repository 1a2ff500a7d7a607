"""Vault's PKI secrets engine: the calls of one mount that we make, and its answers as certificates (API docs, PKI)."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography import x509

from citadel.ca.certificates import parse_pem
from citadel.errors import FailedPrecondition, InternalFault, InvalidInput, NotFound
from citadel.vault.failures import shown
from citadel.vault.session import Session

_MOST = 32
_MOST_ISSUERS = 1000
_REFERENCE = re.compile(r"pki:(?P<mount>[^:]+)/(?P<issuer>[^:/]+)")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")  # part of a path of Vault's API
_ONE = re.compile(r"-----BEGIN CERTIFICATE-----\n([A-Za-z0-9+/\n]+={0,2})\n-----END CERTIFICATE-----\s*")
_SIGNS = "issuing-certificates"


@dataclass(frozen=True, slots=True)
class IssuerReference:
    """One issuer of a PKI mount, as it is written down with its authority."""

    mount: str
    issuer: str

    @classmethod
    def parse(cls, reference: str) -> IssuerReference:
        """Raises InternalFault: only we write references."""
        found = _REFERENCE.fullmatch(reference)
        if found is None:
            raise InternalFault(f"{reference[:80]!r} is no reference to an issuer in Vault's PKI engine")
        return cls(found["mount"], found["issuer"])

    @property
    def reference(self) -> str:
        return f"pki:{self.mount}/{self.issuer}"

    def __str__(self) -> str:
        return f"the issuer {self.issuer} of the PKI mount {self.mount} in Vault"


@dataclass(frozen=True, slots=True)
class IssuerEntry:
    """One issuer of a mount, as `LIST issuers` says."""

    id: str
    name: str
    default: bool = False

    def __str__(self) -> str:
        return f"{self.name} ({self.id})" if self.name else self.id


@dataclass(frozen=True, slots=True)
class IssuerUse:
    """What an issuer may be used for, as its own settings say."""

    signs: bool
    revoked: bool


@dataclass(frozen=True, slots=True)
class IssuerCertificates:
    """The certificate of an issuer, and what is above it as far as its mount knows. `id` is "" where Vault does not say
    it."""

    own: x509.Certificate
    above: tuple[x509.Certificate, ...]
    id: str = ""


@dataclass(frozen=True, slots=True)
class Signed:
    """What `sign-intermediate` answered, not verified yet. `pool` is its chain, in whatever order."""

    certificate: x509.Certificate
    pool: tuple[x509.Certificate, ...]
    warnings: tuple[str, ...]


class PkiMount:
    """The PKI engine at `mount`. Raises what Session.call does, and FailedPrecondition for what is no certificate."""

    def __init__(self, session: Session, mount: str) -> None:
        self._session = session
        self.mount = mount.strip("/")

    async def issuers(self, *, optional: bool = False) -> list[IssuerEntry]:
        """All issuers, in the order of their ids; none in an empty mount. `optional`: see Session.call."""
        try:
            data = (await self._session.call("list", f"{self.mount}/issuers", optional=optional)).data
        except NotFound as error:
            if "no handler" in error.message or "unsupported path" in error.message:
                raise
            return []  # so Vault says that a list is empty
        found, about = data.get("keys"), data.get("key_info")
        infos = about if isinstance(about, Mapping) else {}
        if not isinstance(found, list):
            return []
        ids = sorted(one for one in found[:_MOST_ISSUERS] if isinstance(one, str) and _ID.fullmatch(one))
        return [_entry(one, infos.get(one)) for one in ids]

    async def issuer(self, reference: str) -> list[x509.Certificate]:
        """The certificate of an issuer, then what is above it as far as the mount knows."""
        found = await self.certificates(reference)
        return [found.own, *found.above]

    async def certificates(self, reference: str) -> IssuerCertificates:
        """As `issuer`, with the issuer's id."""
        path = f"{self.mount}/issuer/{_part(reference)}/json"
        data = (await self._session.call("get", path)).data
        own = _certificates(data.get("certificate"), path)
        if len(own) != 1:
            raise FailedPrecondition(f"Vault's {path} holds {len(own)} certificates; expected one")
        above = tuple(one for one in _certificates(data.get("ca_chain"), path) if one != own[0])
        made = data.get("issuer_id")
        return IssuerCertificates(own[0], above, made if isinstance(made, str) and _ID.fullmatch(made) else "")

    async def use(self, reference: str) -> IssuerUse:
        """What an issuer may be used for; an answer that does not say so counts as "not for signing". Raises
        PermissionDenied where the policy does without it."""
        data = (await self._session.call("get", f"{self.mount}/issuer/{_part(reference)}", optional=True)).data
        usage = data.get("usage")
        usages = usage.split(",") if isinstance(usage, str) else usage if isinstance(usage, list) else []
        return IssuerUse(signs=_SIGNS in usages, revoked=data.get("revoked") not in (None, False))

    async def sign_intermediate(self, reference: str, asked: Mapping[str, object]) -> Signed:
        """Have an issuer sign a CA. Not asked for twice if the answer is lost: it may have been signed."""
        path = f"{self.mount}/issuer/{_part(reference)}/sign-intermediate"
        reply = await self._session.call("post", path, asked, repeat=False)
        own = _certificates(reply.data.get("certificate"), path)
        if len(own) != 1:
            raise FailedPrecondition(f"Vault's {path} gave {len(own)} certificates; expected one")
        pool = [*_certificates(reply.data.get("ca_chain"), path), *_certificates(reply.data.get("issuing_ca"), path)]
        return Signed(own[0], tuple(dict.fromkeys(one for one in pool if one != own[0])), reply.warnings)

    async def sign_leaf(self, reference: str, role: str, asked: Mapping[str, object]) -> x509.Certificate:
        """Have an issuer make a certificate by a role. Not asked for twice. Raises AnswerLost, too."""
        path = f"{self.mount}/issuer/{_part(reference)}/sign/{role}"
        given = (await self._session.call("post", path, asked, repeat=False)).data.get("certificate")
        try:
            return x509.load_der_x509_certificate(_one_der(given))
        except (ValueError, TypeError, x509.InvalidVersion) as error:
            raise FailedPrecondition(
                f"what Vault gave for {path} is not one certificate: {shown(str(error))}"
            ) from None


def _one_der(given: object) -> bytes:
    """Of one block of PEM and nothing else. Raises ValueError."""
    found = _ONE.fullmatch(given) if isinstance(given, str) else None
    if found is None:
        raise ValueError("expected one block of PEM")
    return base64.b64decode(found[1].replace("\n", ""), validate=True)


def _part(reference: str) -> str:
    """As one part of a path. Raises InvalidInput for what would be more than that."""
    if not _ID.fullmatch(reference):
        raise InvalidInput(
            f"{reference[:80]!r} is no issuer's id or name",
            mend="take an id of those that bao list MOUNT/issuers shows",
        )
    return reference


def _entry(issuer: str, about: object) -> IssuerEntry:
    info = about if isinstance(about, Mapping) else {}
    name = info.get("issuer_name")
    return IssuerEntry(issuer, shown(name) if isinstance(name, str) else "", info.get("is_default") is True)


def _certificates(value: object, path: str) -> list[x509.Certificate]:
    """PEM, or a list of PEMs: the engine gives either."""
    texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    try:
        content = "\n".join(str(text).strip() for text in texts).encode("ascii")
        return parse_pem(content, most=_MOST)
    except (InvalidInput, UnicodeEncodeError) as error:
        why = error.message if isinstance(error, InvalidInput) else "it is not ASCII"
        raise FailedPrecondition(f"what Vault gave for {path} is no certificate: {why}") from None
