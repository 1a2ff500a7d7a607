"""Rules looked at as a whole: those that never match, that open more than they seem to, or that are passed by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from citadel.authz.facts import MeshFacts
from citadel.authz.lint.covers import contradicts
from citadel.authz.lint.fields import Field, Part, parts, rules
from citadel.authz.lint.finding import Strike
from citadel.authz.lint.values import strikes as value_strikes
from citadel.authz.load.result import dotted
from citadel.authz.load.tree import Path
from citadel.authz.model import Action, Attribute, AuthorizationPolicy, Rule
from citadel.authz.rewriting import for_tcp, with_aliases

IDENTITY = frozenset(
    {
        Attribute.SOURCE_PRINCIPAL.value,
        Attribute.SOURCE_NAMESPACE.value,
        Attribute.SOURCE_SERVICE_ACCOUNT.value,
        Attribute.SOURCE_TRUST_DOMAIN.value,
    }
)


def strikes(policy: AuthorizationPolicy, facts: MeshFacts) -> Iterator[Strike]:
    """What there is to say of a policy by itself."""
    for path, rule in rules(policy):
        found = tuple(parts(rule, path))
        for part in found:
            for field in part.fields:
                yield from value_strikes(field, policy.action, facts)
        yield from _never(policy.action, rule, path, facts)
        yield from _any_domain(policy.action, found, facts)
        if policy.action is Action.ALLOW:
            yield from _open(found, path)
        else:
            yield from _tcp(policy, rule, path)


def is_token(looks_at: str) -> bool:
    return looks_at.startswith("request.auth.")


def _never(action: Action, rule: Rule, path: Path, facts: MeshFacts) -> Iterator[Strike]:
    """Parts whose fields, together with the rule's conditions, contradict each other."""
    found = tuple(parts(with_aliases(rule, facts), path))
    conditions = next((part.fields for part in found if part.path == (*path, "when")), ())
    for part in found:
        fields = part.fields if part.fields is conditions else part.fields + conditions
        pair = contradicts(fields)
        if pair is None or (part.fields is not conditions and contradicts(conditions) is not None):
            continue
        field, other = (dotted(one.path[len(path) :]) for one in pair)
        message = f"all of {field} is excluded by {other}."
        if action is not Action.ALLOW and pair[0].http_only:
            message += " (On TCP both are dropped, and the rule matches without them.)"
        yield Strike("never-matches", part.path, message)


def _open(found: Iterable[Part], path: Path) -> Iterator[Strike]:
    if not found:
        yield Strike("allows-everything", path, "everybody may do everything.")
        return
    conditions = [field for part in found if part.path[-1] == "when" for field in part.fields]
    if any(_says_who(field) for field in conditions):
        return
    for part in found:
        if part.path[-1] == "source" and all(field.negated for field in part.fields):
            names = ", ".join(str(field.path[-1]) for field in part.fields)
            yield Strike("allow-by-exclusion", part.path, f"there is only {names}.")


_IN_PATH = (Attribute.SOURCE_NAMESPACE.value, Attribute.SOURCE_SERVICE_ACCOUNT.value)


def _any_domain(action: Action, found: tuple[Part, ...], facts: MeshFacts) -> Iterator[Strike]:
    """Namespaces and service accounts that are let in, whatever trust domain they are of."""
    if action not in (Action.ALLOW, Action.DENY):
        return
    conditions = [field for part in found if part.path[-1] == "when" for field in part.fields]
    for part in found:
        beside = [*part.fields, *(field for field in conditions if field not in part.fields)]
        if action is Action.ALLOW and any(map(_names_domains, beside)):
            continue
        for field in part.fields:
            if field.looks_at in _IN_PATH and field.negated == (action is Action.DENY) and field.values != ("*",):
                says = "excluded" if field.negated else "let in"
                who = f"{', '.join(field.values[:3])}{', …' if len(field.values) > 3 else ''}"
                message = f"{who} of every trust domain is {says}, not only of {facts.trust_domain}."
                yield Strike("namespace-of-any-domain", field.path, message)


def _names_domains(field: Field) -> bool:
    """Whether it leaves only identities of domains that it names."""
    if field.negated:
        return False
    if field.looks_at == Attribute.SOURCE_TRUST_DOMAIN.value:
        return "*" not in field.values
    return field.looks_at == Attribute.SOURCE_PRINCIPAL.value and not any(v.startswith("*") for v in field.values)


def _says_who(field: Field) -> bool:
    return not field.negated and (
        field.looks_at in IDENTITY or is_token(field.looks_at) or field.looks_at == "source.ip"
    )


def _tcp(policy: AuthorizationPolicy, rule: Rule, path: Path) -> Iterator[Strike]:
    if policy.action is Action.ALLOW or not any(True for _ in parts(rule, path)):
        return
    left = for_tcp(rule, policy.action)
    if left is None or left == rule:
        return
    whole = [list(parts(Rule(**{kind: getattr(left, kind)}), ())) for kind in ("sources", "operations", "conditions")]
    if all(not some or any(not part.fields for part in some) for some in whole):
        done = {Action.DENY: "all TCP connections are denied.", Action.AUDIT: "all TCP connections are reported."}
        yield Strike("matches-all-tcp", path, done.get(policy.action, "all TCP connections go to the provider."))
