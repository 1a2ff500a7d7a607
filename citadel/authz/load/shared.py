"""What the three kinds have in common: whom a document applies to."""

from __future__ import annotations

import re
from collections.abc import Mapping

from citadel.authz.load.findings import Findings, quoted
from citadel.authz.load.tree import NotText, Path, Value, key_text
from citadel.authz.model import TargetKind, TargetRef, WorkloadSelector

MAX_LABELS = 4096
MAX_LABEL_VALUE = 63
MAX_TARGETS = 16
MAX_NAME = 253
_GROUP = re.compile(r"(?:[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*)?")
_TARGET_FIELDS = ("group", "kind", "name", "namespace")


def selector(findings: Findings, value: Value, path: Path) -> WorkloadSelector:
    fields = findings.mapping(value, path, ("matchLabels",), "a selector")
    labels = fields.get("matchLabels", {})
    at = (*path, "matchLabels")
    if not isinstance(labels, dict):
        findings.mapping(labels, at, (), "matchLabels")
        return WorkloadSelector()
    if len(labels) > MAX_LABELS:
        findings.mistake(at, f"it has {len(labels)} labels; there may be at most {MAX_LABELS}")
        return WorkloadSelector()
    if not labels and isinstance(value, dict):
        findings.warn("selector-without-labels", path, "it has no labels, so it selects every workload; leave it out")
    return WorkloadSelector(tuple(sorted(_label(findings, key, text, at) for key, text in labels.items())))


def _label(findings: Findings, key: str | NotText, value: Value, path: Path) -> tuple[str, str]:
    name = key_text(key)
    at = (*path, name)
    if isinstance(key, NotText):
        findings.mistake(at, f"the label {name} without quotes is {key.what}; write {quoted(name)}")
    elif not name:
        findings.mistake(at, "the name of a label is empty")
    elif "*" in name:
        findings.mistake(at, f"the label {quoted(name)} has a *; labels are compared as they are")
    text = findings.text(value, at, most=MAX_LABEL_VALUE)
    if "*" in text:
        findings.mistake(at, f"the value {quoted(text)} has a *; labels are compared as they are")
    return name, text


def targets(findings: Findings, fields: Mapping[str, Value], path: Path) -> tuple[TargetRef, ...]:
    """`targetRefs` and the older `targetRef`, of which, with `selector`, only one may be there."""
    present = [key for key in ("selector", "targetRef", "targetRefs") if key in fields]
    if len(present) > 1:
        findings.mistake((*path, present[1]), f"only one of {' and '.join(present)} may be there")
    if "targetRef" in fields:
        found: tuple[TargetRef | None, ...] = (_target(findings, fields["targetRef"], (*path, "targetRef")),)
    else:
        at = (*path, "targetRefs")
        items = findings.items(fields.get("targetRefs", []), at, "targets", most=MAX_TARGETS)
        found = tuple(_target(findings, item, (*at, index)) for index, item in enumerate(items))
    return tuple(target for target in found if target is not None)


def _target(findings: Findings, value: Value, path: Path) -> TargetRef | None:
    before = len(findings.mistakes)
    fields = findings.mapping(value, path, _TARGET_FIELDS, "a target")
    group = findings.text(fields.get("group", ""), (*path, "group"), most=MAX_NAME)
    kind = name = ""
    for field in ("kind", "name"):
        if field not in fields and len(findings.mistakes) == before:
            findings.mistake(path, f"it has no {field}")
    if "kind" in fields:
        kind = findings.full_text(fields["kind"], (*path, "kind"), most=63)
    if "name" in fields:
        name = findings.full_text(fields["name"], (*path, "name"), most=MAX_NAME)
    if fields.get("namespace"):
        findings.mistake((*path, "namespace"), "a target is always in the policy's own namespace; leave this out")
    if not _GROUP.fullmatch(group):
        findings.mistake((*path, "group"), f"{quoted(group)} is not an API group")
    if len(findings.mistakes) > before:
        return None
    for one in TargetKind:
        if one.value == ("" if group == "core" else group, kind):
            return TargetRef(one, name)
    groups = {name: group for group, name in (one.value for one in TargetKind)}
    expected = f"did you mean group {groups[kind] or 'core'}?" if kind in groups else f"there are {', '.join(groups)}"
    findings.mistake(path, f"{quoted(kind)} of group {quoted(group or 'core')} cannot be a target; {expected}")
    return None
