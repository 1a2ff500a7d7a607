"""Paths of which the engine says nothing (`BadPath`) and that Envoy would let through: denied before all else."""

from __future__ import annotations

from envoy.config.rbac.v3 import rbac_pb2
from envoy.config.rbac.v3.rbac_pb2 import Permission, Policy, Principal

from citadel.authz.envoy.criteria import header, present, url_path
from citadel.authz.envoy.rbac import DENY
from citadel.authz.envoy.strings import contains, exact, prefix, regex
from citadel.authz.facts import PathNormalization

DOT_SEGMENTS = "citadel[dot-segment-with-parameters]"
NOT_A_PATH = "citadel[not-a-path]"
NOT_UTF8 = "citadel[path-is-not-utf-8]"


def rules(normalization: PathNormalization) -> rbac_pb2.RBAC:
    """What is denied whatever the policies say; a path that is absent (CONNECT), and `*` (OPTIONS), are not."""
    made = rbac_pb2.RBAC(action=DENY)
    path = [present(":path")]
    path += [_no(header(":path", one)) for one in (prefix("/"), exact("*"), exact(""))]
    made.policies[NOT_A_PATH].CopyFrom(_policy(Permission(and_rules=Permission.Set(rules=path))))
    if normalization is PathNormalization.NONE:
        # RE2 finds nothing in what is not UTF-8, so that no template would match it
        odd = Permission(and_rules=Permission.Set(rules=[present(":path"), _no(url_path(regex("(?s).*")))]))
        made.policies[NOT_UTF8].CopyFrom(_policy(odd))
    else:
        dots = Permission.Set(rules=[url_path(contains("/.;")), url_path(contains("/..;"))])
        made.policies[DOT_SEGMENTS].CopyFrom(_policy(Permission(or_rules=dots)))
    return made


def _no(permission: Permission) -> Permission:
    return Permission(not_rule=permission)


def _policy(permission: Permission) -> Policy:
    return Policy(permissions=[permission], principals=[Principal(any=True)])
