"""Authorities, their sealed keys and the trust bundles, as tables. Contract: ca.ports.AuthorityStore."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, exists, func, insert, select, update

from citadel.audit import AuditEvent
from citadel.ca.certificates import read_certificate, split_der
from citadel.ca.model import (
    Authority,
    AuthorityCertificate,
    AuthorityKind,
    AuthorityState,
    KeySource,
    Outcome,
    SealedKey,
    Skid,
    TrustBundle,
)
from citadel.changes import Topic
from citadel.errors import Aborted, AlreadyExists, InvalidInput, NotFound
from citadel.spiffe import TrustDomain
from citadel.store.ledger import Ledger, Transaction
from citadel.store.tables import (
    AuthorityCertificateRow,
    AuthorityRow,
    BundleRow,
    IssuanceRow,
    KeyRow,
    from_micros,
    to_micros,
)

_A: Any = AuthorityRow.__table__  # type: ignore[attr-defined]  # SQLModel makes it
_C: Any = AuthorityCertificateRow.__table__  # type: ignore[attr-defined]  # as above
_K: Any = KeyRow.__table__  # type: ignore[attr-defined]  # as above
_B: Any = BundleRow.__table__  # type: ignore[attr-defined]  # as above
_I: Any = IssuanceRow.__table__  # type: ignore[attr-defined]  # as above


class SqlAuthorityStore:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def authorities(self) -> list[Authority]:
        async with self._ledger.reading() as transaction:
            rows = await transaction.all(select(_A).order_by(_A.c.created_at, _A.c.skid))
            certificates = await transaction.all(select(_C).order_by(_C.c.ordinal.desc()))
        of: dict[str, list[Any]] = {}
        for certificate in certificates:
            of.setdefault(certificate.skid, []).append(certificate)
        return [_authority(row, of[row.skid]) for row in rows]

    async def add(
        self, authority: Authority, key: SealedKey | None, audit: AuditEvent, *, retire: Skid | None = None
    ) -> None:
        async with self._ledger.writing(audit, topics=[Topic.AUTHORITIES]) as transaction:
            await transaction.one_at_a_time("authorities")
            await self._refuse_known(transaction, authority.skid)
            if retire is not None:
                await self.move(transaction, retire, AuthorityState.ACTIVE, AuthorityState.RETIRING, audit.at, "")
            if authority.state is AuthorityState.ACTIVE:
                await self._refuse_second(transaction, authority.kind)
            await self._write(transaction, authority, key)

    async def add_certificate(
        self,
        skid: Skid,
        certificate: AuthorityCertificate,
        chain: Sequence[bytes],
        audit: AuditEvent,
        *,
        root: Skid | None = None,
        key_ref: str | None = None,
    ) -> None:
        async with self._ledger.writing(audit, topics=[Topic.AUTHORITIES]) as transaction:
            await transaction.one_at_a_time("authorities")
            await self.certify(transaction, skid, certificate, chain)
            changed = {"root_skid": root.hex if root else None, "key_ref": key_ref}
            if values := {name: value for name, value in changed.items() if value is not None}:
                await transaction.connection.execute(update(_A).where(_A.c.skid == skid.hex).values(values))

    async def transition(
        self,
        skid: Skid,
        expected: AuthorityState,
        to: AuthorityState,
        audit: AuditEvent,
        *,
        note: str = "",
        retire: Skid | None = None,
    ) -> None:
        async with self._ledger.writing(audit, topics=[Topic.AUTHORITIES]) as transaction:
            await transaction.one_at_a_time("authorities")
            if retire is not None:
                await self.move(transaction, retire, AuthorityState.ACTIVE, AuthorityState.RETIRING, audit.at, "")
            if to is AuthorityState.ACTIVE:
                row = await transaction.first(select(_A.c.kind).where(_A.c.skid == skid.hex))
                if row:
                    await self._refuse_second(transaction, AuthorityKind(row.kind))
            await self.move(transaction, skid, expected, to, audit.at, note)

    async def needed_no_more(self, before: datetime) -> list[Skid]:
        async with self._ledger.reading() as transaction:
            rows = await transaction.all(select(_A.c.skid).where(_is_needed_no_more(before)).order_by(_A.c.created_at))
        return [Skid(row.skid) for row in rows]

    async def forget(self, skid: Skid, audit: AuditEvent) -> None:
        async with self._ledger.writing(audit, topics=[Topic.AUTHORITIES]) as transaction:
            gone = _is_needed_no_more(audit.at) & (_A.c.skid == skid.hex)
            if await transaction.first(select(_A.c.skid).where(gone)) is None:
                raise NotFound(f"{skid} is no issuing CA that nobody needs")
            for table in (_K, _C, _A):
                await transaction.connection.execute(delete(table).where(table.c.skid == skid.hex))

    async def sealed_key(self, skid: Skid) -> SealedKey:
        async with self._ledger.reading() as transaction:
            row = await transaction.first(select(_K).where(_K.c.skid == skid.hex))
        if row is None:
            raise NotFound(f"no key of the authority {skid} is kept here")
        return SealedKey(skid, row.kek_id, bytes(row.ciphertext))

    async def replace_sealed_key(self, key: SealedKey, audit: AuditEvent) -> None:
        change = update(_K).where(_K.c.skid == key.skid.hex).values(kek_id=key.kek_id, ciphertext=key.ciphertext)
        async with self._ledger.writing(audit) as transaction:
            if (await transaction.connection.execute(change)).rowcount != 1:
                raise NotFound(f"no key of the authority {key.skid} is kept here")

    async def give_key(self, key: SealedKey, source: KeySource, audit: AuditEvent) -> None:
        values = {"kek_id": key.kek_id, "ciphertext": key.ciphertext}
        async with self._ledger.writing(audit, topics=[Topic.AUTHORITIES]) as transaction:
            mine = update(_A).where(_A.c.skid == key.skid.hex).values(key_source=str(source))
            if (await transaction.connection.execute(mine)).rowcount != 1:
                raise NotFound(f"no authority has the SKID {key.skid}", mend="see: citadel ca list")
            change = update(_K).where(_K.c.skid == key.skid.hex).values(values)
            if (await transaction.connection.execute(change)).rowcount == 0:
                await transaction.connection.execute(insert(_K), [{"skid": key.skid.hex, **values}])

    async def bundle(self, trust_domain: TrustDomain) -> TrustBundle | None:
        async with self._ledger.reading() as transaction:
            row = await transaction.first(select(_B).where(_B.c.trust_domain == trust_domain.name))
        return None if row is None else bundle_of(row)

    async def bundles(self) -> list[TrustBundle]:
        async with self._ledger.reading() as transaction:
            return [bundle_of(row) for row in await transaction.all(select(_B).order_by(_B.c.trust_domain))]

    async def put_bundle(self, bundle: TrustBundle, audit: AuditEvent) -> None:
        async with self._ledger.writing(audit) as transaction:
            await self.write_bundle(transaction, bundle)

    async def raise_sequence(self, trust_domain: TrustDomain, sequence: int, audit: AuditEvent) -> int:
        """Make the bundle's sequence at least that; what it is then. Its content stays. Raises NotFound."""
        mine = _B.c.trust_domain == trust_domain.name
        async with self._ledger.writing(audit, topics=[Topic.BUNDLES]) as transaction:
            await transaction.one_at_a_time("bundles")
            row = await transaction.first(select(_B.c.sequence).where(mine).with_for_update())
            if row is None:
                raise NotFound(f"there is no bundle of {trust_domain}")
            if row.sequence >= sequence:
                return int(row.sequence)
            await transaction.connection.execute(update(_B).where(mine).values(sequence=sequence))
            return sequence

    # --- within a transaction, for this store's neighbours

    async def insert(self, transaction: Transaction, authority: Authority, key: SealedKey | None) -> None:
        """A new authority with its key. Raises AlreadyExists."""
        await self._refuse_known(transaction, authority.skid)
        await self._write(transaction, authority, key)

    async def certify(
        self, transaction: Transaction, skid: Skid, certificate: AuthorityCertificate, chain: Sequence[bytes]
    ) -> None:
        """A further certificate becomes the newest. Raises NotFound, AlreadyExists."""
        newest = await transaction.first(select(func.max(_C.c.ordinal)).where(_C.c.skid == skid.hex))
        if newest is None or newest[0] is None:
            raise NotFound(f"no authority has the SKID {skid}", mend="see: citadel ca list")
        if await transaction.first(select(_C.c.skid).where(_C.c.fingerprint == certificate.fingerprint)):
            raise AlreadyExists(f"the certificate {certificate.fingerprint} is known already")
        await self._insert(transaction, skid, certificate, chain, newest[0] + 1)

    async def put_under(self, transaction: Transaction, skid: Skid, root: Skid) -> None:
        """It chains to that root from now on."""
        await transaction.connection.execute(update(_A).where(_A.c.skid == skid.hex).values(root_skid=root.hex))

    async def write_bundle(self, transaction: Transaction, bundle: TrustBundle) -> None:
        """Contract: put_bundle, but for the audit record."""
        if not bundle.roots:
            raise InvalidInput(f"the bundle of {bundle.trust_domain} has no root: nobody could be verified with it")
        values = bundle_values(bundle)
        transaction.topics.add(Topic.BUNDLES)
        await transaction.one_at_a_time("bundles")
        mine = _B.c.trust_domain == bundle.trust_domain.name
        row = await transaction.first(select(_B.c.sequence).where(mine).with_for_update())
        if bundle.sequence != (row.sequence if row else 0) + 1:
            raise Aborted(f"the bundle of {bundle.trust_domain} has changed meanwhile")
        statement = update(_B).where(mine).values(values) if row else insert(_B).values(values)
        await transaction.connection.execute(statement)

    async def live_leaves(self, at: datetime) -> dict[Skid, int]:
        live = (
            select(_I.c.authority, func.count())
            .where(_I.c.not_after > to_micros(at), _I.c.outcome != str(Outcome.FAILED))
            .group_by(_I.c.authority)
        )
        async with self._ledger.reading() as transaction:
            return {Skid(row[0]): row[1] for row in await transaction.all(live)}

    async def _refuse_known(self, transaction: Transaction, skid: Skid) -> None:
        if await transaction.first(select(_A.c.skid).where(_A.c.skid == skid.hex)):
            raise AlreadyExists(f"the authority {skid} is known already")

    async def _write(self, transaction: Transaction, authority: Authority, key: SealedKey | None) -> None:
        await transaction.connection.execute(insert(_A), [_row(authority)])
        for ordinal, certificate in enumerate(reversed(authority.certificates)):
            newest = ordinal == len(authority.certificates) - 1
            await self._insert(transaction, authority.skid, certificate, authority.chain if newest else (), ordinal)
        if key is not None:
            values = {"skid": key.skid.hex, "kek_id": key.kek_id, "ciphertext": key.ciphertext}
            await transaction.connection.execute(insert(_K), [values])

    async def _refuse_second(self, transaction: Transaction, kind: AuthorityKind) -> None:
        query = select(_A.c.skid).where(_A.c.kind == str(kind), _A.c.state == str(AuthorityState.ACTIVE))
        if row := await transaction.first(query):
            raise Aborted(f"the {kind} authority {row.skid} is active, and there can be only one")

    async def move(
        self,
        transaction: Transaction,
        skid: Skid,
        expected: AuthorityState,
        to: AuthorityState,
        at: datetime,
        note: str,
    ) -> None:
        """Raises NotFound, Aborted."""
        row = await transaction.first(select(_A.c.state).where(_A.c.skid == skid.hex).with_for_update())
        if row is None:
            raise NotFound(f"no authority has the SKID {skid}", mend="see: citadel ca list")
        if row.state != str(expected):
            raise Aborted(f"the authority {skid} is {row.state}, not {expected}")
        change = update(_A).where(_A.c.skid == skid.hex)
        await transaction.connection.execute(change.values(state=str(to), changed_at=to_micros(at), note=note))

    async def _insert(
        self,
        transaction: Transaction,
        skid: Skid,
        certificate: AuthorityCertificate,
        chain: Sequence[bytes],
        ordinal: int,
    ) -> None:
        values = {
            "fingerprint": certificate.fingerprint,
            "skid": skid.hex,
            "ordinal": ordinal,
            "der": certificate.der,
            "chain": b"".join(chain),
        }
        await transaction.connection.execute(insert(_C), [values])


