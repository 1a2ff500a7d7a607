"""The decision point: order of providers, tokens and policies; what goes wrong is a denial; everybody is told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from citadel.authz import (
    Answer,
    ExtensionProvider,
    HttpRequest,
    JwtRule,
    MeshFacts,
    PolicySet,
    ProviderProtocol,
    Request,
    Workload,
    compile,  # noqa: A004  (as in re.compile)
    load_text,
)
from citadel.authz.decision import Reason
from citadel.authz.decision_point import (
    JWT_FILTER,
    MOST_WAITING,
    MOST_WAITING_EACH,
    Changes,
    DecisionPoint,
    ProviderReply,
    Question,
    Refusal,
    Ruling,
)
from citadel.authz.tokens import KeySet, KeysUnavailable
from citadel.spiffe import TrustDomain
from tests.support.clock import ManualClock
from tests.support.deciding import Observed, deciding
from tests.support.tokens import ISSUER, NOW, key_set, public_jwk, token

SHOP = Workload("shop", {"app": "cart"})
POLICY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: shop}}
spec: {spec}
---
"""
USERS = f"""
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: users, namespace: shop}}
spec:
  jwtRules:
  - issuer: {ISSUER}
    jwks: '{key_set(public_jwk("ES256"))}'
    outputClaimToHeaders: [{{header: x-user, claim: sub}}]
---
"""
REMOTE = USERS.replace(f"jwks: '{key_set(public_jwk('ES256'))}'", "jwksUri: https://issuer.example/keys")
_ALICE = f"{{from: [{{source: {{requestPrincipals: ['{ISSUER}/alice']}}}}]}}"
ONLY_ALICE = POLICY.format(name="only-alice", spec=f"{{rules: [{_ALICE}]}}")
NO_X = POLICY.format(name="no-x", spec="{action: DENY, rules: [{when: [{key: 'request.headers[x]', values: [bad]}]}]}")


def custom(provider: str, path: str = "/ask*") -> str:
    rule = f"{{to: [{{operation: {{paths: ['{path}']}}}}]}}"
    spec = f"{{action: CUSTOM, provider: {{name: {provider}}}, rules: [{rule}]}}"
    return POLICY.format(name=f"ask-{provider}", spec=spec)


def compiled(*texts: str, **facts: Any) -> PolicySet:
    providers = tuple(ExtensionProvider(name, ProviderProtocol.GRPC, "x.example", 1) for name in ("one", "two"))
    return compile(load_text("".join(texts)), MeshFacts(TrustDomain("td"), providers=providers, **facts))


def get(path: str = "/", jwt: Mapping[str, Any] | None = None, **headers: str) -> Request:
    given = {name.replace("_", "-"): (value,) for name, value in headers.items()}
    return Request(80, http=HttpRequest("GET", path, "cart", given, jwt))


class Scripted:
    """Contract: decision_point.Providers. Says what it was told to, by name; all others fail."""

    def __init__(self, **replies: ProviderReply) -> None:
        self.replies = replies
        self.asked: list[tuple[str, Request]] = []

    async def ask(self, provider: ExtensionProvider, request: Request) -> ProviderReply:
        self.asked.append((provider.name, request))
        await asyncio.sleep(0)
        return self.replies.get(provider.name, ProviderReply(Answer.FAILED, why="nobody is there"))


def allows(**more: Any) -> ProviderReply:
    return ProviderReply(Answer.ALLOW, Changes(**more))


async def ruled(point: DecisionPoint, *readings: Request, stated: bool = False) -> Ruling:
    return await point.decide(Question("test", "somebody", SHOP, readings, stated))


def bearer(subject: str = "alice", **claims: Any) -> str:
    return f"Bearer {token(sub=subject, **claims)}"


async def test_before_the_first_good_set_all_is_denied() -> None:
    ruling = await ruled(deciding(None), get())
    assert (ruling.decision.reason, ruling.status, ruling.version) == (Reason.NOT_LOADED, 503, "")


async def test_a_token_gives_its_claims_and_is_taken_out_and_forged_headers_with_it() -> None:
    point = deciding(compiled(USERS, ONLY_ALICE))
    ruling = await ruled(point, get(authorization=bearer(), x_user="root"))
    assert ruling.decision.allowed
    assert ruling.changes == Changes((("x-user", "alice"),), remove_headers=("authorization",))
    assert ruling.request is not None
    assert ruling.request.http is not None
    assert ruling.request.http.jwt is not None
    assert ruling.request.http.jwt["sub"] == "alice"
    assert (await ruled(point, get(authorization=bearer("bob")))).decision.reason is Reason.NO_ALLOW_MATCHED
    without = await ruled(deciding(compiled(USERS)), get(x_user="root"))
    assert without.changes.remove_headers == ("x-user",)


