"""Headers that were perhaps several, joined by commas: in every way in which they can have been sent. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, islice, pairwise, product

from citadel.authz.headers import JOINED_HEADERS

MAX_READINGS = 64


class BadAttributes(Exception):
    """A check that is no question: it lacks what each has, or contradicts itself. The message is for the log."""


def readings(headers: Mapping[str, tuple[str, ...]], names: frozenset[str]) -> Iterator[Mapping[str, tuple[str, ...]]]:
    """The headers in every way in which they can have been sent, as far as policies look at them (`names`).

    Raises BadAttributes if there are too many ways."""
    if names.isdisjoint(headers):
        yield headers
        return
    unclear = {
        name: list(islice(_ways(values), MAX_READINGS + 1))
        for name, values in headers.items()
        if name in names and name not in JOINED_HEADERS and any("," in value for value in values)
    }
    if not unclear:
        yield headers
        return
    count = 1
    for ways in unclear.values():
        count *= len(ways)
    if count > MAX_READINGS:
        raise BadAttributes(
            f"{', '.join(sorted(unclear))}: joined by Envoy, and to be read in more than {MAX_READINGS} ways; "
            "set encode_raw_headers in the ext_authz filter"
        )
    for chosen in product(*unclear.values()):
        yield {**headers, **dict(zip(unclear, chosen, strict=True))}


def _ways(values: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for chosen in product(*(list(islice(_groupings(value), MAX_READINGS + 1)) for value in values)):
        yield tuple(chain.from_iterable(chosen))


def _groupings(value: str) -> Iterator[tuple[str, ...]]:
    """`a,b` is one value or two. A comma beside a space is never one that Envoy put there: it trims values."""
    pieces = value.split(",")
    joints = [not (before.endswith((" ", "\t")) or after.startswith((" ", "\t"))) for before, after in pairwise(pieces)]
    if sum(joints) >= MAX_READINGS.bit_length():  # more ways than are looked at
        yield from ((value,),) * (MAX_READINGS + 1)
        return
    for cuts in product(*((False, True) if joint else (False,) for joint in joints)):
        values = [pieces[0]]
        for cut, piece in zip(cuts, pieces[1:], strict=True):
            if cut:
                values.append(piece)
            else:
                values[-1] += f",{piece}"
        yield tuple(values)
