"""What a change of the stored policies would do: pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from citadel.authz.model import Kind, PolicyName
from citadel.authz.stored.model import DocumentKey, StoredDocument
from citadel.errors import InvalidInput, NotFound

_SHORT = {"ap": Kind.AUTHORIZATION_POLICY, "ra": Kind.REQUEST_AUTHENTICATION, "pa": Kind.PEER_AUTHENTICATION}
_KINDS = {
    **_SHORT,
    **{kind.lower(): kind for kind in Kind},
    **{f"{kind.lower()}s": kind for kind in Kind},
    "authorizationpolicies": Kind.AUTHORIZATION_POLICY,
}


@dataclass(frozen=True, slots=True)
class Change:
    """The step from one set to another."""

    created: tuple[StoredDocument, ...]
    updated: tuple[StoredDocument, ...]
    deleted: tuple[DocumentKey, ...]
    unchanged: int
    after: tuple[StoredDocument, ...]
    """Everything that there is afterwards, in order of the keys."""

    @property
    def is_empty(self) -> bool:
        return not (self.created or self.updated or self.deleted)


@dataclass(frozen=True, slots=True)
class Named:
    """A document as an operator names it: `shop/web`, or with its kind, `RequestAuthentication/shop/web`."""

    kind: Kind | None
    name: PolicyName

    @classmethod
    def parse(cls, text: str) -> Named:
        """Raises InvalidInput."""
        *kinds, namespace, name = ["", "", *text.split("/")][-3:] if text.count("/") <= 2 else ["", "", ""]
        if not (namespace and name):
            raise InvalidInput(f"{text[:120]!r} is no name of a document: expected [KIND/]NAMESPACE/NAME")
        kind = kinds[0]
        if kind and kind.lower() not in _KINDS:
            raise InvalidInput(f"{kind[:60]!r} is no kind of document; there are {', '.join(Kind)}")
        return cls(_KINDS[kind.lower()] if kind else None, PolicyName(namespace, name))

    def __str__(self) -> str:
        return f"{self.kind or 'document'} {self.name}"


def applied(before: Sequence[StoredDocument], given: Iterable[StoredDocument], *, prune: bool) -> Change:
    """`given` created, or put in the place of those of their name; with `prune` nothing else remains."""
    old = {one.key: one for one in before}
    new = {one.key: one for one in given}
    created = tuple(one for key, one in new.items() if key not in old)
    updated = tuple(one for key, one in new.items() if key in old and old[key].body != one.body)
    deleted = tuple(key for key in old if key not in new) if prune else ()
    kept = {} if prune else old
    changed = {one.key for one in (*created, *updated)}
    after = {**kept, **{key: one if key in changed else old[key] for key, one in new.items()}}
    same = len(new) - len(changed) + (0 if prune else len(old.keys() - new.keys()))
    return Change(created, updated, deleted, same, tuple(sorted(after.values(), key=lambda one: one.key)))


def without(before: Sequence[StoredDocument], names: Iterable[Named]) -> Change:
    """The named documents deleted. Raises NotFound naming all that are not there, InvalidInput for a name without a
    kind that several have."""
    gone: set[DocumentKey] = set()
    missing: list[str] = []
    for named in names:
        found = [one.key for one in before if one.key.name == named.name and named.kind in (None, one.key.kind)]
        if not found:
            missing.append(str(named))
        elif len(found) > 1:
            kinds = " and ".join(f"{key.kind}/{key.name}" for key in found)
            raise InvalidInput(f"there are several documents {named.name}: {kinds}", mend="name one with its kind")
        gone.update(found)
    if missing:
        raise NotFound(f"there is no {', no '.join(missing)}", mend="see: citadel policy list")
    after = tuple(one for one in before if one.key not in gone)
    return Change((), (), tuple(sorted(gone)), len(after), after)
