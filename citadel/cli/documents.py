"""What the API answers, as documents: the stable keys of `-o json`. Times are RFC 3339 in UTC, or null."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from citadel.api.proto.citadel.v1 import admin_pb2 as admin
from citadel.api.proto.spire.api.types import entry_pb2, selector_pb2, spiffeid_pb2
from citadel.cli.output import Column
from citadel.cli.times import both, iso, relative
from citadel.config import EntryDraft, format_duration
from citadel.errors import InvalidInput
from citadel.spiffe import SpiffeId

Document = dict[str, Any]  # what output.Document shows
_LONGEST = timedelta(seconds=2**31 - 1)  # an int32


def moment(seconds: int) -> datetime | None:
    """A moment from seconds since 1970; 0 is none."""
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def time(seconds: int) -> str | None:
    return iso(moment(seconds))


def shown(text: str | None, now: datetime, *, none: str = "-") -> str:
    """A document's time for people: absolute and relative."""
    return both(datetime.fromisoformat(text), now) if text else none


def when(title: str, key: str, now: datetime, *, none: str = "-") -> Column:
    """A column with a document's time: absolute and relative, or only relative where there is little room."""

    def far(document: Mapping[str, Any]) -> str:
        text = document[key]
        return relative(datetime.fromisoformat(text), now) if text else none

    return Column(title, lambda document: shown(document[key], now, none=none), far)


def skid_column(title: str, key: str) -> Column:
    """A column with an authority's SKID; its first digits are enough where there is little room."""
    return Column(title, lambda document: document[key] or "-", lambda document: (document[key] or "-")[:8])


def seconds(length: timedelta | None, field: str) -> int:
    """Whole seconds, as the API carries them. Raises InvalidInput."""
    if length is None:
        return 0
    if length > _LONGEST:
        raise InvalidInput(f"{field}: {format_duration(length)} is too long")
    if length % timedelta(seconds=1):
        raise InvalidInput(f"{field}: {format_duration(length)} is not in whole seconds")
    return int(length.total_seconds())


def _length(ttl: int) -> str | None:
    return format_duration(timedelta(seconds=ttl)) if ttl else None


def entry(details: admin.EntryDetails) -> Document:
    one = details.entry
    return {
        "id": one.id,
        "spiffe_id": spiffe_id(one.spiffe_id),
        "parent_id": spiffe_id(one.parent_id),
        "selectors": sorted(f"{s.type}:{s.value}" for s in one.selectors),
        "x509_ttl": _length(one.x509_svid_ttl),
        "jwt_ttl": _length(one.jwt_svid_ttl),
        "dns_names": list(one.dns_names),
        "federates_with": list(one.federates_with),
        "hint": one.hint,
        "admin": one.admin,
        "downstream": one.downstream,
        "store_svid": one.store_svid,
        "expires_at": time(one.expires_at),
        "labels": dict(sorted(details.labels.items())),
        "apply_set": details.apply_set,
        "revision": one.revision_number,
        "created_at": time(one.created_at),
    }


def spiffe_id(message: spiffeid_pb2.SPIFFEID) -> str:
    return f"spiffe://{message.trust_domain}{message.path}"


def spiffe_id_message(value: SpiffeId) -> spiffeid_pb2.SPIFFEID:
    return spiffeid_pb2.SPIFFEID(trust_domain=value.trust_domain.name, path=value.path)


def entry_message(draft: EntryDraft) -> admin.EntryDetails:
    """A draft as the API takes it; without a parent, the server takes its own node. Raises InvalidInput."""
    expires = draft.expires_at
    return admin.EntryDetails(
        entry=entry_pb2.Entry(
            id=draft.id,
            spiffe_id=spiffe_id_message(draft.spiffe_id),
            parent_id=spiffe_id_message(draft.parent_id) if draft.parent_id else None,
            selectors=[selector_pb2.Selector(type=s.type, value=s.value) for s in sorted(draft.selectors)],
            x509_svid_ttl=seconds(draft.x509_ttl, "x509_ttl"),
            jwt_svid_ttl=seconds(draft.jwt_ttl, "jwt_ttl"),
            federates_with=sorted(td.name for td in draft.federates_with),
            admin=draft.admin,
            downstream=draft.downstream,
            store_svid=draft.store_svid,
            expires_at=int(expires.timestamp()) if expires else 0,
            dns_names=draft.dns_names,
            hint=draft.hint,
        ),
        labels=dict(draft.labels),
    )


