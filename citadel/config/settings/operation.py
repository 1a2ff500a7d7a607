"""`[http]`, `[jobs]`, `[log]` and `[audit]`: what operators see of Citadel, and what it does by the clock."""

from __future__ import annotations

from typing import Literal

from citadel.config.settings.section import Section, setting
from citadel.config.values import Duration, NodeName, OptionalListen


class HttpSettings(Section):
    """`/livez`, `/readyz` and `/metrics`, without authentication: keep it on loopback or a management network."""

    address: OptionalListen = setting("127.0.0.1:8476", "Address and port to listen on. Empty: off.")


class JobsSettings(Section):
    """How often things are done by the clock."""

    renew_ca: Duration = setting("1m", "Looks whether the issuing CA is to be renewed.")
    plugged_ca: Duration = setting("10s", "Looks for changed files in `root.cacerts_dir`.")
    expire_entries: Duration = setting("5s", "Deletes registration entries whose time is over.")
    planned_rotation: Duration = setting("1m", "Looks whether a planned rotation is due.")
    prune: Duration = setting("1h", "Deletes what is older than `[retention]` says.")
    audit_checkpoint: Duration = setting("5m", "Signs how far the audit log goes, if there is anything new in it.")


class LogSettings(Section):
    """The log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = setting("info", "What is logged.", reload=True)
    format: Literal["auto", "json", "console"] = setting(
        "auto", "`json`: one object a line. `console`: for people. `auto`: console on a terminal, else json."
    )


class AuditSettings(Section):
    """The audit log: who did what, chained by hashes."""

    writer: NodeName = setting("local", "Name of this server's own chain. Servers that share a database differ in it.")
    checkpoint_records: int = setting(
        10_000, "A checkpoint is signed whenever so many records came since the last one.", ge=100, le=10_000_000
    )
