"""What a set of policies looks at, that who asks must know before: labels, headers, tokens. Worked out once per set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from citadel.authz.model import Attribute, AuthorizationPolicy, Document, RequestAuthentication


@dataclass(frozen=True, slots=True)
class Looks:
    """Names are in lower case where case does not count."""

    selector_keys: frozenset[str]
    """Labels that some document selects workloads by."""
    headers: frozenset[str]
    """Headers that conditions compare, or that tokens are looked for in."""
    authentications: tuple[RequestAuthentication, ...]

    @classmethod
    def of(cls, documents: Iterable[Document]) -> Looks:
        keys: set[str] = set()
        headers: set[str] = set()
        authentications = []
        for document in documents:
            if document.selector is not None:
                keys.update(name for name, _ in document.selector.match_labels)
            if isinstance(document, RequestAuthentication):
                authentications.append(document)
                headers.update(_token_headers(document))
            elif isinstance(document, AuthorizationPolicy):
                for rule in document.rules:
                    for one in rule.conditions:
                        if one.key.attribute is Attribute.REQUEST_HEADERS:
                            headers.add(one.key.path[0].lower())
        return cls(frozenset(keys), frozenset(headers), tuple(authentications))


def _token_headers(document: RequestAuthentication) -> Iterable[str]:
    for rule in document.jwt_rules:
        yield from (location.name.lower() for location in rule.from_headers)
        if rule.from_cookies:
            yield "cookie"
