"""The gate: from a request and the RequestAuthentication rules of a workload to who the end user is. Pure.

    gate = TokenGate.of(documents, workload, root_namespace)
    attempt = gate.examine(http, now)          # all but signatures; no keys are needed for what fails here
    for candidate in attempt.candidates:
        verified = gate.accept(candidate, keys)     # with the keys of candidate.rule; the first that is accepted counts

One rule accepts a request whose token is valid, or that has none where the rule looks. Several rules accept it if any
of them finds a valid token, or if none of them finds any: that is what Istio makes of them for Envoy's jwt_authn. Rules
are tried by issuer, as Istio sorts them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from citadel.authz.model import JwtRule, RequestAuthentication
from citadel.authz.request import HttpRequest, JsonValue, Workload
from citadel.authz.selection import applies
from citadel.authz.tokens.compact import LONGEST_TOKEN, UnverifiedToken
from citadel.authz.tokens.keys import KeySet
from citadel.authz.tokens.locations import Presented, presented
from citadel.authz.tokens.outputs import RequestChanges, changes, written_headers
from citadel.authz.tokens.refusals import Reason, TokenRefused, shown

CLOCK_SKEW = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class NoToken:
    """The request carries no token where any rule looks: it goes on without a request identity."""

    changes: RequestChanges


@dataclass(frozen=True, slots=True)
class Verified:
    """The request carries a token that a rule accepts."""

    claims: Mapping[str, JsonValue] = field(repr=False)
    """For `HttpRequest.jwt`: the payload; claims that are delimited by spaces are lists."""
    rule: JwtRule = field(repr=False)
    changes: RequestChanges = field(repr=False)

    @property
    def principal(self) -> str | None:
        """`iss/sub` (`request.auth.principal`); None if either is missing or empty."""
        issuer, subject = self.claims.get("iss"), self.claims.get("sub")
        return f"{issuer}/{subject}" if issuer and subject else None


@dataclass(frozen=True, slots=True)
class Rejected:
    """The request carries a token, and none that is valid: it is answered with `reason.status`."""

    reason: Reason
    message: str
    """For the log; a caller is told the reason alone."""


Verdict = NoToken | Verified | Rejected


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token that is right in all but its signature, which is to be verified with the keys of `rule`."""

    rule: JwtRule = field(repr=False)
    token: UnverifiedToken
    found: Presented


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a request's tokens come to before signatures are looked at."""

    candidates: tuple[Candidate, ...]
    """In the order in which they are to be tried."""
    refusals: tuple[TokenRefused, ...]
    changes: RequestChanges
    """What becomes of a request without a token."""

    def without(self, refusals: Iterable[TokenRefused] = ()) -> NoToken | Rejected:
        """The verdict if no candidate is accepted: `refusals` are the reasons, one for each."""
        reasons = [*refusals, *self.refusals]
        if not reasons and not self.candidates:
            return NoToken(self.changes)
        telling = [one for one in reasons if one.reason is not Reason.UNKNOWN_ISSUER] or reasons
        if not telling:  # a candidate that nobody verified
            return Rejected(Reason.KEYS_UNAVAILABLE, "the signature was not verified")
        return Rejected(telling[0].reason, telling[0].message)


class TokenGate:
    """The rules of one workload. Immutable, and safe to use from many tasks at once."""

    def __init__(self, rules: Iterable[JwtRule], skew: timedelta = CLOCK_SKEW, longest: int = LONGEST_TOKEN) -> None:
        self.rules = tuple(sorted(rules, key=lambda rule: rule.issuer))
        self._skew = skew.total_seconds()
        self._longest = longest
        self._written = written_headers(self.rules)

    @classmethod
    def of(
        cls,
        documents: Iterable[RequestAuthentication],
        workload: Workload,
        root_namespace: str,
        skew: timedelta = CLOCK_SKEW,
    ) -> TokenGate:
        """The gate of a workload: the rules of all documents that apply to it, merged."""
        mine = (one for one in documents if applies(one, workload, root_namespace))
        return cls((rule for document in mine for rule in document.jwt_rules), skew)

    def examine(self, http: HttpRequest, now: datetime) -> Attempt:
        """Find the tokens and check all that needs no key. Raises nothing."""
        parsed: dict[str, UnverifiedToken | TokenRefused] = {}
        candidates: list[Candidate] = []
        refusals: list[TokenRefused] = []
        for rule in self.rules:
            for found in presented(rule, http):
                if found.text not in parsed:
                    parsed[found.text] = self._parse(found.text)
                token = parsed[found.text]
                refusal = token if isinstance(token, TokenRefused) else self._refusal(rule, token, now)
                if refusal is not None:
                    refusals.append(refusal)
                elif isinstance(token, UnverifiedToken):
                    candidates.append(Candidate(rule, token, found))
        return Attempt(tuple(candidates), tuple(refusals), RequestChanges(self._written))

    def accept(self, candidate: Candidate, keys: KeySet) -> Verified:
        """The verdict for a candidate with the keys of its rule. Raises TokenRefused: the signature proves nothing."""
        keys.verify(candidate.token)
        rule, token = candidate.rule, candidate.token
        return Verified(_split(token.claims, rule), rule, changes(rule, token, candidate.found, self._written))

    def _parse(self, text: str) -> UnverifiedToken | TokenRefused:
        try:
            return UnverifiedToken.parse(text, self._longest)
        except TokenRefused as refusal:
            return refusal

    def _refusal(self, rule: JwtRule, token: UnverifiedToken, now: datetime) -> TokenRefused | None:
        """What is wrong with the token for this rule, in Envoy's order: issuer, time, audience."""
        seconds = now.timestamp()
        expires, begins = token.time("exp"), token.time("nbf")
        if rule.issuer and token.issuer != rule.issuer:
            return TokenRefused(Reason.UNKNOWN_ISSUER, f"no rule here is for the issuer {shown(token.issuer)}")
        if begins is not None and seconds + self._skew < begins:
            return TokenRefused(Reason.NOT_YET_VALID, f"the token begins in {begins - seconds:.0f} s (nbf)")
        if expires is not None and seconds > expires + self._skew:
            return TokenRefused(Reason.EXPIRED, f"the token expired {seconds - expires:.0f} s ago (exp)")
        if rule.audiences and not set(rule.audiences) & set(token.audiences):
            return TokenRefused(Reason.AUDIENCE, "the token is for none of the audiences that the rule accepts")
        return None


def _split(claims: Mapping[str, JsonValue], rule: JwtRule) -> Mapping[str, JsonValue]:
    """The claims, with those that the rule calls delimited by spaces made lists."""
    texts = ((name, claims.get(name)) for name in rule.space_delimited_claims)
    lists: dict[str, JsonValue] = {
        name: list[JsonValue](filter(None, text.split(" "))) for name, text in texts if isinstance(text, str)
    }
    return {**claims, **lists}
