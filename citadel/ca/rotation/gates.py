"""Gates: whether a step may be taken now, who is in the way, and when it may be at the earliest."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from citadel.ca.model import AuthorityState
from citadel.ca.rotation.clients import Behind, Standing, stand
from citadel.ca.rotation.leaves import LeafGroup
from citadel.ca.rotation.plan import Plan
from citadel.ca.rotation.policy import RotationPolicy
from citadel.ca.rotation.revocation import gap
from citadel.ca.rotation.world import World

_ON_ITS_WAY = frozenset({AuthorityState.PREPARED, AuthorityState.DISTRIBUTING})


@dataclass(frozen=True, slots=True)
class Gate:
    """`open`: the step may be taken. `opens_at`: not before then, whatever the clients do; None if only they decide.

    `assumed` counts leaves whose holders cannot acknowledge: for them the time in `opens_at` stands instead.
    """

    open: bool
    expected: int = 0
    connected: int = 0
    acknowledged: int = 0
    behind: tuple[Behind, ...] = ()
    excused: tuple[Behind, ...] = ()
    assumed: int = 0
    leaves: tuple[LeafGroup, ...] = ()
    opens_at: datetime | None = None
    why: tuple[str, ...] = ()  # sentences: what it waits for

    @property
    def leaves_left(self) -> int:
        return sum(group.count for group in self.leaves)


def activation_gate(plan: Plan, world: World, policy: RotationPolicy) -> Gate:
    """May `plan.incoming` sign? Every expected client must have acknowledged a bundle with it in it.

    Clients that are not connected count as much as others; without any that is connected, time alone must do, and all
    who cannot acknowledge are given time to read the bundle again.
    """
    clients = world.expected(policy)
    standings = [(c, stand(c, plan.sequence, plan.phase_at)) for c in clients]
    late = [behind for _, behind in standings if behind is not None]
    excused = [b for b in late if plan.excuses(b.node, b.client) and b.standing in (Standing.SILENT, Standing.GONE)]
    behind = [b for b in late if b not in excused]
    connected = sum(c.connected for c in clients)
    assumed = sum(g.count for g in world.leaves if g.not_after > world.now - policy.clock_skew and not g.by_node)
    opens_at = max(plan.phase_at, world.running_since) + policy.reconnect_window
    if assumed or not connected:
        opens_at = max(opens_at, plan.phase_at + policy.assumed_after)
    why = [f"not acknowledged by {b.sentence}" for b in behind]
    if world.now < opens_at:
        ended = sum(client.ended for client in world.clients())
        why.append(_time_left(opens_at, connected=connected, assumed=assumed, ended=ended))
    valid_from = _valid_from(plan, world)
    if world.now < valid_from:
        opens_at = max(opens_at, valid_from)
        why.append(f"its certificates are not valid before {valid_from.isoformat()}: is this machine's clock right?")
    if unrevoked := gap(plan.incoming, world):
        why.append(unrevoked)
    return Gate(
        open=not why,
        expected=len(clients),
        connected=connected,
        acknowledged=len(clients) - len(late),
        behind=tuple(behind),
        excused=tuple(excused),
        assumed=assumed,
        opens_at=opens_at if world.now < opens_at else None,
        why=tuple(why),
    )


def _valid_from(plan: Plan, world: World) -> datetime:
    """When the incoming root and the CA under it can be verified: they were made by a clock that was ahead, if that is
    not over."""
    line = [a for a in (world.find(plan.incoming), *world.issuing_under(plan.incoming)) if a is not None]
    return max((a.certificate.not_before for a in line if a.state in _ON_ITS_WAY), default=world.now)


def _time_left(opens_at: datetime, *, connected: int, assumed: int, ended: int) -> str:
    when = opens_at.isoformat(timespec="seconds")
    if not connected:
        was = f" ({ended} that were here have ended: citadel status --clients)" if ended else ""
        return f"no client is connected{was}, so nobody can acknowledge: not before {when}"
    if assumed:
        return f"holders of {assumed} certificates cannot acknowledge, and are given until {when}"
    return f"clients are given until {when} to connect"


def removal_gate(plan: Plan, world: World, policy: RotationPolicy) -> Gate:
    """May `plan.outgoing` leave the bundle? No leaf in use chains to it, and connections made with one have ended."""
    leaves = world.leaves_of(plan.outgoing, policy.clock_skew)
    clients = world.expected(policy)
    why = [f"{sum(g.count for g in leaves)} certificates in use chain to it"] if leaves else []
    opens_at = max(g.not_after for g in leaves) + policy.clock_skew if leaves else None
    began = world.running_since + policy.reconnect_window
    if not leaves:
        ready = world.now if plan.replaced_at is None else plan.replaced_at
        # A compromised key is not waited for: whoever is connected with it should not be.
        opens_at = max(began, ready if plan.emergency else ready + policy.session_life)
        if world.now < opens_at:
            why.append(
                f"connections made with its certificates may live until {opens_at.isoformat(timespec='seconds')}"
            )
        elif plan.replaced_at is None and not plan.emergency:
            why.append("it was not seen yet for how long no certificate in use chains to it")
    return Gate(
        open=not why,
        expected=len(clients),
        connected=sum(c.connected for c in clients),
        acknowledged=len(clients),
        leaves=tuple(leaves),
        opens_at=opens_at if opens_at and world.now < opens_at else None,
        why=tuple(why),
    )
