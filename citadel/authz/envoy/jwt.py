"""RequestAuthentication as Envoy's jwt_authn filter: a missing token passes, a bad one is a 401.

Source: envoy.extensions.filters.http.jwt_authn.v3. What a verified token says is left in the filter's dynamic metadata
under `payload`, where the RBAC filters look for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from urllib.parse import urlsplit

from envoy.config.core.v3.base_pb2 import RetryPolicy
from envoy.extensions.filters.http.jwt_authn.v3.config_pb2 import (
    JwksAsyncFetch,
    JwtAuthentication,
    JwtProvider,
    JwtRequirement,
    RemoteJwks,
    RequirementRule,
)

from citadel.authz.envoy.clusters import Cluster
from citadel.authz.envoy.criteria import JWT_PAYLOAD
from citadel.authz.envoy.jwks import usable
from citadel.authz.envoy.strings import CannotCompile, checked, header_name, host_name, plain
from citadel.authz.facts import MeshFacts
from citadel.authz.model import JwtRule

CLOCK_SKEW = timedelta(seconds=30)
FETCH_TIMEOUT = timedelta(seconds=5)
CACHE = timedelta(minutes=5)
REFETCH = timedelta(seconds=5)
"""After a fetch that failed; the copy that was good stays in use meanwhile."""


def jwt_authn(
    jwt_rules: Sequence[JwtRule], facts: MeshFacts, discovered: Mapping[str, str]
) -> tuple[JwtAuthentication, frozenset[Cluster]]:
    """The filter for all rules that apply to a workload, and the clusters that it fetches keys from.

    `discovered` has the `jwks_uri` of issuers whose rules name no keys (OpenID discovery is not a filter's business);
    the tokens of one that is not there are refused. Raises CannotCompile.
    """
    made = JwtAuthentication(bypass_cors_preflight=True)
    clusters: set[Cluster] = set()
    any_of = []
    for number, rule in enumerate(jwt_rules):
        name = f"rule-{number}"
        try:
            made.providers[name].CopyFrom(_provider(rule, facts, discovered, clusters))
        except CannotCompile as error:
            raise CannotCompile(f"RequestAuthentication, issuer {rule.issuer[:60]!r}: {error.message}") from None
        any_of.append(JwtRequirement(provider_name=name))
    any_of.append(JwtRequirement(allow_missing={}))
    every = RequirementRule(match={"prefix": "/"})
    every.requires.requires_any.requirements.extend(any_of)
    made.rules.append(every)
    return made, frozenset(clusters)


def _provider(rule: JwtRule, facts: MeshFacts, discovered: Mapping[str, str], clusters: set[Cluster]) -> JwtProvider:
    made = JwtProvider(
        issuer=checked(rule.issuer),
        audiences=map(checked, rule.audiences),
        forward=rule.forward_original_token,
        from_params=map(plain, rule.from_params),
        from_cookies=map(plain, rule.from_cookies),
        forward_payload_header=rule.output_payload_to_header and header_name(rule.output_payload_to_header),
        payload_in_metadata=JWT_PAYLOAD,
        clock_skew_seconds=int(CLOCK_SKEW.total_seconds()),
    )
    for location in rule.from_headers:
        made.from_headers.add(name=header_name(location.name), value_prefix=location.prefix and plain(location.prefix))
    for claim in rule.output_claim_to_headers:
        made.claim_to_headers.add(header_name=header_name(claim.header), claim_name=plain(claim.claim))
    split = facts.space_delimited_claims | set(rule.space_delimited_claims)
    made.normalize_payload_in_metadata.space_delimited_claims.extend(sorted(map(plain, split)))
    uri = rule.jwks_uri or ("" if rule.jwks else discovered.get(rule.issuer, ""))
    if uri:
        made.remote_jwks.CopyFrom(_remote(uri, rule.timeout or FETCH_TIMEOUT, clusters))
    else:
        made.local_jwks.inline_string = usable(rule.jwks)
    return made


def _remote(uri: str, timeout: timedelta, clusters: set[Cluster]) -> RemoteJwks:
    try:
        parts = urlsplit(plain(uri))
        tls = parts.scheme == "https"
        host, port = host_name(parts.hostname or ""), parts.port or (443 if tls else 80)
    except ValueError:
        raise CannotCompile(f"{uri[:120]!r} is not a URL") from None
    if parts.scheme not in ("http", "https") or not uri.isascii() or " " in uri:
        raise CannotCompile(f"{uri[:120]!r} is not a URL of http or https")
    cluster = Cluster(f"jwks|{parts.scheme}|{port}|{host}", host, port, tls=tls)
    clusters.add(cluster)
    fetch = JwksAsyncFetch(fast_listener=True, failed_refetch_duration=REFETCH)
    made = RemoteJwks(cache_duration=CACHE, async_fetch=fetch, retry_policy=RetryPolicy(num_retries={"value": 3}))
    made.http_uri.uri, made.http_uri.cluster = uri, cluster.name
    made.http_uri.timeout.FromTimedelta(timeout)
    return made
