"""Every mistake that a document can have, each beside its good twin: what differs is all that was wrong."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """`bad` has one mistake, at `field`, whose sentence has `says` in it; `good` has none. Both are YAML."""

    bad: str
    field: str
    says: str
    good: str


def authorization(spec: str, *, metadata: str = "{namespace: shop, name: p}") -> str:
    return f"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {metadata}\nspec: {spec}\n"


def request(rule: str) -> str:
    spec = "{jwtRules: [" + rule + "]}"
    return authorization(spec).replace("AuthorizationPolicy", "RequestAuthentication")


def peer(spec: str) -> str:
    return authorization(spec).replace("AuthorizationPolicy", "PeerAuthentication")


def source(fields: str, action: str = "ALLOW") -> str:
    return authorization("{action: " + action + ", rules: [{from: [{source: " + fields + "}]}]}")


def operation(fields: str) -> str:
    return authorization("{rules: [{to: [{operation: " + fields + "}]}]}")


def when(condition: str) -> str:
    return authorization("{rules: [{when: [" + condition + "]}]}")


def custom(rule: str) -> str:
    return authorization("{action: CUSTOM, provider: {name: opa}, rules: [" + rule + "]}")


SOURCE = "spec.rules[0].from[0].source"
OPERATION = "spec.rules[0].to[0].operation"
WHEN = "spec.rules[0].when[0]"
SEVENTEEN = ", ".join(f"a{n}" for n in range(17))
SIXTEEN = ", ".join(f"a{n}" for n in range(16))
TARGET = "{kind: Service, name: web}"
GATEWAY = "{group: gateway.networking.k8s.io, kind: Gateway, name: g}"

CASES = {
    # --- what stands around the spec
    "no apiVersion": Case(
        "kind: AuthorizationPolicy\nmetadata: {name: p}\n", "", "has apiVersion", authorization("{}")
    ),
    "a number as kind": Case("apiVersion: v1\nkind: 7\n", "kind", "has kind", "apiVersion: v1\nkind: Service\n"),
    "an unknown version": Case(
        authorization("{}").replace("/v1\n", "/v1alpha1\n"), "apiVersion", "no version", authorization("{}")
    ),
    "an unknown kind": Case(
        authorization("{}").replace("AuthorizationPolicy", "AuthorizationPolicies"),
        "kind",
        "did you mean AuthorizationPolicy",
        authorization("{}").replace("/v1\n", "/v1beta1\n"),
    ),
    "another unknown kind": Case(
        authorization("{}").replace("AuthorizationPolicy", "Gateway"), "kind", "there are Auth", authorization("{}")
    ),
    "a kind in lower case": Case(
        authorization("{}").replace("AuthorizationPolicy", "authorizationpolicy"),
        "kind",
        "did you mean AuthorizationPolicy",
        authorization("{}"),
    ),
    "a misspelt group": Case(
        authorization("{}").replace("istio.io", "istio.oi"), "apiVersion", "did you mean sec", authorization("{}")
    ),
    "our kind in the core group": Case(
        authorization("{}").replace("security.istio.io/v1", "v1"), "apiVersion", 'not "v1"', authorization("{}")
    ),
    "nearly our kind in another group": Case(
        "apiVersion: networking.istio.io/v1\nkind: PeerAuthentications\n",
        "apiVersion",
        "a PeerAuthentication has apiVersion security.istio.io/v1",
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n",
    ),
    "another group's kind of the same name": Case(
        "apiVersion: acme.example/v1\nkind: AuthorizationPolicy\n",
        "apiVersion",
        'not "acme.example/v1"',
        "apiVersion: policy.linkerd.io/v1alpha1\nkind: AuthorizationPolicy\n",
    ),
    "rules beside the spec": Case(
        authorization("{}") + "rules: []\n", "rules", "no such field", authorization("{}") + "status: {x: 1}\n"
    ),
    "no metadata": Case(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nspec: {}\n",
        "",
        "metadata.name",
        authorization("{}"),
    ),
    "no name": Case(
        authorization("{}", metadata="{namespace: a, generateName: p-}"),
        "metadata",
        "it has no name; generateName",
        authorization("{}", metadata="{namespace: a, generateName: p-, name: p-1}"),
    ),
    "a name that is none": Case(
        authorization("{}", metadata="{namespace: a, name: P_1}"),
        "metadata.name",
        "is not a name",
        authorization("{}", metadata="{namespace: a, name: p.1}"),
    ),
    "a number as name": Case(
        authorization("{}", metadata="{namespace: a, name: 1}"),
        "metadata.name",
        'write "1"',
        authorization("{}", metadata="{namespace: a, name: '1'}"),
    ),
    "a namespace that is none": Case(
        authorization("{}", metadata="{namespace: a.b, name: p}"),
        "metadata.namespace",
        "is not a namespace",
        authorization("{}", metadata="{namespace: a-b, name: p}"),
    ),
    "an unknown field of metadata": Case(
        authorization("{}", metadata="{namespace: a, name: p, anotations: {}}"),
        "metadata.anotations",
        "did you mean annotations",
        authorization("{}", metadata="{namespace: a, name: p, annotations: {}, labels: {x: y}}"),
    ),
    "a time that is none": Case(
        authorization("{}", metadata="{namespace: a, name: p, creationTimestamp: 2026-13-01T00:00:00Z}"),
        "metadata.creationTimestamp",
        "is not a time",
        authorization("{}", metadata="{namespace: a, name: p, creationTimestamp: 2026-12-01T00:00:00Z}"),
    ),
    "dry run without quotes": Case(
        authorization("{}", metadata="{namespace: a, name: p, annotations: {istio.io/dry-run: true}}"),
        'metadata.annotations["istio.io/dry-run"]',
        'write "true"',
        authorization("{}", metadata="{namespace: a, name: p, annotations: {istio.io/dry-run: 'true'}}"),
    ),
    "dry run that is neither": Case(
        authorization("{}", metadata="{namespace: a, name: p, annotations: {istio.io/dry-run: 'yes'}}"),
        'metadata.annotations["istio.io/dry-run"]',
        'neither "true" nor "false"',
        authorization("{}", metadata="{namespace: a, name: p, annotations: {istio.io/dry-run: 'F'}}"),
    ),
    "dry run of CUSTOM": Case(
        custom("{}").replace("name: p}", "name: p, annotations: {istio.io/dry-run: 'true'}}"),
        'metadata.annotations["istio.io/dry-run"]',
        "only ALLOW and DENY",
        authorization("{action: DENY, rules: [{}]}").replace(
            "name: p}", "name: p, annotations: {istio.io/dry-run: 'true'}}"
        ),
    ),
    "dry run of AUDIT": Case(
        authorization("{action: AUDIT}").replace("name: p}", "name: p, annotations: {istio.io/dry-run: 'true'}}"),
        'metadata.annotations["istio.io/dry-run"]',
        "not AUDIT",
        authorization("{action: AUDIT}"),
    ),
    "dry run of a PeerAuthentication": Case(
        peer("{}").replace("name: p}", "name: p, annotations: {istio.io/dry-run: 'true'}}"),
        'metadata.annotations["istio.io/dry-run"]',
        "has no dry run",
        peer("{}"),
    ),
    "an annotation of Istio's own": Case(
        authorization("{}", metadata="{namespace: a, name: p, annotations: {internal.istio.io/parents: x}}"),
        'metadata.annotations["internal.istio.io/parents"]',
        "may not be set",
        authorization("{}", metadata="{namespace: a, name: p, annotations: {x.example/parents: x}}"),
    ),
    # --- whom it applies to
    "an unknown field of the spec": Case(
        authorization("{acton: ALLOW}"), "spec.acton", "did you mean action", authorization("{action: ALLOW}")
    ),
    "the spec in another spelling": Case(
        authorization("{target_refs: []}"), "spec.target_refs", "did you mean targetRefs", authorization("{}")
    ),
    "matchExpressions": Case(
        authorization("{selector: {matchExpressions: []}}"),
        "spec.selector.matchExpressions",
        "a selector has matchLabels",
        authorization("{selector: {matchLabels: {app: web}}}"),
    ),
    "a label with a star": Case(
        authorization("{selector: {matchLabels: {app: 'web-*'}}}"),
        "spec.selector.matchLabels.app",
        "has a *",
        authorization("{selector: {matchLabels: {app: web-}}}"),
    ),
    "a label's name with a star": Case(
        authorization("{selector: {matchLabels: {'a*': web}}}"),
        'spec.selector.matchLabels["a*"]',
        "has a *",
        authorization("{selector: {matchLabels: {a: web}}}"),
    ),
    "a label without a name": Case(
        authorization("{selector: {matchLabels: {'': web}}}"),
        'spec.selector.matchLabels[""]',
        "is empty",
        authorization("{selector: {matchLabels: {a: ''}}}"),
    ),
    "a label that is a boolean": Case(
        authorization("{selector: {matchLabels: {canary: on}}}"),
        "spec.selector.matchLabels.canary",
        'write "on"',
        authorization("{selector: {matchLabels: {canary: 'on'}}}"),
    ),
    "a label's name that is a boolean": Case(
        authorization("{selector: {matchLabels: {on: x}}}"),
        "spec.selector.matchLabels.on",
        'write "on"',
        authorization("{selector: {matchLabels: {'on': x}}}"),
    ),
    "a label that is too long": Case(
        authorization("{selector: {matchLabels: {a: " + ("x" * 64) + "}}}"),
        "spec.selector.matchLabels.a",
        "at most 63",
        authorization("{selector: {matchLabels: {a: " + ("x" * 63) + "}}}"),
    ),
    "labels as a list": Case(
        authorization("{selector: {matchLabels: [a]}}"),
        "spec.selector.matchLabels",
        "a mapping, found a list",
        authorization("{selector: {matchLabels: {a: b}}}"),
    ),
    "selector with targetRefs": Case(
        authorization("{selector: {matchLabels: {a: b}}, targetRefs: [" + TARGET + "]}"),
        "spec.targetRefs",
        "only one of selector and targetRefs",
        authorization("{targetRefs: [" + TARGET + "]}"),
    ),
    "targetRef with targetRefs": Case(
        authorization("{targetRef: " + TARGET + ", targetRefs: [" + TARGET + "]}"),
        "spec.targetRefs",
        "only one of",
        authorization("{targetRef: " + TARGET + "}"),
    ),
    "a target without a name": Case(
        authorization("{targetRefs: [{kind: Service}]}"),
        "spec.targetRefs[0]",
        "no name",
        authorization("{targetRefs: [{group: core, kind: Service, name: a}]}"),
    ),
    "a target of the wrong group": Case(
        authorization("{targetRefs: [{kind: Gateway, name: g}]}"),
        "spec.targetRefs[0]",
        "did you mean group gateway.networking.k8s.io",
        authorization("{targetRefs: [" + GATEWAY + "]}"),
    ),
    "a target in another namespace": Case(
        authorization("{targetRefs: [{kind: Service, name: a, namespace: b}]}"),
        "spec.targetRefs[0].namespace",
        "own namespace",
        authorization("{targetRefs: [{kind: Service, name: a, namespace: ''}]}"),
    ),
    "too many targets": Case(
        authorization("{targetRefs: [" + ", ".join([TARGET] * 17) + "]}"),
        "spec.targetRefs",
        "at most 16",
        authorization("{targetRefs: [" + ", ".join([TARGET] * 16) + "]}"),
    ),
    # --- action and provider
    "an unknown action": Case(
        authorization("{action: allow}"), "spec.action", "did you mean ALLOW", authorization("{action: ALLOW}")
    ),
    "CUSTOM without provider": Case(
        authorization("{action: CUSTOM, rules: [{}]}"), "spec", "needs provider.name", custom("{}")
    ),
    "CUSTOM with a provider without a name": Case(
        authorization("{action: CUSTOM, rules: [{}], provider: {}}"), "spec.provider", "no name", custom("{}")
    ),
    "CUSTOM with an empty provider": Case(
        authorization("{action: CUSTOM, rules: [{}], provider: {name: ''}}"),
        "spec.provider.name",
        "it is empty",
        custom("{}"),
    ),
    "a provider without CUSTOM": Case(
        authorization("{action: DENY, rules: [{}], provider: {name: a}}"),
        "spec.provider",
        "only a CUSTOM",
        authorization("{action: DENY, rules: [{}]}"),
    ),
    "DENY without rules": Case(
        authorization("{action: DENY}"), "spec.rules", "never matches", authorization("{action: ALLOW}")
    ),
    "DENY with an empty list of rules": Case(
        authorization("{action: DENY, rules: []}"),
        "spec.rules",
        "never matches",
        authorization("{action: ALLOW, rules: []}"),
    ),
    "CUSTOM without rules": Case(
        authorization("{action: CUSTOM, provider: {name: a}}"), "spec.rules", "never matches", custom("{}")
    ),
    "CUSTOM with principals": Case(
        custom("{from: [{source: {principals: [a]}}]}"),
        f"{SOURCE}.principals",
        "before identities",
        custom("{from: [{source: {ipBlocks: [10.0.0.0/8], notRemoteIpBlocks: ['::1']}}]}"),
    ),
    "CUSTOM with notNamespaces": Case(
        custom("{from: [{source: {notNamespaces: [a]}}]}"),
        f"{SOURCE}.notNamespaces",
        "before identities",
        custom("{to: [{operation: {hosts: [a]}}]}"),
    ),
    "CUSTOM with trust domains": Case(
        custom("{from: [{source: {trustDomains: [a]}}]}"), f"{SOURCE}.trustDomains", "before identities", custom("{}")
    ),
    "CUSTOM with request principals": Case(
        custom("{from: [{source: {requestPrincipals: [a]}}]}"),
        f"{SOURCE}.requestPrincipals",
        "before identities",
        custom("{}"),
    ),
    "CUSTOM with a claim": Case(
        custom("{when: [{key: 'request.auth.claims[a]', values: [b]}]}"),
        f"{WHEN}.key",
        "before identities",
        custom("{when: [{key: 'request.headers[a]', values: [b]}]}"),
    ),
    "CUSTOM with the peer's namespace": Case(
        custom("{when: [{key: source.namespace, values: [b]}]}"),
        f"{WHEN}.key",
        "before identities",
        custom("{when: [{key: source.ip, values: [10.0.0.1]}]}"),
    ),
    # --- rules
    "rules that are a mapping": Case(
        authorization("{rules: {}}"), "spec.rules", "a list of rules", authorization("{rules: [{}]}")
    ),
    "a null rule": Case(
        authorization("{rules: [null]}"), "spec.rules[0]", "the rule is null", authorization("{rules: [{}]}")
    ),
    "a rule that is text": Case(
        authorization("{rules: [a]}"), "spec.rules[0]", "a rule, a mapping", authorization("{rules: [{}]}")
    ),
    "an unknown field of a rule": Case(
        authorization("{rules: [{form: []}]}"),
        "spec.rules[0].form",
        "did you mean from",
        authorization("{rules: [{when: []}]}"),
    ),
    "too many rules": Case(
        authorization("{rules: [" + ", ".join(["{}"] * 513) + "]}"),
        "spec.rules",
        "at most 512",
        authorization("{rules: [" + ", ".join(["{}"] * 512) + "]}"),
    ),
    "an empty from": Case(
        authorization("{rules: [{from: []}]}"),
        "spec.rules[0].from",
        "it is empty",
        authorization("{rules: [{}]}"),
    ),
    "an empty to": Case(
        authorization("{rules: [{to: []}]}"), "spec.rules[0].to", "it is empty", authorization("{rules: [{}]}")
    ),
    "a null item of from": Case(
        authorization("{rules: [{from: [null]}]}"),
        "spec.rules[0].from[0]",
        "found nothing",
        source("{principals: [a]}"),
    ),
    "an item of from without source": Case(
        authorization("{rules: [{from: [{}]}]}"),
        "spec.rules[0].from[0]",
        "has no source",
        source("{principals: [a]}"),
    ),
    "an item of from with a null source": Case(
        authorization("{rules: [{from: [{source: null}]}]}"),
        "spec.rules[0].from[0]",
        "has no source",
        source("{principals: [a]}"),
    ),
    "source's fields without source": Case(
        authorization("{rules: [{from: [{principals: [a]}]}]}"),
        "spec.rules[0].from[0].principals",
        "an item of from has source",
        source("{principals: [a]}"),
    ),
    "an item of to without operation": Case(
        authorization("{rules: [{to: [{}]}]}"),
        "spec.rules[0].to[0]",
        "has no operation",
        operation("{hosts: [a]}"),
    ),
    "an empty source": Case(source("{}"), SOURCE, "the source is empty", source("{principals: ['*']}")),
    "a source of empty lists": Case(
        source("{principals: [], namespaces: []}"), SOURCE, "the source is empty", source("{namespaces: [a]}")
    ),
    "an empty operation": Case(operation("{}"), OPERATION, "the operation is empty", operation("{methods: [GET]}")),
    "an operation of empty lists": Case(
        operation("{paths: []}"), OPERATION, "the operation is empty", operation("{paths: [/]}")
    ),
    "an unknown field of a source": Case(
        source("{principal: [a]}"),
        f"{SOURCE}.principal",
        "did you mean principals",
        source("{principals: [a]}"),
    ),
    "a field of an operation in a source": Case(
        source("{hosts: [a]}"), f"{SOURCE}.hosts", "no such field", operation("{hosts: [a]}")
    ),
    "an unknown field of an operation": Case(
        operation("{path: [a]}"), f"{OPERATION}.path", "did you mean paths", operation("{paths: [a]}")
    ),
    "a text instead of a list": Case(
        source("{principals: a}"), f"{SOURCE}.principals", 'a list of texts, found "a"', source("{principals: [a]}")
    ),
    "an empty value": Case(
        source("{principals: ['']}"), f"{SOURCE}.principals[0]", "it is empty", source("{principals: [a]}")
    ),
    "an empty negative value": Case(
        source("{notPrincipals: [a, '']}"),
        f"{SOURCE}.notPrincipals[1]",
        "it is empty",
        source("{notPrincipals: [a, b]}"),
    ),
    "an empty host": Case(
        operation("{hosts: ['']}"), f"{OPERATION}.hosts[0]", "it is empty", operation("{hosts: ['*']}")
    ),
    "a null value": Case(
        source("{namespaces: [null]}"), f"{SOURCE}.namespaces[0]", "found nothing", source("{namespaces: ['null']}")
    ),
    "a value that YAML 1.1 takes for a boolean": Case(
        source("{namespaces: [off]}"), f"{SOURCE}.namespaces[0]", 'write "off"', source("{namespaces: ['off']}")
    ),
    "one letter that YAML 1.1 takes for a boolean": Case(
        operation("{methods: [y]}"), f"{OPERATION}.methods[0]", "boolean", operation("{methods: ['y']}")
    ),
    "a value that is a number": Case(
        source("{principals: [1e3]}"), f"{SOURCE}.principals[0]", "a number", source("{principals: ['1e3']}")
    ),
    # --- forms
    "an address that is none": Case(
        source("{ipBlocks: [10.0.0]}"), f"{SOURCE}.ipBlocks[0]", "not an IP address", source("{ipBlocks: [10.0.0.0]}")
    ),
    "a prefix that is too long": Case(
        source("{notIpBlocks: [10.0.0.0/33]}"),
        f"{SOURCE}.notIpBlocks[0]",
        "at most 32",
        source("{notIpBlocks: [10.0.0.0/32]}"),
    ),
    "a mask instead of a prefix": Case(
        source("{ipBlocks: [10.0.0.0/255.0.0.0]}"),
        f"{SOURCE}.ipBlocks[0]",
        "prefix length",
        source("{ipBlocks: [10.0.0.0/8]}"),
    ),
    "a prefix with a zero in front": Case(
        source("{remoteIpBlocks: [10.0.0.0/08]}"),
        f"{SOURCE}.remoteIpBlocks[0]",
        "prefix length",
        source("{remoteIpBlocks: [10.9.8.7/8]}"),
    ),
    "an octet with a zero in front": Case(
        source("{ipBlocks: [010.0.0.1]}"), f"{SOURCE}.ipBlocks[0]", "not an IP", source("{ipBlocks: [10.0.0.1]}")
    ),
    "an IPv6 prefix that is too long": Case(
        source("{notRemoteIpBlocks: ['2001:db8::/129']}"),
        f"{SOURCE}.notRemoteIpBlocks[0]",
        "at most 128",
        source("{notRemoteIpBlocks: ['2001:db8::/128']}"),
    ),
    "an address with a zone": Case(
        source("{ipBlocks: ['fe80::1%eth0']}"), f"{SOURCE}.ipBlocks[0]", "zone", source("{ipBlocks: ['fe80::1']}")
    ),
    "a port without quotes": Case(
        operation("{ports: [8080]}"), f"{OPERATION}.ports[0]", 'write "8080"', operation("{ports: ['8080']}")
    ),
    "a port with a zero in front, without quotes": Case(
        operation("{ports: [080]}"), f"{OPERATION}.ports[0]", 'write "080"', operation("{ports: ['080']}")
    ),
    "an octal port": Case(
        operation("{ports: [0o80]}"), f"{OPERATION}.ports[0]", "not a port", operation("{ports: ['80']}")
    ),
    "a port that is too large": Case(
        operation("{notPorts: ['65536']}"), f"{OPERATION}.notPorts[0]", "not a port", operation("{ports: ['65535']}")
    ),
    "a port with a sign": Case(
        operation("{ports: ['+80']}"), f"{OPERATION}.ports[0]", "not a port", operation("{ports: ['0']}")
    ),
    "a port in other digits": Case(
        operation("{ports: ['٨٠']}"), f"{OPERATION}.ports[0]", "not a port", operation("{ports: ['80']}")
    ),
    "a range of ports": Case(
        operation("{ports: ['80-90']}"), f"{OPERATION}.ports[0]", "not a port", operation("{ports: ['80', '90']}")
    ),
    "accounts with principals": Case(
        source("{serviceAccounts: [a], principals: [b]}"),
        f"{SOURCE}.principals",
        "cannot be together",
        source("{serviceAccounts: [a], trustDomains: [b], ipBlocks: [10.0.0.1]}"),
    ),
    "negative accounts with namespaces": Case(
        source("{notServiceAccounts: [a], notNamespaces: [b]}"),
        f"{SOURCE}.notNamespaces",
        "cannot be together",
        source("{notServiceAccounts: [a], serviceAccounts: [b]}"),
    ),
    "too many accounts": Case(
        source("{serviceAccounts: [" + SEVENTEEN + "]}"),
        f"{SOURCE}.serviceAccounts",
        "at most 16",
        source("{serviceAccounts: [" + SIXTEEN + "]}"),
    ),
    "an account with a star": Case(
        source("{serviceAccounts: ['a/*']}"),
        f"{SOURCE}.serviceAccounts[0]",
        "has a *",
        source("{serviceAccounts: [a/b]}"),
    ),
    "an account with two slashes": Case(
        source("{serviceAccounts: [a/b/c]}"),
        f"{SOURCE}.serviceAccounts[0]",
        "namespace/name",
        source("{serviceAccounts: [b]}"),
    ),
    "an account without a namespace before its slash": Case(
        source("{serviceAccounts: [/b]}"),
        f"{SOURCE}.serviceAccounts[0]",
        "namespace/name",
        source("{serviceAccounts: [b]}"),
    ),
    "an account that is too long": Case(
        source("{serviceAccounts: [" + ("a" * 321) + "]}"),
        f"{SOURCE}.serviceAccounts[0]",
        "at most 320",
        source("{serviceAccounts: [" + ("a" * 320) + "]}"),
    ),
    "a trust domain with two stars": Case(
        source("{trustDomains: ['*a*']}"),
        f"{SOURCE}.trustDomains[0]",
        "more than one *",
        source("{trustDomains: ['*a']}"),
    ),
    "a trust domain with a star inside": Case(
        source("{notTrustDomains: ['a*b']}"),
        f"{SOURCE}.notTrustDomains[0]",
        "a * inside",
        source("{notTrustDomains: ['a*']}"),
    ),
    "a trust domain with a slash": Case(
        source("{trustDomains: [a/b]}"), f"{SOURCE}.trustDomains[0]", "a slash", source("{trustDomains: ['*']}")
    ),
    "a template that goes on after {**}": Case(
        operation("{paths: ['/a/{**}/{*}']}"),
        f"{OPERATION}.paths[0]",
        "may follow {**}",
        operation("{paths: ['/a/{*}/{**}/c']}"),
    ),
    "a template with two {**}": Case(
        operation("{notPaths: ['/{**}/{**}']}"),
        f"{OPERATION}.notPaths[0]",
        "may follow {**}",
        operation("{notPaths: ['/{*}/{*}']}"),
    ),
    "a named template": Case(
        operation("{paths: ['/a/{id}']}"),
        f"{OPERATION}.paths[0]",
        "may only be {*} or {**}",
        operation("{paths: ['/a/{*}']}"),
    ),
    "a template that is part of a segment": Case(
        operation("{paths: ['/a{*}']}"), f"{OPERATION}.paths[0]", "whole segment", operation("{paths: ['/a/{**}']}")
    ),
    "braces without a template": Case(
        operation("{paths: ['/a}']}"), f"{OPERATION}.paths[0]", "may only be", operation("{paths: ['/a']}")
    ),
    "a star in a template": Case(
        operation("{paths: ['/a*/{*}']}"), f"{OPERATION}.paths[0]", 'segment "a*"', operation("{paths: ['/a*']}")
    ),
    "an empty segment in a template": Case(
        operation("{paths: ['/a//{*}']}"), f"{OPERATION}.paths[0]", 'segment ""', operation("{paths: ['/a/{*}/']}")
    ),
    "a template without a slash": Case(
        operation("{paths: ['{**}']}"), f"{OPERATION}.paths[0]", "starts with a slash", operation("{paths: ['/{**}']}")
    ),
    # --- conditions
    "a condition without a key": Case(
        when("{values: [a]}"), WHEN, "no key", when("{key: source.principal, values: [a]}")
    ),
    "a condition with an empty key": Case(
        when("{key: '', values: [a]}"), f"{WHEN}.key", "it is empty", when("{key: source.principal, values: [a]}")
    ),
    "a null condition": Case(
        when("null"), WHEN, "a condition, a mapping", when("{key: source.principal, values: [a]}")
    ),
    "an unknown field of a condition": Case(
        when("{key: source.ip, value: ['::1'], values: ['::1']}"),
        f"{WHEN}.value",
        "did you mean values",
        when("{key: source.ip, notValues: ['::1']}"),
    ),
    "a condition without values": Case(
        when("{key: source.ip}"), WHEN, "neither values nor notValues", when("{key: source.ip, values: ['::1']}")
    ),
    "a condition with empty values": Case(
        when("{key: source.ip, values: [], notValues: []}"),
        WHEN,
        "neither values nor notValues",
        when("{key: source.ip, values: [], notValues: ['::1']}"),
    ),
    "a condition with an empty value": Case(
        when("{key: 'request.headers[a]', values: ['']}"),
        f"{WHEN}.values[0]",
        "it is empty",
        when("{key: 'request.headers[a]', values: ['*']}"),
    ),
    "an unknown key": Case(
        when("{key: source.principals, values: [a]}"),
        f"{WHEN}.key",
        "did you mean source.principal?",
        when("{key: source.principal, values: [a]}"),
    ),
    "a key in other letters": Case(
        when("{key: source.Namespace, values: [a]}"),
        f"{WHEN}.key",
        "did you mean source.namespace?",
        when("{key: source.namespace, values: [a]}"),
    ),
    "a header without a name": Case(
        when("{key: request.headers, values: [a]}"),
        f"{WHEN}.key",
        "expected request.headers[name]",
        when("{key: 'request.headers[:authority]', values: [a]}"),
    ),
    "a header with an empty name": Case(
        when("{key: 'request.headers[]', values: [a]}"),
        f"{WHEN}.key",
        "needs a name",
        when("{key: 'request.headers[X-A]', values: [a]}"),
    ),
    "a header with a name that is none": Case(
        when("{key: 'request.headers[a b]', values: [a]}"),
        f"{WHEN}.key",
        "not the name of a header",
        when("{key: 'request.headers[a-b]', values: [a]}"),
    ),
    "a claim without a closing bracket": Case(
        when("{key: 'request.auth.claims[a', values: [a]}"),
        f"{WHEN}.key",
        "needs a name in brackets",
        when("{key: 'request.auth.claims[a][b]', values: [a]}"),
    ),
    "a claim with empty brackets": Case(
        when("{key: 'request.auth.claims[a][]', values: [a]}"),
        f"{WHEN}.key",
        "empty brackets",
        when("{key: 'request.auth.claims[a]', values: [a]}"),
    ),
    "metadata without a key": Case(
        when("{key: experimental.envoy.filters.a.b, values: [a]}"),
        f"{WHEN}.key",
        "needs a name in brackets",
        when("{key: 'experimental.envoy.filters.a.b[c]', values: [a]}"),
    ),
    "metadata without a filter": Case(
        when("{key: 'experimental.envoy.filters.[c]', values: [a]}"),
        f"{WHEN}.key",
        "which filter",
        when("{key: 'experimental.envoy.filters.x[c]', values: [a]}"),
    ),
    "a key that the selector replaced": Case(
        when("{key: 'destination.labels[a]', values: [a]}"),
        f"{WHEN}.key",
        "use spec.selector",
        when("{key: destination.port, values: ['80']}"),
    ),
    "a key that metadata.namespace replaced": Case(
        when("{key: destination.namespace, values: [a]}"),
        f"{WHEN}.key",
        "metadata.namespace",
        when("{key: connection.sni, values: [a]}"),
    ),
    "an address in a condition": Case(
        when("{key: remote.ip, values: [a]}"),
        f"{WHEN}.values[0]",
        "not an IP",
        when("{key: remote.ip, values: ['::/0']}"),
    ),
    "a destination in a condition": Case(
        when("{key: destination.ip, notValues: [10.0.0.0/99]}"),
        f"{WHEN}.notValues[0]",
        "at most 32",
        when("{key: destination.ip, notValues: [10.0.0.0/9]}"),
    ),
    "a port in a condition": Case(
        when("{key: destination.port, values: [http]}"),
        f"{WHEN}.values[0]",
        "not a port",
        when("{key: destination.port, values: ['080']}"),
    ),
    "an account in a condition": Case(
        when("{key: source.serviceAccount, values: ['*']}"),
        f"{WHEN}.values[0]",
        "has a *",
        when("{key: source.serviceAccount, values: [a]}"),
    ),
    "a trust domain in a condition": Case(
        when("{key: source.trustDomain, values: ['a*b']}"),
        f"{WHEN}.values[0]",
        "a * inside",
        when("{key: source.trustDomain, values: ['a*']}"),
    ),
    # --- RequestAuthentication
    "neither issuer nor keys": Case(
        request("{audiences: [a]}"), "spec.jwtRules[0]", "neither issuer nor jwksUri", request("{issuer: a}")
    ),
    "keys without an issuer": Case(
        request("{jwks: '{\"keys\": []}'}"),
        "spec.jwtRules[0]",
        "neither issuer nor jwksUri",
        request("{jwksUri: https://a.example/keys}"),
    ),
    "an empty issuer": Case(request("{issuer: ''}"), "spec.jwtRules[0].issuer", "it is empty", request("{issuer: a}")),
    "both jwks and jwksUri": Case(
        request("{issuer: a, jwks: '{\"keys\": []}', jwksUri: https://a.example}"),
        "spec.jwtRules[0].jwks",
        "only one of jwksUri and jwks",
        request("{issuer: a, jwks: '{\"keys\": []}'}"),
    ),
    "a URL of another scheme": Case(
        request("{issuer: a, jwksUri: file:///etc/keys}"),
        "spec.jwtRules[0].jwksUri",
        "not a URL",
        request("{issuer: a, jwksUri: 'http://a.example:8080/keys?x=y'}"),
    ),
    "a URL without a host": Case(
        request("{issuer: a, jwksUri: 'https:///keys'}"),
        "spec.jwtRules[0].jwksUri",
        "not a URL",
        request("{issuer: a, jwks_uri: https://a.example/keys}"),
    ),
    "keys that are no JSON": Case(
        request("{issuer: a, jwks: '{keys}'}"),
        "spec.jwtRules[0].jwks",
        "not JSON",
        request("{issuer: a, jwks: ''}"),
    ),
    "keys that are a mapping": Case(
        request("{issuer: a, jwks: {keys: []}}"),
        "spec.jwtRules[0].jwks",
        "as text",
        request("{issuer: a, jwks: '{\"keys\": []}'}"),
    ),
    "a single key instead of a set": Case(
        request('{issuer: a, jwks: \'{"kty": "RSA", "n": "x", "e": "AQAB"}\'}'),
        "spec.jwtRules[0].jwks",
        "expected a JSON Web Key Set",
        request('{issuer: a, jwks: \'{"keys": [{"kty": "RSA", "n": "x", "e": "AQAB"}]}\'}'),
    ),
    "a key of no type": Case(
        request('{issuer: a, jwks: \'{"keys": [{"n": "x"}]}\'}'),
        "spec.jwtRules[0].jwks",
        "no kty",
        request('{issuer: a, jwks: \'{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "x"}]}\'}'),
    ),
    "a key with parts missing": Case(
        request('{issuer: a, jwks: \'{"keys": [{"kty": "EC", "crv": "P-256", "x": "x"}]}\'}'),
        "spec.jwtRules[0].jwks",
        "lacks y",
        request('{issuer: a, jwks: \'{"keys": [{"kty": "EC", "crv": "P-256", "x": "x", "y": "y"}]}\'}'),
    ),
    "an empty audience": Case(
        request("{issuer: a, audiences: ['']}"),
        "spec.jwtRules[0].audiences[0]",
        "it is empty",
        request("{issuer: a, audiences: [b]}"),
    ),
    "a header location without a name": Case(
        request("{issuer: a, fromHeaders: [{prefix: b}]}"),
        "spec.jwtRules[0].fromHeaders[0]",
        "no name",
        request("{issuer: a, fromHeaders: [{name: x-jwt, prefix: 'Bearer '}]}"),
    ),
    "a header location as text": Case(
        request("{issuer: a, fromHeaders: [x-jwt]}"),
        "spec.jwtRules[0].fromHeaders[0]",
        "an item of fromHeaders",
        request("{issuer: a, fromHeaders: [{name: x-jwt}]}"),
    ),
    "an empty parameter": Case(
        request("{issuer: a, fromParams: ['']}"),
        "spec.jwtRules[0].fromParams[0]",
        "it is empty",
        request("{issuer: a, fromParams: [token]}"),
    ),
    "an empty cookie": Case(
        request("{issuer: a, fromCookies: ['']}"),
        "spec.jwtRules[0].fromCookies[0]",
        "it is empty",
        request("{issuer: a, fromCookies: [token]}"),
    ),
    "a claim to a header that is none": Case(
        request("{issuer: a, outputClaimToHeaders: [{header: 'x y', claim: sub}]}"),
        "spec.jwtRules[0].outputClaimToHeaders[0].header",
        "only letters",
        request("{issuer: a, outputClaimToHeaders: [{header: x-y, claim: a.b}]}"),
    ),
    "a claim to no header": Case(
        request("{issuer: a, outputClaimToHeaders: [{claim: sub}]}"),
        "spec.jwtRules[0].outputClaimToHeaders[0]",
        "no header",
        request("{issuer: a, outputClaimToHeaders: [{header: x, claim: sub}]}"),
    ),
    "a payload to a header that is none": Case(
        request("{issuer: a, outputPayloadToHeader: 'a: b'}"),
        "spec.jwtRules[0].outputPayloadToHeader",
        "not the name of a header",
        request("{issuer: a, outputPayloadToHeader: x-payload}"),
    ),
    "a word instead of a boolean": Case(
        request("{issuer: a, forwardOriginalToken: 'true'}"),
        "spec.jwtRules[0].forwardOriginalToken",
        "true or false",
        request("{issuer: a, forwardOriginalToken: true}"),
    ),
    "a timeout without a unit": Case(
        request("{issuer: a, timeout: '5'}"),
        "spec.jwtRules[0].timeout",
        "not a duration",
        request("{issuer: a, timeout: 5s}"),
    ),
    "a timeout that is too short": Case(
        request("{issuer: a, timeout: 10us}"),
        "spec.jwtRules[0].timeout",
        "at least 1ms",
        request("{issuer: a, timeout: 1ms}"),
    ),
    "a timeout of broken milliseconds": Case(
        request("{issuer: a, timeout: 1.0005s}"),
        "spec.jwtRules[0].timeout",
        "whole milliseconds",
        request("{issuer: a, timeout: 1m1.5s}"),
    ),
    "an empty claim to be split": Case(
        request("{issuer: a, spaceDelimitedClaims: ['']}"),
        "spec.jwtRules[0].spaceDelimitedClaims[0]",
        "it is empty",
        request("{issuer: a, spaceDelimitedClaims: [roles]}"),
    ),
    "an unknown field of a JWT rule": Case(
        request("{issuer: a, audience: [b]}"),
        "spec.jwtRules[0].audience",
        "did you mean audiences",
        request("{issuer: a, audiences: [b]}"),
    ),
    # --- PeerAuthentication
    "a mode that is none": Case(
        peer("{mtls: {mode: STRCT}}"), "spec.mtls.mode", "did you mean STRICT", peer("{mtls: {mode: STRICT}}")
    ),
    "a mode in the wrong place": Case(peer("{mtls: STRICT}"), "spec.mtls", "a mapping", peer("{mtls: {mode: UNSET}}")),
    "ports without a selector": Case(
        peer("{portLevelMtls: {8080: {mode: DISABLE}}}"),
        "spec.portLevelMtls",
        "needs a selector",
        peer("{selector: {matchLabels: {a: b}}, portLevelMtls: {8080: {mode: DISABLE}}}"),
    ),
    "no ports": Case(
        peer("{selector: {matchLabels: {a: b}}, portLevelMtls: {}}"),
        "spec.portLevelMtls",
        "it is empty",
        peer("{selector: {matchLabels: {a: b}}, portLevelMtls: {'1': {mode: DISABLE}}}"),
    ),
    "port 0": Case(
        peer("{selector: {matchLabels: {a: b}}, portLevelMtls: {0: {mode: DISABLE}}}"),
        "spec.portLevelMtls.0",
        "1 to 65535",
        peer("{selector: {matchLabels: {a: b}}, portLevelMtls: {65535: {mode: DISABLE}}}"),
    ),
    "targetRefs of a PeerAuthentication": Case(
        peer("{targetRefs: [" + TARGET + "]}"), "spec.targetRefs", "no such field", peer("{}")
    ),
    # --- the text
    "not YAML": Case("a: [\n", "", "it is not YAML", authorization("{}")),
    "a tab": Case(authorization("\n\taction: ALLOW"), "", "a tab", authorization("\n  action: ALLOW")),
    "a key twice": Case(
        authorization("{action: ALLOW, action: DENY}"), "", "action is there twice", authorization("{}")
    ),
    "a list as a document": Case("- a\n", "", "this is a list", authorization("{}")),
    "a text as a document": Case("hello\n", "", "a Kubernetes object, a mapping", authorization("{}")),
    "an alias without its anchor": Case(
        authorization("{rules: *a}"),
        "",
        "there is no &a",
        authorization("{rules: [{from: &a [{source: {principals: [b]}}]}, {from: *a}]}"),
    ),
    "an alias inside its own anchor": Case(
        authorization("{rules: &a [*a]}"), "", "inside the value that it names", authorization("{rules: &a []}")
    ),
    "a tag": Case(
        authorization("{rules: !!python/object:os.system []}"), "", "tag", authorization("{rules: !!seq []}")
    ),
    "a null character": Case(authorization('{action: "\0"}'), "", "U+0000", authorization('{action: "ALLOW"}')),
}


# --- the rest of what Istio's validation refuses, field by field (istio.io, security reference; its webhook)


def _negative(name: str) -> str:
    return f"not{name[0].upper()}{name[1:]}"


_IN_SOURCE = ("principals", "requestPrincipals", "namespaces", "serviceAccounts", "trustDomains", "ipBlocks")
_IN_OPERATION = {"hosts": "a", "ports": "'80'", "methods": "GET", "paths": "/a"}
_BLOCKS = ("ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks")
_UNKNOWN_YET = ("principals", "requestPrincipals", "namespaces", "serviceAccounts", "trustDomains")
_KEYS_UNKNOWN_YET = (
    *("source.principal", "source.namespace", "source.serviceAccount", "source.trustDomain"),
    *("request.auth.principal", "request.auth.audiences", "request.auth.presenter", "request.auth.claims[a][b]"),
)
_LABELLED = "selector: {matchLabels: {a: b}}"


def _empty_values() -> dict[str, Case]:
    found = {}
    for name in (*_IN_SOURCE, "remoteIpBlocks"):
        good = "10.0.0.1" if name.endswith("Blocks") else "a"
        for field in (name, _negative(name)):
            made = Case(source(f"{{{field}: ['']}}"), f"{SOURCE}.{field}[0]", "empty", source(f"{{{field}: [{good}]}}"))
            found[f"an empty value of {field}"] = made
    for name, good in _IN_OPERATION.items():
        for field in (name, _negative(name)):
            bad, fine = operation(f"{{{field}: ['']}}"), operation(f"{{{field}: [{good}]}}")
            found[f"an empty value of {field}"] = Case(bad, f"{OPERATION}.{field}[0]", "empty", fine)
    for values in ("values", "notValues"):
        bad, fine = (when(f"{{key: source.namespace, {values}: ['{one}']}}") for one in ("", "a"))
        found[f"an empty one of {values}"] = Case(bad, f"{WHEN}.{values}[0]", "empty", fine)
    return found


def _forms() -> dict[str, Case]:
    found = {}
    for field in _BLOCKS:
        bad, fine = (source(f"{{{field}: [{one}]}}") for one in ("1.2.3", "1.2.3.4"))
        found[f"no address in {field}"] = Case(bad, f"{SOURCE}.{field}[0]", "not an IP address", fine)
    for field in ("ports", "notPorts"):
        bad, fine = (operation(f"{{{field}: ['{one}']}}") for one in ("http", "80"))
        found[f"no port in {field}"] = Case(bad, f"{OPERATION}.{field}[0]", "is not a port", fine)
    for field in ("paths", "notPaths"):
        bad, fine = (operation(f"{{{field}: ['{one}']}}") for one in ("/{x=*}/{*}", "/{*}"))
        found[f"no template in {field}"] = Case(bad, f"{OPERATION}.{field}[0]", "braces may only", fine)
    for key in ("source.ip", "remote.ip", "destination.ip", "destination.port"):
        for values in ("values", "notValues"):
            good = "'80'" if key.endswith("port") else "'::1'"
            bad, fine = (when(f"{{key: {key}, {values}: [{one}]}}") for one in ("a", good))
            found[f"a wrong one of {values} of {key}"] = Case(bad, f"{WHEN}.{values}[0]", "is not a", fine)
    for key in ("destination.name", "destination.user", "destination.labels[version]"):
        fine = when("{key: destination.ip, values: ['::1']}")
        found[f"the condition {key}"] = Case(
            when(f"{{key: '{key}', values: [a]}}"), f"{WHEN}.key", "use spec.selector", fine
        )
    for key in ("request.headers", "request.auth.claims", "experimental.envoy.filters.f"):
        bad, fine = (when(f"{{key: '{one}', values: [a]}}") for one in (key, f"{key}[a]"))
        found[f"{key} without brackets"] = Case(bad, f"{WHEN}.key", "in brackets", fine)
    return found


def _before_identities() -> dict[str, Case]:
    found = {}
    for field in (*_UNKNOWN_YET, *map(_negative, _UNKNOWN_YET)):
        bad = custom(f"{{from: [{{source: {{{field}: [a]}}}}]}}")
        found[f"CUSTOM looks at {field}"] = Case(bad, f"{SOURCE}.{field}", "before identities", custom("{}"))
    for key in _KEYS_UNKNOWN_YET:
        bad = custom(f"{{when: [{{key: '{key}', values: [a]}}]}}")
        found[f"CUSTOM looks at {key}"] = Case(bad, f"{WHEN}.key", "before identities", custom("{}"))
    return found


CASES |= {
    **_empty_values(),
    **_forms(),
    **_before_identities(),
    "a null item of to": Case(
        authorization("{rules: [{to: [null]}]}"), "spec.rules[0].to[0]", "found nothing", operation("{hosts: [a]}")
    ),
    "an item of to with a null operation": Case(
        authorization("{rules: [{to: [{operation: null}]}]}"),
        "spec.rules[0].to[0]",
        "has no operation",
        operation("{hosts: [a]}"),
    ),
    "a null condition of CUSTOM": Case(custom("{when: [null]}"), WHEN, "found nothing", custom("{}")),
    "selector with targetRef": Case(
        authorization("{" + _LABELLED + ", targetRef: " + TARGET + "}"),
        "spec.targetRef",
        "only one of",
        authorization("{targetRef: " + TARGET + "}"),
    ),
    "an empty selector with targetRefs": Case(
        authorization("{selector: {}, targetRefs: [" + TARGET + "]}"),
        "spec.targetRefs",
        "only one of",
        authorization("{targetRefs: [" + TARGET + "]}"),
    ),
    "a targetRef without a name": Case(
        authorization("{targetRef: {kind: Service}}"),
        "spec.targetRef",
        "no name",
        authorization("{targetRef: " + TARGET + "}"),
    ),
    "a target of another kind": Case(
        authorization("{targetRefs: [{kind: Pod, name: a}]}"),
        "spec.targetRefs[0]",
        "cannot be a target",
        authorization("{targetRefs: [{kind: Service, name: a}]}"),
    ),
    "a RequestAuthentication's selector with targetRefs": Case(
        authorization("{" + _LABELLED + ", targetRefs: [" + TARGET + "]}").replace(
            "AuthorizationPolicy", "RequestAuthentication"
        ),
        "spec.targetRefs",
        "only one of",
        authorization("{" + _LABELLED + "}").replace("AuthorizationPolicy", "RequestAuthentication"),
    ),
    "a PeerAuthentication's label with a star": Case(
        peer("{selector: {matchLabels: {a: '*'}}}"),
        "spec.selector.matchLabels.a",
        "has a *",
        peer("{" + _LABELLED + "}"),
    ),
    "a null JWT rule": Case(request("null"), "spec.jwtRules[0]", "found nothing", request("{issuer: a}")),
    "a null header location": Case(
        request("{issuer: a, fromHeaders: [null]}"),
        "spec.jwtRules[0].fromHeaders[0]",
        "found nothing",
        request("{issuer: a, fromHeaders: [{name: b}]}"),
    ),
    "a header location with an empty name": Case(
        request("{issuer: a, fromHeaders: [{name: ''}]}"),
        "spec.jwtRules[0].fromHeaders[0].name",
        "it is empty",
        request("{issuer: a, fromHeaders: [{name: b, prefix: ''}]}"),
    ),
    "a null claim to a header": Case(
        request("{issuer: a, outputClaimToHeaders: [null]}"),
        "spec.jwtRules[0].outputClaimToHeaders[0]",
        "found nothing",
        request("{issuer: a, outputClaimToHeaders: [{header: b, claim: c}]}"),
    ),
    "an empty claim to a header": Case(
        request("{issuer: a, outputClaimToHeaders: [{header: b, claim: ''}]}"),
        "spec.jwtRules[0].outputClaimToHeaders[0].claim",
        "it is empty",
        request("{issuer: a, outputClaimToHeaders: [{header: b, claim: c.d}]}"),
    ),
    "a URL with a port that is none": Case(
        request("{issuer: a, jwksUri: 'https://a:x/'}"),
        "spec.jwtRules[0].jwksUri",
        "is not a URL",
        request("{issuer: a, jwksUri: 'https://a:1/'}"),
    ),
    "a port of mTLS that is too large": Case(
        peer("{" + _LABELLED + ", portLevelMtls: {65536: {mode: STRICT}}}"),
        "spec.portLevelMtls.65536",
        "is not a port",
        peer("{" + _LABELLED + ", portLevelMtls: {65535: {mode: STRICT}}}"),
    ),
    "ports with a selector without labels": Case(
        peer("{selector: {}, portLevelMtls: {80: {mode: STRICT}}}"),
        "spec.portLevelMtls",
        "a selector with labels",
        peer("{" + _LABELLED + ", portLevelMtls: {80: {mode: STRICT}}}"),
    ),
}
