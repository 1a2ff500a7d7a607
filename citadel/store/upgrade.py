"""Runs the migrations (Alembic). Imported only where there is one to run."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from citadel.errors import NewerDatabase

_MIGRATIONS = Path(__file__).parent / "migrations"


def alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config


def upgrade(connection: Connection, where: str, to: str) -> None:
    """Raises NewerDatabase."""
    config = alembic_config()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    present = MigrationContext.configure(connection).get_current_heads()
    if unknown := set(present) - known:
        raise NewerDatabase(
            f"the database {where} was written by a newer Citadel (revision {', '.join(sorted(unknown))})",
            mend="run that version, or restore a backup from before the upgrade",
        )
    config.attributes["connection"] = connection
    command.upgrade(config, to)


def downgrade(connection: Connection, to: str) -> None:
    config = alembic_config()
    config.attributes["connection"] = connection
    command.downgrade(config, to)
