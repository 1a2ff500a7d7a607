"""citadel.v1.EntityStore: the directory of entities in the store. Message in, message out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from citadel.api.admin.access import Gate
from citadel.api.proto.citadel.v1 import entities_pb2 as pb
from citadel.api.proto.citadel.v1 import entities_pb2_grpc
from citadel.api.status import answering
from citadel.authz.entities import Actor, Entity, EntityChange, EntityWish, StoredEntities
from citadel.authz.entities.ports import EntityKey
from citadel.authz.load import SourceText
from citadel.errors import FailedPrecondition, InvalidInput

_PAGE, _MOST = 100, 1000
_MOST_KEYS = 10_000


class EntityStoreService(entities_pb2_grpc.EntityStoreServicer):
    """Each call names its caller, then is a use case of StoredEntities. `unused`: why the store's are not what counts
    here; empty: they are."""

    def __init__(self, entities: StoredEntities, gate: Gate, unused: str) -> None:
        self._entities = entities
        self._gate = gate
        self._unused = unused

    async def ApplyEntities(self, request: pb.ApplyEntitiesRequest, context: Any) -> Any:
        async with answering(context):
            wish = self._wish(request.wish, context)
            texts = [SourceText(file.name, file.content) for file in request.files]
            if not texts:
                raise InvalidInput("files: there are none")
            return self._changed(await self._entities.apply(texts, wish, prune=request.prune), wish)

    async def DeleteEntities(self, request: pb.DeleteEntitiesRequest, context: Any) -> Any:
        async with answering(context):
            wish = self._wish(request.wish, context)
            if not 0 < len(request.keys) <= _MOST_KEYS:
                raise InvalidInput(f"name from 1 to {_MOST_KEYS} entities; these are {len(request.keys)}")
            keys = [EntityKey(one.type if one.HasField("type") else None, one.id) for one in request.keys]
            return self._changed(await self._entities.delete(keys, wish), wish)

    async def ListEntities(self, request: pb.ListEntitiesRequest, context: Any) -> Any:
        async with answering(context):
            self._gate.actor(context)
            size = min(max(request.page_size, 0) or _PAGE, _MOST)
            kind = request.type if request.HasField("type") else None
            found, after = await self._entities.page(request.after, size, kind)
            return pb.ListEntitiesResponse(entities=map(_entity, found), next=after)

    def _wish(self, wish: pb.EntityWish, context: Any) -> EntityWish:
        """Raises FailedPrecondition where the store is not what counts: nobody is to think that a change does."""
        actor = self._gate.actor(context)
        if self._unused and not wish.dry_run:
            raise FailedPrecondition(self._unused, mend='set authorization.authzen.entities_source = "store"; restart')
        return EntityWish(actor, wish.comment, wish.dry_run)

    def _changed(self, change: EntityChange, wish: EntityWish) -> pb.EntityChange:
        return pb.EntityChange(
            version=change.number,
            created=_keys(change.created),
            updated=_keys(change.updated),
            deleted=_keys(change.deleted),
            unchanged=change.unchanged,
            fault=self._unused if wish.dry_run else "",
        )


def _keys(keys: Iterable[EntityKey]) -> Iterable[pb.EntityKey]:
    return (pb.EntityKey(type=one.type, id=one.id) for one in keys)


def _entity(one: Entity | Actor) -> pb.ListEntitiesResponse.Entity:
    key = EntityKey.of(one)
    return pb.ListEntitiesResponse.Entity(
        key=pb.EntityKey(type=key.type, id=key.id),
        properties=json.dumps(dict(one.properties)),
        resource_types=sorted(one.resource_types) if isinstance(one, Actor) else (),
    )
