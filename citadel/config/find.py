"""Where the configuration file is, when nobody says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from citadel.errors import NotFound

FILE_NAME = "citadel.toml"


def default_data_dir(env: Mapping[str, str]) -> Path:
    """Where `citadel init` puts things: /var/lib/citadel for root, else in the user's own data folder (XDG)."""
    if os.geteuid() == 0:
        return Path("/var/lib/citadel")
    home = Path(env["HOME"]) if env.get("HOME") else Path.home()
    return Path(env.get("XDG_DATA_HOME") or home / ".local/share") / "citadel"


def search_path(env: Mapping[str, str]) -> list[Path]:
    """Where a configuration file is looked for, in order.

    Never the current folder: it may belong to somebody else, whose file would name a socket of theirs.
    """
    return [Path("/etc/citadel") / FILE_NAME, default_data_dir(env) / FILE_NAME]


def find_config(explicit: Path | None, env: Mapping[str, str]) -> Path:
    """The file that --config names, else CITADEL_CONFIG, else the first that is there. Raises NotFound."""
    if explicit is not None:
        return explicit
    if named := env.get("CITADEL_CONFIG"):
        return Path(named)
    places = search_path(env)
    for path in places:
        if path.exists():
            return path
    looked = " or ".join(str(path) for path in places)
    raise NotFound(
        f"there is no configuration file at {looked}",
        mend="make one with 'citadel init', or name yours with --config or CITADEL_CONFIG",
    )
