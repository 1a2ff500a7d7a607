"""The generated code is what the .proto files say."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_regenerating_gives_the_committed_files(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "citadel/api/proto", tmp_path / "citadel/api/proto")
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/generate-protos", tmp_path / "scripts")
    subprocess.run(
        [sys.executable, "scripts/generate-protos"], cwd=tmp_path, check=True, capture_output=True, timeout=60
    )
    for made in (tmp_path / "citadel/api/proto").rglob("*_pb2*.py*"):
        committed = ROOT / made.relative_to(tmp_path)
        assert committed.read_bytes() == made.read_bytes(), f"{committed} is stale: run scripts/generate-protos"
