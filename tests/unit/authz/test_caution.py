"""What has to be confirmed before it is believed: that most of what protects a mesh is gone, or that it opens."""

from __future__ import annotations

from pathlib import Path

import pytest

from citadel.authz import load_text
from citadel.authz.sources.caution import doubt
from citadel.authz.sources.files import load_paths

ROOT = "istio-system"


def policy(name: str, rules: str = "", action: str = "ALLOW", labels: str = "", more: str = "") -> str:
    namespace, _, short = name.partition("/")
    selector = f", selector: {{matchLabels: {{{labels}}}}}" if labels else ""
    provider = ", provider: {name: opa}" if action == "CUSTOM" else ""
    spec = f"action: {action}{provider}" + (f", rules: [{rules}]" if rules else "") + selector + more
    annotations = ""
    if action.endswith("-DRY"):
        spec = spec.replace("-DRY", "")
        annotations = ', annotations: {istio.io/dry-run: "true"}'
    return (
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
        f"metadata: {{name: {short}, namespace: {namespace}{annotations}}}\nspec: {{{spec}}}\n"
    )


def other(kind: str, name: str, spec: str) -> str:
    namespace, _, short = name.partition("/")
    head = f"apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: {short}, namespace: {namespace}}}\n"
    return f"{head}spec: {spec}\n"


def why(before: list[str] | None, after: list[str]) -> str:
    old = None if before is None else load_text("---\n".join(before))
    return doubt(old, load_text("---\n".join(after)), ROOT)


