"""The tables. Times are UTC microseconds since 1970 (integers), so that both databases order and compare them alike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, UniqueConstraint, text
from sqlmodel import Field, SQLModel

_OPEN = text("outcome = ''")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BIG_KEY = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up by itself only what is called INTEGER


def to_micros(moment: datetime) -> int:
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def from_micros(value: int) -> datetime:
    return _EPOCH + timedelta(microseconds=value)


def big(*, nullable: bool = False, index: bool = False) -> Column[int]:
    return Column(BigInteger, nullable=nullable, index=index)


def blob(*, nullable: bool = False) -> Column[bytes]:
    return Column(LargeBinary, nullable=nullable)


class MetaRow(SQLModel, table=True):
    __tablename__ = "meta"
    key: str = Field(primary_key=True)
    value: str


class AuthorityRow(SQLModel, table=True):
    __tablename__ = "authorities"
    skid: str = Field(primary_key=True)
    kind: str
    state: str
    trust_domain: str
    key_source: str
    root_skid: str
    created_at: int = Field(sa_column=big())
    changed_at: int = Field(sa_column=big())
    note: str = ""
    key_ref: str = Field(default="", sa_column_kwargs={"server_default": ""})


class AuthorityCertificateRow(SQLModel, table=True):
    """Certificates of an authority's key. `ordinal` grows: the highest is the newest. `chain` is DER after DER."""

    __tablename__ = "authority_certificates"
    fingerprint: str = Field(primary_key=True)
    skid: str = Field(foreign_key="authorities.skid", index=True)
    ordinal: int
    der: bytes = Field(sa_column=blob())
    chain: bytes = Field(sa_column=blob())


class KeyRow(SQLModel, table=True):
    __tablename__ = "keys"
    skid: str = Field(primary_key=True, foreign_key="authorities.skid")
    kek_id: str
    ciphertext: bytes = Field(sa_column=blob())


class BundleRow(SQLModel, table=True):
    """`roots` is DER after DER; `crls` PEM after PEM; `tainted` fingerprints, one a line."""

    __tablename__ = "bundles"
    trust_domain: str = Field(primary_key=True)
    sequence: int = Field(sa_column=big())
    refresh_hint: int
    roots: bytes = Field(sa_column=blob())
    crls: bytes = Field(sa_column=blob())
    tainted: str = ""


class EntryRow(SQLModel, table=True):
    """`body` is the entry in JSON; the other columns are what is searched. `key` makes duplicates impossible."""

    __tablename__ = "entries"
    id: str = Field(primary_key=True)
    key: str = Field(unique=True)
    spiffe_id: str = Field(index=True)
    parent_id: str = Field(index=True)
    apply_set: str = Field(index=True)
    expires_at: int | None = Field(default=None, sa_column=big(nullable=True, index=True))
    revision: int = Field(sa_column=big())
    created_at: int = Field(sa_column=big())
    hint: str = Field(default="", index=True)
    downstream: bool = Field(default=False)
    body: str


class EntryTermRow(SQLModel, table=True):
    """What entries are looked up by: each of an entry's selectors (`s:type:value`) and federated domains (`f:name`)."""

    __tablename__ = "entry_terms"
    term: str = Field(primary_key=True)
    entry_id: str = Field(primary_key=True, index=True)


class EntryChangeRow(SQLModel, table=True):
    """The log of changes of entries. `number` grows in the order in which transactions end; the last row stays."""

    __tablename__ = "entry_changes"
    number: int | None = Field(default=None, sa_column=Column(_BIG_KEY, primary_key=True))
    entry_id: str


class IssuanceRow(SQLModel, table=True):
    """The issuance log. `serial` is hex of 32 digits; `number` gives the order."""

    __tablename__ = "issuances"
    __table_args__ = (
        # Only what has no outcome yet: nearly nothing, so it costs nearly nothing.
        Index("ix_issuances_open", "at", sqlite_where=_OPEN, postgresql_where=_OPEN),
    )
    number: int | None = Field(default=None, sa_column=Column(_BIG_KEY, primary_key=True))
    serial: str = Field(unique=True)
    spiffe_id: str = Field(index=True)
    entry_id: str = Field(index=True)
    authority: str
    not_before: int = Field(sa_column=big())
    not_after: int = Field(sa_column=big(index=True))
    dns_names: str
    key_fingerprint: str
    requester: str
    at: int = Field(sa_column=big())
    outcome: str = ""
    fingerprint: str = ""
    detail: str = ""


