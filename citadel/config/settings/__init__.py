"""Every setting that there is: its name, kind, default, and what it is for. docs/configuration.md is made from this."""

from citadel.config.settings.attestors import AttestorsSettings
from citadel.config.settings.authzen import AuthzenSettings
from citadel.config.settings.section import Section
from citadel.config.settings.settings import Settings

__all__ = ["AttestorsSettings", "AuthzenSettings", "Section", "Settings"]
