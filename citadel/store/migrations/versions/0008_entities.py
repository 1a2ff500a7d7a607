"""The directory of entities."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "entities",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("type", sa.String, nullable=True, index=True),
        sa.Column("body", sa.String, nullable=False),
    )
    op.create_table("entity_versions", sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False))


def downgrade() -> None:
    op.drop_table("entity_versions")
    op.drop_table("entities")
