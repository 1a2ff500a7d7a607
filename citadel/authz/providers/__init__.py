"""Extension providers, asked as an Envoy would ask them: ext_authz over gRPC and over HTTP. The edge that does I/O.

`message` makes a request into what a provider reads, `over_grpc` and `over_http` ask, `clients` holds them all.
"""

from citadel.authz.providers.clients import ProviderClients
from citadel.authz.providers.tls import ProviderTls

__all__ = ["ProviderClients", "ProviderTls"]
