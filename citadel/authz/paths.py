"""Request paths in the one form that policies are matched against: what Envoy 1.40's connection manager makes of them.

Istio's four modes set `normalize_path`, `merge_slashes` and `path_with_escaped_slashes_action` (MeshConfig,
ProxyPathNormalization). The order is Envoy's: escaped slashes, parameters of dot segments, canonicalisation (that of
Chromium's URL library), runs of slashes; the query is never touched. tests/interop/test_authz_paths.py compares with a
real Envoy.
"""

from __future__ import annotations

import re
import string

from citadel.authz.facts import PathNormalization
from citadel.errors import InvalidInput

# Nothing in such a path is changed by any mode, unless it has `/.` or `//` in it.
_PLAIN = re.compile(r"/[A-Za-z0-9!$&'()*+,\-./:;=@\[\]_~]*")
# What no HTTP codec of Envoy lets through: controls, the space, DEL; and the fragment.
_REFUSED = re.compile(r"[\x00-\x20#\x7f]")
_DOTS = re.compile(r"(\.|%2[eE])(\.|%2[eE])?")
_DOT_WITH_PARAMETER = re.compile(r"/\.{1,2};")
_ESCAPED_SLASH = re.compile(r"%(2[fF]|5[cC])")
_FORBIDDEN = str.maketrans(
    {char: f"%{ord(char):02X}" for char in '"<>^`{|}'}
)  # in a URL: the canonical form escapes it
_BEYOND_ASCII = re.compile(r"[\x80-\U0010ffff]+")
_BYTES = [f"%{byte:02X}" for byte in range(256)]
_PIECES = re.compile(r"%[0-9a-fA-F]{2}|%|[^%]+")
_DIGITS = frozenset(string.hexdigits)
_TWO_DIGITS = re.compile(r"[0-9a-fA-F]{2}")
_UNRESERVED = string.ascii_letters + string.digits + "-._~"
_DECODED = {form.format(ord(char)): char for char in _UNRESERVED for form in ("%{:02x}", "%{:02X}")}


class BadPath(InvalidInput):
    """A path of which nothing may be said; Envoy answers 400, or nobody knows what the upstream would make of it."""

    public = "bad request path"

    def __init__(self, path: str, why: str) -> None:
        bare, mark, _ = path.partition("?")  # a query holds tokens, and this is logged
        shown = (bare if len(bare) <= 200 else bare[:197] + "...") + (mark and "?…")
        super().__init__(f"{shown!r} is not a path that can be decided on: {why}")


def normalize(path: str, mode: PathNormalization, *, seen: bool = False) -> str:
    """The `:path` that filters see, query included, for the `:path` on the wire.

    Idempotent. `seen` says that a listener normalised the path before, with this mode or a stronger one.

    `*` (OPTIONS) and the empty path (CONNECT) stay as they are. Raises BadPath for what Envoy refuses, and for one
    thing that Envoy lets through: a dot segment with parameters (`/..;x`) that is left over, because the dots were
    percent-encoded or stood behind a backslash. Envoy would resolve it on a second pass, some upstreams do, others
    do not.
    """
    bare, _, query = path.partition("?")
    if _PLAIN.fullmatch(bare) and "/." not in bare and not _REFUSED.search(query):
        if "//" not in bare or mode is PathNormalization.NONE or mode is PathNormalization.BASE:
            return path
        return _merge_slashes(path)
    if not path or path == "*":
        return path
    if not path.startswith("/"):
        raise BadPath(path, "it must start with '/'")
    if refused := _REFUSED.search(path):
        raise BadPath(path, f"{refused[0]!r} is not allowed in it")
    if mode is PathNormalization.NONE:
        return path
    if seen and _DOT_WITH_PARAMETER.search(bare):
        raise BadPath(path, "a dot segment with parameters came through the normalisation of a listener")
    return _normal_form(path, bare, mode) + path[len(bare) :]


def without_query(path: str) -> str:
    """The path that `paths` match: up to the query (a fragment was refused before)."""
    end = path.find("?")
    return path if end < 0 else path[:end]


def _normal_form(path: str, bare: str, mode: PathNormalization) -> str:
    if mode is PathNormalization.DECODE_AND_MERGE_SLASHES:
        bare = _ESCAPED_SLASH.sub(lambda found: "/" if found[1] in ("2f", "2F") else "\\", bare)
    result = _canonical(path, bare)
    if mode is not PathNormalization.BASE:
        result = _merge_slashes(result)
    if _DOT_WITH_PARAMETER.search(result):
        raise BadPath(path, "a dot segment with parameters is left over, and upstreams differ on what it means")
    return result


def _merge_slashes(path: str) -> str:
    """Runs of slashes as one, but a path of slashes alone ends as `//`, as in Envoy."""
    bare, mark, query = path.partition("?")
    if "//" not in bare:
        return path
    merged = "/" + "/".join(filter(None, bare.split("/")))
    return merged + ("/" if bare.endswith("/") else "") + mark + query


def _canonical(path: str, bare: str) -> str:
    """Dot segments resolved, backslashes as slashes, percent-encoding in one form."""
    done: list[str] = []
    escaped = _BEYOND_ASCII.sub(_escaped, _without_dot_parameters(bare).translate(_FORBIDDEN))
    segments = escaped.replace("\\", "/").split("/")
    for position, segment in enumerate(segments[1:], 2):
        dots = _DOTS.fullmatch(segment)
        if dots is None:
            done.append(_one_form(path, segment))
            continue
        if dots[2] and done:
            done.pop()
        if position == len(segments):
            done.append("")
    return "/" + "/".join(done)


def _without_dot_parameters(bare: str) -> str:
    """`/..;x/` as `/../`; only between slashes as they are sent, and only for dots as they are sent."""
    if ".;" not in bare:
        return bare
    segments = bare.split("/")
    for position, segment in enumerate(segments):
        if segment.startswith("..;"):
            segments[position] = ".."
        elif segment.startswith(".;"):
            segments[position] = "."
    return "/".join(segments)


def _one_form(path: str, segment: str) -> str:
    """Decode what is unreserved, and keep all other escapes as they are written.

    Decoding must not make a new escape (`%%32f` as `%2f`): the stray percent sign becomes `%25` then.
    """
    if "%" not in segment:
        return segment
    pieces = _PIECES.findall(segment)
    if "%00" in pieces:
        raise BadPath(path, "'%00' is not allowed in it")
    out = [_DECODED.get(piece, piece) for piece in pieces]
    if "%" in pieces:
        for at, (piece, after) in enumerate(zip(pieces, out[1:], strict=False)):
            if piece == "%" and after[0] in _DIGITS and _TWO_DIGITS.match("".join(out[at + 1 : at + 3])):
                out[at] = "%25"
    return "".join(out)


def _escaped(run: re.Match[str]) -> str:
    return "".join(map(_BYTES.__getitem__, run[0].encode("utf-8", "surrogateescape")))
