"""Roots: where trust begins. Ours on disk (its key sealed in the store), or the user's own files (Istio's cacerts)."""

from citadel.ca.roots.cacerts import CacertsRoot, Plugged, read_cacerts
from citadel.ca.roots.disk import DiskRoot, DiskRootMaker
from citadel.ca.roots.remote import RemoteRootMaker

__all__ = ["CacertsRoot", "DiskRoot", "DiskRootMaker", "Plugged", "RemoteRootMaker", "read_cacerts"]
