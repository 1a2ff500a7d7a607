"""docs/authzen.md is true: its policy loads, its entities are a directory, its settings exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from citadel.authz import load_text
from citadel.authz.entities import read_entities
from citadel.config.settings import AuthzenSettings

PAGE = (Path(__file__).parents[3] / "docs" / "authzen.md").read_text()
POLICY, ENTITIES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def test_the_policy_loads() -> None:
    assert [str(one.name) for one in load_text(POLICY).authorization_policies] == ["crm/readers"]


def test_the_entities_are_a_directory() -> None:
    directory = read_entities("entities.yaml", ENTITIES.encode())
    assert directory.properties("user", "alice@example.com") == {"department": "sales"}
    assert [one.name for one in directory.actions_on("user", None)] == ["can_read"]


def test_the_settings_exist() -> None:
    texts = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert len(texts) == 2
    for text in texts:
        assert tomllib.loads(text)["authorization"]["authzen"].keys() <= AuthzenSettings.model_fields.keys()
