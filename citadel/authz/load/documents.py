"""One document of a file: whose kind it is, its name and annotations, and what stands around the `spec`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from difflib import SequenceMatcher

from citadel.authz.load import values
from citadel.authz.load.authorization import authorization_policy
from citadel.authz.load.findings import Findings, Refusal, TooManyMistakes, found, nearest, quoted
from citadel.authz.load.peer_authentication import peer_authentication
from citadel.authz.load.request_authentication import request_authentication
from citadel.authz.load.tree import NotText, Path, Value, key_text
from citadel.authz.model import Action, Document, Kind, Metadata, PolicyName

GROUP = "security.istio.io"
VERSIONS = ("v1", "v1beta1")
DRY_RUN = "istio.io/dry-run"
LINT_IGNORE = "citadel/lint-ignore"

_KINDS = {kind.value: kind for kind in Kind}
_LISTS = {f"{kind.value}List": kind for kind in Kind}
_FOREIGN_GROUPS = ("policy.linkerd.io",)  # has an AuthorizationPolicy of its own
_TOP = ("apiVersion", "kind", "metadata", "spec", "status")
# ObjectMeta (kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta)
_METADATA = (
    "name",
    "namespace",
    "annotations",
    "labels",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
)
_NULL_SPEC = {"spec": "for an AuthorizationPolicy, an ALLOW that never matches, so that all is denied"}
_REFUSED_ANNOTATIONS = (
    "internal.istio.io/webhook-always-reject",
    "internal.istio.io/parent-namespace",
    "internal.istio.io/parents",
)
_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_TRUE = ("1", "t", "T", "TRUE", "true", "True")  # Go's strconv.ParseBool
_FALSE = ("0", "f", "F", "FALSE", "false", "False")


@dataclass(slots=True)
class Reading:
    """What one object, a document or an item of a List, turned out to be: ours, or skipped, or wrong."""

    path: Path
    """Where it is in its document: empty, or `items`, n."""
    title: str = ""
    """`Kind namespace/name`, as far as they are known; for messages."""
    document: Document | None = None
    skipped: tuple[str, str, str] | None = None
    """(apiVersion, kind, namespace/name) of something that is none of our business."""
    findings: Findings = field(default_factory=Findings)


def objects(value: Value, default_namespace: str) -> Iterator[Reading]:
    """Read a document, or each item of a `List`."""
    if isinstance(value, dict) and isinstance(value.get("items"), list) and _is_list(value):
        for index, item in enumerate(value["items"]):
            yield _object(item, ("items", index), default_namespace)
    else:
        yield _object(value, (), default_namespace)


def _is_list(value: dict[str, Value]) -> bool:
    kind, version = value.get("kind"), value.get("apiVersion")
    return (kind == "List" and version == "v1") or (
        kind in _LISTS and isinstance(version, str) and version.partition("/")[0] == GROUP
    )


def _object(value: Value, path: Path, default_namespace: str) -> Reading:
    reading = Reading(path)
    if not isinstance(value, dict):
        reading.findings.mistake(path, f"expected a Kubernetes object, a mapping{found(value)}")
        return reading
    kind = _kind(reading, value)
    if kind is not None:
        with suppress(TooManyMistakes):
            _ours(reading, value, kind, default_namespace)
    return reading


# --- whose is it?


def _kind(reading: Reading, value: dict[str, Value]) -> Kind | None:
    """The kind, if it is one of ours and rightly spelt. Otherwise it is skipped, or a mistake."""
    findings, path = reading.findings, reading.path
    for key in ("apiVersion", "kind"):
        if not isinstance(value.get(key), str) or not value[key]:
            where = (*path, key) if key in value else path
            findings.mistake(
                where, f"a Kubernetes object has {key}, a text" + (found(value[key]) if key in value else "")
            )
    if findings.mistakes:
        return None
    group, _, version = value["apiVersion"].rpartition("/")
    kind: str = value["kind"]
    reading.title = " ".join(filter(None, [quoted(kind)[1:-1], _shown_name(value)]))
    if group == GROUP:
        return _known_kind(findings, path, version, kind)
    if (why := _near_miss(group, version, kind)) is not None:
        field, message = why
        findings.mistake((*path, field), message)
        return None
    reading.skipped = (value["apiVersion"], kind, _shown_name(value))
    return None


def _known_kind(findings: Findings, path: Path, version: str, kind: str) -> Kind | None:
    if version not in VERSIONS:
        findings.mistake(
            (*path, "apiVersion"), f"{GROUP} has no version {quoted(version)}; there are {', '.join(VERSIONS)}"
        )
    if kind not in _KINDS:
        expected = nearest(kind, _KINDS) or f"; there are {', '.join(_KINDS)}"
        findings.mistake((*path, "kind"), f"{GROUP} has no kind {quoted(kind)}{expected}")
    return _KINDS.get(kind) if version in VERSIONS else None


def _near_miss(group: str, version: str, kind: str) -> tuple[str, str] | None:
    """Whether something of another group was surely meant to be ours: the field, and what is wrong with it."""
    if group in _FOREIGN_GROUPS:
        return None
    if _alike(group.lower(), GROUP):
        return "apiVersion", f"there is no API group {quoted(group)}; did you mean {GROUP}/{VERSIONS[0]}?"
    plain = kind.lower().replace("-", "").replace("_", "").replace(" ", "")
    for name in _KINDS:
        lower = name.lower()
        if plain in (lower, lower + "s", lower[:-1] + "ies", lower + "list") or _alike(plain, lower):
            written = f"{group}/{version}" if group else version
            return "apiVersion", f"a {name} has apiVersion {GROUP}/{VERSIONS[0]}, not {quoted(written)}"
    return None


def _alike(text: str, other: str) -> bool:
    if abs(len(text) - len(other)) > 3:
        return False
    matcher = SequenceMatcher(None, other, text, autojunk=False)
    return matcher.real_quick_ratio() >= 0.88 and matcher.quick_ratio() >= 0.88 and matcher.ratio() >= 0.88


def _shown_name(value: dict[str, Value]) -> str:
    metadata = value.get("metadata")
    if not isinstance(metadata, dict):
        return ""
    parts = [metadata.get(key) for key in ("namespace", "name")]
    return "/".join(quoted(part)[1:-1] for part in parts if isinstance(part, str) and part)


# --- ours


def _ours(reading: Reading, value: dict[str, Value], kind: Kind, default_namespace: str) -> None:
    findings, path = reading.findings, reading.path
    fields = findings.mapping(value, path, _TOP, f"the object {kind}", null=_NULL_SPEC)
    if "spec" not in value:
        means = f": {_NULL_SPEC['spec']}" if kind is Kind.AUTHORIZATION_POLICY else ""
        findings.warn("no-spec", path, f"it has no spec{means}")
    metadata, annotations = _metadata(reading, fields, kind, default_namespace)
    spec, at = fields.get("spec", {}), (*path, "spec")
    dry_run = _dry_run(findings, annotations, (*path, "metadata", "annotations"), kind)
    document: Document
    if kind is Kind.AUTHORIZATION_POLICY:
        document = authorization_policy(findings, spec, at, metadata, dry_run=dry_run)
        if DRY_RUN in annotations and document.action not in (Action.ALLOW, Action.DENY):
            findings.mistake(
                (*path, "metadata", "annotations", DRY_RUN),
                f"only ALLOW and DENY have a dry run, not {document.action}",
            )
    elif kind is Kind.REQUEST_AUTHENTICATION:
        document = request_authentication(findings, spec, at, metadata)
    else:
        document = peer_authentication(findings, spec, at, metadata)
    if not findings.mistakes:
        reading.document = document


def _metadata(
    reading: Reading, fields: dict[str, Value], kind: Kind, default_namespace: str
) -> tuple[Metadata, dict[str, str]]:
    findings, at = reading.findings, (*reading.path, "metadata")
    if "metadata" not in fields:
        findings.mistake(reading.path, "it has no metadata.name")
    given = fields.get("metadata", {})
    if isinstance(given, dict):  # kubectl writes `creationTimestamp: null`, and takes an empty namespace for none
        given = {k: v for k, v in given.items() if (k, v) not in (("creationTimestamp", None), ("namespace", ""))}
    inner = findings.mapping(given, at, _METADATA, "metadata")
    name = _name(findings, inner, at, fields)
    namespace = default_namespace
    if "namespace" in inner:
        namespace = findings.full_text(inner["namespace"], (*at, "namespace"))
        if namespace and not _LABEL.fullmatch(namespace):
            findings.mistake(
                (*at, "namespace"),
                f"{quoted(namespace)} is not a namespace: expected up to 63 lower-case letters, digits and dashes",
            )
    elif name:
        findings.warn("no-namespace", at, f'it has no namespace, and is taken to be in "{default_namespace}"')
    reading.title = f"{kind} {quoted(namespace)[1:-1]}/{quoted(name)[1:-1]}" if name else reading.title
    annotations = _annotations(findings, inner.get("annotations", {}), (*at, "annotations"))
    return Metadata(
        PolicyName(namespace, name), _created(findings, inner, at), _silenced(annotations.get(LINT_IGNORE, ""))
    ), annotations


def _name(findings: Findings, inner: dict[str, Value], at: Path, fields: dict[str, Value]) -> str:
    if "name" not in inner:
        if isinstance(fields.get("metadata"), dict):
            findings.mistake(at, "it has no name" + ("; generateName is not one" if "generateName" in inner else ""))
        return ""
    name = findings.full_text(inner["name"], (*at, "name"), most=253)
    if name and not _SUBDOMAIN.fullmatch(name):
        findings.mistake(
            (*at, "name"),
            f"{quoted(name)} is not a name: expected lower-case letters, digits, dashes and dots, "
            "a letter or digit at each end",
        )
    return name


def _created(findings: Findings, inner: dict[str, Value], at: Path) -> datetime | None:
    if "creationTimestamp" not in inner:
        return None
    text = findings.full_text(inner["creationTimestamp"], (*at, "creationTimestamp"))
    created = values.timestamp(text) if text else None
    if isinstance(created, Refusal):
        findings.mistake((*at, "creationTimestamp"), created.message)
        return None
    return created


def _annotations(findings: Findings, value: Value, path: Path) -> dict[str, str]:
    if not isinstance(value, dict):
        findings.mistake(path, f"expected a mapping{found(value)}")
        return {}
    texts = {}
    for key, inner in value.items():
        at = (*path, key_text(key))
        if isinstance(key, NotText):
            findings.mistake(at, f"the annotation {key.text} without quotes is {key.what}; write {quoted(key.text)}")
        elif key in _REFUSED_ANNOTATIONS:
            findings.mistake(at, "this annotation is Istio's own, and may not be set")
        else:
            text = findings.text(inner, at)
            if isinstance(inner, str):
                texts[key] = text
    return texts


def _dry_run(findings: Findings, annotations: dict[str, str], path: Path, kind: Kind) -> bool:
    if DRY_RUN not in annotations:
        return False
    at = (*path, DRY_RUN)
    if kind is not Kind.AUTHORIZATION_POLICY:
        findings.mistake(at, f"a {kind} has no dry run; remove the annotation")
        return False
    text = annotations[DRY_RUN]
    if text not in _TRUE and text not in _FALSE:
        findings.mistake(at, f'{quoted(text)} is neither "true" nor "false"')
    return text in _TRUE


def _silenced(text: str) -> frozenset[str]:
    return frozenset(filter(None, (code.strip() for code in text.split(","))))
