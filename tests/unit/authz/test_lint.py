"""The linter: each check strikes on its bad example and lets the good twin pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from citadel.authz import (
    ExtensionProvider,
    LintFinding,
    MeshFacts,
    PathNormalization,
    Severity,
    Workload,
    WorkloadKind,
    lint,
    load_text,
)
from citadel.authz.facts import ProviderProtocol
from citadel.authz.lint import CHECKS, load_warnings
from citadel.authz.lint.reference import reference
from citadel.spiffe import TrustDomain
from tests.unit.authz.load_cases import authorization, operation, peer, request, source, when

FACTS = MeshFacts(
    TrustDomain("prod.example"),
    (TrustDomain("old.example"),),
    path_normalization=PathNormalization.MERGE_SLASHES,
    providers=(
        ExtensionProvider("opa", ProviderProtocol.GRPC, "opa.local", 9000),
        ExtensionProvider("auth", ProviderProtocol.GRPC, "auth.local", 9000),
    ),
)
VERIFIED = request("{issuer: a, jwksUri: https://a.example}").replace("name: p}", "name: tokens}")
STRICT = peer("{mtls: {mode: STRICT}}").replace("name: p}", "name: strict}")
ROOT = "{namespace: istio-system, name: p}"
TIMED = "name: p, creationTimestamp: 2026-01-01T00:00:00Z}"


def found(*documents: str, workloads: tuple[Workload, ...] = ()) -> list[LintFinding]:
    return list(lint(load_text("---\n".join(documents), name="p.yaml"), FACTS, workloads))


def codes(*documents: str, workloads: tuple[Workload, ...] = ()) -> list[str]:
    return [one.code for one in found(*documents, workloads=workloads)]


def named(text: str, name: str) -> str:
    return text.replace("name: p}", f"name: {name}}}")


def deny(fields: str) -> str:
    return source(fields, "DENY")


def custom(provider: str, selector: str = "{}") -> str:
    spec = "{action: CUSTOM, provider: {name: %s}, rules: [{}], selector: {matchLabels: %s}}"
    return authorization(spec.replace("%s", provider, 1).replace("%s", selector))


def rules(text: str, action: str = "ALLOW") -> str:
    return authorization("{action: " + action + ", rules: [" + text + "]}")


PORT_1 = "{to: [{operation: {ports: ['1']}}]}"
GET = "{to: [{operation: {methods: [GET]}}]}"
GET_A = "{to: [{operation: {methods: [GET], paths: [/a]}}]}"

CASES: dict[str, list[tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "principal-with-scheme": [
        ((source("{principals: ['spiffe://a/ns/b/sa/c']}"),), (source("{principals: [a/ns/b/sa/c]}"),)),
        ((source("{notPrincipals: ['*spiffe://a'], namespaces: [a]}"),), (source("{namespaces: [spiffe]}"),)),
        ((when("{key: source.principal, values: ['spiffe://*']}"),), (when("{key: source.principal, values: ['*']}"),)),
    ],
    "principal-impossible": [
        ((source("{principals: [A.example/ns/b]}"),), (source("{principals: [a.example/ns/B]}"),)),
        ((source("{principals: [a//b]}"),), (source("{principals: ['a/*']}"),)),
    ],
    "inner-star": [
        ((source("{principals: ['*/ns/*/sa/a']}"),), (source("{principals: ['*/ns/b/sa/a']}"),)),
        ((operation("{paths: ['/a/*/b']}"),), (operation("{paths: ['/a/{*}/b']}"),)),
    ],
    "path-with-query": [((operation("{paths: ['/a?b=c']}"),), (operation("{paths: [/a]}"),))],
    "path-without-slash": [
        ((operation("{paths: [a]}"),), (operation("{paths: ['*/a']}"),)),
        ((operation("{paths: ['a/*']}"),), (operation("{paths: ['*']}"),)),
    ],
    "path-not-normal": [
        ((operation("{paths: [/a/../b]}"),), (operation("{paths: [/b]}"),)),
        ((operation("{paths: ['/%61*']}"),), (operation("{paths: ['/a/*']}"),)),
        ((operation("{paths: [//a]}"),), (operation("{paths: [/a..b]}"),)),
        ((operation("{paths: ['/a#b']}"),), (operation("{paths: ['/a%23b']}"),)),
        ((operation("{paths: ['/ä']}"),), (operation("{paths: ['/%C3%A4']}"),)),
    ],
    "method-lower-case": [((operation("{methods: [get]}"),), (operation("{methods: [GET]}"),))],
    "host-with-scheme": [((operation("{hosts: ['https://a.example']}"),), (operation("{hosts: ['a.example:*']}"),))],
    "host-without-port": [
        ((operation("{hosts: [a.example]}"),), (operation("{hosts: [a.example, 'a.example:*']}"),)),
        ((operation("{notHosts: ['*.a.example']}"),), (operation("{hosts: ['a.example:443']}"),)),
        ((operation("{hosts: ['[::1]']}"),), (operation("{hosts: ['*']}"),)),
    ],
    "sni-upper-case": [
        ((when("{key: connection.sni, values: [A.example]}"),), (when("{key: connection.sni, values: [a.example]}"),))
    ],
    "claim-not-text": [
        (
            (when("{key: 'request.auth.claims[admin]', values: ['true']}"), VERIFIED),
            (when("{key: 'request.auth.claims[admin]', values: ['yes']}"), VERIFIED),
        )
    ],
    "claim-with-space": [
        (
            (when("{key: 'request.auth.claims[scope]', values: [a b]}"), VERIFIED),
            (when("{key: 'request.auth.claims[title]', values: [a b]}"), VERIFIED),
        )
    ],
    "request-principal-star-star": [
        ((source("{requestPrincipals: ['*/*']}"), VERIFIED), (source("{requestPrincipals: ['*']}"), VERIFIED))
    ],
    "request-principal-without-subject": [
        ((source("{requestPrincipals: [a]}"), VERIFIED), (source("{requestPrincipals: [a/b, 'c*']}"), VERIFIED))
    ],
    "mapped-address": [
        ((source("{ipBlocks: ['::ffff:10.0.0.0/104']}"),), (source("{ipBlocks: [10.0.0.0/8]}"),)),
        (
            (when("{key: destination.ip, values: ['::ffff:10.0.0.1']}"),),
            (when("{key: destination.ip, values: ['::1']}"),),
        ),
    ],
    "never-matches": [
        (
            (source("{namespaces: [a], notNamespaces: [a]}"),),
            (source("{namespaces: [a, b], notNamespaces: [a]}"),),
        ),
        (
            (source("{principals: [a/ns/b/sa/c], notPrincipals: ['a/ns/*']}"),),
            (source("{principals: ['a/ns/*'], notPrincipals: [a/ns/b/sa/c]}"),),
        ),
        (
            (source("{ipBlocks: [10.1.0.0/16], notIpBlocks: [10.0.0.0/8]}"),),
            (source("{ipBlocks: [10.0.0.0/8], notIpBlocks: [10.1.0.0/16]}"),),
        ),
        (
            (operation("{hosts: ['A:1'], notHosts: ['a*']}"),),
            (operation("{paths: [/A], notPaths: ['/a*']}"),),
        ),
        (
            (rules("{from: [{source: {namespaces: [a]}}], when: [{key: source.namespace, notValues: [a]}]}"),),
            (rules("{from: [{source: {namespaces: [a]}}], when: [{key: source.namespace, notValues: [b]}]}"),),
        ),
        (
            (source("{principals: [cluster.local/ns/b/sa/c], notPrincipals: [prod.example/ns/b/sa/c]}"),),
            (source("{principals: [other.example/ns/b/sa/c], notPrincipals: [prod.example/ns/b/sa/c]}"),),
        ),
    ],
    "shadowed": [
        ((rules(f"{GET}, {GET_A}"),), (rules(f"{GET_A}, {{to: [{{operation: {{methods: [PUT]}}}}]}}"),)),
        ((rules(f"{GET_A}, {GET_A}"),), (rules(GET_A), named(rules(GET_A, "AUDIT"), "q"))),
        (
            (authorization("{rules: [%s]}".replace("%s", GET), metadata=ROOT), rules(GET_A)),
            (rules(GET), authorization("{rules: [%s]}".replace("%s", GET_A), metadata=ROOT)),
        ),
        (
            (rules(GET), named(authorization("{selector: {matchLabels: {a: b}}, rules: [" + GET_A + "]}"), "q")),
            (rules(GET_A), named(authorization("{selector: {matchLabels: {a: b}}, rules: [" + GET + "]}"), "q")),
        ),
        (
            (
                rules(
                    "{from: [{source: {notNamespaces: [a]}}], to: [{operation: {ports: ['1']}}]}, "
                    "{from: [{source: {notNamespaces: [a, b], ipBlocks: ['::1']}}], to: [{operation: {ports: ['1']}}]}",
                    "AUDIT",
                ),
            ),
            (
                rules(
                    "{from: [{source: {notNamespaces: [a, b]}}], to: [{operation: {ports: ['1']}}]}, "
                    "{from: [{source: {notNamespaces: [a], ipBlocks: ['::1']}}], to: [{operation: {ports: ['1']}}]}",
                    "AUDIT",
                ),
            ),
        ),
    ],
    # an alternative that looks at HTTP takes a whole ALLOW rule away on TCP, where the other one still holds
    "shadowed ": [
        (
            (rules(PORT_1 + ", {to: [{operation: {ports: ['1']}}, {operation: {ports: ['2']}}]}"),),
            (rules(PORT_1 + ", {to: [{operation: {ports: ['1']}}, {operation: {paths: [/]}}]}"),),
        )
    ],
    "no-request-authentication": [
        ((source("{requestPrincipals: [a/b]}"),), (source("{requestPrincipals: [a/b]}"), VERIFIED)),
        (
            (when("{key: 'request.auth.claims[a]', values: [b]}"), VERIFIED.replace("shop", "other")),
            (when("{key: 'request.auth.claims[a]', values: [b]}"), VERIFIED.replace("shop", "istio-system")),
        ),
    ],
    "allows-everything": [((rules("{}"),), (source("{principals: ['*']}"),))],
    "allow-by-exclusion": [
        ((source("{notNamespaces: [a]}"),), (source("{notNamespaces: [a], principals: ['*']}"),)),
        (
            (source("{notIpBlocks: [10.0.0.0/8]}"),),
            (rules("{from: [{source: {notIpBlocks: [10.0.0.0/8]}}], when: [{key: source.principal, values: ['*']}]}"),),
        ),
    ],
    "namespace-of-any-domain": [
        ((source("{namespaces: [a, b]}"),), (source("{namespaces: [a, b], trustDomains: [prod.example]}"),)),
        ((source("{serviceAccounts: [a]}"),), (source("{principals: [prod.example/ns/a/sa/a]}"),)),
        ((source("{namespaces: [a], trustDomains: ['*']}"),), (source("{namespaces: ['*']}"),)),
        (
            (source("{namespaces: [a], principals: ['*']}"),),
            (source("{namespaces: [a], principals: ['prod.example/*']}"),),
        ),
        (
            (when("{key: source.namespace, values: [a]}"),),
            (when("{key: source.namespace, values: [a]}, {key: source.trustDomain, values: [prod.example]}"),),
        ),
        (
            (named(deny("{notNamespaces: [a]}"), "d"),),
            (
                named(deny("{notPrincipals: [prod.example/ns/a/*]}"), "d"),
                named(deny("{namespaces: [a]}"), "d2"),
                STRICT,
            ),
        ),
    ],
    "prefix-without-boundary": [
        ((operation("{paths: ['/admin*']}"),), (operation("{paths: ['/admin/*']}"),)),
        ((source("{namespaces: ['shop*']}"),), (source("{namespaces: ['shop-*']}"),)),
        ((source("{principals: ['a/ns/shop*']}"),), (source("{principals: ['a/ns/shop/*']}"),)),
        (
            (rules("{to: [{operation: {notPaths: ['/public*'], ports: ['1']}}]}", "DENY"),),
            (rules("{to: [{operation: {paths: ['/admin*'], ports: ['1']}}]}", "DENY"),),
        ),
    ],
    "suffix-without-boundary": [
        ((operation("{hosts: ['*shop.example:443']}"),), (operation("{hosts: ['*.shop.example:443']}"),)),
        ((source("{principals: ['*sa/admin']}"),), (source("{principals: ['*/sa/admin']}"),)),
        ((source("{trustDomains: ['*prod']}"),), (source("{trustDomains: ['*.prod']}"),)),
    ],
    "only-ipv4": [((source("{ipBlocks: [0.0.0.0/0]}"),), (source("{ipBlocks: [0.0.0.0/0, '::/0']}"),))],
    "plaintext-passes-deny": [
        ((deny("{principals: [a/ns/b/sa/c]}"),), (deny("{principals: [a/ns/b/sa/c]}"), STRICT)),
        (
            (deny("{namespaces: [a]}"), STRICT.replace("shop", "other")),
            (deny("{namespaces: [a]}"), STRICT.replace("shop", "istio-system")),
        ),
        (
            (
                deny("{namespaces: [a]}"),
                STRICT,
                named(peer("{selector: {matchLabels: {a: b}}, mtls: {mode: DISABLE}}"), "q"),
            ),
            (deny("{namespaces: [a]}"), named(rules("{from: [{source: {notPrincipals: ['*']}}]}", "DENY"), "q")),
        ),
        ((deny("{trustDomains: [a]}"),), (deny("{notNamespaces: [a]}"),)),
    ],
    "no-token-passes-deny": [
        (
            (
                rules("{from: [{source: {requestPrincipals: [a/b]}}], to: [{operation: {ports: ['1']}}]}", "DENY"),
                VERIFIED,
            ),
            (
                rules("{from: [{source: {notRequestPrincipals: [a/b]}}], to: [{operation: {ports: ['1']}}]}", "DENY"),
                VERIFIED,
            ),
        )
    ],
    "matches-all-tcp": [
        ((rules(GET, "DENY"),), (rules("{to: [{operation: {methods: [GET], ports: ['80']}}]}", "DENY"),)),
        ((rules(GET, "AUDIT"),), (rules("{}", "AUDIT"),)),
        ((custom("opa").replace("[{}]", f"[{GET}]"),), (custom("opa"),)),
    ],
    "deny-widens-on-tcp": [
        (
            (rules("{to: [{operation: {methods: [GET]}}], when: [{key: source.ip, values: ['::1']}]}", "DENY"),),
            (rules("{to: [{operation: {methods: [GET], ports: ['1']}}]}", "DENY"),),
        )
    ],
    "selects-nothing": [],  # below
    "target-never-applies": [
        (
            (
                authorization(
                    "{targetRefs: [{group: gateway.networking.k8s.io, kind: GatewayClass, name: istio-waypoint}]}"
                ),
            ),
            (
                authorization(
                    "{targetRefs: [{group: gateway.networking.k8s.io, kind: GatewayClass, name: istio-waypoint}]}",
                    metadata=ROOT,
                ),
            ),
        )
    ],
    "unknown-provider": [((custom("nobody"),), (custom("opa"),))],
    "several-providers": [
        ((custom("opa"), named(custom("auth"), "q")), (custom("opa"), named(custom("opa"), "q"))),
        (
            (custom("opa", "{a: b}"), named(custom("auth", "{c: d}"), "q")),
            (custom("opa", "{a: b}"), named(custom("auth", "{a: c}"), "q")),
        ),
    ],
    "oldest-unknown": [
        ((peer("{}"), named(peer("{}"), "q")), (peer("{}"), named(peer("{selector: {matchLabels: {a: b}}}"), "q"))),
        (
            (peer("{}").replace("name: p}", TIMED), named(peer("{}"), "q")),
            (peer("{}").replace("name: p}", TIMED), peer("{}").replace("name: p}", TIMED.replace(" p", " q"))),
        ),
    ],
    "null-field": [((rules("{from: }"),), (source("{principals: ['*']}"),))],
    "no-spec": [((authorization("{}").replace("spec: {}\n", ""),), (authorization("{}"),))],
    "no-namespace": [((authorization("{}", metadata="{name: p}"),), (authorization("{}"),))],
    "selector-without-labels": [
        ((authorization("{selector: {}}"),), (authorization("{selector: {matchLabels: {a: b}}}"),))
    ],
    "private-key-in-jwks": [
        (
            (request('{issuer: a, jwks: \'{"keys": [{"kty": "oct", "k": "x"}]}\'}'),),
            (request('{issuer: a, jwks: \'{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "x"}]}\'}'),),
        )
    ],
    "unknown-code": [
        (
            (authorization("{}").replace("name: p}", "name: p, annotations: {citadel/lint-ignore: no-spce}}"),),
            (authorization("{}").replace("name: p}", "name: p, annotations: {citadel/lint-ignore: no-spec}}"),),
        )
    ],
}

PAIRS = [(code.strip(), bad, good) for code, pairs in CASES.items() for bad, good in pairs]


def test_every_check_has_an_example() -> None:
    assert {code.strip() for code in CASES} == CHECKS.keys()


@pytest.mark.parametrize(("code", "bad", "good"), PAIRS)
def test_a_check_strikes_on_its_example_and_not_on_the_good_twin(
    code: str, bad: tuple[str, ...], good: tuple[str, ...]
) -> None:
    assert code in codes(*bad)
    assert code not in codes(*good)


def test_a_finding_says_where_what_and_how_to_mend_it() -> None:
    (finding,) = found(authorization("\n  rules:\n  - to:\n    - operation: {paths: [/a, b]}\n"))
    assert finding.severity is Severity.ERROR
    assert str(finding) == (
        "p.yaml:7:31: error: AuthorizationPolicy shop/p: spec.rules[0].to[0].operation.paths[1]: "
        '"b" never matches. Put a slash in front. [path-without-slash]'
    )


@pytest.mark.parametrize("code", ["deny-widens-on-tcp", "matches-all-tcp"])
def test_what_to_do_is_said_once_by_lint_and_by_apply(code: str) -> None:
    when = ", when: [{key: source.ip, values: ['::1']}]" if code == "deny-widens-on-tcp" else ""
    documents = load_text(rules(f"{{to: [{{operation: {{methods: [GET]}}}}]{when}}}", "DENY"))
    by_lint = [str(one) for one in lint(documents, FACTS) if one.code == code]
    by_apply = [str(one) for one in load_warnings(documents, FACTS) if one.code == code]
    assert [one.lower().count("name the ports") for one in (*by_lint, *by_apply)] == [1, 1]


def test_a_document_silences_codes_for_itself_alone() -> None:
    bad = operation("{paths: [a], methods: [get]}")
    silent = bad.replace("name: p}", "name: p, annotations: {citadel/lint-ignore: 'path-without-slash, no-namespace'}}")
    assert codes(silent) == ["method-lower-case"]
    assert codes(silent, named(bad, "q")).count("path-without-slash") == 1


@pytest.mark.parametrize(
    "text",
    [
        rules(GET, "DENY"),
        rules("{to: [{operation: {methods: [GET]}}], when: [{key: source.ip, values: ['::1']}]}", "DENY"),
    ],
)
def test_who_loads_and_who_lints_name_one_finding_alike(text: str) -> None:
    documents = load_text(text)
    (warning,) = load_warnings(documents, FACTS)
    assert [one.code for one in lint(documents, FACTS) if one.code.endswith("tcp")] == [warning.code]
    silenced = text.replace("name: p", f"annotations: {{citadel/lint-ignore: {warning.code}}}, name: p", 1)
    assert silenced != text
    documents = load_text(silenced)
    assert not list(load_warnings(documents, FACTS))
    assert not lint(documents, FACTS)


def test_what_loading_warns_of_is_silenced_too() -> None:
    text = authorization("{}", metadata="{name: p, annotations: {citadel/lint-ignore: no-namespace}}")
    assert codes(text) == []
    assert load_text(text).warnings == ()


def test_a_document_that_selects_none_of_the_given_workloads_is_named() -> None:
    web = Workload("shop", {"app": "web"})
    gateway = Workload("shop", {}, WorkloadKind.GATEWAY, gateway="g")
    texts = [
        authorization("{selector: {matchLabels: {app: web}}}"),
        named(authorization("{selector: {matchLabels: {app: wbe}}}"), "typo"),
        named(peer("{selector: {matchLabels: {app: wbe}}}"), "typo"),
        authorization("{}", metadata="{namespace: shpo, name: p}"),
        named(authorization("{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: g}]}"), "attached"),
    ]
    struck = [one for one in found(*texts, workloads=(web, gateway)) if one.code == "selects-nothing"]
    assert [(one.kind, str(one.name)) for one in struck] == [
        ("AuthorizationPolicy", "shop/typo"),
        ("PeerAuthentication", "shop/typo"),
        ("AuthorizationPolicy", "shpo/p"),
    ]
    assert "selects-nothing" not in codes(*texts)


def test_nothing_is_said_of_policies_as_they_should_be() -> None:
    texts = [
        STRICT.replace("shop", "istio-system"),
        authorization("{}", metadata=ROOT),
        named(source("{principals: [prod.example/ns/shop/sa/web]}"), "web"),
        named(
            rules("{to: [{operation: {hosts: ['shop.example', 'shop.example:*'], paths: ['/api/*', '/c/{*}']}}]}"),
            "api",
        ),
        named(deny("{notPrincipals: [prod.example/ns/shop/*]}"), "others"),
        VERIFIED,
    ]
    assert found(*texts) == []


def test_findings_in_a_list_have_the_place_of_their_item() -> None:
    text = "apiVersion: v1\nkind: List\nitems:\n" + "".join(
        f"- apiVersion: security.istio.io/v1\n  kind: AuthorizationPolicy\n  metadata: {{name: p{n}, namespace: a}}\n"
        "  spec: {rules: [{to: [{operation: {methods: [get]}}]}]}\n"
        for n in range(2)
    )
    assert [(one.line, one.column, one.field) for one in found(text) if one.code == "method-lower-case"] == [
        (7, 47, "spec.rules[0].to[0].operation.methods[0]"),
        (11, 47, "spec.rules[0].to[0].operation.methods[0]"),
    ]


def test_the_documentation_lists_every_check() -> None:
    page = Path(__file__).parents[3] / "docs" / "authorization-lint.md"
    assert page.read_text() == reference(), "run scripts/generate-docs"
    assert all(f"| `{code}` |" in reference() for code in CHECKS)
