"""What SPIRE's services have in common: masks, filters, pages, and a status for each item of a batch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NoReturn, TypeVar

import grpc

from citadel.api.proto.spire.api.types import status_pb2
from citadel.errors import CitadelError, InvalidInput
from citadel.registry.ports import Match
from citadel.registry.selectors import Selector
from citadel.spiffe import TrustDomain

MOST_ITEMS = 10_000  # in one batch, and on one page
_T = TypeVar("_T")
_R = TypeVar("_R")


async def missing(context: Any, what: str) -> NoReturn:
    """End the call: `what` is a sentence on what is not there."""
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, what)
    raise AssertionError("abort raises")


def page_size(asked: int) -> int:
    """SPIRE gives everything to whoever asks for no size; so do we, up to a bound."""
    if asked < 0:
        raise InvalidInput(f"a page of {asked} is not possible")
    return min(asked or MOST_ITEMS, MOST_ITEMS)


def selector_match(message: Any) -> tuple[frozenset[Selector], Match]:
    """Raises BadSelector, InvalidInput."""
    given = frozenset(Selector.of(s.type, s.value) for s in message.selectors)
    if not given:
        raise InvalidInput("the selectors to filter by are empty")
    return given, _match(message.match)


def domain_match(message: Any) -> tuple[frozenset[TrustDomain], Match]:
    """Raises BadSpiffeId, InvalidInput."""
    given = frozenset(map(TrustDomain.parse, message.trust_domains))
    if not given:
        raise InvalidInput("the trust domains to filter by are empty")
    return given, _match(message.match)


def _match(value: int) -> Match:
    try:
        return Match(value)
    except ValueError:
        raise InvalidInput(f"there is no match behaviour {value}") from None


def status_of(error: CitadelError) -> status_pb2.Status:
    return status_pb2.Status(code=int(error.code), message=error.sentence())


def refuse_too_many(items: Sequence[Any]) -> None:
    if len(items) > MOST_ITEMS:
        raise InvalidInput(f"{len(items)} items in one call are too many; at most {MOST_ITEMS}")


async def each(items: Iterable[_T], work: Callable[[_T], Awaitable[_R]]) -> list[tuple[status_pb2.Status, _R | None]]:
    """Work on each item by itself, as SPIRE does: a status each, and the result of those that went well."""
    results: list[tuple[status_pb2.Status, _R | None]] = []
    for item in items:
        try:
            results.append((status_pb2.Status(), await work(item)))
        except CitadelError as error:
            results.append((status_of(error), None))
    return results


async def all_or_each(
    items: Sequence[_T],
    all_at_once: Callable[[Sequence[_T]], Awaitable[Sequence[_R]]],
    work: Callable[[_T], Awaitable[_R]],
) -> list[tuple[status_pb2.Status, _R | None]]:
    """As `each`; but first all items in one transaction, which is a thousand times cheaper and mostly goes well."""
    refuse_too_many(items)
    if len(items) > 1:
        try:
            return [(status_pb2.Status(), result) for result in await all_at_once(items)]
        except CitadelError:
            pass  # nothing was done; now one by one, to tell which
    return await each(items, work)
