from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli import CommandLine


@pytest.fixture
def citadel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CommandLine:
    """The command line of a user whose home is empty."""
    return CommandLine(monkeypatch, {"HOME": str(tmp_path / "home"), "XDG_DATA_HOME": str(tmp_path / "home/data")})