def authority(one: admin.Authority) -> Document:
    newest = one.certificates[0] if one.certificates else admin.AuthorityCertificate()
    return {
        "skid": one.skid,
        "kind": one.kind,
        "state": one.state,
        "subject": newest.subject,
        "not_before": time(newest.not_before),
        "not_after": time(newest.not_after),
        "signed_by": newest.issuer_skid,
        "root_skid": one.root_skid,
        "live_leaves": one.live_leaves,
        "key_source": one.key_source,
        "created_at": time(one.created_at),
        "changed_at": time(one.changed_at),
        "note": one.note,
        "certificates": [_certificate(certificate) for certificate in one.certificates],
    }


def _certificate(one: admin.AuthorityCertificate) -> Document:
    return {
        "fingerprint": one.fingerprint,
        "subject": one.subject,
        "serial": one.serial,
        "not_before": time(one.not_before),
        "not_after": time(one.not_after),
        "issuer_skid": one.issuer_skid,
    }


def issuance(one: admin.Issuance) -> Document:
    return {
        "serial": one.serial,
        "spiffe_id": one.spiffe_id,
        "entry_id": one.entry_id,
        "authority": one.authority,
        "not_before": time(one.not_before),
        "not_after": time(one.not_after),
        "dns_names": list(one.dns_names),
        "outcome": one.outcome or "unsettled",
        "fingerprint": one.fingerprint,
        "key_fingerprint": one.key_fingerprint,
        "requester": one.requester,
        "at": time(one.at),
        "detail": one.detail,
    }


def client(one: admin.Client) -> Document:
    return {
        "node": one.node,
        "client": one.client,
        "resource": one.resource,
        "state": one.state,
        "at": time(one.at),
        "version": one.version,
        "acked_version": one.acked_version,
        "acked_at": time(one.acked_at),
        "nack_detail": one.nack_detail,
        "spiffe_id": one.spiffe_id,
        "bundle_sequence": one.sequence or None,
        "serial": one.serial,
        "authority": one.authority,
        "not_after": time(one.not_after),
    }


def policies(one: admin.Policies) -> Document:
    held = {"version": one.held_version, "documents": one.held_documents, "why": one.held_why}
    return {
        "source": one.source,
        "version": one.version,
        "stored_version": one.stored_version or None,
        "documents": one.documents,
        "since": time(one.since),
        "restored": one.restored,
        "fault": one.fault,
        "held": held if one.held_version else None,
    }


def vault(one: admin.Vault) -> Document:
    return {
        "address": one.address,
        "signed_in_as": one.signed_in_as,
        "policies": list(one.policies),
        "token_until": time(one.token_until),
        "token_renewed_at": time(one.token_renewed_at),
        "fault": one.fault,
        "fault_since": time(one.fault_since),
        "last_fault": one.last_fault,
        "last_fault_at": time(one.last_fault_at),
        "server_version": one.server_version,
        "cluster": one.cluster,
        "initialised": one.initialised,
        "sealed": one.sealed,
        "standby": one.standby,
        "lasts": one.lasts,
        "findings": [
            {
                "kind": f.kind,
                "subject": f.subject,
                "finding": f.sentence,
                "mend": f.mend,
                "stops": f.stops,
                "since": time(f.since),
            }
            for f in one.findings
        ],
    }


def status(one: admin.Status) -> Document:
    return {
        "version": one.version,
        "trust_domain": one.trust_domain,
        "node_id": one.node_id,
        "started_at": time(one.started_at),
        "ready": all(check.ok for check in one.checks),
        "waiting": list(one.waiting),
        "store": {"kind": one.store_kind, "error": one.store_error},
        "bundle_sequence": one.bundle_sequence,
        "entries": one.entries,
        "streams": one.streams,
        "policies": policies(one.policies) if one.HasField("policies") else None,
        "vault": vault(one.vault) if one.HasField("vault") else None,
        "checks": [{"name": c.name, "ok": c.ok, "reason": c.reason, "since": time(c.since)} for c in one.checks],
        "authorities": [authority(a) for a in one.authorities],
        "identities": [
            {
                "entry_id": i.entry_id,
                "spiffe_id": i.spiffe_id,
                "not_after": time(i.not_after),
                "renew_at": time(i.renew_at),
                "last_error": i.last_error,
            }
            for i in one.identities
        ],
        "jobs": [
            {
                "name": job.name,
                "last_started_at": time(job.last_started_at),
                "last_finished_at": time(job.last_finished_at),
                "ok": job.ok,
                "detail": job.detail,
                "next_run_at": time(job.next_run_at),
            }
            for job in one.jobs
        ],
    }
