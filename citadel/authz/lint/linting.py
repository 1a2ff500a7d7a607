"""The linter: every check over all documents, silenced where a document says so, with the place of each finding."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from citadel.authz.facts import MeshFacts
from citadel.authz.lint import rules
from citadel.authz.lint.checks import CHECKS
from citadel.authz.lint.finding import LintFinding, Strike
from citadel.authz.lint.mesh import Mesh
from citadel.authz.load.documents import LINT_IGNORE
from citadel.authz.load.places import locate
from citadel.authz.load.result import LoadWarning, Origin, PolicyDocuments, dotted
from citadel.authz.load.tree import Path
from citadel.authz.model import Document, Kind, PolicyName
from citadel.authz.request import Workload


def lint(documents: PolicyDocuments, facts: MeshFacts, workloads: Sequence[Workload] = ()) -> tuple[LintFinding, ...]:
    """All that there is to say of these documents in the mesh of `facts`, by file and line.

    With sample `workloads`, documents that select none of them are named too. What loading warned of is included. A
    document silences codes for itself by the annotation `citadel/lint-ignore: code, code`.
    """
    everything = list(strikes(documents, facts, workloads))
    told = {
        (document.kind, document.name, strike.path)
        for document, strike in everything
        if strike.code == "matches-all-tcp"
    }
    struck = [(document, strike) for document, strike in everything if strike.code not in document.metadata.silenced]
    found = [*_placed(documents, struck), *_warned(documents, told)]
    return tuple(
        sorted(found, key=lambda one: (one.file, one.line, one.column, one.kind, one.name, one.field, one.code))
    )


def load_warnings(documents: PolicyDocuments, facts: MeshFacts) -> Iterator[LoadWarning]:
    """What loading warned of, each under the one name that the linter has for it."""
    policies = {policy.name: policy for policy in documents.authorization_policies}
    for warning in documents.warnings:
        if warning.code != "deny-widens-on-tcp":
            yield warning
            continue
        policy = policies[warning.name]
        better = [
            strike
            for strike in rules.strikes(policy, facts)
            if strike.code == "matches-all-tcp" and dotted(strike.path) == warning.field
        ]
        told = warning if not better else replace(warning, code=better[0].code, message=better[0].message)
        if told.code not in policy.metadata.silenced:
            message = f"{told.message.removesuffix('.')}; name the ports that the rule is meant for"
            yield replace(told, message=message)


def strikes(
    documents: PolicyDocuments, facts: MeshFacts, workloads: Sequence[Workload]
) -> Iterator[tuple[Document, Strike]]:
    """What every check finds, without places, and silenced or not."""
    for policy in documents.authorization_policies:
        for strike in rules.strikes(policy, facts):
            yield policy, strike
    yield from Mesh(documents, facts, workloads).strikes()
    for document in documents:
        for code in sorted(document.metadata.silenced - CHECKS.keys()):
            yield document, Strike("unknown-code", ("metadata", "annotations", LINT_IGNORE), f'there is no "{code}".')


def _placed(documents: PolicyDocuments, struck: Iterable[tuple[Document, Strike]]) -> Iterator[LintFinding]:
    """Findings with their places; each document's text is read once more for all of them."""
    by_text: dict[tuple[int, int], list[tuple[Document, Strike, Origin]]] = defaultdict(list)
    for document, strike in struck:
        origin = documents.origins.get((document.kind, document.name))
        if origin is None:
            yield _finding(document, strike, "", 0, 0)
        else:
            by_text[id(origin.piece), origin.index].append((document, strike, origin))
    for members in by_text.values():
        piece, index = members[0][2].piece, members[0][2].index
        wanted: list[Path] = [(*origin.path, *strike.path) for _, strike, origin in members]
        places = locate(piece.text, index, wanted)
        for (document, strike, origin), path in zip(members, wanted, strict=True):
            line, column = places[path]
            yield _finding(document, strike, origin.file, line + piece.line - 1, column)


def _finding(document: Document, strike: Strike, file: str, line: int, column: int) -> LintFinding:
    return LintFinding(
        strike.code, document.kind, document.name, dotted(strike.path), strike.message, file, line, column
    )


def _warned(documents: PolicyDocuments, told: set[tuple[Kind, PolicyName, Path]]) -> Iterator[LintFinding]:
    """What loading warned of, unless it is silenced, or the linter says it better."""
    better = {(kind, name, dotted(path)) for kind, name, path in told}
    for warning in documents.warnings:
        if warning.code == "deny-widens-on-tcp" and (warning.kind, warning.name, warning.field) in better:
            continue
        yield _of_warning(warning)


def _of_warning(warning: LoadWarning) -> LintFinding:
    return LintFinding(
        warning.code,
        warning.kind,
        warning.name,
        warning.field,
        warning.message + ".",
        warning.file,
        warning.line,
        warning.column,
    )