class AuditRow(SQLModel, table=True):
    __tablename__ = "audit"
    __table_args__ = (UniqueConstraint("writer", "sequence"),)
    number: int | None = Field(default=None, sa_column=Column(_BIG_KEY, primary_key=True))
    writer: str
    sequence: int = Field(sa_column=big())
    hash: bytes = Field(sa_column=blob())
    body: bytes = Field(sa_column=blob())


class AuditCheckpointRow(SQLModel, table=True):
    """Signed statements on a writer's chain (audit.Checkpoint). `base`: up to there it was pruned."""

    __tablename__ = "audit_checkpoints"
    __table_args__ = (Index("ix_audit_checkpoints_writer", "writer", "sequence"),)
    number: int | None = Field(default=None, sa_column=Column(_BIG_KEY, primary_key=True))
    writer: str
    base: bool
    sequence: int = Field(sa_column=big())
    hash: bytes = Field(sa_column=blob())
    at: int = Field(sa_column=big())
    key_id: str
    signature: bytes = Field(sa_column=blob())


class AuditKeyRow(SQLModel, table=True):
    """Keys that sign checkpoints, sealed (audit.SealedAuditKey)."""

    __tablename__ = "audit_keys"
    number: int = Field(primary_key=True)
    public: bytes = Field(sa_column=blob())
    kek_id: str
    ciphertext: bytes = Field(sa_column=blob())


class ClientRow(SQLModel, table=True):
    """What a client holds of one resource, as it said last. Neither a disconnect nor our restart removes a row.
    `ended_at`: when its process was seen to have ended."""

    __tablename__ = "clients"
    __table_args__ = (Index("ix_clients_ended", "node", "ended_at"),)
    node: str = Field(primary_key=True)
    client: str = Field(primary_key=True)
    resource: str = Field(primary_key=True)
    at: int = Field(sa_column=big(index=True))
    ended_at: int | None = Field(default=None, sa_column=big(nullable=True))
    body: str


class JobRow(SQLModel, table=True):
    __tablename__ = "jobs"
    name: str = Field(primary_key=True)
    started_at: int = Field(sa_column=big())
    finished_at: int = Field(sa_column=big())
    ok: bool
    detail: str = ""


class RotationRow(SQLModel, table=True):
    """Plans of rotation. `body` is the plan in JSON; `number` gives the order."""

    __tablename__ = "rotations"
    number: int | None = Field(default=None, primary_key=True)
    id: str = Field(unique=True)
    revision: int
    body: str


class EntityRow(SQLModel, table=True):
    """The directory of entities (authz.entities). `key` is the digest of type and id; `type`, in JSON, is null for an
    action; `body` is the rest of it in JSON."""

    __tablename__ = "entities"
    key: str = Field(primary_key=True)
    type: str | None = Field(default=None, index=True)
    body: str


class EntityVersionRow(SQLModel, table=True):
    """The number of the last change of `entities`: one row, or none."""

    __tablename__ = "entity_versions"
    number: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))


class PolicyVersionRow(SQLModel, table=True):
    """Versions of the set of policies (authz.stored.Version). `body` is the rest of it in JSON."""

    __tablename__ = "policy_versions"
    number: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    at: int = Field(sa_column=big())
    set_version: str = Field(index=True)
    body: str


class PolicyDocumentRow(SQLModel, table=True):
    """Each form that a policy has had: in the versions from `since` on, and before `until` (null: it is in force)."""

    __tablename__ = "policy_documents"
    kind: str = Field(primary_key=True)
    namespace: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    since: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    until: int | None = Field(default=None, sa_column=big(nullable=True, index=True))
    body: str
