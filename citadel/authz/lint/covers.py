"""What is part of what: values, fields, rules. Only what is sure counts; a doubt is a no."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network

from citadel.authz.lint.fields import Field, Part, parts
from citadel.authz.model import Action, Attribute, AuthorizationPolicy, Rule, WorkloadSelector
from citadel.authz.rewriting import for_tcp
from citadel.authz.template import PathTemplate, is_template

_ADDRESSES = frozenset({Attribute.SOURCE_IP.value, Attribute.REMOTE_IP.value, Attribute.DESTINATION_IP.value})
_ONLY_EQUAL = frozenset({Attribute.SOURCE_SERVICE_ACCOUNT.value, Attribute.DESTINATION_PORT.value})


def value_covers(wide: str, narrow: str, looks_at: str) -> bool:
    """Whether everything that `narrow` matches is matched by `wide`."""
    if wide == narrow:
        return True
    if looks_at in _ADDRESSES:
        outer, inner = ip_network(wide), ip_network(narrow)
        return outer.version == inner.version and inner.subnet_of(outer)  # type: ignore[arg-type]
    if looks_at in _ONLY_EQUAL or looks_at.startswith(("experimental.", "request.auth.principal")):
        return False
    if looks_at == "hosts":
        wide, narrow = wide.lower(), narrow.lower()
    if wide == "*":
        return True
    if looks_at == Attribute.SOURCE_NAMESPACE.value:
        return "*" not in wide[:-1] and wide.endswith("*") and "*" not in narrow and narrow.startswith(wide[:-1])
    if looks_at == "paths" and (is_template(wide) or is_template(narrow)):
        return (
            is_prefix(wide) and is_template(narrow) and PathTemplate.parse(narrow).literal_start.startswith(wide[:-1])
        )
    if is_prefix(wide):
        start = narrow[:-1] if is_prefix(narrow) else narrow
        return not narrow.startswith("*") and start.startswith(wide[:-1])
    if wide.startswith("*"):
        end = narrow[1:] if narrow.startswith("*") else narrow
        return not is_prefix(narrow) and end.endswith(wide[1:])
    return False


def is_prefix(value: str) -> bool:
    return value.endswith("*") and not value.startswith("*")


def contradicts(fields: Iterable[Field]) -> tuple[Field, Field] | None:
    """A field and the negative one that leaves nothing of it; None if there is no such pair."""
    fields = tuple(fields)
    for field in fields:
        if not field.negated:
            for other in fields:
                if other.negated and other.looks_at == field.looks_at and _all_covered(other.values, field):
                    return field, other
    return None


def _all_covered(wide: tuple[str, ...], narrow: Field) -> bool:
    return all(any(value_covers(one, value, narrow.looks_at) for one in wide) for value in narrow.values)


def rule_covers(wide: Rule, narrow: Rule, action: Action) -> bool:
    """Whether everything that `narrow` matches is matched by `wide`, on TCP too; both with aliases already expanded.

    On TCP the two need not be to each other as they are in HTTP: one alternative that looks at HTTP takes a whole
    ALLOW rule away.
    """
    if not _covers(wide, narrow):
        return False
    outer, inner = for_tcp(wide, action), for_tcp(narrow, action)
    return inner is None or (outer is not None and _covers(outer, inner))


def _covers(wide: Rule, narrow: Rule) -> bool:
    outer, inner = tuple(parts(wide, ())), tuple(parts(narrow, ()))
    return all(_kind_covers(outer, inner, kind) for kind in ("from", "to", "when"))


def _kind_covers(outer: tuple[Part, ...], inner: tuple[Part, ...], kind: str) -> bool:
    wide = [part for part in outer if part.path[0] == kind]
    narrow = [part for part in inner if part.path[0] == kind]
    if not wide:
        return True
    return bool(narrow) and all(any(_part_covers(one, part) for one in wide) for part in narrow)


def _part_covers(wide: Part, narrow: Part) -> bool:
    return all(any(_field_covers(field, other) for other in narrow.fields) for field in wide.fields)


def _field_covers(wide: Field, narrow: Field) -> bool:
    if (wide.looks_at, wide.negated) != (narrow.looks_at, narrow.negated):
        return False
    if wide.negated:  # what the narrow one excludes must be at least what the wide one does
        return _all_covered(narrow.values, wide)
    return _all_covered(wide.values, narrow)


# --- for which workloads


def labels_covered(wide: WorkloadSelector | None, narrow: WorkloadSelector | None) -> bool:
    """Whether each workload that `narrow` selects is selected by `wide`."""
    inner = dict(narrow.match_labels) if narrow else {}
    return wide is None or wide.selects(inner)


def may_meet(one: WorkloadSelector | None, other: WorkloadSelector | None) -> bool:
    """Whether there can be a workload that both select."""
    if one is None or other is None:
        return True
    labels = dict(one.match_labels)
    return all(labels.get(label, value) == value for label, value in other.match_labels)


def scope_covers(wide: AuthorizationPolicy, narrow: AuthorizationPolicy, root_namespace: str) -> bool:
    """Whether `wide` applies to each workload that `narrow` applies to."""
    same = wide.name.namespace == narrow.name.namespace
    if wide.target_refs or narrow.target_refs:
        attached = bool(wide.target_refs) and bool(narrow.target_refs)
        return same and attached and set(narrow.target_refs) <= set(wide.target_refs)
    return (same or wide.name.namespace == root_namespace) and labels_covered(wide.selector, narrow.selector)
