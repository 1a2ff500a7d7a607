"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "meta", sa.Column("key", sa.String, primary_key=True), sa.Column("value", sa.String, nullable=False)
    )
    op.create_table(
        "authorities",
        sa.Column("skid", sa.String, primary_key=True),
        *(sa.Column(name, sa.String, nullable=False) for name in ("kind", "state", "trust_domain", "key_source")),
        sa.Column("root_skid", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
        sa.Column("note", sa.String, nullable=False),
    )
    op.create_table(
        "authority_certificates",
        sa.Column("fingerprint", sa.String, primary_key=True),
        sa.Column("skid", sa.String, sa.ForeignKey("authorities.skid"), nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("der", sa.LargeBinary, nullable=False),
        sa.Column("chain", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_authority_certificates_skid", "authority_certificates", ["skid"])
    op.create_table(
        "keys",
        sa.Column("skid", sa.String, sa.ForeignKey("authorities.skid"), primary_key=True),
        sa.Column("kek_id", sa.String, nullable=False),
        sa.Column("ciphertext", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "bundles",
        sa.Column("trust_domain", sa.String, primary_key=True),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("refresh_hint", sa.Integer, nullable=False),
        sa.Column("roots", sa.LargeBinary, nullable=False),
        sa.Column("crls", sa.LargeBinary, nullable=False),
        sa.Column("tainted", sa.String, nullable=False),
    )
    op.create_table(
        "entries",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("key", sa.String, nullable=False, unique=True),
        sa.Column("spiffe_id", sa.String, nullable=False, index=True),
        sa.Column("parent_id", sa.String, nullable=False, index=True),
        sa.Column("apply_set", sa.String, nullable=False, index=True),
        sa.Column("expires_at", sa.BigInteger, nullable=True, index=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("body", sa.String, nullable=False),
    )
    op.create_table(
        "issuances",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("serial", sa.String, nullable=False, unique=True),
        sa.Column("spiffe_id", sa.String, nullable=False, index=True),
        sa.Column("entry_id", sa.String, nullable=False, index=True),
        sa.Column("authority", sa.String, nullable=False),
        sa.Column("not_before", sa.BigInteger, nullable=False),
        sa.Column("not_after", sa.BigInteger, nullable=False, index=True),
        *(sa.Column(name, sa.String, nullable=False) for name in ("dns_names", "key_fingerprint", "requester")),
        sa.Column("at", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.String, nullable=False) for name in ("outcome", "fingerprint", "detail")),
    )
    op.create_index("ix_issuances_open", "issuances", ["outcome", "at"])
    op.create_table(
        "audit",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("writer", sa.String, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("writer", "sequence"),
    )
    op.create_table(
        "clients",
        *(sa.Column(name, sa.String, primary_key=True) for name in ("node", "client", "resource")),
        sa.Column("at", sa.BigInteger, nullable=False, index=True),
        sa.Column("body", sa.String, nullable=False),
    )
    op.create_table(
        "jobs",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("finished_at", sa.BigInteger, nullable=False),
        sa.Column("ok", sa.Boolean, nullable=False),
        sa.Column("detail", sa.String, nullable=False),
    )


def downgrade() -> None:
    for table in (
        "jobs",
        "clients",
        "audit",
        "issuances",
        "entries",
        "bundles",
        "keys",
        "authority_certificates",
        "authorities",
        "meta",
    ):
        op.drop_table(table)
