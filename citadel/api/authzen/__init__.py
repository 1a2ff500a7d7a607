"""OpenID AuthZEN's Authorization API 1.0 over HTTP, on FastAPI; what it answers is the door's (authz.doors.authzen).

`callers` says who asks and who may, `bearers` reads their access tokens, `guard` stands before everything,
`bodies` reads what is sent, `app` has the calls, `tls` and `connections` are the transport. The guide: docs/authzen.md.
"""

from citadel.api.authzen.app import AuthzenParts, application
from citadel.api.authzen.bearers import AccessTokens, Bearers
from citadel.api.authzen.callers import CallerRules
from citadel.api.authzen.connections import serving
from citadel.api.authzen.tls import Anchors, Contexts, TlsFiles

__all__ = [
    "AccessTokens",
    "Anchors",
    "AuthzenParts",
    "Bearers",
    "CallerRules",
    "Contexts",
    "TlsFiles",
    "application",
    "serving",
]
