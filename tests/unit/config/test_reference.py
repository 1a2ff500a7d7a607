from __future__ import annotations

from pathlib import Path

from citadel.config.environment import leaves
from citadel.config.reference import reference
from citadel.config.settings import Settings

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_the_configuration_reference_is_current() -> None:
    assert PAGE.read_text() == reference(), "run scripts/generate-docs"


def test_every_setting_is_in_the_reference() -> None:
    page = reference()
    assert [path for path in leaves(Settings) if f"`{'.'.join(path)}`" not in page] == []
