"""What becomes of a request that is let through: headers set and taken out, parameters taken out. Values only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from citadel.authz.tokens import RequestChanges

Headers = tuple[tuple[str, str], ...]
"""Names in lower case. A name that is there twice is a header with two values."""


@dataclass(frozen=True, slots=True)
class Changes:
    """In this order: `set_headers` replace, `append_headers` are joined to a header that is there and do nothing where
    it is not (so does Envoy 1.40: measured), `remove_headers`, `remove_params`."""

    set_headers: Headers = ()
    append_headers: Headers = ()
    remove_headers: tuple[str, ...] = ()
    remove_params: tuple[str, ...] = ()
    """Query parameters, as they read when decoded."""
    response_headers: Headers = ()
    """For the response that the client gets in the end."""

    @classmethod
    def of_token(cls, changes: RequestChanges) -> Changes:
        """Those of a verified token (or of none): there, headers are taken out before others are written."""
        written = {name for name, _ in changes.add_headers}
        kept = tuple(name for name in changes.remove_headers if name not in written)
        return cls(changes.add_headers, (), kept, changes.remove_params)

    def then(self, later: Changes) -> Changes:
        """These, and after them `later`, as one."""
        if not self:
            return later
        if not later:
            return self
        touched = {name for name, _ in later.set_headers} | set(later.remove_headers)
        gone = set(self.remove_headers)
        return Changes(
            (*(one for one in self.set_headers if one[0] not in touched | gone), *later.set_headers),
            (*(one for one in self.append_headers if one[0] not in touched | gone), *later.append_headers),
            _without((*self.remove_headers, *later.remove_headers), (*later.set_headers, *later.append_headers)),
            (*self.remove_params, *later.remove_params),
            (*self.response_headers, *later.response_headers),
        )

    def applied(self, headers: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        """The request's headers, changed."""
        replaced = {name for name, _ in self.set_headers}
        changed = {name: values for name, values in headers.items() if name not in replaced}
        for name, value in self.set_headers:
            changed[name] = (*changed.get(name, ()), value)
        for name, value in self.append_headers:
            if name in changed:
                first, *others = changed[name]
                changed[name] = (f"{first},{value}", *others)
        for name in self.remove_headers:
            changed.pop(name, None)
        return changed

    def applied_to_path(self, path: str) -> str:
        """The path with its query, without `remove_params`. If one of them was there, the query is what Envoy makes of
        it: decoded, sorted by name, each with an equals sign (measured: tests/interop/test_authz_envoy_jwt.py).
        """
        bare, mark, query = path.partition("?")
        if not mark or not self.remove_params:
            return path
        pieces = query.removesuffix("&").split("&")
        pairs = [(_decoded(name), _decoded(value)) for name, _, value in (piece.partition("=") for piece in pieces)]
        kept = [pair for pair in pairs if pair[0] not in self.remove_params]
        if len(kept) == len(pairs):
            return path
        return bare + "".join(f"{'&' if at else '?'}{n}={v}" for at, (n, v) in enumerate(sorted(kept, key=_name)))

    def __bool__(self) -> bool:
        return bool(
            self.set_headers
            or self.append_headers
            or self.remove_headers
            or self.remove_params
            or self.response_headers
        )


NO_CHANGES = Changes()


def _decoded(text: str) -> str:
    return unquote(text, errors="surrogateescape")


def _name(pair: tuple[str, str]) -> str:
    return pair[0]


def _without(names: Iterable[str], written: Headers) -> tuple[str, ...]:
    kept = dict.fromkeys(names)
    for name, _ in written:
        kept.pop(name, None)
    return tuple(kept)
