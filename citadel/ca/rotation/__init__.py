"""Rotation of roots: a persisted state machine that moves on only when those who are alive have acknowledged.

The machine is pure. `world.World` is all that it knows, `commands` what an operator may ask for, `machine.tick` what
happens by itself; each gives a `step.Step`, which the store carries out in one transaction, or raises why not. Nothing
is remembered between two calls: whoever runs next, on whatever server, goes on from what is written down.
"""

from citadel.ca.rotation.clients import Behind, Client, Holding, Standing
from citadel.ca.rotation.gates import Gate, activation_gate, removal_gate
from citadel.ca.rotation.leaves import LeafGroup
from citadel.ca.rotation.leaving import leaving
from citadel.ca.rotation.plan import Excused, Hold, Phase, Plan
from citadel.ca.rotation.policy import RootKind, RotationPolicy
from citadel.ca.rotation.step import Move, NewAuthority, Step
from citadel.ca.rotation.world import World

__all__ = [
    "Behind",
    "Client",
    "Excused",
    "Gate",
    "Hold",
    "Holding",
    "LeafGroup",
    "Move",
    "NewAuthority",
    "Phase",
    "Plan",
    "RootKind",
    "RotationPolicy",
    "Standing",
    "Step",
    "World",
    "activation_gate",
    "leaving",
    "removal_gate",
]
