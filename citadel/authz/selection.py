"""Which policies apply to a workload: by namespace, selector and targetRefs (Istio, "Workload selector")."""

from __future__ import annotations

from citadel.authz.model import AuthorizationPolicy, RequestAuthentication, TargetKind, TargetRef, WorkloadSelector
from citadel.authz.request import ServiceRef, Workload, WorkloadKind

WAYPOINT_CLASS = "istio-waypoint"


def applies(policy: AuthorizationPolicy | RequestAuthentication, workload: Workload, root_namespace: str) -> bool:
    """Whether the policy is one of the workload's.

    Those are the policies of its namespace and of the root namespace; for a waypoint also those of its services'
    namespaces. `targetRefs` speak only to gateways and waypoints, and a waypoint heeds nothing else.
    """
    namespace = policy.metadata.name.namespace
    if namespace not in namespaces_of(workload, root_namespace):
        return False
    return attached(policy.selector, policy.target_refs, namespace, workload, root_namespace)


def namespaces_of(workload: Workload, root_namespace: str) -> tuple[str, ...]:
    """In whose policies the workload's are to be looked for; each once."""
    services = (service.namespace for service in workload.services)
    return tuple(dict.fromkeys((root_namespace, workload.namespace, *services)))


def attached(
    selector: WorkloadSelector | None,
    target_refs: tuple[TargetRef, ...],
    namespace: str,
    workload: Workload,
    root_namespace: str,
) -> bool:
    """Whether a policy of `namespace`, which is one of the workload's namespaces, is attached to the workload."""
    if target_refs:
        return any(_targets(target, namespace, workload, root_namespace) for target in target_refs)
    if workload.kind is WorkloadKind.WAYPOINT:
        return False
    if namespace not in (root_namespace, workload.namespace):
        return False
    return selector is None or selector.selects(workload.labels)


def _targets(target: TargetRef, namespace: str, workload: Workload, root_namespace: str) -> bool:
    waypoint = workload.kind is WorkloadKind.WAYPOINT
    match target.kind:
        case TargetKind.GATEWAY:
            proxy = waypoint or workload.kind is WorkloadKind.GATEWAY
            return proxy and namespace == workload.namespace and target.name == workload.gateway
        case TargetKind.GATEWAY_CLASS:
            # Istio knows this one class, whatever the class of the waypoint is.
            return waypoint and namespace == root_namespace and target.name == WAYPOINT_CLASS
        case TargetKind.SERVICE | TargetKind.SERVICE_ENTRY:
            return waypoint and ServiceRef(namespace, target.name, target.kind) in workload.services
