"""Policies in the store: each change is a version of the whole set, with who made it and why, and none is ever lost.

`model` is what is kept, `ports` the store's contract, `texts` brings documents into the form that is kept, `change`
says what a change would do, `policies` carries it out, `origin` is what a server follows.
"""

from citadel.authz.stored.change import Change, Named
from citadel.authz.stored.model import DocumentKey, StoredDocument, StoredSet, Version
from citadel.authz.stored.origin import StoreOrigin
from citadel.authz.stored.policies import Changed, StoredPolicies, Wish
from citadel.authz.stored.ports import PolicyStore

__all__ = [
    "Change",
    "Changed",
    "DocumentKey",
    "Named",
    "PolicyStore",
    "StoreOrigin",
    "StoredDocument",
    "StoredPolicies",
    "StoredSet",
    "Version",
    "Wish",
]
