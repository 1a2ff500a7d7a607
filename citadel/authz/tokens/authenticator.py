"""Who the end user of a request is: the gate, with keys from a source. What the doors call."""

from __future__ import annotations

from dataclasses import dataclass

from citadel.authz.request import HttpRequest
from citadel.authz.tokens.gate import TokenGate, Verdict
from citadel.authz.tokens.ports import KeySource
from citadel.authz.tokens.refusals import KeysUnavailable, Reason, TokenRefused
from citadel.clock import Clock


@dataclass(frozen=True, slots=True)
class TokenAuthenticator:
    """Verifies the tokens of requests. Safe to use from many tasks at once."""

    source: KeySource
    clock: Clock

    async def authenticate(self, gate: TokenGate, http: HttpRequest) -> Verdict:
        """The verdict of `gate`. No keys are asked for on behalf of a token that fails without them. Raises nothing."""
        attempt = gate.examine(http, self.clock.now())
        refusals: list[TokenRefused] = []
        verified: set[tuple[int, str]] = set()  # a token that is there many times costs one signature
        for proposal in attempt.proposals:
            try:
                for candidate in proposal:
                    once = id(candidate.rule), candidate.token.text
                    if once not in verified:
                        candidate.verify(await self.source.keys(candidate.rule, candidate.token.kid))
                        verified.add(once)
                return gate.accept(proposal)
            except KeysUnavailable as error:
                refusals.append(TokenRefused(Reason.KEYS_UNAVAILABLE, error.message))
            except TokenRefused as refusal:
                refusals.append(refusal)
        return attempt.otherwise(refusals)
