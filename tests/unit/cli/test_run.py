from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import typer

from citadel.cli.run import printable, run
from citadel.errors import BadFile, Mistake, NotFound


def ending_with(end: BaseException) -> int:
    app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)

    @app.command()
    def command() -> None:
        raise end

    return run(app, [])


def test_an_error_of_ours_is_one_sentence_with_the_way_to_mend_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert ending_with(NotFound("there is no entry 'x'", mend="see citadel entry list")) == 3
    assert capsys.readouterr().err == "there is no entry 'x'; see citadel entry list\n"


def test_every_mistake_of_a_file_has_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert ending_with(BadFile([Mistake("f", "a", "one", 1), Mistake("f", "b", "two", 2)])) == 4
    assert capsys.readouterr().err == "f:1: a: one\nf:2: b: two\n"


def test_what_nobody_expected_is_one_sentence_and_a_report_that_only_we_can_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CITADEL_DEBUG", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert ending_with(ZeroDivisionError("boom")) == 1
    (report,) = tmp_path.iterdir()
    assert capsys.readouterr().err == f"citadel: a defect of ours (ZeroDivisionError); please report it with {report}\n"
    assert report.stat().st_mode & 0o777 == 0o600
    assert "boom" in report.read_text()


def test_developers_see_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("CITADEL_DEBUG", "1")
    assert ending_with(ZeroDivisionError("boom")) == 1
    assert "ZeroDivisionError: boom" in capsys.readouterr().err


def test_the_errors_of_a_task_group_are_told_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    group = ExceptionGroup("x", [NotFound("one"), ExceptionGroup("y", [NotFound("two"), NotFound("one")])])
    assert ending_with(group) == 3
    assert capsys.readouterr().err == "one\ntwo\n"


def test_a_task_group_with_something_unexpected_is_a_defect(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert ending_with(ExceptionGroup("x", [NotFound("one"), ZeroDivisionError()])) == 1
    assert "a defect of ours (ExceptionGroup)" in capsys.readouterr().err


def test_ctrl_c_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    assert ending_with(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == ""


def test_a_chosen_exit_code_is_kept() -> None:
    assert ending_with(typer.Exit(5)) == 5


def test_a_reader_who_went_away_is_no_error() -> None:
    program = f"{sys.executable} -c 'from citadel.cli import main; main()' version -o json | true"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""


def test_what_a_terminal_would_obey_is_written_out() -> None:
    assert printable("a\x1b[31m\x9b\r\n\tb é") == "a\\x1b[31m\\x9b\\r\n\tb é"


@pytest.mark.parametrize("args", ["version", "-h", "config -h"])
def test_output_that_cannot_be_written_is_one_sentence(args: str) -> None:
    program = f"{sys.executable} -c 'from citadel.cli import main; main()' {args} > /dev/full"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("standard output cannot be written to: No space left on device;")
    assert len(done.stderr.splitlines()) == 1


def test_a_file_that_fails_us_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert ending_with(OSError(28, "No space left on device", "/x/y")) == 7
    assert capsys.readouterr().err == "/x/y cannot be used: No space left on device\n"
