"""A log of changes of entries, and what entries are looked up by."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_BATCH = 1000


def upgrade() -> None:
    big_key = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "entry_changes",
        sa.Column("number", big_key, primary_key=True),
        sa.Column("entry_id", sa.String, nullable=False),
    )
    op.create_table(
        "entry_terms",
        sa.Column("term", sa.String, primary_key=True),
        sa.Column("entry_id", sa.String, primary_key=True, index=True),
    )
    op.add_column("entries", sa.Column("hint", sa.String, nullable=False, server_default="", index=True))
    op.add_column("entries", sa.Column("downstream", sa.Boolean, nullable=False, server_default=sa.false()))
    _fill(op.get_bind())


def _fill(connection: sa.Connection) -> None:
    entries = sa.table("entries", *map(sa.column, ("id", "hint", "downstream", "body")))
    terms = sa.table("entry_terms", sa.column("term"), sa.column("entry_id"))
    after = ""
    while rows := connection.execute(
        sa.select(entries.c.id, entries.c.body).where(entries.c.id > after).order_by(entries.c.id).limit(_BATCH)
    ).all():
        found = []
        for entry_id, text in rows:
            body = json.loads(text)
            change = sa.update(entries).where(entries.c.id == entry_id)
            connection.execute(change.values(hint=body["hint"], downstream=body["downstream"]))
            found += [{"term": f"s:{kind}:{value}", "entry_id": entry_id} for kind, value in body["selectors"]]
            found += [{"term": f"f:{name}", "entry_id": entry_id} for name in body["federates_with"]]
        connection.execute(sa.insert(terms), found)
        after = rows[-1].id


def downgrade() -> None:
    op.drop_index("ix_entries_hint", "entries")
    op.drop_column("entries", "downstream")
    op.drop_column("entries", "hint")
    op.drop_table("entry_terms")
    op.drop_table("entry_changes")