@pytest.mark.parametrize(
    ("claims", "status"), [({"exp": 1}, 401), ({"iss": "https://other"}, 401), ({"nbf": NOW.timestamp() + 99}, 401)]
)
async def test_a_bad_token_is_refused_even_where_everything_is_allowed(claims: dict[str, Any], status: int) -> None:
    ruling = await ruled(deciding(compiled(USERS)), get(authorization=bearer(**claims)))
    assert (ruling.decision.reason, ruling.status) == (Reason.BAD_TOKEN, status)
    assert ruling.token is not None


async def test_without_an_authentication_no_token_is_looked_at() -> None:
    ruling = await ruled(deciding(compiled(NO_X)), get(authorization="Bearer nonsense"))
    assert ruling.decision.allowed
    assert not ruling.changes


async def test_claims_that_are_only_said_count_from_who_may_say_them() -> None:
    point = deciding(compiled(ONLY_ALICE))
    said = get(jwt={"iss": ISSUER, "sub": "alice"})
    assert (await ruled(point, said, stated=True)).decision.allowed
    assert not (await ruled(point, said)).decision.allowed


async def test_claims_in_metadata_do_not_count_beside_a_token() -> None:
    key = f"experimental.{JWT_FILTER}[role]"
    spec = f"{{rules: [{{when: [{{key: '{key}', values: [admin]}}]}}]}}"
    point = deciding(compiled(USERS, POLICY.format(name="admins", spec=spec)))
    said = replace(get(authorization=bearer()), metadata={JWT_FILTER: {"role": "admin"}})
    assert not (await ruled(point, said, stated=True)).decision.allowed
    assert (await ruled(point, replace(get(), metadata={JWT_FILTER: {"role": "admin"}}), stated=True)).decision.allowed
    assert not (await ruled(point, replace(get(), metadata={JWT_FILTER: {"role": "admin"}}))).decision.allowed


async def test_what_a_proxy_wrote_of_the_claims_that_it_verified_stays() -> None:
    ruling = await ruled(deciding(compiled(USERS)), get(jwt={"iss": ISSUER, "sub": "alice"}), stated=True)
    assert not ruling.changes


async def test_a_header_that_a_rule_writes_is_never_the_caller_s() -> None:
    """Envoy's jwt_authn takes it out, and writes it, before the RBAC filters look."""
    spec = "{rules: [{when: [{key: 'request.headers[x-user]', values: [alice]}]}]}"
    point = deciding(compiled(USERS, POLICY.format(name="by-header", spec=spec)))
    assert not (await ruled(point, get(x_user="alice"))).decision.allowed
    assert not (await ruled(point, get(authorization=bearer("bob"), x_user="alice"))).decision.allowed
    assert (await ruled(point, get(authorization=bearer("alice")))).decision.allowed
    assert not (await ruled(point, get(x_user="alice"), stated=True)).decision.allowed
    by_its_proxy = get(x_user="alice", jwt={"iss": ISSUER, "sub": "alice"})
    assert (await ruled(point, by_its_proxy, stated=True)).decision.allowed


async def test_a_preflight_has_no_token_whatever_is_in_it() -> None:
    point = deciding(compiled(USERS))
    headers = {"origin": ("https://a",), "access-control-request-method": ("PUT",), "authorization": ("Bearer x",)}
    asked = Request(80, http=HttpRequest("OPTIONS", "/", "cart", headers))
    assert (await ruled(point, asked)).decision.allowed
    assert asked.http is not None
    get_instead = replace(asked, http=replace(asked.http, method="GET"))
    assert (await ruled(point, get_instead)).decision.reason is Reason.BAD_TOKEN


async def test_the_provider_is_asked_where_a_custom_policy_matches_and_only_there() -> None:
    providers = Scripted(one=allows())
    point = deciding(compiled(custom("one")), providers=providers)
    assert (await ruled(point, get("/free"))).decision.allowed
    assert providers.asked == []
    assert (await ruled(point, get("/x/../ask?q", jwt={"sub": "said"}))).decision.allowed
    ((name, request),) = providers.asked
    assert request.http is not None
    assert (name, request.http.path, request.http.jwt) == ("one", "/ask?q", None)


