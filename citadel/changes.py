"""Changes: what the store tells to those who must know, in this process or (on PostgreSQL) in every one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Protocol


class Topic(StrEnum):
    ENTRIES = "entries"  # registration entries were added, changed or removed
    AUTHORITIES = "authorities"  # an authority, its state or a certificate of it changed
    BUNDLES = "bundles"  # a trust bundle (own or federated) or its CRL changed
    ROTATION = "rotation"  # a plan of rotation changed
    CLIENTS = "clients"  # what a client holds or acknowledged changed
    POLICIES = "policies"  # the stored policies have a new version
    ENTITIES = "entities"  # the stored directory of entities changed


class Changes(Protocol):
    """Where changes are announced. Implementations: store.changes (memory; LISTEN/NOTIFY).

    `subscribe` gives, inside the context, an endless iterator of topics. The subscription is in force when the context
    is entered, so: subscribe first, read the state second, and no change is lost. Announcements coalesce: any number
    of changes of one topic before the reader comes back is one item, so a slow reader costs a bounded amount of
    memory and never holds up a writer. After a lost connection to the database every topic is announced once.
    An item says *that* something changed; the reader asks the store what.
    """

    def subscribe(self, topics: Collection[Topic]) -> AbstractAsyncContextManager[AsyncIterator[Topic]]: ...
