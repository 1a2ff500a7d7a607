"""What the entry commands ask of the API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from citadel.api.proto.citadel.v1 import admin_pb2 as admin
from citadel.cli.client import Client, Mistakes
from citadel.config import EntryDraft

_PAGE = 500


def all_entries(client: Client, request: admin.ListEntriesRequest) -> Iterator[admin.EntryDetails]:
    """Every entry that fits `request`, page by page."""
    request.page_size = _PAGE
    while True:
        answer = client.call(client.admin.ListEntries, request)
        yield from answer.entries
        if not answer.next_page_token:
            return
        request.page_token = answer.next_page_token


def by_id(client: Client, entry_id: str) -> admin.EntryDetails:
    """Raises NotFound."""
    return client.call(client.admin.ListEntries, admin.ListEntriesRequest(id=entry_id)).entries[0]


@contextmanager
def placed(drafts: Sequence[EntryDraft]) -> Iterator[None]:
    """Inside, what the server finds wrong with an entry is told with the file and line that it came from."""
    try:
        yield
    except Mistakes as error:
        places = {str(draft.spiffe_id): f"{draft.file}:{draft.line}: " for draft in reversed(drafts) if draft.file}
        lines = error.message.splitlines()
        raise Mistakes("\n".join(places.get(line.split(": ", 1)[0], "") + line for line in lines)) from error
