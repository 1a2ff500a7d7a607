"""The directory of entities of AuthZEN: what is known of subjects, resources and actions, in a file or in the store.

It fills in properties that a question leaves out, and is what searches go through. `directory` has the values, `file`
reads them, `stored` changes those in the store, `ports` says what it needs for that, `source` keeps the directory in
force what a file or the store says. The guide: docs/authzen.md.
"""

from citadel.authz.entities.directory import Actor, Entity, EntityDirectory
from citadel.authz.entities.file import read_entities
from citadel.authz.entities.ports import EntityStore
from citadel.authz.entities.source import EntitySource, FileEntities, StoreEntities
from citadel.authz.entities.stored import EntityChange, EntityWish, StoredEntities

__all__ = [
    "Actor",
    "Entity",
    "EntityChange",
    "EntityDirectory",
    "EntitySource",
    "EntityStore",
    "EntityWish",
    "FileEntities",
    "StoreEntities",
    "StoredEntities",
    "read_entities",
]
