"""`citadel policy lint`, `show` and `test`: policies in files, and tables of decisions beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from citadel.authz import AuthorizationPolicy, Document, PeerAuthentication, PolicySet, Severity, Workload
from citadel.authz import lint as find
from citadel.authz.load.result import PolicyDocuments
from citadel.authz.policyset import compile_documents
from citadel.authz.selection import applies
from citadel.authz.sources import load_paths
from citadel.authz.tables import Coverage, MeshBlock, Table, Trial, find_tables, junit, read_table, run_table
from citadel.cli.exits import Exit
from citadel.cli.options import examples
from citadel.cli.output import Format, FormatOption, field, show_list
from citadel.cli.policy_options import (
    FilesOption,
    LabelOption,
    MeshOption,
    TrustDomainOption,
    documents,
    mesh,
    pairs,
)
from citadel.cli.run import printable, say
from citadel.errors import BadFile, Mistake, NotFound, PermissionDenied

LINT_EXAMPLES = examples(
    "citadel policy lint -f policies/", "kubectl get authorizationpolicies -A -o yaml | citadel policy lint -f -"
)
SHOW_EXAMPLES = examples("citadel policy show -f policies/", "citadel policy show -f policies/ -n shop -l app=cart")
TEST_EXAMPLES = examples("citadel policy test policies/", "citadel policy test policies/ --min-coverage 90")


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
    found = find(documents(file, block), block.facts())
    if output is Format.TABLE:
        for finding in found:
            print(printable(str(finding)))
        if not found:
            say("nothing to say of these policies")
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


def run_tests(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Tables, or folders with such.", metavar="PATH", show_default=False),
    ],
    report: Annotated[
        Path | None, typer.Option("--junit", help="Write a JUnit report to this file.", metavar="FILE")
    ] = None,
    least: Annotated[
        float,
        typer.Option(
            "--min-coverage", help="Fail if fewer of the rules are matched.", metavar="PERCENT", min=0, max=100
        ),
    ] = 0.0,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Name the cases that pass, too.")] = False,
) -> None:
    """Run tables of decisions against the policies beside them.

    A case that fails is shown with what each policy said. The exit code is 1 if one does; docs/authorization-tests.md
    has the format.
    """
    files = find_tables(paths)
    if not files:
        raise NotFound("there is no table of decisions here", mend="their names end in _test.yaml")
    coverage = Coverage()
    trials = [run_table(table, policies, coverage) for table, policies in _prepared(files, coverage)]
    for trial in trials:
        _tell(trial, verbose=verbose)
    _tell_coverage(coverage)
    if report is not None:
        try:
            report.write_text(junit(trials))
        except OSError as error:
            raise PermissionDenied(f"{report} cannot be written: {error.strerror}") from None
    failed = sum(len(trial.failed) for trial in trials)
    print(f"{sum(len(trial.results) for trial in trials) - failed} passed, {failed} failed")
    if coverage.percent < least:
        say(f"{coverage.percent:.1f} % of the rules are matched by some case, less than {least:g} %")
    if failed or coverage.percent < least:
        raise typer.Exit(Exit.FAILED)


def _prepared(files: list[Path], coverage: Coverage) -> list[tuple[Table, PolicySet]]:
    """Every table with its policies. Raises BadFile with the mistakes of all of them."""
    found: list[tuple[Table, PolicySet]] = []
    mistakes: list[Mistake] = []
    for file in files:
        try:
            table = read_table(file)
            block = table.mesh
            loaded = load_paths(table.policies, default_namespace=block.default_namespace)
            policies = compile_documents(loaded, block.facts())
        except BadFile as error:
            mistakes += [one for one in error.mistakes if one not in mistakes]
            continue
        coverage.expect(policies)
        found.append((table, policies))
    if mistakes:
        raise BadFile(mistakes)
    return found


def _tell(trial: Trial, *, verbose: bool) -> None:
    for result in trial.results:
        if not result.passed:
            print(printable(f"FAILED  {trial.table.file}: {result.case.name}"))
            for difference in result.differences:
                print(printable(f"  {difference}"))
            for line in result.explanation.to_tree().split("\n"):
                print(printable(f"  {line}"))
        elif verbose:
            print(printable(f"passed  {trial.table.file}: {result.case.name}"))


def _tell_coverage(coverage: Coverage) -> None:
    print(f"rules matched: {coverage.rules - len(coverage.unmatched)} of {coverage.rules} ({coverage.percent:.1f} %)")
    for name, rule in coverage.unmatched:
        print(printable(f"  no case matches {name}, rules[{rule}]"))
    for name, rule in coverage.never_missed:
        print(printable(f"  no case fails to match {name}, rules[{rule}]"))
