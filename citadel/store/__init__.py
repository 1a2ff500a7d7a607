"""The store: where everything that must last is written, on SQLite or PostgreSQL. The only room that knows SQL."""

from citadel.store.store import Store

__all__ = ["Store"]
