"""The command line: thin, one module a noun. What it knows of a running Citadel comes over the admin socket."""

import sys


def main() -> None:
    """The `citadel` program."""
    from citadel.cli.app import app  # here: importing the room must not cost what running a command does
    from citadel.cli.run import run

    sys.exit(run(app))


__all__ = ["main"]
