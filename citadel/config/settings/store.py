"""`[store]` and `[retention]`: the database, and how long records stay in it."""

from __future__ import annotations

from pydantic import SecretStr

from citadel.config.settings.section import Section, setting
from citadel.config.values import Duration, OptionalSecret


class StoreSettings(Section):
    """Where everything that must last is written."""

    url: SecretStr = setting(
        "",
        "Database. Empty: SQLite in `DATA_DIR/db/citadel.db`. Otherwise `sqlite:////absolute/path`, or "
        "`postgresql://user@host:port/name` for several servers. A password in it is taken from the environment "
        "(`CITADEL_STORE__URL`) only, never from the file: use `store.password_file`.",
    )
    password_file: OptionalSecret = setting(
        "", "Password of the database user: `file:PATH` (mode 0600) or `credential:NAME` (systemd's LoadCredential=)."
    )
    pool_size: int = setting(10, "Connections to PostgreSQL that are held open.", ge=1, le=1000)
    timeout: Duration = setting(
        "10s",
        "How long to wait for the database: for a connection to it, for a lock, for its answer to one statement.",
    )


class RetentionSettings(Section):
    """How long records are kept."""

    issuance: Duration = setting("90d", "Records of certificates, after these have expired.", reload=True)
    audit: Duration = setting(
        "1y", "Records of the audit log. Its checkpoints stay, so that the rest can be verified.", reload=True
    )
    clients: Duration = setting("30d", "What clients acknowledged, after they were last heard of.", reload=True)
    batch: int = setting(1000, "Rows that one deleting transaction takes.", reload=True, ge=1, le=100_000)
