"""`citadel policy test`: tables of decisions, run once, or again whenever a file changes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from watchfiles import watch as changes

from citadel.authz import PolicySet
from citadel.authz.policyset import compile_documents
from citadel.authz.sources import load_paths
from citadel.authz.tables import Coverage, Table, Trial, find_tables, junit, read_table, run_table
from citadel.cli.exits import Exit
from citadel.cli.options import examples
from citadel.cli.run import printable, say
from citadel.errors import BadFile, CitadelError, Mistake, NotFound, PermissionDenied

TEST_EXAMPLES = examples(
    "citadel policy test policies/",
    "citadel policy test policies/ --min-coverage 100 --min-field-coverage 90 --junit report.xml",
    "citadel policy test policies/ --watch",
)
_MOST_FOLDERS = 1_000
_GATHER, _STEP, _LOOK_AGAIN = 100, 20, 1_000  # milliseconds: events that come together are one
_State = frozenset[tuple[object, ...]]


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
    least_fields: Annotated[
        float,
        typer.Option(
            "--min-field-coverage",
            help="Fail if fewer of the fields are tested from both sides.",
            metavar="PERCENT",
            min=0,
            max=100,
        ),
    ] = 0.0,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Run them again whenever a file changes, until Ctrl-C.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Name the cases that pass, and the fields that are not tested.")
    ] = False,
) -> None:
    """Run tables of decisions against the policies beside them.

    A case that fails is shown with what each policy said. The exit code is 1 if one does; docs/authorization-tests.md
    has the format.
    """
    if not watch:
        if not _run(paths, report, least, least_fields, verbose=verbose):
            raise typer.Exit(Exit.FAILED)
        return
    while True:
        places = _places(paths)
        before = _state(places)
        try:
            _run(paths, report, least, least_fields, verbose=verbose)
        except CitadelError as error:
            say(printable(error.sentence()))
        _wait_for_another(places, before)
        print(f"\n--- {datetime.now().astimezone():%H:%M:%S}", flush=True)


def _run(paths: list[Path], report: Path | None, least: float, least_fields: float, *, verbose: bool) -> bool:
    """Whether everything is as it is wanted. Raises NotFound, BadFile, PermissionDenied."""
    files = find_tables(paths)
    if not files:
        raise NotFound("there is no table of decisions here", mend="their names end in _test.yaml")
    coverage = Coverage()
    trials = [run_table(table, policies, coverage) for table, policies in _prepared(files, coverage)]
    for trial in trials:
        _tell(trial, verbose=verbose)
    _tell_coverage(coverage, verbose=verbose)
    if report is not None:
        try:
            report.write_text(junit(trials))
        except OSError as error:
            raise PermissionDenied(f"{report} cannot be written: {error.strerror}") from None
    failed = sum(len(trial.failed) for trial in trials)
    print(f"{sum(len(trial.results) for trial in trials) - failed} passed, {failed} failed", flush=True)
    if coverage.percent < least:
        say(f"{coverage.percent:.1f} % of the rules are matched by some case, less than {least:g} %")
    if coverage.fields_percent < least_fields:
        say(f"{coverage.fields_percent:.1f} % of the fields are tested from both sides, less than {least_fields:g} %")
    return not failed and coverage.percent >= least and coverage.fields_percent >= least_fields


def _wait_for_another(places: set[Path], before: _State) -> None:
    """Returns when the files are not as `before`. The kernel tells, and a look now and then finds what it did not."""
    for _ in changes(
        *places,
        watch_filter=None,
        debounce=_GATHER,
        step=_STEP,
        rust_timeout=_LOOK_AGAIN,
        yield_on_timeout=True,
        recursive=False,
        raise_interrupt=True,
    ):
        if _state(places) != before:
            return


def _state(places: set[Path]) -> _State:
    found: set[tuple[object, ...]] = set()
    for place in places:
        with suppress(OSError):
            for entry in os.scandir(place):
                with suppress(OSError):
                    facts = entry.stat()
                    found.add((entry.path, facts.st_ino, facts.st_size, facts.st_mtime_ns))
    return frozenset(found)


def _places(paths: list[Path]) -> set[Path]:
    """The folders in which a change matters: of the tables, the policies and the mesh, as far as they are there."""
    found: set[Path] = set()
    for path in paths:
        found.update(_folders(path))
    try:
        tables = find_tables(paths)
    except BadFile:
        tables = []
    for file in tables:
        found.add(file.parent)
        try:
            table = read_table(file)
        except BadFile:
            continue
        for policies in table.policies:
            found.update(_folders(policies))
        if isinstance(table.block.mesh, str):
            found.add((file.parent / table.block.mesh).parent)
    return {one for one in found if one.is_dir()} or {Path()}


def _folders(path: Path) -> Iterator[Path]:
    """A folder with all below it that are not hidden; of a file, the one that it is in."""
    if not path.is_dir():
        yield path.parent
        return
    yield path
    for count, below in enumerate(path.rglob("*")):
        if count > 50 * _MOST_FOLDERS:
            return
        if below.is_dir() and not any(part.startswith(".") for part in below.relative_to(path).parts):
            yield below


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


def _tell_coverage(coverage: Coverage, *, verbose: bool) -> None:
    print(f"rules matched: {coverage.rules - len(coverage.unmatched)} of {coverage.rules} ({coverage.percent:.1f} %)")
    for name, rule in coverage.unmatched:
        print(printable(f"  no case matches {name}, rules[{rule}]"))
    for name, rule in coverage.never_missed:
        print(printable(f"  no case fails to match {name}, rules[{rule}]"))
    fields = coverage.fields - len(coverage.fields_unmatched) - len(coverage.fields_untold)
    print(f"fields tested from both sides: {fields} of {coverage.fields} ({coverage.fields_percent:.1f} %)")
    if verbose:
        for name, field in coverage.fields_unmatched:
            print(printable(f"  no case matches through {name}, {field}"))
        for name, field in coverage.fields_untold:
            print(printable(f"  no case fails on {name}, {field} alone"))
