"""Plans of rotation."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "rotations",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("body", sa.String, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("rotations")
