"""Who asks, as proven by the connection, and who may: nobody who is not named."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field

from citadel.authz.doors.certificates import ClientCertificate
from citadel.spiffe import TrustDomain

SCOPE = "citadel.caller"
"""Where an ASGI scope has the Caller."""
HANG_UP = "citadel.hang_up"
"""Where an ASGI scope says whether the connection ends with this request."""
_PEERCRED = struct.Struct("3i")  # struct ucred, unix(7)
_SO_PEERGROUPS = 59  # Linux 4.13; Python's socket module has no name for it
_MOST_BYTES = 1024  # that getsockopt of Python's socket module takes: 256 groups


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is at the other end of a connection."""

    names: frozenset[str]
    """`uid:N` and `gid:N`s of a process, or the SPIFFE ID of a certificate; nothing: it proved nothing."""
    label: str
    """For the log."""


NOBODY = Caller(frozenset(), "nobody")


@dataclass(frozen=True, slots=True)
class CallerRules:
    """Names of those who may ask, and of those who may state what an end user's claims are."""

    allowed: frozenset[str] = field(default_factory=frozenset)
    state_claims: frozenset[str] = field(default_factory=frozenset)

    def may_ask(self, caller: Caller) -> bool:
        return bool(caller.names & self.allowed)

    def states_claims(self, caller: Caller) -> bool:
        return bool(caller.names & self.state_claims)


def process_at(connection: socket.socket) -> Caller:
    """The process at the other end of a unix socket, as the kernel saw it when it connected, with all its groups."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
    pid, uid, gid = _PEERCRED.unpack(raw)
    gids = {gid}
    with suppress(OSError):  # who is in more groups than fit is known by the user and the first group
        groups = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_BYTES)
        gids.update(struct.unpack(f"{len(groups) // 4}I", groups))
    return Caller(frozenset([f"uid:{uid}", *(f"gid:{one}" for one in gids)]), f"pid {pid} uid {uid}")


def holder_of(certificate: ClientCertificate, trust_domains: frozenset[TrustDomain]) -> Caller:
    """`trust_domains`: of whom the CAs that have signed it may speak."""
    name = certificate.spiffe_id
    if name is None:
        return Caller(frozenset(), "a certificate without a SPIFFE ID")
    if name.trust_domain not in trust_domains:
        return Caller(frozenset(), f"{name.uri}, by a CA that may not speak for {name.trust_domain}")
    return Caller(frozenset([name.uri]), name.uri)
