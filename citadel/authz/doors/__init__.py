"""Doors: how others ask for decisions. The only part of authz that knows protocols; decision_point decides for them.

`ext_authz` answers Envoy: `attributes` reads what it asks, `whose` finds whose policies are asked, `check` asks the
decision point, `answers` and `denials` write what is understood, `service` puts that on gRPC. `http_check` does the
same for HTTP, with `xfcc`. `joined` knows in what ways headers can have been sent. `ports` says what a door needs of
the node, `remote` knows callers over the network by their `certificates`, `unnamed` says why one could not be named.
"""

from citadel.authz.doors.check import Checked, Door, DoorRules
from citadel.authz.doors.denials import DenialHeader
from citadel.authz.doors.http_check import HttpDoor, HttpRules
from citadel.authz.doors.ports import Caller, Callers, Connection, Registered
from citadel.authz.doors.remote import Registration, Registrations, RemoteCallers, Trust
from citadel.authz.doors.service import AuthorizationService

__all__ = [
    "AuthorizationService",
    "Caller",
    "Callers",
    "Checked",
    "Connection",
    "DenialHeader",
    "Door",
    "DoorRules",
    "HttpDoor",
    "HttpRules",
    "Registered",
    "Registration",
    "Registrations",
    "RemoteCallers",
    "Trust",
]
