"""Signed checkpoints of the audit log; row numbers that do not run out; an index of open issuances only."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_NUMBERED = ("issuances", "audit")


def upgrade() -> None:
    big_key = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "audit_checkpoints",
        sa.Column("number", big_key, primary_key=True),
        sa.Column("writer", sa.String, nullable=False),
        sa.Column("base", sa.Boolean, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("key_id", sa.String, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_audit_checkpoints_writer", "audit_checkpoints", ["writer", "sequence"])
    op.create_table(
        "audit_keys",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("public", sa.LargeBinary, nullable=False),
        sa.Column("kek_id", sa.String, nullable=False),
        sa.Column("ciphertext", sa.LargeBinary, nullable=False),
    )
    _number_with(sa.BigInteger(), "bigint")
    op.drop_index("ix_issuances_open", "issuances")
    is_open = sa.text("outcome = ''")
    op.create_index("ix_issuances_open", "issuances", ["at"], sqlite_where=is_open, postgresql_where=is_open)


def downgrade() -> None:
    op.drop_index("ix_issuances_open", "issuances")
    op.create_index("ix_issuances_open", "issuances", ["outcome", "at"])
    _number_with(sa.Integer(), "integer")
    op.drop_table("audit_keys")
    op.drop_table("audit_checkpoints")


def _number_with(kind: sa.types.TypeEngine[int], name: str) -> None:
    """SQLite's row numbers have 64 bits anyway."""
    if op.get_bind().dialect.name != "postgresql":
        return
    for table in _NUMBERED:
        op.alter_column(table, "number", type_=kind)
        op.execute(f"ALTER SEQUENCE {table}_number_seq AS {name}")
