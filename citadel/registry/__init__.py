"""The registry: who may be whom. Entries, what makes one valid, and which of them a node may serve."""

from citadel.registry.directory import Directory
from citadel.registry.model import Entry
from citadel.registry.registry import Registry, RegistryPolicy
from citadel.registry.selectors import Selector

__all__ = ["Directory", "Entry", "Registry", "RegistryPolicy", "Selector"]