async def test_a_provider_that_denies_says_what_the_client_gets() -> None:
    refusal = Refusal(302, (("location", "https://login"),), b"go")
    point = deciding(compiled(custom("one")), providers=Scripted(one=ProviderReply(Answer.DENY, refusal=refusal)))
    ruling = await ruled(point, get("/ask"))
    assert (ruling.decision.reason, ruling.status) == (Reason.DENIED_BY_PROVIDER, 302)
    assert ruling.refusal == refusal


@pytest.mark.parametrize("providers", [None, Scripted()])
async def test_a_provider_that_fails_denies(providers: Scripted | None) -> None:
    ruling = await ruled(deciding(compiled(custom("one")), providers=providers), get("/ask"))
    assert (ruling.decision.reason, ruling.status) == (Reason.PROVIDER_FAILED, 503)


async def test_several_providers_deny_unless_they_are_allowed_and_then_all_must_allow() -> None:
    both = (custom("one"), custom("two"))
    providers = Scripted(one=allows(), two=allows())
    ruling = await ruled(deciding(compiled(*both), providers=providers), get("/ask"))
    assert (ruling.decision.reason, providers.asked) == (Reason.SEVERAL_PROVIDERS, [])
    several = compiled(*both, several_providers=True)
    assert (await ruled(deciding(several, providers=providers), get("/ask"))).decision.allowed
    assert [name for name, _ in providers.asked] == ["one", "two"]
    half = Scripted(one=allows(), two=ProviderReply(Answer.DENY, refusal=Refusal()))
    assert not (await ruled(deciding(several, providers=half), get("/ask"))).decision.allowed


async def test_headers_that_a_provider_sets_are_there_for_tokens_and_policies() -> None:
    policies = compiled(custom("one"), USERS, NO_X, ONLY_ALICE)
    gives = Scripted(one=allows(set_headers=(("authorization", bearer()),)))
    ruling = await ruled(deciding(policies, providers=gives), get("/ask"))
    assert ruling.decision.allowed, ruling.decision
    assert ruling.changes == Changes((("x-user", "alice"),), remove_headers=("authorization",))
    marks = Scripted(one=allows(set_headers=(("authorization", bearer()), ("x", "bad"))))
    assert (await ruled(deciding(policies, providers=marks), get("/ask"))).decision.reason is Reason.DENIED_BY_POLICY


async def test_a_provider_comes_before_the_token_as_in_envoy() -> None:
    point = deciding(
        compiled(custom("one"), USERS), providers=Scripted(one=ProviderReply(Answer.DENY, refusal=Refusal()))
    )
    assert (await ruled(point, get("/ask", authorization="Bearer x"))).status == 403
    assert (await ruled(point, get("/", authorization="Bearer x"))).status == 401


async def test_every_reading_of_a_request_must_be_allowed() -> None:
    point = deciding(compiled(USERS, NO_X))
    good, bad = get(x="good"), get(x="bad")
    assert (await ruled(point, good, good)).decision.allowed
    ruling = await ruled(point, good, bad)
    assert ruling.decision.reason is Reason.DENIED_BY_POLICY
    assert ruling.request == bad
    differing = await ruled(point, get(authorization=bearer()), get(authorization=bearer("bob")))
    assert differing.decision.reason is Reason.BAD_TOKEN


class Keys:
    """Contract: decision_point.RetainedKeys. Nobody has keys; it remembers what it was told to keep."""

    def __init__(self) -> None:
        self.retained: list[list[str]] = []
        self.asked = asyncio.Event()

    async def keys(self, rule: JwtRule, kid: str) -> KeySet:
        self.asked.set()
        await asyncio.sleep(0)
        raise KeysUnavailable("there are none")

    async def retain(self, rules: Iterable[JwtRule]) -> None:
        self.retained.append([rule.issuer for rule in rules])


async def test_without_the_issuers_keys_a_token_is_refused() -> None:
    ruling = await ruled(DecisionPoint(lambda: compiled(REMOTE), ManualClock(NOW), Keys()), get(authorization=bearer()))
    assert (ruling.decision.reason, ruling.status) == (Reason.BAD_TOKEN, 401)


async def test_keys_are_fetched_before_they_are_needed_and_forgotten_with_their_policy() -> None:
    keys, now = Keys(), [compiled(REMOTE)]
    point = DecisionPoint(lambda: now[0], ManualClock(NOW), keys)
    task = asyncio.create_task(point.run())
    try:
        async with asyncio.timeout(10):
            await keys.asked.wait()
            assert keys.retained == [[ISSUER]]
            now[0] = compiled(NO_X)
            assert point.version == now[0].version
            while len(keys.retained) < 2:
                await asyncio.sleep(0.001)
        assert keys.retained[1] == []
    finally:
        task.cancel()


