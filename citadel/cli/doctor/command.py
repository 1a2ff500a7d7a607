"""The doctor's round: every check, in an order in which the first failure usually explains the later ones."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import typer

from citadel.cli.doctor.findings import Check, Finding, Level, examine, fail, ok
from citadel.cli.exits import Exit
from citadel.cli.options import ConfigOption, examples, load_config
from citadel.cli.output import Format, FormatOption, show_list
from citadel.cli.run import printable
from citadel.config import Loaded
from citadel.errors import BadFile, CitadelError

EXAMPLES = examples("citadel doctor", "sudo citadel doctor --config /etc/citadel/citadel.toml")


def doctor(config: ConfigOption = None, output: FormatOption = Format.TABLE) -> None:
    """Check everything on this machine, and say how to mend it.

    Configuration, files, keys, database, clock, limits and sockets, and the Citadel that runs, if one does. Changes
    nothing. Ends with 0 if nothing failed (warnings are told), else with 1.
    """
    findings = examination(config)
    documents = [{"check": f.check, "result": str(f.level), "message": f.message, "mend": f.mend} for f in findings]
    if output is Format.TABLE:
        width = max(len(finding.check) for finding in findings)
        for finding in findings:
            print(printable(f"{finding.level:<5} {finding.check:<{width}}  {finding.message}"))
            if finding.mend:
                print(printable(f"{'':<{width + 6}}  -> {finding.mend}"))
    else:
        show_list(documents, [], output, empty="")
    counts = Counter(finding.level for finding in findings)
    if output is Format.TABLE:
        typer.echo(", ".join(f"{counts[level]} {level}" for level in Level), err=True)
    if counts[Level.FAIL]:
        raise typer.Exit(Exit.FAILED)


def examination(path: ConfigOption) -> list[Finding]:
    """All findings. Raises nothing that a check can meet."""
    try:
        loaded = load_config(path)
    except BadFile as error:
        return [fail("config", str(mistake), "see docs/configuration.md") for mistake in error.mistakes]
    except CitadelError as error:
        return [fail("config", error.message, error.mend)]
    return [ok("config", f"{loaded.source.path or 'environment'}: no mistakes"), *_round(loaded)]


@contextmanager
def _eyes_of(folder: Path) -> Iterator[None]:
    """Root looks as the user to whom `folder` belongs, whom Citadel runs as: root itself would see no closed door."""
    try:
        status = folder.stat()
    except OSError:
        status = None
    if os.geteuid() != 0 or status is None or status.st_uid == 0:
        yield
        return
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(status.st_gid)
    os.seteuid(status.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def _round(loaded: Loaded) -> list[Finding]:
    from citadel.cli.doctor import (  # here: they import what other commands need not
        database,
        files,
        machine,
        running,
        sockets,
    )

    settings, now = loaded.settings, datetime.now(UTC)
    alive = sockets.listener(settings.sockets.admin.path)
    at_rest: dict[str, Check] = {
        "files": partial(files.folders, settings),
        "keys.kek": partial(files.key_encryption_key, settings, os.environ),
        "keys.cacerts": partial(files.plugged_root, settings, now),
        "store.database": partial(database.database, settings, os.environ, running=alive is not None),
        "store.keys": partial(files.sealed_keys, settings, os.environ),
    }
    around: dict[str, Check] = {
        "clock": partial(machine.clock, settings, now),
        "limits.files": partial(machine.file_limit, settings, alive.pid if alive else None),
        "sockets": partial(sockets.unix_sockets, settings),
        "sockets.http": partial(sockets.http, settings, alive is not None),
    }
    with _eyes_of(settings.data_dir):
        findings = [finding for name, check in at_rest.items() for finding in examine(name, check)]
    if alive is not None:
        around["running"] = partial(running.running, settings, now)
    return findings + [finding for name, check in around.items() for finding in examine(name, check)]
