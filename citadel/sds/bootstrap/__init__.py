"""Generates an Envoy bootstrap that works as it is: `plan` says what for, `document` writes it."""

from citadel.sds.bootstrap.document import bootstrap, fragment
from citadel.sds.bootstrap.plan import SDS_CLUSTER, Address, Inbound, Plan, Protocol, Upstream, Variant

__all__ = ["SDS_CLUSTER", "Address", "Inbound", "Plan", "Protocol", "Upstream", "Variant", "bootstrap", "fragment"]
