"""Vault's PKI secrets engine: the calls of one mount that we make, and its answers as certificates (API docs, PKI)."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography import x509

from citadel.ca.certificates import parse_pem
from citadel.errors import FailedPrecondition, InvalidInput, NotFound
from citadel.vault.failures import shown
from citadel.vault.session import Session

_MOST = 32
_ONE = re.compile(r"-----BEGIN CERTIFICATE-----\n([A-Za-z0-9+/\n]+={0,2})\n-----END CERTIFICATE-----\s*")


@dataclass(frozen=True, slots=True)
class IssuerEntry:
    """One issuer of a mount, as `LIST issuers` says."""

    id: str
    name: str

    def __str__(self) -> str:
        return f"{self.name} ({self.id})" if self.name else self.id


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

    async def issuers(self) -> list[IssuerEntry]:
        """All issuers, in the order of their ids; none in an empty mount."""
        try:
            data = (await self._session.call("list", f"{self.mount}/issuers")).data
        except NotFound as error:
            if "no handler" in error.message or "unsupported path" in error.message:
                raise
            return []  # so Vault says that a list is empty
        found, about = data.get("keys"), data.get("key_info")
        names = about if isinstance(about, Mapping) else {}
        if not isinstance(found, list):
            return []
        return [IssuerEntry(str(one), _name(names.get(one))) for one in sorted(map(str, found))]

    async def issuer(self, reference: str) -> list[x509.Certificate]:
        """The certificate of an issuer, then what is above it as far as the mount knows."""
        path = f"{self.mount}/issuer/{reference}/json"
        data = (await self._session.call("get", path)).data
        own = _certificates(data.get("certificate"), path)
        if len(own) != 1:
            raise FailedPrecondition(f"Vault's {path} holds {len(own)} certificates; expected one")
        above = _certificates(data.get("ca_chain"), path)
        return [own[0], *(one for one in above if one != own[0])]

    async def sign_intermediate(self, reference: str, asked: Mapping[str, object]) -> Signed:
        """Have an issuer sign a CA. Not asked for twice if the answer is lost: it may have been signed."""
        path = f"{self.mount}/issuer/{reference}/sign-intermediate"
        reply = await self._session.call("post", path, asked, repeat=False)
        own = _certificates(reply.data.get("certificate"), path)
        if len(own) != 1:
            raise FailedPrecondition(f"Vault's {path} gave {len(own)} certificates; expected one")
        pool = [*_certificates(reply.data.get("ca_chain"), path), *_certificates(reply.data.get("issuing_ca"), path)]
        return Signed(own[0], tuple(dict.fromkeys(one for one in pool if one != own[0])), reply.warnings)

    async def sign_leaf(self, reference: str, role: str, asked: Mapping[str, object]) -> x509.Certificate:
        """Have an issuer make a certificate by a role. Not asked for twice. Raises AnswerLost, too."""
        path = f"{self.mount}/issuer/{reference}/sign/{role}"
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


def _name(about: object) -> str:
    name = about.get("issuer_name") if isinstance(about, Mapping) else None
    return name if isinstance(name, str) else ""


def _certificates(value: object, path: str) -> list[x509.Certificate]:
    """PEM, or a list of PEMs: the engine gives either."""
    texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    try:
        content = "\n".join(str(text).strip() for text in texts).encode("ascii")
        return parse_pem(content, most=_MOST)
    except (InvalidInput, UnicodeEncodeError) as error:
        why = error.message if isinstance(error, InvalidInput) else "it is not ASCII"
        raise FailedPrecondition(f"what Vault gave for {path} is no certificate: {why}") from None
