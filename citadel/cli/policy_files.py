"""`citadel policy lint` and `show`: policies in files."""

from __future__ import annotations

from typing import Annotated

import typer

from citadel.authz import AuthorizationPolicy, Document, PeerAuthentication, Severity, Workload
from citadel.authz import lint as find
from citadel.authz.load.result import PolicyDocuments
from citadel.authz.selection import applies
from citadel.authz.tables import MeshBlock
from citadel.cli.exits import Exit
from citadel.cli.options import examples
from citadel.cli.output import Format, FormatOption, field, show_list
from citadel.cli.policy_options import (
    NOTHING_READ,
    FilesOption,
    LabelOption,
    MeshOption,
    TrustDomainOption,
    documents,
    mesh,
    pairs,
)
from citadel.cli.run import printable, say

LINT_EXAMPLES = examples(
    "citadel policy lint -f policies/", "kubectl get authorizationpolicies -A -o yaml | citadel policy lint -f -"
)
SHOW_EXAMPLES = examples("citadel policy show -f policies/", "citadel policy show -f policies/ -n shop -l app=cart")


def lint(
    file: FilesOption,
    mesh_file: MeshOption = None,
    trust_domain: TrustDomainOption = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as errors.")] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """Say what in policies does not do what it seems to.

    The exit code is 1 if there is an error; docs/authorization-lint.md lists all codes, and how to silence one.
    """
    block = mesh(mesh_file, trust_domain)
    read = documents(file, block)
    found = find(read, block.facts())
    if output is Format.TABLE:
        for finding in found:
            print(printable(str(finding)))
        if not found:
            say("nothing to say of these policies" if len(read) else NOTHING_READ)
    else:
        rows = [
            {
                "code": one.code,
                "severity": one.severity.value,
                "kind": one.kind.value,
                "name": str(one.name),
                "field": one.field,
                "file": one.file,
                "line": one.line,
                "column": one.column,
                "message": one.message,
                "mend": one.mend,
            }
            for one in found
        ]
        show_list(rows, [], output, empty="")
    bad = {Severity.ERROR, Severity.WARNING} if strict else {Severity.ERROR}
    if any(one.severity in bad for one in found):
        raise typer.Exit(Exit.FAILED)


def show(
    file: FilesOption,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Only what applies to a workload here.", metavar="NAME")
    ] = None,
    label: LabelOption = None,
    mesh_file: MeshOption = None,
    trust_domain: TrustDomainOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """List the documents in files, or those of one workload."""
    block = mesh(mesh_file, trust_domain)
    loaded = documents(file, block)
    workload = None if namespace is None else Workload(namespace, pairs(label, "--label"))
    shown = [_row(one, loaded) for one in loaded if workload is None or _applies(one, workload, block)]
    columns = [
        field("kind", "kind"),
        field("name", "name"),
        field("action", "action"),
        field("dry run", "dry_run"),
        field("rules", "rules"),
        field("selector", "selector", none="all"),
        field("where", "where"),
    ]
    show_list(shown, columns, output, empty="there are no such documents")
    if output is Format.TABLE:
        for skipped in loaded.skipped:
            say(f"not read: {skipped}")


def _applies(document: Document, workload: Workload, block: MeshBlock) -> bool:
    if not isinstance(document, PeerAuthentication):
        return applies(document, workload, block.root_namespace)
    near = document.name.namespace in (block.root_namespace, workload.namespace)
    return near and (document.selector is None or document.selector.selects(workload.labels))


def _row(document: Document, loaded: PolicyDocuments) -> dict[str, object]:
    policy = document if isinstance(document, AuthorizationPolicy) else None
    labels = () if document.selector is None else document.selector.match_labels
    return {
        "kind": document.kind.value,
        "name": str(document.name),
        "action": None if policy is None else policy.action.value,
        "dry_run": None if policy is None else policy.dry_run,
        "rules": None if policy is None else len(policy.rules),
        "selector": [f"{name}={value}" for name, value in labels],
        "where": str(loaded.origin(document)),
    }
