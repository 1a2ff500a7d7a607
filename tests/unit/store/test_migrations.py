"""The migrations, as files."""

from __future__ import annotations

import subprocess
import sys

from alembic.script import ScriptDirectory

from citadel.store.engine import newest_revision
from citadel.store.upgrade import alembic_config


def test_the_newest_revision_is_the_one_head_that_alembic_knows() -> None:
    assert ScriptDirectory.from_config(alembic_config()).get_heads() == [newest_revision()]


def test_what_a_start_does_not_need_is_not_imported() -> None:
    """Each would cost every start a tenth of a second or more."""
    program = "import sys, citadel.cli.process; print(*sorted(sys.modules.keys() & {'alembic', 'httpx', 'hvac'}))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.split() == []
