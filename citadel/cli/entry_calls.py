"""What the entry commands ask of the API."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from citadel.api.proto.citadel.v1 import admin_pb2 as admin
from citadel.cli import documents
from citadel.cli.beginnings import SHOWN, the_only
from citadel.cli.client import Client, Mistakes, connect
from citadel.config import EntryDraft, distinct, gather_entry_files, placed_mistakes
from citadel.errors import AlreadyExists, BadFile, CitadelError, Conflicts, NotFound

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
    if not entry_id:
        raise NotFound("there is no entry ''", mend="see: citadel entry list")
    return client.call(client.admin.ListEntries, admin.ListEntriesRequest(id=entry_id)).entries[0]


def by_beginning(client: Client, entry_id: str) -> admin.EntryDetails:
    """The entry of that id, or the only one whose id begins so. Raises NotFound; InvalidInput if there are several."""
    try:
        return by_id(client, entry_id)
    except NotFound as error:
        request = admin.ListEntriesRequest(id_prefix=entry_id, page_size=SHOWN + 1)
        found = client.call(client.admin.ListEntries, request).entries
        names = [f"{one.entry.id} ({documents.spiffe_id(one.entry.spiffe_id)})" for one in found]
        return the_only(found, names, "entries have an id", entry_id, error)


def read_drafts(
    paths: Sequence[Path],
    config: Path | None,
    socket: Path | None,
    ask: Callable[[Client, Sequence[EntryDraft]], object],
) -> list[EntryDraft]:
    """The entries of files. If there is a mistake in them, `ask` (a dry run) is called with all that can be read, so
    that the registry's objections are told with it. Raises BadFile."""
    files = gather_entry_files(paths)
    if not files.mistakes:
        return files.drafts
    drafts = [*distinct(files.drafts), *files.broken]
    mistakes = list(files.mistakes)
    try:
        with connect(config, socket) as client:
            ask(client, drafts)
    except (Mistakes, AlreadyExists) as error:
        mistakes += placed_mistakes(error.message, drafts)
    except CitadelError:
        pass  # nobody to be asked: what is wrong with the files is told all the same
    order = {mistake.file: place for place, mistake in reversed(list(enumerate(mistakes)))}
    raise BadFile(sorted(mistakes, key=lambda mistake: (order[mistake.file], mistake.line)))


@contextmanager
def placed(drafts: Sequence[EntryDraft]) -> Iterator[None]:
    """Inside, what the server finds wrong with an entry is told with the file and line that it came from."""
    try:
        yield
    except (Mistakes, AlreadyExists) as error:
        text = "\n".join(map(str, placed_mistakes(error.message, drafts)))
        raise (Conflicts(text) if isinstance(error, AlreadyExists) else Mistakes(text)) from error
