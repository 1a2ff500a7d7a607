"""Questions of AuthZEN as requests for the engine: the mapping that docs/authzen.md states. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from citadel.authz.asking import AskedWorkload
from citadel.authz.doors.authzen.messages import Action, Resource, Subject, parsed
from citadel.authz.entities.directory import EntityDirectory
from citadel.authz.request import HttpRequest, Request, Workload, known_or_unknown
from citadel.errors import BadSpiffeId, InvalidInput
from citadel.spiffe import SCHEME, SpiffeId, TrustDomain

WORKLOAD = "workload"
"""The property of a resource that says whose policies are asked."""
TOKEN = "jwt"  # noqa: S105 (a name)
"""The property of a subject that holds its raw token."""
FILTER = "envoy.filters.authzen."
"""Properties and context are metadata of these filters: `experimental.envoy.filters.authzen.resource[owner]`."""
_IDENTITY = ("iss", "sub")


@dataclass(frozen=True, slots=True)
class NamedWorkload:
    """A workload by the SPIFFE ID that it is registered as."""

    name: SpiffeId


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, ready to be decided."""

    request: Request
    workload: Workload | NamedWorkload
    token: str | None
    """The end user's raw token, which is in the request's Authorization too; then no claims are stated."""
    user: tuple[str, str]
    """Issuer and subject of an end user; of a workload, two empty texts."""


def asked(
    subject: Subject,
    action: Action,
    resource: Resource,
    context: Mapping[str, Any],
    *,
    directory: EntityDirectory,
    trust_domains: frozenset[TrustDomain],
    states_claims: bool,
    default_workload: NamedWorkload | None,
) -> Asked:
    """The request that this question is.

    `states_claims`: the properties of the subject count, as its claims. `trust_domains`: whose identities count.
    Raises InvalidInput: a SPIFFE ID that is none, no workload, a workload that is none.
    """
    stated = dict(subject.properties or {})
    token = stated.pop(TOKEN, None)
    if token is not None and not isinstance(token, str):
        raise InvalidInput(f"subject.properties.{TOKEN}: expected a JWT in compact form, as text")
    known = directory.properties(subject.type, subject.id)
    claims = {**known, **(stated if states_claims else {})}
    for name in _IDENTITY:
        claims.pop(name, None)
    peer = unknown = None
    user = ("", "")
    if subject.id.strip()[: len(SCHEME)].lower() == SCHEME:  # `SPIFFE://…` is no SPIFFE ID, and no end user either
        peer, unknown = known_or_unknown(_peer(subject.id), trust_domains)
    else:
        user = (subject.type, subject.id)
        claims |= dict(zip(_IDENTITY, user, strict=True))
    of_resource = {**directory.properties(resource.type, resource.id), **(resource.properties or {})}
    workload = _workload(of_resource.pop(WORKLOAD, None)) or default_workload
    if workload is None:
        raise InvalidInput(
            f"resource.properties.{WORKLOAD}: it must say whose policies are asked, since no workload is configured "
            "(authorization.authzen.workload)"
        )
    metadata = {
        f"{FILTER}action": _texts({**directory.action_properties(action.name), **(action.properties or {})}),
        f"{FILTER}resource": _texts(of_resource),
        f"{FILTER}context": _texts(context),
    }
    headers = {} if token is None else {"authorization": (f"Bearer {token}",)}
    http = HttpRequest(
        action.name,
        path_of(resource.type, resource.id),
        headers=headers,
        jwt=claims if claims and token is None else None,
        path_verbatim=True,
    )
    request = Request(None, peer, http=http, metadata=metadata, unknown_peer=unknown)
    return Asked(request, workload, token, user)


def _texts(properties: Mapping[str, Any]) -> dict[str, Any]:
    """With booleans and numbers as JSON writes them, alone and in lists: policies compare texts alone, and a DENY on
    `true` is meant for `true` too."""
    return {name: [*map(_text, one)] if isinstance(one, list) else _text(one) for name, one in properties.items()}


def _text(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 1.0 is 1 to JSON
    return json.dumps(value) if isinstance(value, bool | int | float) else value


def path_of(kind: str, name: str) -> str:
    """`/type/id` as policies match it."""
    return f"/{quote(kind, safe='')}/{quote(name, safe='')}"


def _peer(text: str) -> SpiffeId:
    try:
        return SpiffeId.parse(text)
    except BadSpiffeId as error:
        raise InvalidInput(f"subject.id: {error.message}") from None


def _workload(stated: Any) -> Workload | NamedWorkload | None:
    if stated is None:
        return None
    place = f"resource.properties.{WORKLOAD}"
    if isinstance(stated, str):
        try:
            return NamedWorkload(SpiffeId.parse(stated))
        except BadSpiffeId as error:
            raise InvalidInput(f"{place}: {error.message}") from None
    if not isinstance(stated, dict):
        raise InvalidInput(f"{place}: expected a SPIFFE ID, or an object with namespace and labels")
    try:
        return parsed(AskedWorkload, stated).value()
    except InvalidInput as error:
        raise InvalidInput(f"{place}: {error.message}") from None
