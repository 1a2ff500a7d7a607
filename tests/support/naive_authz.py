"""Authorization as the specification words it: no classes, no index, no shared code; patterns over raw dicts.

The reference that the engine is compared with. Policies are documents as YAML gives them (valid ones); requests,
workloads and the mesh are plain dicts too. Slow on purpose, and written so that each line can be held against a line of
the specification (Istio's AuthorizationPolicy and its conditions, and what Envoy makes of them).
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

Doc = dict[str, Any]
HTTP_OPERATION_FIELDS = {"hosts", "notHosts", "methods", "notMethods", "paths", "notPaths"}
HTTP_SOURCE_FIELDS = {"requestPrincipals", "notRequestPrincipals"}


# --- the decision


def decide(policies: list[Doc], mesh: Doc, workload: Doc, request: Doc, answers: dict[str, str]) -> Doc:
    """What happens: outcome, reason, policy and rule; or `ask`, the provider without whose answer nothing is said."""
    if request["http"] is not None and normal_path(request, mesh) is None:
        return {"outcome": "deny", "reason": "bad-path"}
    applying = sorted((p for p in policies if applies(p, mesh, workload)), key=full_name)
    enforced = [p for p in applying if not is_dry_run(p)]
    dry = [p for p in applying if is_dry_run(p)]

    def hits(among: list[Doc], action: str) -> list[tuple[str, int]]:
        return [
            (full_name(p), number)
            for p in among
            if action_of(p) == action
            for number, rule in enumerate(p["spec"].get("rules") or [])
            if rule_matches(rule, action, p, mesh, request)
        ]

    custom = ask_providers(enforced, hits(enforced, "CUSTOM"), mesh, request, answers)
    if custom is not None:
        return custom
    audited, denied, allowed = (hits(enforced, action) for action in ("AUDIT", "DENY", "ALLOW"))
    dry_denied, dry_allowed = hits(dry, "DENY"), hits(dry, "ALLOW")
    has_allow = any(action_of(p) == "ALLOW" for p in enforced)
    has_dry_allow = any(action_of(p) == "ALLOW" for p in dry)
    found: Doc = {"audited": audited, "dry_run": dry_denied + dry_allowed}
    if denied:
        found |= {"outcome": "deny", "reason": "denied-by-policy", "by": denied[0]}
    elif not has_allow:
        found |= {"outcome": "allow", "reason": "no-allow-policy"}
    elif allowed:
        found |= {"outcome": "allow", "reason": "allowed-by-policy", "by": allowed[0]}
    else:
        found |= {"outcome": "deny", "reason": "no-allow-matched"}
    if dry:
        if denied or dry_denied:
            found["would"] = "deny"
        elif has_allow or has_dry_allow:
            found["would"] = "allow" if allowed or dry_allowed else "deny"
        else:
            found["would"] = "allow"
    return found


def ask_providers(
    enforced: list[Doc], hits: list[tuple[str, int]], mesh: Doc, request: Doc, answers: dict[str, str]
) -> Doc | None:
    if not hits:
        return None
    provider_of = {full_name(p): p["spec"]["provider"]["name"] for p in enforced if action_of(p) == "CUSTOM"}
    if len(set(provider_of.values())) > 1 and not mesh["several_providers"]:
        return {"outcome": "deny", "reason": "several-providers", "by": hits[0]}
    for name in sorted({provider_of[policy] for policy, _ in hits}):
        by = next(hit for hit in hits if provider_of[hit[0]] == name)
        if name not in mesh["providers"]:
            return {"outcome": "deny", "reason": "provider-unknown", "by": by}
        if request["http"] is None and mesh["providers"][name] == "http":
            continue
        if name not in answers:
            return {"ask": name, "by": by}
        if answers[name] == "deny":
            return {"outcome": "deny", "reason": "denied-by-provider", "by": by}
        if answers[name] == "failed":
            return {"outcome": "deny", "reason": "provider-failed", "by": by}
    return None


# --- which policies apply


def applies(policy: Doc, mesh: Doc, workload: Doc) -> bool:
    namespace = policy["metadata"]["namespace"]
    targets = policy["spec"].get("targetRefs") or []
    kind = workload["kind"]
    if targets:
        return any(target_fits(target, namespace, mesh, workload) for target in targets)
    if kind == "waypoint":
        return False
    if namespace not in (mesh["root"], workload["namespace"]):
        return False
    wanted = (policy["spec"].get("selector") or {}).get("matchLabels") or {}
    return set(wanted.items()) <= set(workload["labels"].items())


def target_fits(target: Doc, namespace: str, mesh: Doc, workload: Doc) -> bool:
    kind, name = target["kind"], target["name"]
    if kind == "Gateway":
        at_home = namespace == workload["namespace"]
        return workload["kind"] in ("gateway", "waypoint") and at_home and name == workload["gateway"]
    if workload["kind"] != "waypoint":
        return False
    if kind == "GatewayClass":
        return bool(namespace == mesh["root"] and name == "istio-waypoint")
    return [namespace, name, kind] in workload["services"]


def full_name(policy: Doc) -> str:
    # NUL sorts before everything that a name may have
    return "\0".join((policy["metadata"]["namespace"], policy["metadata"]["name"]))


def action_of(policy: Doc) -> str:
    return str(policy["spec"].get("action", "ALLOW"))


def is_dry_run(policy: Doc) -> bool:
    return bool((policy["metadata"].get("annotations") or {}).get("istio.io/dry-run") == "true")


# --- rules


def rule_matches(rule: Doc, action: str, policy: Doc, mesh: Doc, request: Doc) -> bool:
    sources = [entry["source"] for entry in rule.get("from") or []]
    operations = [entry["operation"] for entry in rule.get("to") or []]
    whens = rule.get("when") or []
    if request["http"] is None:
        uses_http = (
            any(HTTP_SOURCE_FIELDS & set(source) for source in sources)
            or any(HTTP_OPERATION_FIELDS & set(operation) for operation in operations)
            or any(when["key"].startswith("request.") for when in whens)
        )
        if uses_http and action == "ALLOW":
            return False
        sources = [{k: v for k, v in source.items() if k not in HTTP_SOURCE_FIELDS} for source in sources]
        operations = [{k: v for k, v in op.items() if k not in HTTP_OPERATION_FIELDS} for op in operations]
        whens = [when for when in whens if not when["key"].startswith("request.")]
    return (
        (not sources or any(fields_match(source, SOURCE_KEYS, policy, mesh, request) for source in sources))
        and (not operations or any(fields_match(op, OPERATION_KEYS, policy, mesh, request) for op in operations))
        and all(when_matches(when, policy, mesh, request) for when in whens)
    )


SOURCE_KEYS = {
    "principals": "source.principal",
    "requestPrincipals": "request.auth.principal",
    "namespaces": "source.namespace",
    "serviceAccounts": "source.serviceAccount",
    "trustDomains": "source.trustDomain",
    "ipBlocks": "source.ip",
    "remoteIpBlocks": "remote.ip",
}
OPERATION_KEYS = {"hosts": "hosts", "methods": "methods", "paths": "paths", "ports": "destination.port"}


def fields_match(fields: Doc, keys: dict[str, str], policy: Doc, mesh: Doc, request: Doc) -> bool:
    for name, values in fields.items():
        positive = name[3].lower() + name[4:] if name.startswith("not") else name
        matched = any(value_matches(keys[positive], value, policy, mesh, request) for value in values)
        if not counts(keys[positive], name.startswith("not"), matched, policy, request):
            return False
    return True


def when_matches(when: Doc, policy: Doc, mesh: Doc, request: Doc) -> bool:
    def any_of(values: list[str]) -> bool:
        return any(value_matches(when["key"], value, policy, mesh, request) for value in values)

    return all(
        counts(when["key"], negative, any_of(when[name]), policy, request)
        for name, negative in (("values", False), ("notValues", True))
        if when.get(name)
    )


PEER_KEYS = {"source.principal", "source.namespace", "source.serviceAccount", "source.trustDomain"}


def counts(key: str, negative: bool, matched: bool, policy: Doc, request: Doc) -> bool:
    """Whether a field is met. What an identity of an unknown trust domain says is believed only to its harm."""
    if request.get("peer_unknown") and request["peer"] is not None and key in PEER_KEYS:
        if action_of(policy) == "ALLOW":
            return negative and not matched  # it is nobody's name; but one that is excluded stays so
        return matched or negative  # it is taken by its name; and no exception is made for it
    return matched != negative


# --- one value of one field


def value_matches(key: str, value: str, policy: Doc, mesh: Doc, request: Doc) -> bool:
    peer, http = request["peer"], request["http"]
    if key == "source.principal":
        return peer is not None and any(
            like(peer.removeprefix("spiffe://"), expanded) for expanded in expand_principal(value, mesh)
        )
    if key == "source.namespace":
        pattern = "/ns/" + ".*".join(map(re.escape, value.split("*"))) + "/"
        return peer is not None and re.search(pattern, path_of(peer)) is not None
    if key == "source.serviceAccount":
        namespace, account = value.split("/") if "/" in value else (policy["metadata"]["namespace"], value)
        pattern = f"/ns/{re.escape(namespace)}/(.+/)?sa/{re.escape(account)}(/|$)"
        return peer is not None and re.search(pattern, path_of(peer)) is not None
    if key == "source.trustDomain":
        if peer is None or value == "*":
            return peer is not None
        ours = [mesh["trust_domain"], *mesh["aliases"]]
        wanted = ours if value in ours else [value]
        return any(
            re.match("spiffe://" + "[^/]*".join(map(re.escape, one.split("*", 1))) + "/", peer) for one in wanted
        )
    if key in ("source.ip", "remote.ip", "destination.ip"):
        return in_network(request[key.replace(".", "_")], value)
    if key in ("destination.port", "ports"):
        return request["port"] is not None and request["port"] == int(value)
    if key == "connection.sni":
        return like(re.sub("[A-Z]", lambda m: m[0].lower(), request["sni"]), value)
    if key.startswith("experimental."):
        return metadata_matches(key, value, request)
    return http is not None and http_value_matches(key, value, mesh, request)


def http_value_matches(key: str, value: str, mesh: Doc, request: Doc) -> bool:
    http = request["http"]
    claims = http["jwt"] if http["jwt"] is not None else {}
    if key == "hosts":
        return http["authority"] is not None and like(http["authority"], value, empty=True, flags=re.I | re.A)
    if key == "methods":
        return like(http["method"], value, empty=True)
    if key == "paths":
        if http["path"] == "":
            return False
        path = (normal_path(request, mesh) or "").split("?")[0]
        if "{*}" in value or "{**}" in value:
            parts = {"{*}": "[^/]+", "{**}": ".*"}
            return re.fullmatch("/".join(parts.get(s, re.escape(s)) for s in value.split("/")), path, re.S) is not None
        return like(path, value)
    if key == "request.auth.principal":
        iss, sub = claims.get("iss"), claims.get("sub")
        return isinstance(iss, str) and isinstance(sub, str) and request_principal_matches(iss, sub, value)
    if key == "request.auth.audiences":
        return any(like(text, value) for text in claim_texts(claims, ["aud"], mesh))
    if key == "request.auth.presenter":
        return any(like(text, value) for text in claim_texts(claims, ["azp"], mesh))
    if key.startswith("request.auth.claims"):
        names = re.findall(r"\[([^]]*)\]", key)
        return any(like(text, value) for text in claim_texts(claims, names, mesh))
    name = key[len("request.headers[") : -1].lower()
    return any(like(text, value, empty=True) for text in header_values(name, mesh, request))


def header_values(name: str, mesh: Doc, request: Doc) -> list[str]:
    http = request["http"]
    if name == ":path":
        return [] if http["path"] == "" else [normal_path(request, mesh) or ""]
    if name == ":method":
        return [http["method"]]
    if name in (":authority", "host"):
        return [] if http["authority"] is None else [http["authority"]]
    values = list(http["headers"].get(name, []))
    # one of those that Envoy joins, leaving out what is empty
    return [",".join(value for value in values if value)] if values and name == "accept" else values


def like(text: str, pattern: str, *, empty: bool = False, flags: int = 0) -> bool:
    """Exact, `abc*`, `*abc`, `*`; the last also for the empty text if `empty`."""
    if pattern == "*":
        return text != "" or empty
    if pattern.startswith("*"):
        regex = ".*" + re.escape(pattern[1:])
    elif pattern.endswith("*"):
        regex = re.escape(pattern[:-1]) + ".*"
    else:
        regex = re.escape(pattern)
    return re.fullmatch(regex, text, flags | re.S) is not None


def request_principal_matches(iss: str, sub: str, value: str) -> bool:
    head, slash, tail = value.rpartition("/")
    if value == "*":
        return iss != "" and sub != ""
    if value.startswith("*") and slash:  # `*x/s`: iss suffix, sub exact
        return iss != "" and iss.endswith(head[1:]) and sub == tail
    if value.startswith("*"):  # `*x`: sub suffix, any iss
        return iss != "" and sub.endswith(value[1:])
    if value.endswith("*") and slash:  # `i/s*`: iss exact, sub prefix
        return iss == head and sub.startswith(tail[:-1]) and sub != ("" if tail == "*" else None)
    if value.endswith("*"):  # `i*`: iss prefix, any sub
        return iss.startswith(value[:-1]) and sub != ""
    if slash:
        return (iss, sub) == (head, tail)
    return iss == value and sub == ""


def claim_texts(claims: Any, names: list[str], mesh: Doc) -> list[str]:
    found = claims
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    if isinstance(found, str):
        return re.findall("[^ ]+", found) if len(names) == 1 and names[0] in mesh["space_delimited"] else [found]
    return [item for item in found if isinstance(item, str)] if isinstance(found, list) else []


def metadata_matches(key: str, value: str, request: Doc) -> bool:
    filter_name, _, rest = key.removeprefix("experimental.").partition("[")
    found = request["metadata"].get(filter_name, {}).get(rest[:-1])
    if value.startswith("[") and value.endswith("]"):
        return isinstance(found, list) and any(isinstance(i, str) and like(i, value.strip("[]")) for i in found)
    return isinstance(found, str) and like(found, value)


def in_network(address: str | None, network: str) -> bool:
    if address is None:
        return False
    ip: Any = ipaddress.ip_address(address)
    if ip.version == 6 and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return ip in ipaddress.ip_network(network, strict=False)


def path_of(peer: str) -> str:
    return re.sub("^spiffe://[^/]*", "", peer)


def expand_principal(value: str, mesh: Doc) -> list[str]:
    """Five parts, and a trust domain that is (or, with a star, could be) ours: one principal per domain of ours."""
    found = re.fullmatch("([^/]*)((?:/[^/]*){4})", value)
    ours = [mesh["trust_domain"], *mesh["aliases"]]
    if found is None or found[1] == "*":
        return [value]
    domain, rest = found[1], found[2]
    if domain != "cluster.local" and not any(like(one, domain) for one in ours):
        return [value]
    return [value if domain.startswith("*") and one.endswith(domain[1:]) else one + rest for one in ours]


# --- paths


def normal_path(request: Doc, mesh: Doc) -> str | None:
    """The path as filters see it; None where the request is refused."""
    raw, mode = request["http"]["path"], mesh["normalization"]
    if raw in ("", "*"):
        return str(raw)
    if not raw.startswith("/") or re.search("[\0-\x20\x7f#]", raw):
        return None
    if mode == "NONE":
        return str(raw)
    path, question, query = re.fullmatch(r"([^?]*)(\??)(.*)", raw, re.S).groups()  # type: ignore[union-attr]
    dots = r"/(\.\.?);[^/]*"
    if request["http"].get("seen") and re.search(dots, path):
        return None
    if mode == "DECODE_AND_MERGE_SLASHES":
        path = re.sub("%5c", r"\\", re.sub("%2f", "/", path, flags=re.I), flags=re.I)
    path = re.sub(dots, r"/\1", path).replace("\\", "/")
    path = decode_unreserved(path)
    if path is None:
        return None
    path = resolve_dots(path)
    if mode != "BASE":
        path = "//" if re.fullmatch("//+", path) else re.sub("/+", "/", path)
    if re.search(r"/\.\.?;", path):
        return None
    return path + question + query


def decode_unreserved(path: str) -> Any:
    """Escapes of unreserved characters decoded, what a URL may not have encoded; None if there is a NUL."""
    tokens = re.findall("%[0-9a-fA-F]{2}|.", path, re.S)
    if "%00" in tokens:
        return None
    decoded = [bytes.fromhex(t[1:]).decode("latin-1") if len(t) == 3 else t for t in tokens]
    out = [d if re.fullmatch("[A-Za-z0-9._~-]", d) else t for d, t in zip(decoded, tokens, strict=True)]
    for at, token in enumerate(out):
        # a percent sign that starts no escape must not start one now: it is encoded itself
        if token == "%" and re.fullmatch("[0-9a-fA-F]{2}", "".join(out[at + 1 : at + 3])) and len(out[at + 1]) == 1:
            out[at] = "%25"
    return re.sub(
        '["<>^`{|}\x80-\U0010ffff]',
        lambda m: "".join(f"%{byte:02X}" for byte in m[0].encode("utf-8", "surrogateescape")),
        "".join(out),
    )


def resolve_dots(path: str) -> str:
    """As RFC 3986, 5.2.4, but by one segment at a time."""
    while found := re.search(r"/\.(/|$)", path):
        path = path[: found.start()] + "/" + path[found.end() :]
    while found := re.search(r"(/[^/]*)?/\.\.(/|$)", path):
        path = path[: found.start()] + "/" + path[found.end() :]
    return path
