"""Rules as Envoy's RBAC policies, in the `rules` form: one policy a rule, named for the policy and the rule.

A rule is (any source) and (any operation) and (all conditions). Sources are principals and operations are permissions;
a condition is one or the other. A `matcher` tree (an exact map in place of a list) would be made from the same
principals and permissions; docs/authorization-envoy.md says when it would pay.
"""

from __future__ import annotations

from collections.abc import Iterable

from envoy.config.rbac.v3 import rbac_pb2
from envoy.config.rbac.v3.rbac_pb2 import Permission, Policy, Principal
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_pb2

from citadel.authz.criteria import Criterion
from citadel.authz.decision import Match
from citadel.authz.envoy.criteria import any_permission, any_principal, matcher
from citadel.authz.envoy.strings import CannotCompile, checked
from citadel.authz.rules import CompiledRule

ALLOW, DENY, LOG = (rbac_pb2.RBAC.Action.Value(name) for name in ("ALLOW", "DENY", "LOG"))


def policy_id(match: Match) -> str:
    """How Envoy's logs, metrics and metadata name a rule: `ns[shop]-policy[no-writes]-rule[0]`, as with Istio."""
    return checked(f"ns[{match.policy.namespace}]-policy[{match.policy.name}]-rule[{match.rule}]")


def rules(action: int, compiled: Iterable[CompiledRule]) -> rbac_pb2.RBAC:
    """The rules with one action. Raises CannotCompile, naming the policy and the field."""
    made = rbac_pb2.RBAC(action=action)
    for rule in compiled:
        try:
            made.policies[policy_id(rule.match)].CopyFrom(_policy(rule))
        except CannotCompile as error:
            raise CannotCompile(f"AuthorizationPolicy {rule.match.policy}: {error.message}", mend=error.mend) from None
    return made


def _policy(rule: CompiledRule) -> Policy:
    conditions = [matcher(criterion) for criterion in rule.conditions]
    principals = [one for one in conditions if isinstance(one, Principal)]
    permissions = [one for one in conditions if isinstance(one, Permission)]
    if rule.sources:
        principals.insert(0, any_principal(_every_principal(_principals(source)) for source in rule.sources))
    if rule.operations:
        permissions.insert(0, any_permission(_every_permission(_permissions(one)) for one in rule.operations))
    return Policy(permissions=[_every_permission(permissions)], principals=[_every_principal(principals)])


def _principals(criteria: Iterable[Criterion]) -> list[Principal]:
    made = []
    for criterion in criteria:
        one = matcher(criterion)
        if not isinstance(one, Principal):
            raise CannotCompile(f"{criterion.field} says nothing of a caller")
        made.append(one)
    return made


def _permissions(criteria: Iterable[Criterion]) -> list[Permission]:
    made = []
    for criterion in criteria:
        one = matcher(criterion)
        if not isinstance(one, Permission):
            raise CannotCompile(f"{criterion.field} says nothing of what is called")
        made.append(one)
    return made


def _every_principal(principals: list[Principal]) -> Principal:
    """All of them; of none, whoever calls."""
    if len(principals) == 1:
        return principals[0]
    return Principal(and_ids=Principal.Set(ids=principals)) if principals else Principal(any=True)


def _every_permission(permissions: list[Permission]) -> Permission:
    if len(permissions) == 1:
        return permissions[0]
    return Permission(and_rules=Permission.Set(rules=permissions)) if permissions else Permission(any=True)


def deny_all() -> http_pb2.RBAC:
    """What denies every request: the default for a filter whose configuration comes by ECDS (`default_config`)."""
    return http_pb2.RBAC(rules=rbac_pb2.RBAC(action=ALLOW))


def http(
    enforced: rbac_pb2.RBAC | None,
    shadow: rbac_pb2.RBAC | None = None,
    shadow_prefix: str = "",
    *,
    per_rule: bool = False,
) -> http_pb2.RBAC:
    """The HTTP filter. Without `enforced` it lets everything through, and only reports what `shadow` would do."""
    made = http_pb2.RBAC(track_per_rule_stats=per_rule)
    if enforced is not None:
        made.rules.CopyFrom(enforced)
    if shadow is not None:
        made.shadow_rules.CopyFrom(shadow)
        made.shadow_rules_stat_prefix = checked(shadow_prefix)
    return made


def network(
    stat_prefix: str, enforced: rbac_pb2.RBAC | None, shadow: rbac_pb2.RBAC | None = None, shadow_prefix: str = ""
) -> network_pb2.RBAC:
    """The network filter; a denial closes the connection."""
    made = network_pb2.RBAC(stat_prefix=checked(stat_prefix))
    if enforced is not None:
        made.rules.CopyFrom(enforced)
    if shadow is not None:
        made.shadow_rules.CopyFrom(shadow)
        made.shadow_rules_stat_prefix = checked(shadow_prefix)
    return made
