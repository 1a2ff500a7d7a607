"""Doors: how others ask for decisions. The only part of authz that knows protocols.

`ext_authz` answers Envoy: `attributes` reads what it asks, `whose` finds whose policies are asked, `check` decides,
`answers` writes what it understands, `service` puts that on gRPC. `ports` says what a door needs of the node.
"""

from citadel.authz.doors.check import Checked, Door, DoorRules
from citadel.authz.doors.ports import Caller, Callers, DoorMeter, NoMeter, Registered
from citadel.authz.doors.service import AuthorizationService

__all__ = [
    "AuthorizationService",
    "Caller",
    "Callers",
    "Checked",
    "Door",
    "DoorMeter",
    "DoorRules",
    "NoMeter",
    "Registered",
]
