"""VaultRoot: a CA in Vault's PKI engine signs our issuing CAs; its key never leaves Vault. Contract: RootAuthority.

Nothing that comes back is believed: key, names, path length, validity, order and signatures are verified here. The
issuer is pinned, or was approved by an operator; any other of the same mount is trusted by nobody (see root_watch).
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from citadel.ca import keys
from citadel.ca.certificates import describe, name_of, parse, skid_of
from citadel.ca.chain import ca_faults, ends_soon, link_faults, order_chain, root_faults
from citadel.ca.model import Authority, KeySource, Skid
from citadel.ca.ports import IssuingGrant, RootState
from citadel.clock import Clock
from citadel.errors import FailedPrecondition, NotFound
from citadel.spiffe import TrustDomain
from citadel.vault.pki import IssuerReference, PkiMount, Signed

_BACKDATE = timedelta(seconds=60)
_SKEW = timedelta(seconds=60)  # by how much Vault's clock may be ahead
_MARGIN = timedelta(seconds=5)
# Warnings of what we ask for, or do not need.
_EXPECTED = ("Max path length of the signed certificate is zero", "authority information access (AIA)")
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # a name is not pinned: Vault says whose it is
_SHORTEST_SHARE = 10  # of the lifetime asked for: less is too soon before the end
log = structlog.get_logger("citadel.vault")


@dataclass(frozen=True, slots=True)
class _Line:
    """An issuer, what is above it, and the root at the end; one certificate if the issuer is the root."""

    reference: str  # its id, where Vault says that
    certificates: tuple[x509.Certificate, ...]

    @property
    def root(self) -> x509.Certificate:
        return self.certificates[-1]

    @property
    def ends(self) -> datetime:
        return min(one.not_valid_after_utc for one in self.certificates)

    @property
    def begins(self) -> datetime:
        return max(one.not_valid_before_utc for one in self.certificates)


class VaultRoot:
    """RootAuthority over one issuer of a PKI mount. `issuer` is its id or name; empty: the only one that there is."""

    def __init__(
        self, mount: PkiMount, issuer: str, trust_domain: TrustDomain, clock: Clock, *, issuing_ttl: timedelta
    ) -> None:
        self._mount = mount
        self._issuer = issuer
        self._trust_domain = trust_domain
        self._clock = clock
        self._issuing_ttl = issuing_ttl
        self._granted: tuple[str, ...] = ()  # what Vault warned of when it signed last

    @property
    def pinned(self) -> bool:
        return bool(self._issuer)

    async def load(self) -> RootState:
        """See ports.RootAuthority. Raises FailedPrecondition with every fault of the issuer, Unavailable."""
        return self._state(await self._line())

    async def load_issuer(self, reference: str) -> RootState:
        """See ports.RemoteRoot. `reference`: as a root has it, or the id or name of an issuer of the mount."""
        return self._state(await self._line(self._own(reference) or reference))

    def _state(self, line: _Line) -> RootState:
        now = self._clock.now()
        warnings = [w for one in line.certificates if (w := ends_soon(one, now))]
        return RootState(
            roots=(describe(line.root),),
            skid=skid_of(line.root),
            version=":".join(keys.fingerprint(_der(one)) for one in line.certificates),
            warnings=(*warnings, *self._granted),
            key_source=KeySource.VAULT,
            key_ref=IssuerReference(self._mount.mount, line.reference).reference,
        )

    async def sign_issuing_ca(self, root: Authority, key: keys.PrivateKey) -> IssuingGrant:
        """See ports.RootAuthority. Asks for no more than every CA above has left, and refuses what outlives one."""
        if root.key_source is not KeySource.VAULT:
            raise FailedPrecondition(f"the key of the root {root.skid} is not in Vault")
        line = await self._line_to(root)
        now = self._clock.now()
        ttl = self._ttl(line, now)
        subject = _subject(self._trust_domain, keys.skid(key.public_key()))
        csr = await asyncio.to_thread(_request, subject, key)
        signed = await self._mount.sign_intermediate(
            line.reference,
            {
                "csr": csr,
                "common_name": subject,
                "use_csr_values": False,
                "max_path_length": 0,
                "uri_sans": str(self._trust_domain.id),
                "exclude_cn_from_sans": True,
                "ttl": f"{int(ttl.total_seconds())}s",
                "not_before_duration": f"{_backdate(line, now)}s",
                "format": "pem",
            },
        )
        grant = self._verified(signed, line, key.public_key(), subject, now, ttl)
        self._granted = tuple(_granted(signed, now, ttl))
        for warning in self._granted:
            log.warning("Vault signed an issuing CA, with a warning", warning=warning)
        return grant

    def warnings(self) -> tuple[str, ...]:
        """What Vault warned of when it signed last."""
        return self._granted

    def __repr__(self) -> str:
        return f"VaultRoot({self._where(self._issuer or 'the only one')})"

    # --- the issuer

    async def _line_to(self, root: Authority) -> _Line:
        """The issuer that `root` was written down with, or the pinned one, if it chains to `root`; for a root of an
        older Citadel, any. A root that is in force or on its way was approved, so its issuer may be looked for."""
        if own := self._own(root.key_ref):
            line = await self._line(own)
            if _leads_to(line, root):
                return self._trusted(line, root)
            raise FailedPrecondition(
                f"{self._where(own)} chains to the root {skid_of(line.root)}, not to {root.skid} as before",
                mend="see who changed it in Vault; nothing is signed under it. Rotate: citadel root rotate",
            )
        pinned = await self._line()
        if _leads_to(pinned, root):
            return self._trusted(pinned, root)
        for other in await self._mount.issuers():
            with suppress(FailedPrecondition, NotFound):
                line = await self._line(other.id)
                if _leads_to(line, root):
                    return self._trusted(line, root)
        raise FailedPrecondition(
            f"{self._where(pinned.reference)} chains to the root {skid_of(pinned.root)}, not to {root.skid}, and no "
            "other issuer of the mount does",
            mend="pin the issuer of the root in force (root.vault_issuer), or rotate: citadel root rotate",
        )

    def _trusted(self, line: _Line, root: Authority) -> _Line:
        """With the certificate of the root that clients hold, in the place of one that Vault may have by now: what is
        signed must not need another one than theirs. Raises FailedPrecondition if it would."""
        held = parse(root.certificate.der)
        if line.root == held:
            return line
        below = line.certificates[:-1]
        if held.subject != line.root.subject or (below and link_faults(below[-1], held)):
            raise FailedPrecondition(
                f"{self._where(line.reference)} has another certificate of the root {root.skid} than clients hold, and "
                "what it signs would not verify with theirs",
                mend=f"have it distributed first: citadel root rotate --to vault {line.reference}",
            )
        return _Line(line.reference, (*below, held))

    async def _line(self, wanted: str = "") -> _Line:
        reference = wanted or self._issuer or await self._only_one()
        found_here = await self._mount.certificates(reference)
        own, above = found_here.own, found_here.above
        faults: list[str] = []
        if root_faults(own):
            roots = [one for one in above if not root_faults(one)]
            found = order_chain(own, above, roots)
            if found is None:
                raise FailedPrecondition(
                    f"{self._where(reference)}, {name_of(own)}, is no root, and no root above it is in its chain",
                    mend="import the certificates above it, the root too, into the mount (issuers/import/cert), and "
                    "set its manual_chain if need be",
                )
            certificates = [own, *found[0], found[1]]
        else:
            certificates = [own]
        now = self._clock.now()
        for position, one in enumerate(certificates):
            below = position + 1  # our issuing CA is under it
            found_faults = ca_faults(one, below=below, trust_domain=self._trust_domain, now=now)
            faults += [f"{name_of(one)}: {fault}" for fault in found_faults]
        if faults:
            raise FailedPrecondition(
                f"{self._where(reference)} cannot sign an issuing CA: " + "; ".join(faults),
                mend="pin another issuer (root.vault_issuer), or mend this one in Vault",
            )
        return _Line(reference if _ID.fullmatch(reference) else found_here.id or reference, tuple(certificates))

    def _own(self, reference: str) -> str:
        """The issuer of a reference into our mount; "" if it is none."""
        if not reference.startswith("pki:"):
            return ""
        where = IssuerReference.parse(reference)
        return where.issuer if where.mount == self._mount.mount else ""

    async def _only_one(self) -> str:
        issuers = await self._mount.issuers()
        if len(issuers) == 1:
            return issuers[0].id
        if not issuers:
            raise FailedPrecondition(
                f"the PKI mount {self._mount.mount} in Vault has no issuer",
                mend=f"make one: bao write {self._mount.mount}/root/generate/internal common_name=... ttl=87600h",
            )
        raise FailedPrecondition(
            f"the PKI mount {self._mount.mount} in Vault has {len(issuers)} issuers, and none is pinned: "
            + ", ".join(map(str, issuers[:8])),
            mend="set root.vault_issuer to the id of the one that is to be trusted",
        )

    # --- one grant

    def _ttl(self, line: _Line, now: datetime) -> timedelta:
        left = line.ends - now - _MARGIN
        if left < self._issuing_ttl / _SHORTEST_SHARE:
            raise FailedPrecondition(
                f"{self._where(line.reference)}, or a CA above it, ends at {line.ends.isoformat()}, too soon for "
                "another issuing CA",
                mend="replace the root",
            )
        return min(self._issuing_ttl, left)

    def _verified(
        self,
        signed: Signed,
        line: _Line,
        public_key: keys.PublicKey,
        subject: str,
        now: datetime,
        ttl: timedelta,
    ) -> IssuingGrant:
        """What was granted, if it is what was asked for. Raises FailedPrecondition with all that is wrong with it."""
        made = signed.certificate
        faults = [
            *_not_as_asked(made, public_key, subject, self._trust_domain),
            # It was asked for from a minute ago on: one that begins later, clients would refuse until then.
            *ca_faults(made, below=0, trust_domain=self._trust_domain, now=now),
            *link_faults(made, line.certificates[0]),
        ]
        if made.not_valid_after_utc > line.ends:
            faults.append(
                f"it ends at {made.not_valid_after_utc.isoformat()}, after its issuer ({line.ends.isoformat()})"
            )
        if made.not_valid_after_utc > now + ttl + _SKEW:
            faults.append(f"it ends at {made.not_valid_after_utc.isoformat()}, later than was asked for")
        if order_chain(made, (), [line.certificates[0]]) is None:
            faults.append(f"{name_of(line.certificates[0])} did not sign it")
        if faults:
            raise FailedPrecondition(
                f"{self._where(line.reference)} signed something else than was asked for: " + "; ".join(faults),
                mend="it is not used; look at the issuer's settings in Vault, and at who may change them",
            )
        between = tuple(_der(one) for one in line.certificates[:-1])
        return IssuingGrant(describe(made), between, skid_of(line.root))

    def _where(self, reference: str) -> str:
        return f"the issuer {reference} of the PKI mount {self._mount.mount} in Vault"


def _not_as_asked(
    made: x509.Certificate, public_key: keys.PublicKey, subject: str, trust_domain: TrustDomain
) -> Iterator[str]:
    if made.public_key() != public_key:
        yield "it is for another key than ours"
    elif skid_of(made) != keys.skid(public_key):
        yield f"its subject key identifier {skid_of(made)} is not that of its key (RFC 5280, 4.2.1.2, method 1)"
    if made.subject != x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]):
        yield f"its subject is {name_of(made)}, not CN={subject}"
    try:
        names = list(made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        names = []
    if names != [x509.UniformResourceIdentifier(str(trust_domain.id))]:
        yield f"its names are {[str(one.value) for one in names]}, not {trust_domain.id} alone"
    try:
        length = made.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
        usage = made.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        yield "it has no basic constraints, or no key usage"
        return
    if length != 0:
        yield f"its path length is {length}, not 0"
    if not usage.key_cert_sign:
        yield "its key usage does not allow signing certificates"


def _granted(signed: Signed, now: datetime, asked: timedelta) -> Iterator[str]:
    """What the operator should know of a grant that is sound."""
    yield from (f"Vault: {one}" for one in signed.warnings if not any(known in one for known in _EXPECTED))
    got = signed.certificate.not_valid_after_utc - now
    if got < asked - _SKEW:
        hours = got.total_seconds() / 3600
        yield (
            f"Vault cut the issuing CA's lifetime from {asked} to {hours:.1f} h; it is renewed in time all the same "
            "(raise max_lease_ttl of the mount, or lower ca.ttl)"
        )


def _backdate(line: _Line, now: datetime) -> int:
    """Seconds before now from which it is valid: never before its issuer."""
    return max(0, math.floor(min(_BACKDATE, now - line.begins).total_seconds()))


def _subject(trust_domain: TrustDomain, skid: Skid) -> str:
    rest = f" issuing CA {skid.hex[:8]}"
    room = 64 - len(rest)  # RFC 5280, appendix A.1, ub-common-name-length
    name = trust_domain.name if len(trust_domain.name) <= room else trust_domain.name[: room - 2] + ".."
    return name + rest


def _request(subject: str, key: keys.PrivateKey) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    )
    request = builder.sign(key, keys.signature_algorithm(key.public_key()).hash)  # type: ignore[arg-type]
    return request.public_bytes(serialization.Encoding.PEM).decode()


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def _leads_to(line: _Line, root: Authority) -> bool:
    own = x509.load_der_x509_certificate(root.certificate.der)
    return skid_of(line.root) == root.skid and line.root.public_key() == own.public_key()
