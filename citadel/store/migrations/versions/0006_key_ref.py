"""Where the key of an authority is that is kept elsewhere (Vault)."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("authorities", sa.Column("key_ref", sa.String, nullable=False, server_default=""))


def downgrade() -> None:
    with op.batch_alter_table("authorities") as table:
        table.drop_column("key_ref")
