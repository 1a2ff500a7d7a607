"""How long a rotation waits, for whom, and what it does by itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from citadel.quiet_hours import QuietHours


class RootKind(StrEnum):
    """Where the root comes from that a rotation goes to."""

    DISK = "disk"  # Citadel makes it, and keeps its key sealed in the store
    CACERTS = "cacerts"  # it was plugged in
    VAULT = "vault"  # it is the one in Vault that is pinned


@dataclass(frozen=True, slots=True)
class RotationPolicy:
    """`reconnect_window`: after a start of ours, and after each new bundle, no gate opens before it.

    `grace`: who is silent or gone for that long is excused. `assumed_after`: how long consumers that cannot
    acknowledge take to read the bundle again (their refresh hint). `session_life`: how long a connection may live
    that was made with a leaf of the old root. `emergency_gate`: how long a compromised key goes on signing for the
    sake of those who have not acknowledged yet. `clock_skew`: how far clocks may differ, or ours be set back: for that
    long after its end a certificate counts as in use.
    """

    reconnect_window: timedelta = timedelta(seconds=30)
    grace: timedelta = timedelta(hours=1)
    assumed_after: timedelta = timedelta(minutes=5)
    session_life: timedelta = timedelta(hours=1)
    emergency_gate: timedelta = timedelta(seconds=60)
    clock_skew: timedelta = timedelta(seconds=60)
    approval: bool = False  # activation waits for an operator even where the gate is open
    plugged_by_itself: bool = False  # a root that was plugged in is rotated to without a command
    quiet: QuietHours = field(default_factory=QuietHours)  # in which a planned rotation takes no step
