"""The bytes of a file as pieces of text that can be read by themselves: one document each, where that is sure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from citadel.errors import BadFile, Mistake

MAX_FILE_BYTES = 32 * 1024 * 1024
"""No file is larger; Kubernetes takes about 1.5 MB in one object, and 10,000 policies are about 6 MB."""

# A line of `---`, alone or before a value, starts a document wherever it stands: YAML 1.2, 9.1.2, allows it inside no
# scalar (c-forbidden). `...` and directives change how the next one is read: such a file is left in one piece.
_START = re.compile(r"^---(?=[ \t\r\n]|\Z)", re.MULTILINE)
_STATEFUL = re.compile(r"^(?:\.\.\.(?=[ \t\r\n]|\Z)|%)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Piece:
    """Some whole documents of a file; nearly always one."""

    text: str
    line: int
    """At which line of the file it begins, counted from 1."""


def decode(name: str, content: bytes) -> str:
    """The text of a file, which must be UTF-8, with or without a byte order mark. Raises BadFile."""
    if len(content) > MAX_FILE_BYTES:
        raise BadFile([Mistake(name, "", f"it is larger than {MAX_FILE_BYTES // 2**20} MiB")])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = before.count(b"\n") + 1
        column = error.start - before.rfind(b"\n")
        utf16 = " (it looks like UTF-16)" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise BadFile([Mistake(name, "", f"it is not UTF-8 text{utf16}", line, column)]) from None


def pieces(text: str) -> Iterator[Piece]:
    """The documents of a text, in order, without those that are blank or only comments."""
    if _STATEFUL.search(text):
        yield Piece(text, 1)
        return
    starts = [match.start() for match in _START.finditer(text)]
    line = 1
    for start, end in zip([0, *starts], [*starts, len(text)], strict=True):
        piece = text[start:end]
        if not _is_blank(piece):
            yield Piece(piece, line)
        line += piece.count("\n")


def _is_blank(piece: str) -> bool:
    head = piece[:200].removeprefix("---").lstrip()
    if head and not head.startswith("#"):
        return False  # the common case, without looking at the rest
    return all(not line or line.startswith("#") for line in map(str.strip, piece.removeprefix("---").split("\n")))
