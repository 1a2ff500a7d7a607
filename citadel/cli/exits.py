"""Exit codes: what a script can tell from how `citadel` ended. docs/cli.md lists them, and a test compares the two."""

from __future__ import annotations

from enum import IntEnum

from citadel.errors import BadFile, CitadelError, Code, UnsafePermissions


class Exit(IntEnum):
    """The codes, each with the meaning that docs/cli.md gives it. 128 and more: ended by a signal (shells' custom)."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    INVALID = 4
    REFUSED = 5
    UNAVAILABLE = 6
    CONFLICT = 7
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS = {
    Exit.OK: "done",
    Exit.FAILED: "failed, or `doctor` or `audit verify` found something wrong",
    Exit.USAGE: "the command line is wrong: see `--help`",
    Exit.NOT_FOUND: "there is no such entry, certificate, authority, or key or configuration file",
    Exit.INVALID: "what you gave is invalid; nothing was changed",
    Exit.REFUSED: "not allowed: permissions, a quota, or unsafe files",
    Exit.UNAVAILABLE: "Citadel is not running, does not answer, or cannot do it now; try again",
    Exit.CONFLICT: "it exists already, was changed meanwhile, or the state of things does not allow it",
    Exit.INTERRUPTED: "interrupted by Ctrl-C",
}

_BY_CODE = {
    Code.INVALID_ARGUMENT: Exit.INVALID,
    Code.DEADLINE_EXCEEDED: Exit.UNAVAILABLE,
    Code.NOT_FOUND: Exit.NOT_FOUND,
    Code.ALREADY_EXISTS: Exit.CONFLICT,
    Code.PERMISSION_DENIED: Exit.REFUSED,
    Code.RESOURCE_EXHAUSTED: Exit.REFUSED,
    Code.FAILED_PRECONDITION: Exit.CONFLICT,
    Code.ABORTED: Exit.CONFLICT,
    Code.INTERNAL: Exit.FAILED,
    Code.UNAVAILABLE: Exit.UNAVAILABLE,
    Code.UNAUTHENTICATED: Exit.REFUSED,
}


def exit_for(error: CitadelError) -> Exit:
    """The code for an error, by its kind."""
    if isinstance(error, UnsafePermissions) or (isinstance(error, BadFile) and error.unsafe):
        return Exit.REFUSED
    return _BY_CODE[error.code]
