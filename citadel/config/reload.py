"""What changed between two configurations, and which of it takes effect without a restart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from citadel.config.environment import leaves
from citadel.config.settings import Section, Settings


@dataclass(frozen=True, slots=True)
class Change:
    """A setting with another value. Secrets are shown as asterisks."""

    field: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.field}: {self.old or '(empty)'} -> {self.new or '(empty)'}"


@dataclass(frozen=True, slots=True)
class Changes:
    reloadable: tuple[Change, ...]
    needs_restart: tuple[Change, ...]


def reloadable_changes(old: Settings, new: Settings) -> Changes:
    """Sort what is different in `new` by whether SIGHUP takes it into use, or only a restart does."""
    reloadable: list[Change] = []
    needs_restart: list[Change] = []
    before, after = flat(old), flat(new)
    for where in leaves(Settings):
        if _value(old, where) == _value(new, where):
            continue
        change = Change(".".join(where), before[where], after[where])
        (reloadable if is_reloadable(where) else needs_restart).append(change)
    return Changes(tuple(reloadable), tuple(needs_restart))


def with_reloadable(old: Settings, new: Settings) -> Settings:
    """`old` with those values of `new` that SIGHUP takes into use: what is in force after a reload."""
    taken = _with_reloadable(old, new, ())
    assert isinstance(taken, Settings)
    return taken


def _with_reloadable(old: Section, new: Section, at: tuple[str, ...]) -> Section:
    values: dict[str, Any] = {}
    for name in type(old).model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if isinstance(before, Section):
            values[name] = _with_reloadable(before, after, (*at, name))
        elif is_reloadable((*at, name)):
            values[name] = after
    return old.model_copy(update=values)


def is_reloadable(where: tuple[str, ...]) -> bool:
    section: type[Section] = Settings
    for part in where[:-1]:
        section = section.sections()[part]
    extra = section.model_fields[where[-1]].json_schema_extra
    return isinstance(extra, dict) and extra.get("reload") is True


def flat(settings: Settings) -> dict[tuple[str, ...], str]:
    """Every setting's value as text, as one would write it. Secrets are shown as asterisks."""
    dumped = settings.model_dump(mode="json")
    return {where: as_text(_reach(dumped, where)) for where in leaves(Settings)}


def as_text(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case list() | tuple():
            return ", ".join(str(item) for item in value)
        case _:
            return str(value)


def _reach(tables: Any, where: tuple[str, ...]) -> Any:
    for part in where:
        tables = tables[part]
    return tables


def _value(settings: Settings, where: tuple[str, ...]) -> Any:
    value: Any = settings
    for part in where:
        value = getattr(value, part)
    return value
