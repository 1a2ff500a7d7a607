"""The gate: from a request and the RequestAuthentication rules of a workload to who the end user is. Pure.

    gate = TokenGate.of(documents, workload, root_namespace)
    attempt = gate.examine(http, now)           # all but signatures; no keys are needed for what fails here
    for proposal in attempt.proposals:          # each candidate: candidate.verify(keys of candidate.rule)
        verified = gate.accept(proposal)        # the first proposal whose candidates are all verified

What several tokens come to is what real Envoy makes of Istio's configuration (tests/interop/test_authz_tokens.py):

1. A rule accepts a request if it finds a token where it looks, and every token there is valid for it.
2. Of several rules, the first by issuer that accepts counts.
3. If none does, a request is still accepted if every token in it is valid for some rule that looks there.
4. A request without any token goes on without an identity. All others are rejected.

Of several tokens the first one's claims count: headers before parameters before cookies, each by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from citadel.authz.model import JwtRule, RequestAuthentication
from citadel.authz.request import HttpRequest, JsonValue, Workload
from citadel.authz.selection import applies
from citadel.authz.tokens.compact import LONGEST_TOKEN, UnverifiedToken
from citadel.authz.tokens.keys import KeySet
from citadel.authz.tokens.locations import Place, Presented, presented
from citadel.authz.tokens.outputs import RequestChanges, changes, written_headers
from citadel.authz.tokens.refusals import Reason, TokenRefused, shown

CLOCK_SKEW = timedelta(seconds=30)

_PLACES = tuple(Place)


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

    def verify(self, keys: KeySet) -> None:
        """Raises TokenRefused: the signature proves nothing."""
        keys.verify(self.token)


Proposal = tuple[Candidate, ...]
"""Tokens that together admit a request if each of them is verified; at least one."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a request's tokens come to before signatures are looked at."""

    proposals: tuple[Proposal, ...]
    """In the order in which they are to be tried."""
    refusals: tuple[TokenRefused, ...]
    changes: RequestChanges
    """What becomes of a request without a token."""

    def otherwise(self, refusals: Iterable[TokenRefused] = ()) -> NoToken | Rejected:
        """The verdict if no proposal is accepted: `refusals` are the reasons."""
        reasons = [*refusals, *self.refusals]
        if not reasons and not self.proposals:
            return NoToken(self.changes)
        telling = [one for one in reasons if one.reason is not Reason.UNKNOWN_ISSUER] or reasons
        if not telling:  # proposals that nobody verified
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
        """Find the tokens and check all that needs no key. Raises nothing.

        A CORS preflight has none, whatever is in it: a browser sends it without, and Istio's proxies do not look."""
        if _is_preflight(http):
            return Attempt((), (), RequestChanges(self._written))
        parsed: dict[str, UnverifiedToken | TokenRefused] = {}
        by_rule: list[Sequence[Candidate | TokenRefused]] = []
        anywhere: dict[Presented, Candidate | TokenRefused] = {}
        for rule in self.rules:
            checked = [(found, self._check(rule, found, parsed, now)) for found in presented(rule, http)]
            by_rule.append([result for _, result in checked])
            for found, result in checked:
                if isinstance(anywhere.get(found), TokenRefused | None):
                    anywhere[found] = result
        together = [anywhere[found] for found in sorted(anywhere, key=lambda one: (_PLACES.index(one.place), one.name))]
        proposals = dict.fromkeys(filter(None, map(_proposal, [*by_rule, together])))
        refusals = tuple(one for results in by_rule for one in results if isinstance(one, TokenRefused))
        return Attempt(tuple(proposals), refusals, RequestChanges(self._written))

    def accept(self, proposal: Proposal) -> Verified:
        """The verdict for a proposal whose candidates have all been verified."""
        first = proposal[0]
        accepted = [(one.rule, one.found) for one in proposal]
        claims = _split(first.token.claims, first.rule)
        return Verified(claims, first.rule, changes(accepted, first.token, self._written))

    def _check(
        self, rule: JwtRule, found: Presented, parsed: dict[str, UnverifiedToken | TokenRefused], now: datetime
    ) -> Candidate | TokenRefused:
        """`parsed` are the tokens of this request that were taken apart before."""
        token = parsed.get(found.text)
        if token is None:
            token = parsed[found.text] = self._parse(found.text)
        if isinstance(token, TokenRefused):
            return token
        return self._refusal(rule, token, now) or Candidate(rule, token, found)

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
        if rule.audiences and not set(map(_bare, rule.audiences)) & set(map(_bare, token.audiences)):
            return TokenRefused(Reason.AUDIENCE, "the token is for none of the audiences that the rule accepts")
        return None


def _is_preflight(http: HttpRequest) -> bool:
    """As Envoy finds it (jwt_authn, `bypass_cors_preflight`)."""
    return http.method == "OPTIONS" and all(
        any(http.headers.get(name, ())) for name in ("origin", "access-control-request-method")
    )


def _proposal(results: Sequence[Candidate | TokenRefused]) -> Proposal | None:
    candidates = tuple(one for one in results if isinstance(one, Candidate))
    return candidates if candidates and len(candidates) == len(results) else None


def _bare(audience: str) -> str:
    """An audience as Envoy compares it: without `http://` or `https://`, and without one slash at the end."""
    for scheme in ("https://", "http://"):
        if audience.startswith(scheme):
            audience = audience[len(scheme) :]
            break
    return audience.removesuffix("/")


def _split(claims: Mapping[str, JsonValue], rule: JwtRule) -> Mapping[str, JsonValue]:
    """The claims, with those that the rule calls delimited by spaces made lists."""
    texts = ((name, claims.get(name)) for name in rule.space_delimited_claims)
    lists: dict[str, JsonValue] = {
        name: list[JsonValue](filter(None, text.split(" "))) for name, text in texts if isinstance(text, str)
    }
    return {**claims, **lists}
