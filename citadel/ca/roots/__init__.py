"""Roots: where trust begins. Ours on disk (its key sealed in the store), or the user's own files (Istio's cacerts)."""

from citadel.ca.roots.cacerts import Plugged, read_cacerts
from citadel.ca.roots.disk import DiskRoot

__all__ = ["DiskRoot", "Plugged", "read_cacerts"]
