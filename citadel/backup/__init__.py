"""Backups: one encrypted file of the store, made while it runs, verified, and restored without going back silently."""

from citadel.backup.container import open_container, seal_container
from citadel.backup.manifest import Manifest
from citadel.backup.recipients import Identity, Passphrase, PublicKey, read_identity, read_public_key

__all__ = [
    "Identity",
    "Manifest",
    "Passphrase",
    "PublicKey",
    "open_container",
    "read_identity",
    "read_public_key",
    "seal_container",
]
