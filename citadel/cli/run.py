"""What every command ends in: an exit code, and one sentence on standard error if something went wrong."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback
from datetime import UTC, datetime

import typer

from citadel.cli.exits import Exit, exit_for
from citadel.errors import CitadelError, FailedPrecondition


def run(app: typer.Typer, args: list[str] | None = None) -> int:
    """Run `app` and return its exit code (cli.exits). Shows no traceback unless CITADEL_DEBUG is 1."""
    try:
        code = _run(app, _without_color(sys.argv[1:] if args is None else args))
        sys.stdout.flush()
    except BrokenPipeError:  # who read our output has seen enough
        _forget_output()
        return Exit.FAILED
    except OSError as error:  # a full disk behind `> file`, say: found out when what is left is flushed
        _forget_output()
        return _unwritten(error)
    return code


def _without_color(args: list[str]) -> list[str]:
    """--no-color may stand anywhere, as people write it; it becomes NO_COLOR (no-color.org), which all heed."""
    end = args.index("--") if "--" in args else len(args)
    if "--no-color" not in args[:end]:
        return args
    os.environ["NO_COLOR"] = "1"
    return [arg for place, arg in enumerate(args) if arg != "--no-color" or place > end]


def _forget_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter complains when it flushes at exit


def _unwritten(error: OSError) -> Exit:
    say(f"standard output cannot be written to: {error.strerror}; what was asked for may have been done all the same")
    return Exit.FAILED


def _run(app: typer.Typer, args: list[str] | None) -> int:
    try:
        app(args, prog_name="citadel")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else Exit.FAILED if end.code else Exit.OK
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EBADF):
            raise  # of the output: all else that we open has a name
        return _told(_named(error))
    except Exception as error:  # the last line of defence: whatever it is, the user gets a sentence
        return _told(error)
    return Exit.OK


def _named(error: OSError) -> Exception:
    """A file that cannot be used, in a sentence; what has no name stays the defect that it is."""
    if error.filename is None:
        return error
    return FailedPrecondition(f"{error.filename} cannot be used: {error.strerror}")


def _told(error: Exception) -> Exit:
    """Say what went wrong, and return the code for it."""
    if os.environ.get("CITADEL_DEBUG") == "1":
        traceback.print_exception(error)
    expected = _expected(error)
    if not expected:
        say(f"citadel: a defect of ours ({type(error).__name__}); {_report(error)}")
        return Exit.FAILED
    for sentence in dict.fromkeys(one.sentence() for one in expected):
        say(sentence)
    return exit_for(expected[0])


def _expected(error: Exception) -> list[CitadelError]:
    """The errors of ours in `error`, which may be a task group's; none if there is anything else in it."""
    if isinstance(error, CitadelError):
        return [error]
    if not isinstance(error, ExceptionGroup):
        return []
    inner = [_expected(one) for one in error.exceptions]
    return [one for each in inner for one in each] if all(inner) else []


def say(text: str) -> None:
    """Print to standard error, without what a terminal would obey."""
    print(printable(text), file=sys.stderr)


def printable(text: str) -> str:
    """`text` with control characters (but line feeds and tabs) written out: some of what we show came from clients."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def _report(error: Exception) -> str:
    """Write a crash report that only we may read, and say where it is."""
    text = "".join(traceback.format_exception(error))
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        handle, path = tempfile.mkstemp(prefix="citadel-crash-", suffix=".txt")
        with os.fdopen(handle, "w") as file:
            file.write(f"citadel {' '.join(sys.argv[1:2])} at {stamp}\n{text}")
    except OSError as failure:
        return f"no crash report could be written ({failure.strerror}); run it again with CITADEL_DEBUG=1"
    return f"please report it with {path}"
