"""What is found while a document is read: mistakes and warnings, each at the path of a field; and how fields are taken.

Everything is gathered, nothing raised: the user gets all mistakes of a load at once. A reading that found a mistake
gives back something harmless, which is never used.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TypeVar

from citadel.authz.load.tree import NotText, Path, Value, key_text

_T = TypeVar("_T")
_NO_SENTENCES: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake or warning. A warning has a code, stable, that an annotation can silence; a mistake has none."""

    path: Path
    message: str
    code: str = ""


MAX_FINDINGS = 200
"""So many mistakes, or warnings, of one document are told; after so many mistakes nobody reads on."""


class TooManyMistakes(Exception):
    """Reading a document stops here; what was found so far is in the Findings."""


@dataclass(slots=True)
class Findings:
    """The findings of one document, in the order of reading."""

    mistakes: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)

    def mistake(self, path: Path, message: str) -> None:
        self.mistakes.append(Finding(path, message))
        if len(self.mistakes) >= MAX_FINDINGS:
            raise TooManyMistakes

    def warn(self, code: str, path: Path, message: str) -> None:
        if len(self.warnings) < MAX_FINDINGS:
            self.warnings.append(Finding(path, message, code))

    def mapping(
        self, value: Value, path: Path, known: Collection[str], what: str, *, null: Mapping[str, str] = _NO_SENTENCES
    ) -> dict[str, Value]:
        """The fields of a mapping that are known and not null. An unknown one is a mistake, a null one a warning.

        `null` says of a field what its absence means, where that is a surprise.
        """
        if not isinstance(value, dict):
            self.mistake(path, f"expected {what}, a mapping{found(value)}")
            return {}
        fields = {}
        for key, inner in value.items():
            if key not in known:
                self._unknown(key, path, known, what)
            elif inner is None:
                means = f": {null[key]}" if key in null else ""
                self.warn("null-field", (*path, key), f"it is null, which is the same as leaving it out{means}")
            else:
                fields[key] = inner
        return fields

    def items(self, value: Value, path: Path, what: str, *, most: int = 0) -> list[Value]:
        """The items of a list, which has at most `most` of them (0: any number)."""
        if not isinstance(value, list):
            self.mistake(path, f"expected a list of {what}{found(value)}")
            return []
        if most and len(value) > most:
            self.mistake(path, f"it has {len(value)} {what}; there may be at most {most}")
            return []
        return value

    def text(self, value: Value, path: Path, *, most: int = 0) -> str:
        """A text, which may be empty, of at most `most` characters (0: any number)."""
        if value.__class__ is not str:
            self.mistake(path, f"expected text{found(value)}")
            return ""
        if most and len(value) > most:
            self.mistake(path, f"it has {len(value)} characters; there may be at most {most}")
            return ""
        return value

    def full_text(self, value: Value, path: Path, *, most: int = 0) -> str:
        """A text that is not empty."""
        if value == "":
            self.mistake(path, "it is empty; a value is needed here")
            return ""
        return self.text(value, path, most=most)

    def texts(self, value: Value, path: Path, *, most: int = 0) -> tuple[str, ...]:
        """A list of texts, none of them empty."""
        items = self.items(value, path, "texts", most=most)
        if all(item.__class__ is str and item for item in items):
            return tuple(items)
        return tuple(self.full_text(item, (*path, index)) for index, item in enumerate(items))

    def each(self, texts: Iterable[str], path: Path, read: Callable[[str], _T | Refusal]) -> tuple[_T, ...]:
        """What `read` makes of each text; a Refusal is a mistake at that text."""
        made = []
        for index, text in enumerate(texts):
            if not text:
                continue  # `texts` has named it
            one = read(text)
            if isinstance(one, Refusal):
                self.mistake((*path, index), one.message)
            else:
                made.append(one)
        return tuple(made)

    def boolean(self, value: Value, path: Path) -> bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, NotText) and value.truth is not None:
            return value.truth
        self.mistake(path, f"expected true or false{found(value)}")
        return False

    def one_of(self, value: Value, path: Path, known: Collection[str]) -> str:
        """A text that is one of these; otherwise empty."""
        if value.__class__ is str and value in known:
            return value
        if value.__class__ is not str:
            self.mistake(path, f"expected one of {', '.join(known)}{found(value)}")
        else:
            self.mistake(path, f"expected one of {', '.join(known)}, found {quoted(value)}{nearest(value, known)}")
        return ""

    def _unknown(self, key: object, path: Path, known: Collection[str], what: str) -> None:
        name = key_text(key)
        near = nearest(name, known)
        expected = near or f"; {what} has {', '.join(known)}"
        self.mistake((*path, name), f"{what} has no such field{expected}")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a text is not what it should be, with what was expected."""

    message: str


def found(value: Value) -> str:
    """`, found …`: what is there instead, and how to mend it where that is plain."""
    if value is None:
        return ", found nothing (null)"
    if isinstance(value, bool):
        return f", found the boolean {str(value).lower()}; write it in quotes if it is text"
    if isinstance(value, NotText):
        return f", found {value.text[:40]}, which without quotes is {value.what}; write {quoted(value.text)}"
    if isinstance(value, dict):
        return ", found a mapping"
    if isinstance(value, list):
        return ", found a list"
    return f", found {quoted(value)}"


def quoted(text: str) -> str:
    """The text in quotes, cut where it is long, and without anything that a terminal would act on."""
    shown = text if len(text) <= 80 else text[:77] + "..."
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown) + '"'


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?`, or nothing if no known name is near. Case, dashes and underscores hardly count."""
    if len(name) > 100:
        return ""
    plain = {_plain(one): one for one in known}
    near = get_close_matches(_plain(name), plain, n=1, cutoff=0.7)
    return f"; did you mean {plain[near[0]]}?" if near else ""


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
