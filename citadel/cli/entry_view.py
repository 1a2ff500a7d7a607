"""How entries look: as rows of a table, and one by one."""

from __future__ import annotations

from datetime import datetime

from citadel.cli.documents import when
from citadel.cli.output import Column, as_cell, field

COLUMNS = [
    field("id", "id"),
    field("spiffe id", "spiffe_id"),
    field("selectors", "selectors"),
    Column("ttl", lambda document: document["x509_ttl"] or "default"),
    field("dns names", "dns_names"),
    field("expires", "expires_at", none="never"),
    field("set", "apply_set"),
]


def rows(now: datetime) -> list[Column]:
    """The lines of one entry."""
    return [
        field("id", "id"),
        field("spiffe id", "spiffe_id"),
        field("parent", "parent_id"),
        Column("selectors", lambda d: "\n".join(d["selectors"])),
        Column("ttl", lambda d: d["x509_ttl"] or "default"),
        Column("jwt ttl", lambda d: d["jwt_ttl"] or "default"),
        field("dns names", "dns_names"),
        field("hint", "hint"),
        field("federates with", "federates_with"),
        Column("labels", lambda d: as_cell([f"{key}={value}" for key, value in d["labels"].items()])),
        field("admin", "admin"),
        field("downstream", "downstream"),
        when("expires", "expires_at", now, none="never"),
        field("set", "apply_set"),
        field("revision", "revision"),
        when("created", "created_at", now),
    ]
