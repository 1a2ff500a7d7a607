"""Policies, and the versions that the set of them has had."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "policy_versions",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("set_version", sa.String, nullable=False, index=True),
        sa.Column("body", sa.String, nullable=False),
    )
    op.create_table(
        "policy_documents",
        sa.Column("kind", sa.String, primary_key=True),
        sa.Column("namespace", sa.String, primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("since", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("until", sa.BigInteger, nullable=True, index=True),
        sa.Column("body", sa.String, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("policy_documents")
    op.drop_table("policy_versions")
