"""What the tests of issuance share: authorities of three generations, requests of every kind, a log in memory."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from citadel.audit import AuditEvent
from citadel.ca import keys, profile
from citadel.ca.model import (
    Authority,
    AuthorityCertificate,
    AuthorityKind,
    AuthorityState,
    IssuanceIntent,
    IssuanceOutcome,
    IssuanceRecord,
    KeySource,
    Outcome,
    Skid,
)
from citadel.ca.ports import IssuanceQuery, Signer, SigningAuthority
from citadel.ca.profile import Parent, Validity
from citadel.ca.signers import SoftwareSigner
from citadel.ca.signing import sign_certificate
from citadel.errors import AlreadyExists, NotFound
from citadel.spiffe import SpiffeId, TrustDomain

TRUST_DOMAIN = TrustDomain.parse("example.org")
WEB = SpiffeId.parse("spiffe://example.org/web")
NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


@dataclass
class SetClock:
    """A clock that stands still until it is moved."""

    at: datetime = NOW
    seconds: float = 0.0

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.seconds

    def move(self, by: timedelta) -> None:
        self.at += by
        self.seconds += by.total_seconds()


@dataclass(frozen=True)
class Chain:
    """A root and an issuing CA below it, with their keys."""

    root: bytes
    root_key: keys.PrivateKey
    issuing: bytes
    issuing_key: keys.PrivateKey

    @property
    def parent(self) -> Parent:
        return Parent.of(self.issuing)

    def signing_authority(self, signer: Signer | None = None) -> SigningAuthority:
        return SigningAuthority(self.authority(), signer or SoftwareSigner(self.issuing_key))

    def authority(self) -> Authority:
        read = x509.load_der_x509_certificate(self.issuing)
        root_skid = keys.skid(self.root_key.public_key())
        return Authority(
            skid=keys.skid(self.issuing_key.public_key()),
            kind=AuthorityKind.ISSUING,
            state=AuthorityState.ACTIVE,
            trust_domain=TRUST_DOMAIN,
            key_source=KeySource.SEALED,
            certificates=(
                AuthorityCertificate(
                    der=self.issuing,
                    fingerprint=keys.fingerprint(self.issuing),
                    subject=read.subject.rfc4514_string(),
                    serial=read.serial_number,
                    not_before=read.not_valid_before_utc,
                    not_after=read.not_valid_after_utc,
                    issuer_skid=root_skid,
                ),
            ),
            root_skid=root_skid,
            created_at=NOW,
            changed_at=NOW,
        )


async def make_chain(
    *,
    kind: keys.KeyType = keys.KeyType.EC_P256,
    now: datetime = NOW,
    issuing_lifetime: timedelta = timedelta(days=7),
    root_lifetime: timedelta = timedelta(days=3650),
    trust_domain: TrustDomain = TRUST_DOMAIN,
) -> Chain:
    root_key, issuing_key = keys.generate(kind), keys.generate(kind)
    minute = timedelta(minutes=1)
    root = await sign_certificate(
        profile.root(
            public_key=root_key.public_key(),
            trust_domain=trust_domain,
            validity=Validity.starting(now, root_lifetime, backdate=minute),
            serial=profile.serial(secrets.token_bytes),
        ),
        SoftwareSigner(root_key),
    )
    parent = Parent.of(root)
    issuing = await sign_certificate(
        profile.issuing_ca(
            parent=parent,
            public_key=issuing_key.public_key(),
            trust_domain=trust_domain,
            validity=Validity.starting(now, issuing_lifetime, backdate=minute).within(
                parent, now, shortest=timedelta(0)
            ),
            serial=profile.serial(secrets.token_bytes),
        ),
        SoftwareSigner(root_key),
    )
    return Chain(root, root_key, issuing, issuing_key)


def make_csr(
    key: keys.PrivateKey | None = None,
    *,
    uris: Sequence[str] = (WEB.uri,),
    dns_names: Sequence[str] = (),
    extensions: Sequence[x509.ExtensionType] = (),
    subject: x509.Name | None = None,
    hash_: hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None = None,
) -> bytes:
    """A request in DER that asks for these names and extensions."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject or x509.Name([]))
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
    names += [x509.DNSName(name) for name in dns_names]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    request = builder.sign(key or keys.generate(), hash_ or hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


def pem(der: bytes, label: str = "CERTIFICATE") -> bytes:
    if label == "CERTIFICATE":
        return x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM)
    return x509.load_der_x509_csr(der).public_bytes(serialization.Encoding.PEM)


@dataclass
class CurrentAuthority:
    """SigningAuthorities with one authority, which a test may replace."""

    signing: SigningAuthority

    def current(self) -> SigningAuthority:
        return self.signing


@dataclass
class MemoryIssuanceLog:
    """IssuanceLog that forgets everything when the process ends."""

    rows: dict[int, IssuanceRecord] = field(default_factory=dict)
    audit: list[AuditEvent] = field(default_factory=list)

    async def intend(self, intent: IssuanceIntent, audit: AuditEvent) -> None:
        await asyncio.sleep(0)  # a real one waits for the disk here
        if intent.serial in self.rows:
            raise AlreadyExists(f"serial {intent.serial:x} was used before")
        self.rows[intent.serial] = IssuanceRecord(intent, None, "", "")
        self.audit.append(audit)

    async def settle(self, outcome: IssuanceOutcome) -> None:
        row = self.rows.get(outcome.serial)
        if row is not None and row.outcome in (None, Outcome.UNKNOWN):
            settled = IssuanceRecord(row.intent, outcome.outcome, outcome.fingerprint, outcome.detail)
            self.rows[outcome.serial] = settled

    async def settle_as(self, outcome: IssuanceOutcome, serial: int, audit: AuditEvent) -> None:
        if serial in self.rows:
            raise AlreadyExists(f"serial {serial:x} was used before")
        await self.settle(outcome)
        row = self.rows.pop(outcome.serial)
        self.rows[serial] = replace(row, intent=replace(row.intent, serial=serial))
        self.audit.append(audit)

    async def unsettled(self, before: datetime) -> list[IssuanceIntent]:
        return [row.intent for row in self.rows.values() if row.outcome is None and row.intent.at < before]

    async def get(self, serial: int) -> IssuanceRecord:
        try:
            return self.rows[serial]
        except KeyError:
            raise NotFound(f"no certificate with serial {serial:x} is on record") from None

    async def find(self, query: IssuanceQuery) -> list[IssuanceRecord]:
        newest_first = list(reversed(self.rows.values()))
        serials = [row.intent.serial for row in newest_first]
        start = 0 if query.after is None else serials.index(query.after) + 1
        return [row for row in newest_first[start:] if _matches(row.intent, query)][: query.limit]


def _matches(intent: IssuanceIntent, query: IssuanceQuery) -> bool:
    return (
        query.spiffe_id in (None, intent.spiffe_id)
        and query.authority in (None, intent.authority)
        and query.entry_id in (None, intent.entry_id)
        and f"{intent.serial:032x}".startswith(query.serial_prefix)
        and (query.live_at is None or query.live_at <= intent.not_after)
        and (query.expires_before is None or intent.not_after < query.expires_before)
    )


@dataclass
class CountingMeter:
    results: list[str] = field(default_factory=list)

    def issuance(self, result: str, seconds: float) -> None:
        assert seconds >= 0
        self.results.append(result)


__all__ = [
    "NOW",
    "TRUST_DOMAIN",
    "WEB",
    "Chain",
    "CountingMeter",
    "CurrentAuthority",
    "MemoryIssuanceLog",
    "SetClock",
    "Skid",
    "make_chain",
    "make_csr",
    "pem",
]