async def test_so_many_may_wait_and_no_more() -> None:
    class Slow(Scripted):
        gate = asyncio.Event()

        async def ask(self, provider: ExtensionProvider, request: Request) -> ProviderReply:
            await self.gate.wait()
            return allows()

    point = deciding(compiled(custom("one")), providers=Slow())

    def ask(caller: str) -> asyncio.Task[Ruling]:
        return asyncio.create_task(point.decide(Question("test", caller, SHOP, (get("/ask"),))))

    waiting = [ask("greedy") for _ in range(MOST_WAITING_EACH)]
    refused = [ask("greedy")]
    waiting += [ask(f"other {n % 9}") for n in range(MOST_WAITING - MOST_WAITING_EACH)]
    refused += [ask("one more")]
    for done in await asyncio.gather(*refused):
        assert (done.decision.reason, done.status) == (Reason.INTERNAL_ERROR, 503)
    Slow.gate.set()
    assert all(one.decision.allowed for one in await asyncio.gather(*waiting))
    assert (await ask("one more")).decision.allowed


async def test_a_defect_of_ours_is_a_denial() -> None:
    class Broken(Scripted):
        async def ask(self, provider: ExtensionProvider, request: Request) -> ProviderReply:
            raise RuntimeError("secret")

    ruling = await ruled(deciding(compiled(custom("one")), providers=Broken()), get("/ask"))
    assert ruling.decision.reason is Reason.INTERNAL_ERROR
    assert "secret" not in ruling.decision.detail


async def test_whoever_observes_is_told_everything_and_cannot_change_it() -> None:
    observed = Observed()
    point = deciding(compiled(ONLY_ALICE), observer=observed)
    await ruled(point, get())
    point.refuse("test", "nobody", Reason.UNKNOWN_WORKLOAD, "who?", began=0.0)
    first, second = observed
    assert (first.decision.reason, first.caller, first.door) == (Reason.NO_ALLOW_MATCHED, "somebody", "test")
    assert first.policies is not None
    assert (second.question, second.request) == (None, None)
    assert first.id != second.id

    class Broken(Observed):
        def ruled(self, ruling: Ruling) -> None:
            raise RuntimeError

    assert (await ruled(deciding(compiled(NO_X), observer=Broken()), get())).decision.allowed


async def test_a_question_goes_on_under_the_set_that_it_began_with() -> None:
    gate, began = asyncio.Event(), asyncio.Event()

    class Waiting(Scripted):
        async def ask(self, provider: ExtensionProvider, request: Request) -> ProviderReply:
            began.set()
            await gate.wait()
            return allows()

    now = [compiled(custom("one"))]
    point = deciding(lambda: now[0], providers=Waiting())
    first = now[0]
    task = asyncio.create_task(ruled(point, get("/ask", x="bad")))
    await began.wait()
    now[0] = compiled(NO_X)
    assert (await ruled(point, get("/ask", x="bad"))).version == now[0].version
    gate.set()
    ruling = await task
    assert (ruling.decision.allowed, ruling.version) == (True, first.version)


def test_what_is_appended_is_joined_to_what_is_there_and_to_nothing_else() -> None:
    changes = Changes(append_headers=(("a", "2"), ("b", "2")))
    assert changes.applied({"a": ("0", "1")}) == {"a": ("0,2", "1")}


@pytest.mark.parametrize(
    ("first", "then", "both"),
    [
        (Changes((("a", "1"),)), Changes((("a", "2"),)), Changes((("a", "2"),))),
        (Changes((("a", "1"),)), Changes(remove_headers=("a",)), Changes(remove_headers=("a",))),
        (Changes(remove_headers=("a",)), Changes((("a", "2"),)), Changes((("a", "2"),))),
        (Changes(append_headers=(("a", "1"),)), Changes((("a", "2"),)), Changes((("a", "2"),))),
        (Changes((("a", "1"),), remove_headers=("a",)), Changes((("b", "2"),)), Changes((("b", "2"),), (), ("a",))),
    ],
)
def test_changes_after_changes_are_as_one(first: Changes, then: Changes, both: Changes) -> None:
    assert first.then(then) == both
    start = {"a": ("0",), "c": ("0",)}
    assert both.applied(start) == then.applied(first.applied(start))
