"""The policies of one workload as filters for its Envoy: RBAC, jwt_authn and ext_authz, HTTP and TCP. No I/O, no clock.

    filters = compile_filters(policies, Workload("shop", {"app": "cart"}))
    print(filters.to_json())

What Envoy then allows is what `citadel.authz.decide` allows (tests/interop/test_authz_envoy.py asks both).
`strings` makes matchers of text and lets nothing out that Envoy would refuse; `criteria` and `identity` turn fields
into principals and permissions, `rbac` rules into policies, `jwt` and `providers` the other two filters; `filters` puts
them in order. docs/authorization-envoy.md is the guide.
"""

from citadel.authz.envoy.clusters import Cluster
from citadel.authz.envoy.filters import Filters, compile_filters
from citadel.authz.envoy.rbac import deny_all, policy_id
from citadel.authz.envoy.strings import CannotCompile

__all__ = ["CannotCompile", "Cluster", "Filters", "compile_filters", "deny_all", "policy_id"]
