"""spire.api.server.entry.v1: registration entries."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

from citadel.api.admin import convert, masks
from citadel.api.admin.access import Gate
from citadel.api.admin.citadel_v1 import AdminUseCases
from citadel.api.admin.spire import messages
from citadel.api.proto.spire.api.server.entry.v1 import entry_pb2, entry_pb2_grpc
from citadel.api.proto.spire.api.types import entry_pb2 as types_entry
from citadel.api.proto.spire.api.types import status_pb2
from citadel.api.status import answering
from citadel.errors import AlreadyExists, Code, InvalidInput
from citadel.registry import Entry
from citadel.registry.ports import EntryQuery, Match

_SYNC_PAGE = 500


class EntryService(entry_pb2_grpc.EntryServicer):
    def __init__(self, cases: AdminUseCases, gate: Gate) -> None:
        self._cases = cases
        self._gate = gate

    async def CountEntries(self, request: entry_pb2.CountEntriesRequest, context: Any) -> Any:
        async with answering(context):
            self._gate.actor(context)
            return entry_pb2.CountEntriesResponse(count=await self._cases.registry.count(query_of(request.filter)))

    async def ListEntries(self, request: entry_pb2.ListEntriesRequest, context: Any) -> Any:
        async with answering(context):
            self._gate.actor(context)
            size = messages.page_size(request.page_size)
            query = replace(query_of(request.filter), limit=size + 1, after=request.page_token)
            found = await self._cases.registry.find(query)
            page, mask = found[:size], masks.mask_of(request)
            return entry_pb2.ListEntriesResponse(
                entries=[_masked(e, mask) for e in page], next_page_token=page[-1].id if len(found) > size else ""
            )

    async def GetEntry(self, request: entry_pb2.GetEntryRequest, context: Any) -> Any:
        async with answering(context):
            self._gate.actor(context)
            return _masked(await self._cases.registry.get(_named(request.id)), masks.mask_of(request))

    async def BatchCreateEntry(self, request: entry_pb2.BatchCreateEntryRequest, context: Any) -> Any:
        async with answering(context):
            actor = self._gate.actor(context)

            async def create(items: Sequence[types_entry.Entry]) -> list[Entry]:
                entries = [convert.read_entry(item, default_parent=self._cases.node_id) for item in items]
                return await self._cases.registry.create(entries, actor)

            async def create_or_find(item: types_entry.Entry) -> tuple[Entry, bool]:
                try:
                    return (await create([item]))[0], True
                except AlreadyExists:
                    if (existing := await self._like(item)) is None:
                        raise  # it is the id that is taken
                    return existing, False

            async def create_all(items: Sequence[types_entry.Entry]) -> list[tuple[Entry, bool]]:
                return [(entry, True) for entry in await create(items)]

            answer, mask = entry_pb2.BatchCreateEntryResponse(), masks.mask_of(request)
            for status, made in await messages.all_or_each(request.entries, create_all, create_or_find):
                result = answer.results.add(status=status)
                if made is not None:
                    result.entry.CopyFrom(_masked(made[0], mask))
                    if not made[1]:
                        result.status.CopyFrom(_existing(made[0]))
            return answer

    async def BatchUpdateEntry(self, request: entry_pb2.BatchUpdateEntryRequest, context: Any) -> Any:
        async with answering(context):
            actor = self._gate.actor(context)
            input_mask = masks.mask_of(request, "input_mask")

            async def change(items: Sequence[types_entry.Entry]) -> list[Entry]:
                old = await self._cases.registry.get_all([_named(item.id) for item in items])
                changed = [convert.changed(before, item, input_mask) for before, item in zip(old, items, strict=True)]
                return await self._cases.registry.update(changed, actor)

            async def change_one(item: types_entry.Entry) -> Entry:
                return (await change([item]))[0]

            answer, mask = entry_pb2.BatchUpdateEntryResponse(), masks.mask_of(request)
            for status, entry in await messages.all_or_each(request.entries, change, change_one):
                result = answer.results.add(status=status)
                if entry is not None:
                    result.entry.CopyFrom(_masked(entry, mask))
            return answer

    async def BatchDeleteEntry(self, request: entry_pb2.BatchDeleteEntryRequest, context: Any) -> Any:
        async with answering(context):
            actor = self._gate.actor(context)

            async def delete(ids: Sequence[str]) -> Sequence[str]:
                if len(set(ids)) < len(ids):
                    raise InvalidInput("an entry is named twice")  # one by one: the second time it is not there
                await self._cases.registry.delete([_named(entry_id) for entry_id in ids], actor)
                return ids

            async def delete_one(entry_id: str) -> str:
                return (await delete([entry_id]))[0]

            results = await messages.all_or_each(request.ids, delete, delete_one)
            return entry_pb2.BatchDeleteEntryResponse(
                results=[
                    entry_pb2.BatchDeleteEntryResponse.Result(status=status, id=entry_id)
                    for entry_id, (status, _) in zip(request.ids, results, strict=True)
                ]
            )

    async def GetAuthorizedEntries(self, request: entry_pb2.GetAuthorizedEntriesRequest, context: Any) -> Any:
        """What the node in this process may serve: there is no other yet."""
        async with answering(context):
            self._gate.actor(context)
            mask = masks.mask_of(request)
            entries = [_masked(entry, mask) for entry in await self._cases.authorised()]
            return entry_pb2.GetAuthorizedEntriesResponse(entries=entries)

    async def SyncAuthorizedEntries(self, requests: AsyncIterator[Any], context: Any) -> Any:
        """The same, of which a client that has most of it already fetches only the rest."""
        async with answering(context):
            self._gate.actor(context)
            served = {entry.id: entry for entry in await self._cases.authorised()}
            async for response in synchronised(served, requests):
                yield response

    async def _like(self, message: types_entry.Entry) -> Entry | None:
        """The entry that has the same SPIFFE ID, parent and selectors."""
        wanted = convert.read_entry(message, default_parent=self._cases.node_id)
        query = EntryQuery(wanted.spiffe_id, wanted.parent_id, (wanted.selectors, Match.EXACT), limit=1)
        found = await self._cases.registry.find(query)
        return found[0] if found else None


async def synchronised(
    served: dict[str, Entry], requests: AsyncIterator[Any], *, page: int = _SYNC_PAGE
) -> AsyncIterator[entry_pb2.SyncAuthorizedEntriesResponse]:
    """SPIRE's protocol: if all fit on a page, they are sent whole, and that is it. Else their revisions are, in pages;
    then, as often as the client asks, those whole that it names, in pages. Raises InvalidInput.
    """
    request = await anext(requests, None)
    if request is None:
        return
    mask = masks.mask_of(request)
    if request.ids:
        raise InvalidInput("the first request names no entries: it is answered with what there is")
    if mask is not None and not mask.revision_number:
        raise InvalidInput("the mask must have the revision number: without it nobody can tell what is new")
    entries = list(served.values())
    if len(entries) <= page:
        yield entry_pb2.SyncAuthorizedEntriesResponse(entries=[_masked(entry, mask) for entry in entries])
        return
    for start in range(0, len(entries), page):
        yield entry_pb2.SyncAuthorizedEntriesResponse(
            entry_revisions=[
                entry_pb2.EntryRevision(id=e.id, revision_number=e.revision, created_at=convert.seconds(e.created_at))
                for e in entries[start : start + page]
            ],
            more=start + page < len(entries),
        )
    async for request in requests:
        wanted = [served[entry_id] for entry_id in sorted(set(request.ids)) if entry_id in served]
        for start in range(0, max(1, len(wanted)), page):
            yield entry_pb2.SyncAuthorizedEntriesResponse(
                entries=[_masked(entry, mask) for entry in wanted[start : start + page]],
                more=start + page < len(wanted),
            )


def query_of(wanted: Any) -> EntryQuery:
    """SPIRE's filter (the same in CountEntries and ListEntries) as a query. Raises InvalidInput."""
    return EntryQuery(
        spiffe_id=convert.read_id(wanted.by_spiffe_id) if wanted.HasField("by_spiffe_id") else None,
        parent_id=convert.read_id(wanted.by_parent_id) if wanted.HasField("by_parent_id") else None,
        selectors=messages.selector_match(wanted.by_selectors) if wanted.HasField("by_selectors") else None,
        federates_with=(
            messages.domain_match(wanted.by_federates_with) if wanted.HasField("by_federates_with") else None
        ),
        hint=wanted.by_hint.value or None if wanted.HasField("by_hint") else None,
        downstream=wanted.by_downstream.value if wanted.HasField("by_downstream") else None,
    )


def _existing(entry: Entry) -> status_pb2.Status:
    message = f"{entry.spiffe_id} with these selectors and this parent is registered already, as {entry.id}"
    return status_pb2.Status(code=int(Code.ALREADY_EXISTS), message=message)


def _named(entry_id: str) -> str:
    if not entry_id:
        raise InvalidInput("the entry's id is missing")
    return entry_id


def _masked(entry: Entry, mask: types_entry.EntryMask | None) -> Any:
    return masks.masked(convert.entry_message(entry), mask, always="id")
