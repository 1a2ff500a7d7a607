"""docs/configuration.md, written from the settings themselves (scripts/generate-docs)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from pydantic import ByteSize
from pydantic.fields import FieldInfo

from citadel.config.reload import as_text, is_reloadable
from citadel.config.settings import Section, Settings
from citadel.config.values import ListenAddress, SecretSource

_INTRODUCTION = """\
# Configuration

<!-- Written by scripts/generate-docs from citadel/config/settings/: change those, not this. -->

One TOML file, and environment variables that win over it. Everything is checked before anything starts, and every
mistake is reported at once with its place; `citadel config check` does only that, and `citadel config show` prints each
setting with where its value comes from.

**The file** is the one that `--config` names, else `CITADEL_CONFIG`, else `/etc/citadel/citadel.toml`, else
`citadel.toml` in the default data folder: `/var/lib/citadel` for root, `$XDG_DATA_HOME/citadel`
(`~/.local/share/citadel`) for others. It holds no secret and may be readable by all; one that everybody can write is
refused. The smallest one:

```toml
trust_domain = "example.org"
data_dir = "/var/lib/citadel"
```

**Variables**: `CITADEL_`, then the setting's name with two underscores for each dot: `CITADEL_SVID__DEFAULT_TTL=30m`.
Lists take commas. An unknown variable that starts with `CITADEL_` is a mistake, except for those that Kubernetes makes
up for a service named `citadel`.

**Lengths of time**: `30s`, `10m`, `1h30m`, `7d`, `10y`, or ISO 8601 (`PT30S`, `P7D`). A year is 365 days.
**Sizes**: bytes, or `64KiB`, `64MiB`. **Parts**: `80%`, or `0.8`. **Paths**: `DATA_DIR/...` lies under `data_dir`,
`~` is the home folder, and any other relative path starts at the folder of the configuration file.

**Reload**: on SIGHUP the file and its changes are checked as at a start. Settings marked *reload* take effect at once;
a change of any other is reported and waits for a restart. If there is a mistake, nothing changes.
"""


_TOP = "What stands above the first table of the file."
_KINDS = {
    bool: "`true`, `false`",
    int: "number",
    float: "number",
    timedelta: "time",
    Path: "path",
    ByteSize: "size",
    tuple: "list",
    SecretSource: "source",
    ListenAddress: "address",
}


def reference() -> str:
    """The whole page, as Markdown."""
    lines = [_INTRODUCTION]
    _section(Settings, (), lines)
    return "\n".join(lines)


def _section(section: type[Section], at: tuple[str, ...], lines: list[str]) -> None:
    inner = section.sections()
    own = [(name, field) for name, field in section.model_fields.items() if name not in inner]
    if at or own:
        lines += [
            f"## {'`[' + '.'.join(at) + ']`' if at else 'At the top'}",
            "",
            (section.__doc__ or "") if at else _TOP,
            "",
        ]
    if own:
        lines += ["| setting | default | takes | reload | |", "|---|---|---|---|---|"]
        lines += [_row((*at, name), field) for name, field in own]
        lines.append("")
    for name, kind in inner.items():
        _section(kind, (*at, name), lines)


def _row(where: tuple[str, ...], field: FieldInfo) -> str:
    default = "**required**" if field.is_required() else _code(as_text(field.default))
    reload = "yes" if is_reloadable(where) else ""
    cells = (f"`{'.'.join(where)}`", default, _takes(field), reload, field.description or "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _code(text: str) -> str:
    return f"`{text}`" if text else "(empty)"


def _takes(field: FieldInfo) -> str:
    """What may be written, in a word."""
    kind: Any = field.annotation
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    if isinstance(kind, UnionType):  # with None, for what may be left empty
        kind = next(choice for choice in get_args(kind) if choice is not type(None))
    if kind is int and isinstance(field.default, str):
        return "mode" if field.default else "group"
    if kind is float and isinstance(field.default, str):
        return "part"
    return _KINDS.get(get_origin(kind) or kind, "text") + (_range(field) if kind in (int, float) else "")


def _range(field: FieldInfo) -> str:
    """`, 1 to 10`, as far as there are bounds."""
    bounds = {name: getattr(one, name) for one in field.metadata for name in ("ge", "gt", "le") if hasattr(one, name)}
    lower = f"{bounds['ge']}" if "ge" in bounds else f"above {bounds['gt']}" if "gt" in bounds else ""
    if "le" not in bounds:
        return f", {lower} or more" if lower else ""
    return f", {lower}{' to' if 'ge' in bounds else ', up to' if lower else 'up to'} {bounds['le']}"
