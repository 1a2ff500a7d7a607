"""Where in a user's files stands what the registry found wrong: it knows entries only by their place in a request."""

from __future__ import annotations

import re
from collections.abc import Sequence

from citadel.config.entry_files import EntryDraft
from citadel.errors import Mistake

_PLACE = re.compile(r"entries\[([0-9]{1,6})\]: ")
_FIELD = re.compile(r"(?:(spiffe://\S+): )?([a-z0-9_]+): ")
_IDENTITY = {"spiffe_id", "parent_id", "selectors"}  # what makes two entries duplicates


def placed_mistakes(text: str, drafts: Sequence[EntryDraft]) -> list[Mistake]:
    """What the registry says of `drafts`, a mistake in each line, with file and line. Left out is what it says of that
    which only stands in for a field that could not be read."""
    return [mistake for line in text.splitlines() if (mistake := _placed(line, drafts)) is not None]


def _placed(line: str, drafts: Sequence[EntryDraft]) -> Mistake | None:
    place = _PLACE.match(line)
    if place is None and len(drafts) != 1:
        return Mistake("", "", line)
    number = int(place[1]) if place else 0
    if number >= len(drafts):
        return Mistake("", "", line)
    draft, rest = drafts[number], line[place.end() :] if place else line
    found = _FIELD.match(rest)
    uri, field = (found[1] or "", found[2]) if found else ("", "")
    if field in draft.unread or (not uri and draft.unread & _IDENTITY):
        return None
    if "spiffe_id" in draft.unread:
        uri = ""
    message = rest[found.end() :] if found else rest
    return Mistake(draft.file, field, message, dict(draft.lines).get(field, draft.line), document=uri)
