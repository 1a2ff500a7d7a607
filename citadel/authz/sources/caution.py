"""What is not believed without being confirmed: that a mesh loses most of what protects it, or that it opens.

Where no policy applies everything is allowed, so that a volume that was not mounted, or another one in its place, would
open the mesh; and a mistake in one line can do it as well. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from citadel.authz.model import (
    Action,
    AuthorizationPolicy,
    Document,
    MtlsMode,
    PeerAuthentication,
    RequestAuthentication,
)
from citadel.authz.sources.opening import Opening, Openings, Place

_TOLD = 10  # of each sort


def doubt(before: Iterable[Document] | None, after: Iterable[Document], root_namespace: str) -> str:
    """Why the step from `before` (None: there was nothing) to `after` waits for somebody; empty: it does not.

    It waits if
    - there is no AuthorizationPolicy, or more than half of those in force are gone;
    - half or more of the enforced DENY and CUSTOM policies are gone, or of their rules;
    - half or more of the RequestAuthentications, or of the PeerAuthentications that demand mTLS, are gone or do so no
      more, or the one of the whole mesh is;
    - a workload where only what is allowed is let in would let everybody in (or every peer with an identity), but for
      what is excluded;
    - nothing closes any more what a DENY of everything, but for its exceptions, closed.

    A DENY, or a token's rule, that goes on under another name has not gone.
    """
    new = list(after)
    policies = [one for one in new if isinstance(one, AuthorizationPolicy)]
    if before is None:
        return "" if policies else "it has no AuthorizationPolicy at all, and where there is none everything is allowed"
    old = list(before)
    were = [one for one in old if isinstance(one, AuthorizationPolicy)]
    if were and not policies:
        return f"it has no AuthorizationPolicy any more, and {_counted(len(were))} in force"
    doubts = [
        *_names(were, policies),
        *_restrictions(were, policies),
        *_tokens(old, new),
        *_mtls(old, new, root_namespace),
        *_opened(Openings(were, policies, root_namespace), root_namespace),
    ]
    return "; ".join(doubts)


def _names(were: Sequence[AuthorizationPolicy], are: Sequence[AuthorizationPolicy]) -> Iterator[str]:
    lost = {one.name for one in were} - {one.name for one in are}
    if len(lost) * 2 > len(were):
        yield f"of the {len(were)} policies in force {len(lost)} are not in it"


def _restrictions(were: Sequence[AuthorizationPolicy], are: Sequence[AuthorizationPolicy]) -> Iterator[str]:
    old = [one for one in were if _restricts(one)]
    by_name = {one.name: one for one in are if _restricts(one)}
    meant = {_meaning(one) for one in by_name.values()}
    lost, fewer, rules_lost = [], [], 0
    for one in old:
        now = by_name.get(one.name)
        if _meaning(one) in meant:
            continue
        if now is None or now.action is not one.action:
            lost.append(str(one.name))
            rules_lost += len(one.rules)
        elif len(now.rules) < len(one.rules):
            fewer.append(f"{one.name} has {len(now.rules)} of {len(one.rules)}")
            rules_lost += len(one.rules) - len(now.rules)
    if lost and len(lost) * 2 >= len(old):
        yield _gone(len(old), "DENY and CUSTOM policies in force", lost)
    elif fewer and rules_lost * 2 >= sum(len(one.rules) for one in old):
        yield f"half or more of the rules of DENY and CUSTOM policies are gone: {_some([*lost, *fewer])}"


def _restricts(policy: AuthorizationPolicy) -> bool:
    return policy.action in (Action.DENY, Action.CUSTOM) and not policy.dry_run and bool(policy.rules)


def _meaning(policy: AuthorizationPolicy) -> object:
    return policy.action, policy.provider, Place.of(policy), frozenset(policy.rules)


def _tokens(before: Sequence[Document], after: Sequence[Document]) -> Iterator[str]:
    old, new = (
        [one for one in some if isinstance(one, RequestAuthentication) and one.jwt_rules] for some in (before, after)
    )
    names = {one.name for one in new}
    meant = {_verified(one) for one in new}
    lost = [str(one.name) for one in old if one.name not in names and _verified(one) not in meant]
    if lost and len(lost) * 2 >= len(old):
        yield _gone(len(old), "RequestAuthentications in force", lost)


def _verified(one: RequestAuthentication) -> object:
    return one.name.namespace, one.selector, one.target_refs, one.jwt_rules


def _mtls(before: Sequence[Document], after: Sequence[Document], root: str) -> Iterator[str]:
    old, new = (
        [one for one in some if isinstance(one, PeerAuthentication) and _is_strict(one)] for some in (before, after)
    )
    names, places = {one.name for one in new}, {(one.name.namespace, one.selector) for one in new}
    lost = [one for one in old if one.name not in names and (one.name.namespace, one.selector) not in places]
    if not lost:
        return
    whole = [str(one.name) for one in lost if _is_of_mesh(one, root)]
    if whole and not any(_is_of_mesh(one, root) for one in new):
        yield f"mTLS is not demanded in the whole mesh any more, as {_some(whole)} did"
    elif len(lost) * 2 >= len(old):
        yield _gone(len(old), "PeerAuthentications that demand mTLS", [str(one.name) for one in lost])


def _is_strict(one: PeerAuthentication) -> bool:
    return MtlsMode.STRICT in (one.mtls, *dict(one.port_level_mtls).values())


def _is_of_mesh(one: PeerAuthentication, root: str) -> bool:
    selects = one.selector is not None and one.selector.match_labels
    return one.name.namespace == root and not selects and one.mtls is MtlsMode.STRICT


def _opened(openings: Openings, root: str) -> Iterator[str]:
    if opened := list(openings.of_allows()):
        yield f"where only what is allowed was let in, everybody would be: {_places(opened, root)}"
    if unclosed := list(openings.of_denials()):
        yield f"what a DENY closed would be closed no more: {_places(unclosed, root)}"


def _places(opened: Sequence[Opening], root: str) -> str:
    return _some([f"{one.place.said(root)} ({one.why})" for one in opened])


def _gone(of: int, what: str, names: Sequence[str]) -> str:
    return f"of the {of} {what} {len(names)} {'does' if len(names) == 1 else 'do'} so no more: {_some(names)}"


def _some(texts: Sequence[str]) -> str:
    more = len(texts) - _TOLD
    return ", ".join(texts[:_TOLD]) + (f" and {more} more" if more > 0 else "")


def _counted(number: int) -> str:
    return "1 is" if number == 1 else f"{number} are"