GET = "{to: [{operation: {methods: [GET]}}]}"
PUT = "{to: [{operation: {methods: [PUT]}}]}"
DEL = "{to: [{operation: {methods: [DELETE]}}]}"
WEB = "{from: [{source: {principals: [a/ns/shop/sa/web]}}]}"
EVERYBODY = "{}"
KEEP = [policy(f"keep/k{n}", GET) for n in range(9)]  # so that no share of all policies is the reason
NOTHING = policy("istio-system/nothing")
CART = policy("shop/cart", WEB, labels="app: cart")
OTHERS = [policy(f"a/o{n}", f"{{to: [{{operation: {{paths: [/{n}]}}}}]}}", "DENY") for n in range(4)]
BLOCK = policy("shop/block", GET, "DENY")
STRICT = other("PeerAuthentication", "istio-system/mtls", "{mtls: {mode: STRICT}}")
TOKENS = other("RequestAuthentication", "shop/tokens", "{jwtRules: [{issuer: a, jwksUri: https://a.example}]}")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (None, [TOKENS], "no AuthorizationPolicy at all"),
        ([BLOCK], [TOKENS], "no AuthorizationPolicy any more, and 1 is in force"),
        ([policy(f"a/{n}", GET) for n in "abc"], [policy("a/a", GET)], "of the 3 policies in force 2 are not in it"),
    ],
)
def test_a_set_that_lacks_most_of_the_policies_has_to_be_confirmed(
    before: list[str] | None, after: list[str], said: str
) -> None:
    assert said in why(before, after)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        # --- what denies
        (
            [policy("a/a", GET, "DENY"), policy("a/b", PUT, "DENY")],
            [policy("a/a", GET, "DENY")],
            "of the 2 DENY and CUSTOM policies in force 1 does so no more: a/b",
        ),
        ([BLOCK], [policy("shop/block", GET, "DENY-DRY")], "1 does so no more: shop/block"),
        ([BLOCK], [policy("shop/block", GET, "AUDIT")], "1 does so no more: shop/block"),
        ([policy("a/c", GET, "CUSTOM")], [policy("a/c", GET)], "1 does so no more: a/c"),
        (
            [policy("a/a", f"{GET}, {PUT}, {DEL}", "DENY")],
            [policy("a/a", GET, "DENY")],
            "half or more of the rules of DENY and CUSTOM policies are gone: a/a has 1 of 3",
        ),
        (
            [policy("a/all", EVERYBODY, "DENY"), *OTHERS],
            OTHERS,
            "what a DENY closed would be closed no more: a (a/all closed it)",
        ),
        # --- tokens and mTLS
        ([TOKENS], [], "of the 1 RequestAuthentications in force 1 does so no more: shop/tokens"),
        ([TOKENS], [other("RequestAuthentication", "shop/tokens", "{}")], "RequestAuthentications"),
        ([STRICT], [], "mTLS is not demanded in the whole mesh any more, as istio-system/mtls did"),
        ([STRICT], [STRICT.replace("STRICT", "PERMISSIVE")], "mTLS is not demanded in the whole mesh any more"),
        (
            [STRICT.replace("istio-system", "shop")],
            [STRICT.replace("istio-system", "shop").replace("STRICT", "DISABLE")],
            "of the 1 PeerAuthentications that demand mTLS 1 does so no more: shop/mtls",
        ),
        # --- what opens
        ([NOTHING], [], "everybody would be: all namespaces (no ALLOW policy applies any more)"),
        ([NOTHING], [policy("shop/nothing")], "all namespaces (no ALLOW policy applies any more)"),
        ([NOTHING], [policy("istio-system/nothing", labels="app: web")], "all namespaces (no ALLOW"),
        ([NOTHING], [policy("istio-system/nothing", action="ALLOW-DRY")], "all namespaces (no ALLOW"),
        ([CART], [], "shop (app=cart) (no ALLOW policy applies any more)"),
        ([CART], [policy("shop/cart", WEB, labels="app: basket")], "shop (app=cart) (no ALLOW"),
        ([CART], [policy("shop/cart", EVERYBODY, labels="app: cart")], "shop (app=cart) (shop/cart lets everybody in)"),
        ([NOTHING, CART], [NOTHING, CART, policy("shop/x", EVERYBODY)], "shop (shop/x lets everybody in)"),
        ([CART], [CART, policy("shop/x", EVERYBODY, labels="v: '2'")], "shop (v=2) (shop/x lets everybody in)"),
        ([CART], [CART, policy("istio-system/x", EVERYBODY)], "all namespaces (istio-system/x lets everybody in)"),
        ([NOTHING], [NOTHING, policy("shop/x", "{from: [{source: {principals: ['*']}}]}")], "lets everybody in"),
        ([NOTHING], [NOTHING, policy("shop/x", "{from: [{source: {notPrincipals: [a/b]}}]}")], "lets everybody in"),
        ([NOTHING], [NOTHING, policy("shop/x", "{to: [{operation: {paths: [/*], methods: ['*']}}]}")], "lets everyb"),
        ([NOTHING], [NOTHING, policy("shop/x", "{from: [{source: {ipBlocks: [0.0.0.0/0]}}]}")], "lets everybody in"),
        (
            [policy("shop/g", WEB, more=", targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: g}]")],
            [],
            "Gateway shop/g (no ALLOW policy applies any more)",
        ),
        (
            [policy("shop/s", WEB, more=", targetRefs: [{kind: Service, name: s}]")],
            [policy("shop/s", EVERYBODY, more=", targetRefs: [{kind: Service, name: s}]")],
            "Service shop/s (shop/s lets everybody in)",
        ),
    ],
)
def test_what_loses_or_opens_much_has_to_be_confirmed(before: list[str], after: list[str], said: str) -> None:
    assert said in why([*KEEP, *before], [*KEEP, *after])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, [CART]),
        ([NOTHING, CART, BLOCK, STRICT, TOKENS], [NOTHING, CART, BLOCK, STRICT, TOKENS]),
        ([CART], [policy("shop/other", GET, labels="app: cart")]),  # another name, and what is allowed changed
        ([CART], [policy("shop/cart", WEB)]),  # it applies to more workloads
        ([NOTHING, CART], [NOTHING]),  # it is closed, then
        ([BLOCK], [policy("shop/renamed", GET, "DENY")]),
        ([BLOCK], [policy("shop/block", PUT, "DENY")]),  # changed, not gone
        ([TOKENS], [TOKENS.replace("name: tokens", "name: logins")]),
        ([STRICT], [STRICT.replace("name: mtls", "name: default")]),
        ([policy("shop/x", EVERYBODY)], [policy("shop/x", EVERYBODY), policy("shop/w", EVERYBODY, labels="a: b")]),
        ([], [policy("shop/x", EVERYBODY)]),  # nothing was closed there
        ([CART], [CART, policy("shop/x", EVERYBODY, labels="app: other")]),  # no workload has both labels
        ([CART], [CART, policy("bank/x", EVERYBODY)]),
        ([NOTHING], [NOTHING, policy("shop/x", "{to: [{operation: {ports: ['80']}}]}")]),
        ([policy("a/all", EVERYBODY, "DENY"), *OTHERS], [policy("istio-system/all", EVERYBODY, "DENY"), *OTHERS]),
    ],
)
def test_what_is_an_ordinary_change_is_not_asked_about(before: list[str] | None, after: list[str]) -> None:
    assert why(None if before is None else [*KEEP, *before], [*KEEP, *after]) == ""


def test_the_sample_mesh_may_lose_one_allow_and_not_its_root() -> None:
    whole = load_paths([Path(__file__).parents[3] / "policies"])
    one = [document for document in whole if document.name.name != "search"]
    assert doubt(whole, one, ROOT) == ""
    opened = [document for document in whole if document.name.name not in ("nothing-by-default", "metrics")]
    assert "all namespaces (no ALLOW policy applies any more)" in doubt(whole, opened, ROOT)


def test_of_very_many_the_first_are_named() -> None:
    before = load_text("---\n".join(policy(f"shop/p{n}", WEB, labels=f"app: a{n}") for n in range(40)))
    after = load_text("---\n".join(policy(f"shop/p{n}", EVERYBODY, labels=f"app: a{n}") for n in range(40)))
    assert doubt(before, after, ROOT).endswith("and 30 more")
