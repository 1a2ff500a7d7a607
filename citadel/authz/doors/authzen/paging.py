"""The pages of a search: its tokens say behind which result to go on, and to which search they belong. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass

from citadel.authz.doors.authzen.messages import MOST_RESULTS, ActionSearch, Page, ResourceSearch, SubjectSearch
from citadel.errors import InvalidInput

AnySearch = SubjectSearch | ResourceSearch | ActionSearch
_MOST_TOKEN = 65_536


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a search we are."""

    search: str
    """Digest of what is searched for."""
    after: str | None
    """The last id or name that was looked at; None: none yet."""
    limit: int

    def token(self, after: str) -> str:
        """For the page that begins behind `after`."""
        text = json.dumps([self.search, after, self.limit], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode()


def place_of(search: AnySearch) -> Place:
    """Where this request goes on. Raises InvalidInput: its token is none of ours, or of another search."""
    page = search.page or Page()
    limit = MOST_RESULTS if page.limit is None else min(page.limit, MOST_RESULTS)
    digest = _digest(search)
    if not page.token:
        return Place(digest, None, limit)
    of, after, was = _read(page.token)
    if of != digest or (page.limit is not None and limit != was):
        raise InvalidInput("page.token: it belongs to another search; repeat all that the first request said")
    return Place(digest, after, was)


def _digest(search: AnySearch) -> str:
    """All of it but the page; an id that a search ignores is not even read."""
    said = search.model_dump(exclude={"page"})
    text = json.dumps([type(search).__name__, said], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _read(token: str) -> tuple[str, str, int]:
    wrong = InvalidInput("page.token: it is not one that a page of results came with")
    if len(token) > _MOST_TOKEN:
        raise wrong
    try:
        match json.loads(base64.b64decode(token, altchars=b"-_", validate=True)):
            case [str(of), str(after), int(limit)] if 0 <= limit <= MOST_RESULTS:
                return of, after, limit
    except (ValueError, RecursionError, binascii.Error):
        pass
    raise wrong
