"""When clients ended, so that the oldest of these can be dropped without a look into each."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("clients", sa.Column("ended_at", sa.BigInteger, nullable=True))
    op.execute("""UPDATE clients SET ended_at = at WHERE body LIKE '%"kind":"ended"%'""")
    op.create_index("ix_clients_ended", "clients", ["node", "ended_at"])


def downgrade() -> None:
    op.drop_index("ix_clients_ended", "clients")
    op.drop_column("clients", "ended_at")
