"""CITADEL_* variables as settings: CITADEL_STORE__URL is store.url.

Read here and not by pydantic-settings: docs/adr/0004. A misspelt variable must be a mistake with a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from citadel.config.nearest import nearest
from citadel.config.settings import Section
from citadel.errors import Mistake

PREFIX = "CITADEL_"
#: Variables of ours that are no settings: where the configuration and the server are, and tracebacks for developers.
OTHERS = ("CITADEL_CONFIG", "CITADEL_ADMIN_SOCKET", "CITADEL_DEBUG")
# What Kubernetes sets in every pod beside a service that is called citadel (docker links): never meant for us.
_KUBERNETES = re.compile(r"CITADEL_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)(_[A-Z]+)?)?)")


@dataclass(frozen=True)
class Environment:
    """What the environment says: values as nested tables, and the variable that each of them came from."""

    tables: dict[str, Any] = field(default_factory=dict)
    variables: dict[tuple[str, ...], str] = field(default_factory=dict)
    mistakes: tuple[Mistake, ...] = ()


def read_environment(env: Mapping[str, str], settings: type[Section]) -> Environment:
    """Sort the CITADEL_* variables in `env` into the tables of `settings`. Unknown ones become mistakes."""
    known = {variable(path): path for path in leaves(settings)}
    tables: dict[str, Any] = {}
    variables: dict[tuple[str, ...], str] = {}
    mistakes = []
    for name, value in sorted(env.items()):
        if not name.startswith(PREFIX) or name in OTHERS or _KUBERNETES.fullmatch(name):
            continue
        path = known.get(name)
        if path is None:
            mistakes.append(Mistake(name, "", "there is no such setting" + nearest(name, [*known, *OTHERS])))
            continue
        table = tables
        for part in path[:-1]:
            table = table.setdefault(part, {})
        table[path[-1]] = value
        variables[path] = name
    return Environment(tables, variables, tuple(mistakes))


def variable(path: tuple[str, ...]) -> str:
    """The variable that sets the setting at `path`."""
    return PREFIX + "__".join(path).upper()


def leaves(section: type[Section], at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all settings in `section` and below it."""
    inner = section.sections()
    for name in section.model_fields:
        if name in inner:
            yield from leaves(inner[name], (*at, name))
        else:
            yield (*at, name)