def _row(authority: Authority) -> dict[str, Any]:
    return {
        "skid": authority.skid.hex,
        "kind": str(authority.kind),
        "state": str(authority.state),
        "trust_domain": authority.trust_domain.name,
        "key_source": str(authority.key_source),
        "root_skid": authority.root_skid.hex,
        "created_at": to_micros(authority.created_at),
        "changed_at": to_micros(authority.changed_at),
        "note": authority.note,
        "key_ref": authority.key_ref,
    }


def _authority(row: Any, certificates: Sequence[Any]) -> Authority:
    return Authority(
        skid=Skid(row.skid),
        kind=AuthorityKind(row.kind),
        state=AuthorityState(row.state),
        trust_domain=TrustDomain(row.trust_domain),
        key_source=KeySource(row.key_source),
        certificates=tuple(read_certificate(bytes(c.der)) for c in certificates),
        root_skid=Skid(row.root_skid),
        created_at=from_micros(row.created_at),
        changed_at=from_micros(row.changed_at),
        chain=tuple(split_der(bytes(certificates[0].chain))),
        note=row.note,
        key_ref=row.key_ref,
    )


def bundle_values(bundle: TrustBundle) -> dict[str, Any]:
    """The row of a bundle."""
    return {
        "trust_domain": bundle.trust_domain.name,
        "sequence": bundle.sequence,
        "refresh_hint": bundle.refresh_hint,
        "roots": b"".join(bundle.roots),
        "crls": b"".join(bundle.crls),
        "tainted": "\n".join(sorted(bundle.tainted)),
    }


def bundle_of(row: Any) -> TrustBundle:
    end = b"-----END X509 CRL-----\n"
    return TrustBundle(
        trust_domain=TrustDomain(row.trust_domain),
        roots=tuple(split_der(bytes(row.roots))),
        sequence=row.sequence,
        refresh_hint=row.refresh_hint,
        crls=tuple(part + end for part in bytes(row.crls).split(end)[:-1]),
        tainted=frozenset(row.tainted.split()),
    )


def _is_needed_no_more(before: datetime) -> Any:
    over = (str(AuthorityState.REMOVED), str(AuthorityState.ABANDONED))
    return (
        (_A.c.kind == str(AuthorityKind.ISSUING))
        & _A.c.state.in_(over)
        & (_A.c.changed_at < to_micros(before))
        & ~exists().where(_I.c.authority == _A.c.skid)
    )
