"""SPIRE's entry, bundle, svid and agent services, over the same use cases as everything else.

Every call of theirs is here: what this server has no part for yet answers UNIMPLEMENTED, and says what is missing.
"""

from citadel.api.admin.spire.agents import AgentService
from citadel.api.admin.spire.bundles import BundleService
from citadel.api.admin.spire.entries import EntryService
from citadel.api.admin.spire.svids import SvidService

__all__ = ["AgentService", "BundleService", "EntryService", "SvidService"]
