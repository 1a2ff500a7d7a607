"""`citadel up`: server and agent in one process."""

from __future__ import annotations

import os

from citadel import config as configuration
from citadel.cli.options import ConfigOption, examples, load_config
from citadel.config import Settings

EXAMPLES = examples("citadel up", "citadel up --config /etc/citadel/citadel.toml")


def up(config: ConfigOption = None) -> None:
    """Run Citadel until SIGTERM or Ctrl-C.

    That is the certificate authority, the registry, and the service beside the workloads, in one process that stays in
    the foreground. SIGHUP reads the configuration again. The log is on standard error.
    """
    loaded = load_config(config)
    path = loaded.source.path

    def load_again() -> Settings:
        return configuration.load(path, os.environ)

    from citadel.cli.process import run_up  # here: it imports everything, which the other commands need not

    run_up(loaded.settings, load_again)
