"""A contract double of Vault and OpenBao: the calls and errors that we rely on, over HTTP on a socket of its own.

The suites that run over it run unchanged over a real `bao` (tests.support.vault): that is what keeps it honest.
"""

from tests.support.vault_double.double import VaultDouble

__all__ = ["VaultDouble"]
