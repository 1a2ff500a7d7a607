"""`citadel up`: server and agent in one process."""

from __future__ import annotations

import os

from citadel import config as configuration
from citadel.cli.options import ConfigOption, load_config
from citadel.config import Settings


def up(config: ConfigOption = None) -> None:
    """Run the certificate authority, the registry, and the service beside the workloads, until SIGTERM or Ctrl-C.

    SIGHUP reads the configuration again.
    """
    loaded = load_config(config)
    path = loaded.source.path

    def load_again() -> Settings:
        return configuration.load(path, os.environ)

    from citadel.server import run_up  # here: it imports everything, which the other commands need not

    run_up(loaded.settings, load_again)
