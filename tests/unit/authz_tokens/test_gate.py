"""The gate: which requests have whose identity, which none, and which are refused."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

import pytest

from citadel.authz.model import (
    ClaimToHeader,
    HeaderLocation,
    JwtRule,
    Metadata,
    PolicyName,
    RequestAuthentication,
    WorkloadSelector,
)
from citadel.authz.request import HttpRequest, Workload
from citadel.authz.tokens import NoToken, Reason, Rejected, TokenAuthenticator, TokenGate, Verdict, Verified
from citadel.authz.tokens.cached_keys import CachedKeys
from citadel.authz.tokens.refusals import KeysUnavailable
from tests.support.clock import ManualClock
from tests.support.tokens import (
    ALGORITHMS,
    CLAIMS,
    ISSUER,
    NOW,
    b64,
    bearing,
    confused,
    get,
    key_set,
    public_jwk,
    rule,
    signed,
    token,
)

OTHER = "https://other.example"


async def no_fetch(url: str, *, timeout: float) -> bytes:
    raise KeysUnavailable("nothing is fetched here")


async def verdict(http: HttpRequest, *rules: JwtRule, later: float = 0) -> Verdict:
    clock = ManualClock(NOW + timedelta(seconds=later))
    async with CachedKeys(no_fetch, clock) as source:
        return await TokenAuthenticator(source, clock).authenticate(TokenGate(rules or (rule(),)), http)


async def reason(http: HttpRequest, *rules: JwtRule, later: float = 0) -> Reason | None:
    """Why the request is rejected; None: it is not, and has an identity."""
    found = await verdict(http, *rules, later=later)
    if isinstance(found, Rejected):
        return found.reason
    assert isinstance(found, Verified), found
    return None


async def test_a_good_token_gives_principal_and_claims() -> None:
    found = await verdict(bearing(token(groups=["a"])))
    assert isinstance(found, Verified)
    assert found.principal == f"{ISSUER}/alice"
    assert found.claims == {**CLAIMS, "groups": ["a"]}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_every_algorithm_with_a_key_pair_verifies(algorithm: str) -> None:
    mine = rule(jwks=key_set(public_jwk(algorithm)))
    assert await reason(bearing(token(algorithm=algorithm)), mine) is None
    broken = token(algorithm=algorithm)[:-6] + "AAAAAA"
    assert await reason(bearing(broken), mine) in (Reason.BAD_SIGNATURE, Reason.MALFORMED)


def changed(text: str, part: int, new: str) -> str:
    parts = text.split(".")
    return ".".join([*parts[:part], new, *parts[part + 1 :]])


NO_SIGNATURE = ".".join(token(header={"alg": "none"}).split(".")[:2])
KID = rule(jwks=key_set(public_jwk("ES256", kid="a")))
BROKEN = {
    "no token at all": ("", Reason.MALFORMED),
    "one part": ("abc", Reason.MALFORMED),
    "two parts": (NO_SIGNATURE, Reason.MALFORMED),
    "four parts": (token() + ".abc", Reason.MALFORMED),
    "encrypted": (f"{b64(b'{}')}.a.a.a.a", Reason.MALFORMED),
    "alg none, signature empty": (NO_SIGNATURE + ".", Reason.MALFORMED),
    "alg none, signature there": (signed({"alg": "none"}, json.dumps(dict(CLAIMS)).encode()), Reason.ALGORITHM),
    "alg nOnE": (signed({"alg": "nOnE"}, json.dumps(dict(CLAIMS)).encode()), Reason.ALGORITHM),
    "no alg": (signed({}, json.dumps(dict(CLAIMS)).encode()), Reason.ALGORITHM),
    "alg is a list": (signed({"alg": ["ES256"]}, json.dumps(dict(CLAIMS)).encode()), Reason.ALGORITHM),
    "HS256 with the public key as secret": (confused(), Reason.ALGORITHM),
    "alg of another kind of key": (signed({"alg": "RS256"}, json.dumps(dict(CLAIMS)).encode()), Reason.UNKNOWN_KEY),
    "alg of another curve": (signed({"alg": "ES384"}, json.dumps(dict(CLAIMS)).encode()), Reason.UNKNOWN_KEY),
    "another key of the same kind": (token(which=1), Reason.BAD_SIGNATURE),
    "claims changed": (changed(token(), 1, b64(json.dumps({**CLAIMS, "sub": "bob"}).encode())), Reason.BAD_SIGNATURE),
    "header changed": (changed(token(), 0, b64(b'{"alg": "ES256", "x": 1}')), Reason.BAD_SIGNATURE),
    "signature of zeros": (changed(token(), 2, b64(bytes(64))), Reason.BAD_SIGNATURE),
    "signature cut": (changed(token(), 2, b64(bytes(8))), Reason.BAD_SIGNATURE),
    "padding": (token() + "=", Reason.MALFORMED),
    "another alphabet": (changed(token(), 2, "+/+/"), Reason.MALFORMED),
    "a second spelling of the signature": (changed(token(), 2, "AB"), Reason.MALFORMED),
    "a line break": (token() + "\n", Reason.MALFORMED),
    "not ASCII": (changed(token(), 1, "é"), Reason.MALFORMED),
    "header no JSON": (changed(token(), 0, b64(b"{")), Reason.MALFORMED),
    "header no object": (changed(token(), 0, b64(b"[]")), Reason.MALFORMED),
    "payload no object": (token(b"[]"), Reason.MALFORMED),
    "payload no UTF-8": (token(b'{"sub": "\xff"}'), Reason.MALFORMED),
    "payload another token": (token(token().encode(), header={"cty": "JWT"}), Reason.MALFORMED),
    "cty": (token(header={"cty": "JWT"}), Reason.MALFORMED),
    "a claim twice": (token(b'{"iss": "https://issuer.example", "sub": "a", "sub": "b"}'), Reason.MALFORMED),
    "alg twice": (signed(b'{"alg": "ES256", "alg": "ES256"}', json.dumps(dict(CLAIMS)).encode()), Reason.MALFORMED),
    "NaN": (token(b'{"exp": NaN}'), Reason.MALFORMED),
    "a number without end": (token(b'{"exp": 1e999}'), Reason.MALFORMED),
    "ten thousand digits": (token(b'{"exp": ' + b"9" * 10000 + b"}"), Reason.MALFORMED),
    "half a surrogate pair": (token(b'{"sub": "\\ud800"}'), Reason.MALFORMED),
    "a hundred levels": (token(b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}"), Reason.MALFORMED),
    "four thousand levels": (token(b'{"a": ' + b"[" * 4000 + b"]" * 4000 + b"}"), Reason.MALFORMED),
    "too long": (token(pad="x" * 16384), Reason.TOO_LARGE),
    "crit": (token(header={"crit": ["exp"]}), Reason.MALFORMED),
    "detached payload": (token(header={"b64": False}), Reason.MALFORMED),
    "kid a number": (token(header={"kid": 1}), Reason.MALFORMED),
    "kid without end": (token(header={"kid": "a" * 2000}), Reason.MALFORMED),
    "another issuer": (token(iss=OTHER), Reason.UNKNOWN_ISSUER),
    "an issuer that begins alike": (token(iss=ISSUER + "/"), Reason.UNKNOWN_ISSUER),
    "no issuer": (token(iss=None), Reason.UNKNOWN_ISSUER),
    "issuer a list": (token(iss=[ISSUER]), Reason.MALFORMED),
    "subject a number": (token(sub=1), Reason.MALFORMED),
    "audience an object": (token(aud={}), Reason.MALFORMED),
    "audience a list with a number": (token(aud=["shop", 1]), Reason.MALFORMED),
    "exp a text": (token(exp="tomorrow"), Reason.MALFORMED),
    "exp a boolean": (token(exp=True), Reason.MALFORMED),
    "exp negative": (token(exp=-1), Reason.MALFORMED),
    "exp 0": (token(exp=0), Reason.EXPIRED),
    "expired": (token(exp=NOW.timestamp() - 31), Reason.EXPIRED),
    "not valid yet": (token(nbf=NOW.timestamp() + 31), Reason.NOT_YET_VALID),
}


@pytest.mark.parametrize(("text", "why"), BROKEN.values(), ids=BROKEN.keys())
async def test_a_broken_token_is_refused_with_its_reason(text: str, why: Reason) -> None:
    places = rule(from_headers=(HeaderLocation("x-token"),))
    assert await reason(get(x_token=text), places) is why


GOOD = {
    "plain": token(),
    "expired, within the skew": token(exp=NOW.timestamp() - 29),
    "begins, within the skew": token(nbf=NOW.timestamp() + 29),
    "no exp, as in Envoy": token(exp=None),
    "no subject": token(sub=None),
    "no audience": token(aud=None),
    "kid, and keys without": token(header={"kid": "../../etc/passwd"}),
    "kid a URL": token(header={"kid": "https://evil.example/key"}),
    "carries a key that nobody looks at": token(header={"jwk": public_jwk("ES256", 1), "jku": OTHER, "x5u": OTHER}),
    "levels": token(a={"b": {"c": [[1]]}}),
    "as long as that": token(pad="x" * 11000),
}


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD.keys())
async def test_its_good_twin_is_accepted(text: str) -> None:
    assert await reason(bearing(text)) is None


async def test_a_token_signed_by_the_key_that_it_carries_is_refused() -> None:
    own = token(header={"jwk": public_jwk("RS256", 5)}, algorithm="RS256", which=5)
    assert await reason(bearing(own), rule(jwks=key_set(public_jwk("RS256")))) is Reason.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("kid", "why"), [("a", None), ("b", Reason.UNKNOWN_KEY), ("A", Reason.UNKNOWN_KEY), ("", None)]
)
async def test_a_kid_is_a_name_and_nothing_else(kid: str, why: Reason | None) -> None:
    assert await reason(bearing(token(header={"kid": kid} if kid else {})), KID) is why


async def test_a_key_is_chosen_by_kid_where_several_have_its_kind() -> None:
    both = rule(jwks=key_set(public_jwk("RS256", 0, kid="a"), public_jwk("RS256", 1, kid="b")))
    assert await reason(bearing(token(algorithm="RS256", which=1, header={"kid": "b"})), both) is None
    assert await reason(bearing(token(algorithm="RS256", which=1)), both) is None
    wrong = token(algorithm="RS256", which=1, header={"kid": "a"})
    assert await reason(bearing(wrong), both) is Reason.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("accepted", "audience", "why"),
    [
        (("shop",), "shop", None),
        (("a", "shop"), ["x", "shop"], None),
        (("https://shop/",), "http://shop", None),
        (("shop",), "shop//", Reason.AUDIENCE),
        (("shop",), "Shop", Reason.AUDIENCE),
        (("shop",), [], Reason.AUDIENCE),
        (("shop",), None, Reason.AUDIENCE),
        ((), None, None),
    ],
)
async def test_any_audience_of_the_rule_will_do(accepted: Any, audience: Any, why: Reason | None) -> None:
    assert await reason(bearing(token(aud=audience)), rule(audiences=accepted)) is why


def test_only_the_wrong_audience_is_403_as_in_envoy() -> None:
    assert {one for one in Reason if one.status == 403} == {Reason.AUDIENCE}


T = token()
SOMEWHERE = rule(
    from_headers=(HeaderLocation("X-Token", "jwt "), HeaderLocation("x-plain")),
    from_params=("t",),
    from_cookies=("session",),
)
FOUND = [
    (rule(), bearing(T)),
    (rule(), get(f"/?a=b&access_token={T}#x")),
    (rule(), get(authorization=("Basic abc", f"Bearer {T}"))),
    (rule(), get(authorization=f"Bearer  !{T}")),
    (SOMEWHERE, get(x_token=f"jwt {T}")),
    (SOMEWHERE, get(x_plain=T)),
    (SOMEWHERE, get(f"/?t={T}&t=other")),
    (SOMEWHERE, get(f"/?%74={T.replace('.', '%2E')}")),
    (SOMEWHERE, get(cookie=("a=b", f'session="{T}"; session=other'))),
    (SOMEWHERE, get(x_plain=(T, T), cookie=f"session={T}")),
]
MISSING = [
    (rule(), get()),
    (rule(), get(authorization="Basic abc")),
    (rule(), get(authorization=f"bearer {T}")),
    (rule(), get(f"/?Access_token={T}")),
    (rule(), get(cookie=f"session={T}")),
    (rule(), get(f"/access_token={T}")),
    (SOMEWHERE, bearing(T)),
    (SOMEWHERE, get(f"/?access_token={T}")),
    (SOMEWHERE, get(x_token=f"Bearer {T}")),
    (SOMEWHERE, get(cookie=f"Session={T}; other={T}")),
]
MANGLED = [
    (rule(), get(authorization="Bearer ")),
    (rule(), get("/?access_token")),
    (rule(), get(authorization=f"Bearer {T}, more")),
    (rule(), get(authorization=(f"Bearer {T}", f"Bearer {T}"))),
    (SOMEWHERE, get(x_plain=(T, "rubbish"))),
    (SOMEWHERE, get(x_plain="rubbish", cookie=f"session={T}")),
    (SOMEWHERE, get(x_plain="")),
    (SOMEWHERE, get(f"/?t=other&t={T}")),
    (SOMEWHERE, get(cookie=f"session=other; session={T}")),
]


@pytest.mark.parametrize(("mine", "http"), FOUND)
async def test_a_token_is_found_where_the_rule_looks(mine: JwtRule, http: HttpRequest) -> None:
    assert isinstance(await verdict(http, mine), Verified)


@pytest.mark.parametrize(("mine", "http"), MISSING)
async def test_a_token_elsewhere_is_no_token(mine: JwtRule, http: HttpRequest) -> None:
    assert isinstance(await verdict(http, mine), NoToken)


@pytest.mark.parametrize(("mine", "http"), MANGLED)
async def test_what_is_no_token_where_one_should_be_is_refused(mine: JwtRule, http: HttpRequest) -> None:
    assert await reason(http, mine) is Reason.MALFORMED


B = rule(issuer=OTHER, jwks=key_set(public_jwk("ES384")), from_headers=(HeaderLocation("x-b"),))
TB = token(iss=OTHER, algorithm="ES384")
SEVERAL = [
    (get(), NoToken),
    (bearing(T), Verified),
    (get(x_b=TB), Verified),
    (get(authorization=f"Bearer {T}", x_b=TB), Verified),
    (get(authorization=f"Bearer {T}", x_b="rubbish"), Verified),
    (get(authorization="Bearer rubbish", x_b=TB), Verified),
    (bearing("rubbish"), Rejected),
    (bearing(TB), Rejected),
    (get(x_b=T), Rejected),
]


@pytest.mark.parametrize(("http", "kind"), SEVERAL)
async def test_of_several_rules_one_must_find_a_valid_token_or_none_a_token(http: HttpRequest, kind: type) -> None:
    assert isinstance(await verdict(http, rule(), B), kind)
    assert isinstance(await verdict(http, B, rule()), kind)


async def test_of_two_valid_tokens_the_one_of_the_first_issuer_counts() -> None:
    for rules in ((rule(), B), (B, rule())):
        found = await verdict(get(authorization=f"Bearer {T}", x_b=TB), *rules)
        assert isinstance(found, Verified)
        assert found.principal == f"{ISSUER}/alice"


@pytest.mark.parametrize(
    ("first", "second", "principal"),
    [
        (T, TB, f"{ISSUER}/alice"),
        (TB, T, f"{OTHER}/alice"),
        (token(sub="b"), T, f"{ISSUER}/b"),
        (T, "rubbish", None),
        (T, token(iss="x"), None),
        (T, token(iss=OTHER), None),
        (token(exp=1), T, None),
    ],
)
async def test_tokens_of_several_issuers_count_if_each_is_valid_and_the_first_gives_the_identity(
    first: str, second: str, principal: str | None
) -> None:
    both = (rule(), rule(issuer=OTHER, jwks=key_set(public_jwk("ES384"))))
    found = await verdict(get(f"/?access_token={second}", authorization=f"Bearer {first}"), *both)
    assert (found.principal if isinstance(found, Verified) else None) == principal
    assert isinstance(found, Verified if principal else Rejected)


async def test_rules_that_share_a_place_each_take_their_own_tokens() -> None:
    both = (rule(), rule(issuer=OTHER, jwks=key_set(public_jwk("ES384"))))
    assert await reason(bearing(T), *both) is None
    assert await reason(bearing(TB), *both) is None
    assert await reason(bearing(token(exp=1)), *both) is Reason.EXPIRED
    assert await reason(bearing(token(iss="x")), *both) is Reason.UNKNOWN_ISSUER


async def test_without_rules_tokens_are_not_looked_at() -> None:
    clock = ManualClock(NOW)
    async with CachedKeys(no_fetch, clock) as source:
        found = await TokenAuthenticator(source, clock).authenticate(TokenGate(()), bearing("rubbish"))
    assert isinstance(found, NoToken)


async def test_keys_that_cannot_be_had_deny() -> None:
    assert await reason(bearing(T), rule(jwks="")) is Reason.KEYS_UNAVAILABLE


async def test_no_keys_are_fetched_for_a_token_that_fails_without_them() -> None:
    assert await reason(bearing(token(exp=1)), rule(jwks="")) is Reason.EXPIRED


@pytest.mark.parametrize(
    ("claims", "principal"),
    [({"sub": "a/b"}, f"{ISSUER}/a/b"), ({"sub": None}, None), ({"sub": ""}, None)],
)
async def test_a_principal_wants_issuer_and_subject(claims: dict[str, Any], principal: str | None) -> None:
    found = await verdict(bearing(token(**claims)))
    assert isinstance(found, Verified)
    assert found.principal == principal


async def test_claims_delimited_by_spaces_are_lists() -> None:
    found = await verdict(bearing(token(roles="a  b", other="a b")), rule(space_delimited_claims=("roles", "aud", "x")))
    assert isinstance(found, Verified)
    assert (found.claims["roles"], found.claims["other"], found.claims["aud"]) == (["a", "b"], "a b", ["shop"])


OUTPUTS = rule(
    output_payload_to_header="X-Payload",
    output_claim_to_headers=tuple(
        ClaimToHeader(f"X-{claim.replace('.', '-')}", claim)
        for claim in ("sub", "n", "f", "yes", "a.b", "list", "gone", "bad", "null")
    ),
)


async def test_claims_are_passed_on_in_headers() -> None:
    text = token(n=7, f=1.5, yes=True, a={"b": "deep"}, list=["x", 1], bad="a\r\nx: y", null=None)
    found = await verdict(bearing(text), OUTPUTS)
    assert isinstance(found, Verified)
    given = dict(found.changes.add_headers)
    payload = given.pop("x-payload")
    assert json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))) == found.claims
    assert given == {
        "x-sub": "alice",
        "x-n": "7",
        "x-f": "1.500000",
        "x-yes": "true",
        "x-a-b": "deep",
        "x-list": base64.b64encode(b'["x",1]').decode(),
    }


@pytest.mark.parametrize("http", [get(), bearing(T)])
async def test_headers_that_rules_write_are_taken_from_whoever_sends_them(http: HttpRequest) -> None:
    found = await verdict(http, OUTPUTS, B)
    assert not isinstance(found, Rejected)
    assert {"x-payload", "x-sub", "x-a-b"} <= set(found.changes.remove_headers)


@pytest.mark.parametrize(
    ("forward", "http", "headers", "params"),
    [
        (False, bearing(T), ("authorization",), ()),
        (True, bearing(T), (), ()),
        (False, get(f"/?access_token={T}"), (), ("access_token",)),
        (True, get(f"/?access_token={T}"), (), ()),
    ],
)
async def test_the_token_goes_on_only_if_the_rule_says_so(
    forward: bool, http: HttpRequest, headers: tuple[str, ...], params: tuple[str, ...]
) -> None:
    found = await verdict(http, rule(forward_original_token=forward))
    assert isinstance(found, Verified)
    assert (found.changes.remove_headers, found.changes.remove_params) == (headers, params)


def test_a_gate_has_the_rules_of_the_documents_that_apply() -> None:
    def document(namespace: str, issuer: str, **labels: str) -> RequestAuthentication:
        selector = WorkloadSelector(tuple(labels.items())) if labels else None
        return RequestAuthentication(Metadata(PolicyName(namespace, issuer)), (rule(issuer=issuer),), selector)

    documents = [
        document("istio-system", "c"),
        document("shop", "b"),
        document("shop", "a", app="cart"),
        document("shop", "d", app="web"),
        document("bank", "e"),
    ]
    gate = TokenGate.of(documents, Workload("shop", {"app": "cart"}), "istio-system")
    assert [one.issuer for one in gate.rules] == ["a", "b", "c"]


async def test_no_message_and_no_repr_holds_the_token() -> None:
    for text, _ in BROKEN.values():
        found = await verdict(bearing(text))
        assert not text[40:] or text[40:] not in repr(found)
    good = await verdict(bearing(T))
    assert T not in repr(good)
    assert "alice" not in repr(good)
