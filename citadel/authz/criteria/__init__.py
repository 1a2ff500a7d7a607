"""The criteria that a rule is made of: one field, the values that it lists, and whether a request meets them.

Every criterion is a value: `field` is its place in the rule, `values` what the policy lists there (trust-domain aliases
expanded), `negated` says whether it is the `not…` form, which holds where none of the values matches, and so also where
the attribute is missing. `actual` is the attribute as explanations show it.

`keys` tell the index by what requests can be told apart that cannot possibly meet the criterion: a superset of what
does, by dimension.
"""

from citadel.authz.criteria.criterion import Criterion
from citadel.authz.criteria.peer import NamespaceCriterion, ServiceAccountCriterion, TrustDomainCriterion, reads_peer
from citadel.authz.criteria.request import (
    AddressCriterion,
    HeaderCriterion,
    MetadataCriterion,
    PathCriterion,
    PortCriterion,
    TextCriterion,
)
from citadel.authz.criteria.token import ClaimCriterion, RequestPrincipalCriterion

__all__ = [
    "AddressCriterion",
    "ClaimCriterion",
    "Criterion",
    "HeaderCriterion",
    "MetadataCriterion",
    "NamespaceCriterion",
    "PathCriterion",
    "PortCriterion",
    "RequestPrincipalCriterion",
    "ServiceAccountCriterion",
    "TextCriterion",
    "TrustDomainCriterion",
    "reads_peer",
]
