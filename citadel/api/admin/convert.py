"""Between our values and the messages of the admin protocol."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from citadel.api.admin import masks
from citadel.api.proto.citadel.v1 import admin_pb2
from citadel.api.proto.spire.api.types import bundle_pb2, entry_pb2, selector_pb2, spiffeid_pb2
from citadel.ca.model import Authority, AuthorityCertificate, IssuanceRecord, TrustBundle
from citadel.errors import BadFile, CitadelError, InvalidInput, Mistake
from citadel.registry.model import Entry
from citadel.registry.selectors import Selector
from citadel.spiffe import SpiffeId, TrustDomain
from citadel.store.ports import ClientHolding, ClientKey


def seconds(moment: datetime | None) -> int:
    return 0 if moment is None else int(moment.timestamp())


def moment(value: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(value, UTC) if value else None
    except (ValueError, OverflowError, OSError):  # before the year 1, or after 9999
        raise InvalidInput(f"{value} is no time in seconds since 1970") from None


def id_message(spiffe_id: SpiffeId) -> spiffeid_pb2.SPIFFEID:
    return spiffeid_pb2.SPIFFEID(trust_domain=spiffe_id.trust_domain.name, path=spiffe_id.path)


def read_id(message: spiffeid_pb2.SPIFFEID) -> SpiffeId:
    """Raises BadSpiffeId."""
    return SpiffeId.parse(f"spiffe://{message.trust_domain}{message.path}")


def entry_message(entry: Entry) -> entry_pb2.Entry:
    return entry_pb2.Entry(
        id=entry.id,
        spiffe_id=id_message(entry.spiffe_id),
        parent_id=id_message(entry.parent_id),
        selectors=[selector_pb2.Selector(type=s.type, value=s.value) for s in sorted(entry.selectors)],
        x509_svid_ttl=int(entry.x509_ttl.total_seconds()),
        jwt_svid_ttl=int(entry.jwt_ttl.total_seconds()),
        federates_with=sorted(map(str, entry.federates_with)),
        admin=entry.admin,
        downstream=entry.downstream,
        expires_at=seconds(entry.expires_at),
        dns_names=entry.dns_names,
        revision_number=entry.revision,
        store_svid=entry.store_svid,
        hint=entry.hint,
        created_at=seconds(entry.created_at),
    )


def details_message(entry: Entry) -> admin_pb2.EntryDetails:
    return admin_pb2.EntryDetails(entry=entry_message(entry), apply_set=entry.apply_set, labels=dict(entry.labels))


def read_entry(message: entry_pb2.Entry, *, default_parent: SpiffeId | None = None) -> Entry:
    """An entry as a user says it, well formed; whether it is valid the registry decides. Raises BadFile."""
    mistakes: list[Mistake] = []
    where = message.id or message.spiffe_id.path or "entry"

    def attempt(field: str, value: spiffeid_pb2.SPIFFEID) -> SpiffeId | None:
        try:
            return read_id(value)
        except CitadelError as error:
            mistakes.append(Mistake(where, field, error.message))
            return None

    spiffe_id = attempt("spiffe_id", message.spiffe_id)
    if message.HasField("parent_id") or default_parent is None:
        parent = attempt("parent_id", message.parent_id)
    else:
        parent = default_parent
    selectors: list[Selector] = []
    for selector in message.selectors:
        try:
            selectors.append(Selector.of(selector.type, selector.value))
        except CitadelError as error:
            mistakes.append(Mistake(where, "selectors", error.message))
    domains: list[TrustDomain] = []
    for name in message.federates_with:
        try:
            domains.append(TrustDomain.parse(name))
        except CitadelError as error:
            mistakes.append(Mistake(where, "federates_with", error.message))
    if mistakes or spiffe_id is None or parent is None:
        raise BadFile(mistakes)
    return Entry(
        id=message.id,
        spiffe_id=spiffe_id,
        parent_id=parent,
        selectors=frozenset(selectors),
        x509_ttl=timedelta(seconds=message.x509_svid_ttl),
        jwt_ttl=timedelta(seconds=message.jwt_svid_ttl),
        dns_names=tuple(message.dns_names),
        federates_with=frozenset(domains),
        hint=message.hint,
        admin=message.admin,
        downstream=message.downstream,
        store_svid=message.store_svid,
        expires_at=moment(message.expires_at),
    )


def changed(old: Entry, message: entry_pb2.Entry, mask: entry_pb2.EntryMask | None) -> Entry:
    """`old` with the fields of `message` that `mask` names (all of them without one). Raises BadFile."""
    whole = entry_message(old)
    if mask is None:
        whole.CopyFrom(message)
    else:
        masks.copy_masked(message, whole, mask)
    new = read_entry(whole)
    new = replace(new, revision=old.revision, created_at=old.created_at, apply_set=old.apply_set, labels=old.labels)
    if mask is None:
        return new
    return replace(  # the message has whole seconds; what was not to change keeps the rest
        new,
        x509_ttl=new.x509_ttl if mask.x509_svid_ttl else old.x509_ttl,
        jwt_ttl=new.jwt_ttl if mask.jwt_svid_ttl else old.jwt_ttl,
        expires_at=new.expires_at if mask.expires_at else old.expires_at,
    )


def certificate_message(certificate: AuthorityCertificate) -> admin_pb2.AuthorityCertificate:
    return admin_pb2.AuthorityCertificate(
        der=certificate.der,
        fingerprint=certificate.fingerprint,
        subject=certificate.subject,
        serial=f"{certificate.serial:x}",
        not_before=seconds(certificate.not_before),
        not_after=seconds(certificate.not_after),
        issuer_skid=certificate.issuer_skid.hex if certificate.issuer_skid else "",
    )


def authority_message(authority: Authority, live: int) -> admin_pb2.Authority:
    own = authority.own  # they come first: what another root signed for its key is not how long it is trusted
    return admin_pb2.Authority(
        skid=authority.skid.hex,
        kind=str(authority.kind),
        state=str(authority.state),
        key_source=str(authority.key_source),
        root_skid=authority.root_skid.hex,
        certificates=[certificate_message(c) for c in sorted(authority.certificates, key=lambda c: c not in own)],
        created_at=seconds(authority.created_at),
        changed_at=seconds(authority.changed_at),
        live_leaves=live,
        note=authority.note,
    )


def bundle_message(bundle: TrustBundle) -> admin_pb2.Bundle:
    return admin_pb2.Bundle(
        trust_domain=bundle.trust_domain.name,
        roots=bundle.roots,
        sequence=bundle.sequence,
        refresh_hint=bundle.refresh_hint,
        crls=bundle.crls,
    )


def spire_bundle_message(bundle: TrustBundle) -> bundle_pb2.Bundle:
    return bundle_pb2.Bundle(
        trust_domain=bundle.trust_domain.name,
        x509_authorities=[bundle_pb2.X509Certificate(asn1=der) for der in bundle.roots],
        refresh_hint=bundle.refresh_hint,
        sequence_number=bundle.sequence,
    )


def issuance_message(record: IssuanceRecord) -> admin_pb2.Issuance:
    intent = record.intent
    return admin_pb2.Issuance(
        serial=f"{intent.serial:032x}",
        spiffe_id=intent.spiffe_id.uri,
        entry_id=intent.entry_id,
        authority=intent.authority.hex,
        not_before=seconds(intent.not_before),
        not_after=seconds(intent.not_after),
        dns_names=intent.dns_names,
        key_fingerprint=intent.key_fingerprint,
        requester=intent.requester,
        at=seconds(intent.at),
        outcome=str(record.outcome) if record.outcome else "",
        fingerprint=record.fingerprint,
        detail=record.detail,
    )


def client_message(holding: ClientHolding) -> admin_pb2.Client:
    return admin_pb2.Client(
        node=holding.node,
        client=holding.client,
        resource=holding.resource,
        state=holding.kind,
        at=seconds(holding.at),
        version=holding.version,
        acked_version=holding.acked_version,
        acked_at=seconds(holding.acked_at),
        nack_detail=holding.nack_detail,
        spiffe_id=holding.spiffe_id,
        sequence=holding.sequence,
        serial=holding.serial,
        authority=holding.authority,
        not_after=seconds(holding.not_after),
    )


def client_key(holding: ClientHolding) -> str:
    """Where a page ends, as a page token."""
    key = json.dumps([holding.node, holding.client, holding.resource], separators=(",", ":"))
    return base64.urlsafe_b64encode(key.encode()).decode()


def read_client_key(token: str) -> ClientKey:
    """Raises InvalidInput."""
    try:
        node, client, resource = json.loads(base64.b64decode(token.encode(), b"-_", validate=True))
        if not all(isinstance(part, str) and "\0" not in part for part in (node, client, resource)):
            raise ValueError
    except (ValueError, TypeError, RecursionError):  # binascii.Error and UnicodeError are ValueErrors
        raise InvalidInput(f"{token[:80]!r} is no page token of this call") from None
    return node, client, resource
