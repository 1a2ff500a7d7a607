"""What a door asks: a request in all its readings, of whom, and what of it may be believed."""

from __future__ import annotations

from dataclasses import dataclass

from citadel.authz.request import Request, Workload


@dataclass(frozen=True, slots=True)
class Question:
    """One request. How it came is the door's business; what is in here, the door answers for."""

    door: str
    """`ext_authz`, `authzen`, `grpc`…: for metrics and the log."""
    caller: str
    """Who asks, for the log: what was attested of him."""
    workload: Workload
    """Whose policies are asked."""
    readings: tuple[Request, ...]
    """The request. Several, if it can be read in more than one way: then each of them must be allowed. Never empty."""
    claims_stated: bool = False
    """The caller may state claims: those in `http.jwt` and the metadata of `jwt_authn` count, if there is no token in
    the request. Otherwise only a token counts, which is verified here."""
    request_id: str = ""
    """The `x-request-id` or the like, for the log."""
