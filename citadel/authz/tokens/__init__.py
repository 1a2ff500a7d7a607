"""End users' tokens: JWTs verified as RequestAuthentication says, and where the keys for that come from.

    gate = TokenGate.of(documents, workload, root_namespace)
    async with HttpFetch() as fetch, CachedKeys(fetch, clock) as source:
        verdict = await TokenAuthenticator(source, clock).authenticate(gate, http)

`gate` decides and is pure; `cached_keys` and `fetching` are its edges. docs/authorization-tokens.md is the guide.
"""

from citadel.authz.tokens.authenticator import TokenAuthenticator
from citadel.authz.tokens.cached_keys import CachedKeys
from citadel.authz.tokens.fetching import LOOPBACK, FetchPolicy, HttpFetch
from citadel.authz.tokens.gate import (
    CLOCK_SKEW,
    Attempt,
    Candidate,
    NoToken,
    Proposal,
    Rejected,
    TokenGate,
    Verdict,
    Verified,
)
from citadel.authz.tokens.keys import KeySet
from citadel.authz.tokens.outputs import RequestChanges
from citadel.authz.tokens.refusals import BadKeySet, KeysUnavailable, Reason, TokenRefused
from citadel.authz.tokens.schedule import KeySchedule

__all__ = [
    "CLOCK_SKEW",
    "LOOPBACK",
    "Attempt",
    "BadKeySet",
    "CachedKeys",
    "Candidate",
    "FetchPolicy",
    "HttpFetch",
    "KeySchedule",
    "KeySet",
    "KeysUnavailable",
    "NoToken",
    "Proposal",
    "Reason",
    "Rejected",
    "RequestChanges",
    "TokenAuthenticator",
    "TokenGate",
    "TokenRefused",
    "Verdict",
    "Verified",
]
