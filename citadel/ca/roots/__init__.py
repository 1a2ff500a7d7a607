"""Roots: where trust begins. Ours on disk (its key sealed in the store), or the user's own files (Istio's cacerts)."""

from citadel.ca.roots.cacerts import CacertsRoot, Plugged, read_cacerts
from citadel.ca.roots.disk import DiskRoot
from citadel.ca.roots.issuing import IssuingCas
from citadel.ca.roots.makers import RootMakers

__all__ = ["CacertsRoot", "DiskRoot", "IssuingCas", "Plugged", "RootMakers", "read_cacerts"]
