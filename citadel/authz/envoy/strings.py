"""Matchers of text that Envoy is sure to load: nothing empty, valid UTF-8, and regexes that RE2 accepts within bounds.

The only place where policy text becomes part of a regex; it is escaped by RE2 itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import re2
from envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher

from citadel.authz.patterns import Patterns
from citadel.errors import InvalidInput

USUAL_PROGRAM_SIZE = 100
"""What Envoy accepts unless its runtime says otherwise (`re2.max_program_size.error_level`; seen in Envoy 1.40)."""
MAX_PROGRAM_SIZE = 4096
"""Of any regex that we make. RE2 is linear in it, for each byte of the text."""
MAX_TEXT = 16_384
"""Bytes of a value; Envoy's request headers have 60 KiB altogether."""

NON_EMPTY = "(?s).+"

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]{1,256}")
_HOST = re.compile(r"[A-Za-z0-9._:-]{1,255}")

T = TypeVar("T")


class CannotCompile(InvalidInput):
    """A value that no filter of Envoy can carry. Nothing of the set is compiled: what Envoy has stays in force."""

    public = "policy cannot be compiled"


def escaped(text: str) -> str:
    """`text` as a regex that matches just that."""
    return str(re2.escape(checked(text)))


def checked(text: str) -> str:
    """`text`, if it can stand in a protobuf string. Raises CannotCompile."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise CannotCompile(f"{text!r} is not valid Unicode") from None
    if size > MAX_TEXT:
        raise CannotCompile(f"{text[:60]!r}... has {size} bytes; Envoy is given at most {MAX_TEXT}")
    return text


def plain(text: str) -> str:
    """`text`, if it has something in it and no control characters. Raises CannotCompile."""
    if not text or _CONTROL.search(text):
        raise CannotCompile(f"{text[:60]!r} is empty or has control characters")
    return checked(text)


def header_name(text: str, *, pseudo: bool = False) -> str:
    """The name of a header (RFC 9110, 5.6.2), or of a pseudo-header if that may be. Raises CannotCompile."""
    if not _TOKEN.fullmatch(text.removeprefix(":") if pseudo else text):
        raise CannotCompile(f"{text[:60]!r} is not the name of a header")
    return checked(text)


def host_name(text: str) -> str:
    """A host by name or address. Raises CannotCompile."""
    if not _HOST.fullmatch(text):
        raise CannotCompile(f"{text[:60]!r} is not the name of a host")
    return text


def exact(text: str, *, ignore_case: bool = False) -> StringMatcher:
    return StringMatcher(exact=checked(text), ignore_case=ignore_case)


def prefix(text: str, *, ignore_case: bool = False) -> StringMatcher:
    return StringMatcher(prefix=_some(text), ignore_case=ignore_case)


def suffix(text: str, *, ignore_case: bool = False) -> StringMatcher:
    return StringMatcher(suffix=_some(text), ignore_case=ignore_case)


def contains(text: str) -> StringMatcher:
    return StringMatcher(contains=_some(text))


def regex(pattern: str) -> StringMatcher:
    """A regex for the whole text. Raises CannotCompile if RE2 does not accept it, or if it is too large."""
    return StringMatcher(safe_regex=_regex(pattern))


def _regex(pattern: str) -> RegexMatcher:
    try:
        options = re2.Options()
        options.log_errors = False
        size: int = re2.compile(pattern, options).programsize
    except re2.error as error:
        raise CannotCompile(f"the regex {pattern[:120]!r} is refused by RE2: {error}") from None
    if size > MAX_PROGRAM_SIZE:
        raise CannotCompile(
            f"the regex {pattern[:120]!r}... has an RE2 program of {size} instructions, over {MAX_PROGRAM_SIZE}",
            mend="shorten the value, or use values without templates and stars",
        )
    made = RegexMatcher(regex=checked(pattern))
    if size > USUAL_PROGRAM_SIZE:
        # deprecated, but all that a filter itself can say; without it Envoy's default runtime refuses the regex
        made.google_re2.max_program_size.value = size + size // 4  # its RE2 may count a little otherwise than ours
    return made


def _some(text: str) -> str:
    if not text:
        raise CannotCompile("a matcher with an empty prefix or suffix is refused by Envoy")
    return checked(text)


def of_patterns(patterns: Patterns, *, ignore_case: bool = False) -> Iterator[StringMatcher]:
    """One matcher for each of the patterns, `*` (any text but the empty one) among them; in a stable order."""
    for text in sorted(patterns.exact):
        yield exact(text, ignore_case=ignore_case)
    for text in patterns.prefixes:
        yield prefix(text, ignore_case=ignore_case)
    for text in patterns.suffixes:
        yield suffix(text, ignore_case=ignore_case)
    if patterns.present:
        yield regex(NON_EMPTY)


def one_or_any(made: Iterable[T], together: Callable[[list[T]], T]) -> T:
    """The one thing, or what `together` makes of several. Raises CannotCompile if there is none."""
    found = list(made)
    if not found:
        raise CannotCompile("a field without values")  # would match nothing, or everything
    return found[0] if len(found) == 1 else together(found)
