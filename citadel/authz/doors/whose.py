"""Whose policies are asked: the caller's registration; what is said besides may narrow it, and never contradict it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from citadel.authz.doors.ports import Caller, Registered
from citadel.authz.request import Workload
from citadel.spiffe import SCHEME, SpiffeId, TrustDomain

WORKLOAD = "citadel/workload"
NAMESPACE = "citadel/namespace"
LABEL = "citadel/label/"
_OURS = "citadel/"


class Unknown(Exception):
    """Nobody knows whose policies are asked, or two say different things. The message is for the log."""


@dataclass(frozen=True, slots=True)
class Whose:
    """For whom a caller asks."""

    workload: Workload
    entry: Registered
    trust_domains: frozenset[TrustDomain]
    """Whose identities count for it: not those that only another of the caller's entries federates with."""


def whose(
    caller: Caller,
    extensions: Mapping[str, str],
    node_labels: Mapping[str, str],
    selector_keys: frozenset[str],
    default_namespace: str,
) -> Whose:
    """The workload that `caller` stands for.

    `extensions` are the check's context_extensions: `citadel/workload` (SPIFFE ID), `citadel/namespace` and
    `citadel/label/NAME` choose among the caller's entries; other names are not ours. `node_labels` are what Envoy's
    node metadata says: a label that an entry has must be the same; one that it lacks must be none that a policy selects
    by (`selector_keys`), since it was never attested. Raises Unknown.
    """
    if not caller.entries:
        raise Unknown(f"{caller.name} has no registration entry")
    if len(caller.entries) == 1 and not extensions and not node_labels:  # as almost always
        (only,) = caller.entries
        return Whose(only.workload(default_namespace), only, caller.trust_domains)
    wanted = _wanted(extensions)
    fitting = [entry for entry in caller.entries if _fits(entry, wanted, default_namespace)]
    if not fitting:
        raise Unknown(f"{caller.name} is not registered as what its context extensions say")
    agreeing = [entry for entry in fitting if _agrees(entry, node_labels, selector_keys)]
    if not agreeing:
        raise Unknown(f"the node labels of {caller.name} are not those of its registration entry")
    chosen, *others = agreeing
    workload = chosen.workload(default_namespace)
    if any(other.workload(default_namespace) != workload for other in others):
        raise Unknown(f"{caller.name} has several registration entries; name one by the context extension {WORKLOAD}")
    return Whose(workload, chosen, _counted(caller, agreeing))


def _counted(caller: Caller, meant: Sequence[Registered]) -> frozenset[TrustDomain]:
    """Of entries of one ID each counts, for the caller is what each of them says; of several IDs, what all have."""
    by_id: dict[SpiffeId, frozenset[TrustDomain]] = {}
    for entry in meant:
        by_id[entry.spiffe_id] = by_id.get(entry.spiffe_id, frozenset()) | entry.federates_with
    of_all = frozenset[TrustDomain]().union(*(entry.federates_with for entry in caller.entries))
    return caller.trust_domains - (of_all - frozenset.intersection(*by_id.values()))


def _wanted(extensions: Mapping[str, str]) -> dict[str, str]:
    wanted = {key: value for key, value in extensions.items() if key.startswith(_OURS)}
    for key in wanted:
        if key not in (WORKLOAD, NAMESPACE) and not key.startswith(LABEL):
            raise Unknown(f"{key!r} is no context extension that is known here")
    return wanted


def _fits(entry: Registered, wanted: Mapping[str, str], default_namespace: str) -> bool:
    for key, value in wanted.items():
        if key == WORKLOAD:
            held = entry.spiffe_id.uri if value.startswith(SCHEME) else entry.spiffe_id.uri.removeprefix(SCHEME)
        elif key == NAMESPACE:
            held = entry.namespace or default_namespace
        else:
            held = entry.labels.get(key.removeprefix(LABEL), "\0")  # no label has this value
        if held != value:
            return False
    return True


def _agrees(entry: Registered, labels: Mapping[str, str], selector_keys: frozenset[str]) -> bool:
    return all(
        entry.labels[name] == value if name in entry.labels else name not in selector_keys
        for name, value in labels.items()
    )
