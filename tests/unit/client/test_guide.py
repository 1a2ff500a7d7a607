"""docs/authorization-api.md is true: its example runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.unit.client.test_client import World

PAGE = (Path(__file__).parents[3] / "docs" / "authorization-api.md").read_text()


async def test_the_example_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # our own page
    world = World(tmp_path)
    async with world.serving():
        assert await names["example"](str(world.socket)) is True
