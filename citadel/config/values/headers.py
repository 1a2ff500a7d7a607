"""Names of HTTP headers, and lines of them; names of claims."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator

from citadel.config.values.reading import several, write_texts


@dataclass(frozen=True, slots=True)
class HeaderLine:
    """A response header; `{reason}` and the like in its text are filled in."""

    name: str  # in lower case
    text: str

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


_HEADER_FACTS = ("reason", "policy", "id", "version")
_NO_HEADERS = frozenset(
    ["connection", "content-length", "content-type", "host", "transfer-encoding", "upgrade", "date"]
)


def _header_line(line: str) -> HeaderLine:
    name, colon, text = line.partition(":")
    text = text.strip()
    if not colon or not text or not re.fullmatch(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]{1,128}", name):
        raise ValueError(f"{line[:100]!r} is not a header, such as 'x-denied-by: {{policy}}'")
    if name.lower() in _NO_HEADERS:
        raise ValueError(f"{name!r} is not a header that a denial can set")
    if unknown := [fact for fact in re.findall(r"\{([^{}]*)\}", text) if fact not in _HEADER_FACTS]:
        raise ValueError(f"{{{unknown[0]}}} is none of {', '.join(f'{{{fact}}}' for fact in _HEADER_FACTS)}")
    if not text.isascii() or not text.isprintable():
        raise ValueError(f"{line[:100]!r} has characters that do not belong into a header")
    return HeaderLine(name.lower(), text)


def _header_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}", text):
        raise ValueError(f"{text!r} is not the name of a header")
    return text.lower()


def _claim_name(text: str) -> str:
    if not text or len(text) > 256 or not text.isprintable() or "" in text.split("."):
        raise ValueError(f"{text[:60]!r} is not the name of a claim, such as 'email' or 'address.street'")
    return text


ClaimNames = Annotated[
    tuple[str, ...], PlainValidator(several(_claim_name, "claims")), PlainSerializer(write_texts, return_type=list)
]
HeaderLines = Annotated[
    tuple[HeaderLine, ...],
    PlainValidator(several(_header_line, "headers", HeaderLine)),
    PlainSerializer(write_texts, return_type=list),
]
HeaderNames = Annotated[
    tuple[str, ...], PlainValidator(several(_header_name, "headers")), PlainSerializer(write_texts, return_type=list)
]
