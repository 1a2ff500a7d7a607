"""citadel.v1.PolicyStore: the policies in the store. Message in, message out."""

from __future__ import annotations

from typing import Any

from citadel.api.admin import convert
from citadel.api.admin.access import Gate
from citadel.api.ports import FollowedPolicies
from citadel.api.proto.citadel.v1 import policies_pb2 as pb
from citadel.api.proto.citadel.v1 import policies_pb2_grpc
from citadel.api.status import answering
from citadel.authz.load import SourceText
from citadel.authz.model import Kind, PolicyName
from citadel.authz.stored import Changed, DocumentKey, Named, StoredPolicies, Version, Wish
from citadel.authz.tables import MeshBlock
from citadel.errors import FailedPrecondition, InvalidInput

_PAGE, _MOST = 100, 1000
_MOST_NAMES = 10_000
_FOLLOW_SECONDS = 5.0
_SHOWN = 1000  # warnings, and objects that were skipped


class PolicyStoreService(policies_pb2_grpc.PolicyStoreServicer):
    """Each call names its caller, then is a use case of StoredPolicies."""

    def __init__(self, policies: StoredPolicies, followed: FollowedPolicies, gate: Gate) -> None:
        self._policies = policies
        self._followed = followed
        self._gate = gate

    async def ApplyPolicies(self, request: pb.ApplyPoliciesRequest, context: Any) -> Any:
        async with answering(context):
            wish = self._wish(request.wish, context)
            texts = [SourceText(file.name, file.content) for file in request.files]
            return await self._changed(await self._policies.apply(texts, wish, prune=request.prune))

    async def DeletePolicies(self, request: pb.DeletePoliciesRequest, context: Any) -> Any:
        async with answering(context):
            wish = self._wish(request.wish, context)
            if not 0 < len(request.names) <= _MOST_NAMES:
                raise InvalidInput(f"name from 1 to {_MOST_NAMES} documents; these are {len(request.names)}")
            return await self._changed(await self._policies.delete([*map(Named.parse, request.names)], wish))

    async def RollbackPolicies(self, request: pb.RollbackPoliciesRequest, context: Any) -> Any:
        async with answering(context):
            wish = self._wish(request.wish, context)
            return await self._changed(await self._policies.rollback(request.version, wish))

    async def ListPolicies(self, request: pb.ListPoliciesRequest, context: Any) -> Any:
        async with answering(context):
            self._gate.actor(context)
            found = await self._policies.listed(request.version or None)
            answer = pb.ListPoliciesResponse(version=None if found.version is None else version_message(found.version))
            answer.mesh = MeshBlock.of(self._policies.facts, self._policies.default_namespace).model_dump_json()
            for one in found.documents:
                answer.documents.add(key=_key(one.key), body=one.body, since=one.since)
            return answer

    async def ListPolicyVersions(self, request: pb.ListPolicyVersionsRequest, context: Any) -> Any:
        async with answering(context):
            self._gate.actor(context)
            key = _read_key(request.key) if request.HasField("key") else None
            size = min(request.page_size or _PAGE, _MOST)
            versions = await self._policies.history(size, request.before or None, key)
            return pb.ListPolicyVersionsResponse(versions=map(version_message, versions))

    def _wish(self, wish: pb.PolicyWish, context: Any) -> Wish:
        """Raises FailedPrecondition where the store is not what decides: nobody is to think that a change is in force
        that is not."""
        actor = self._gate.actor(context)
        if not wish.dry_run:
            self._followed.must_be_the_store()
        base = wish.base if wish.HasField("base") else None
        return Wish(actor, wish.comment, base, wish.confirmed, wish.dry_run)

    def _refusal(self) -> str:
        """Why a change would be refused, whatever it is; empty: it would not."""
        try:
            self._followed.must_be_the_store()
        except FailedPrecondition as error:
            return error.sentence()
        return ""

    async def _changed(self, done: Changed) -> pb.PolicyChange:
        change = done.change
        answer = pb.PolicyChange(
            base=done.base,
            created=[_key(one.key) for one in change.created],
            updated=[_key(one.key) for one in change.updated],
            deleted=map(_key, change.deleted),
            unchanged=change.unchanged,
            doubt=done.doubt,
            warnings=_short(done.warnings),
            skipped=_short(done.skipped),
        )
        if done.version is not None:
            answer.version.CopyFrom(version_message(done.version))
            answer.in_force = await self._followed.reached(done.version.set_version, _FOLLOW_SECONDS)
            answer.fault = "" if answer.in_force else self._followed.fault
        else:
            answer.fault = self._refusal()
        return answer


def version_message(version: Version) -> pb.PolicyVersion:
    return pb.PolicyVersion(
        number=version.number,
        at=convert.seconds(version.at),
        actor=version.actor,
        action=version.action,
        comment=version.comment,
        content=version.content,
        set_version=version.set_version,
        documents=version.documents,
        created=version.created,
        updated=version.updated,
        deleted=version.deleted,
        confirmed=version.confirmed,
        restores=version.restores,
    )


def _key(key: DocumentKey) -> pb.PolicyKey:
    return pb.PolicyKey(kind=key.kind.value, namespace=key.name.namespace, name=key.name.name)


def _read_key(key: pb.PolicyKey) -> DocumentKey:
    try:
        return DocumentKey(Kind(key.kind), PolicyName(key.namespace, key.name))
    except ValueError:
        raise InvalidInput(f"{key.kind[:60]!r} is no kind of document; there are {', '.join(Kind)}") from None


def _short(texts: tuple[str, ...]) -> list[str]:
    shown = list(texts[:_SHOWN])
    return shown if len(texts) <= _SHOWN else [*shown, f"and {len(texts) - _SHOWN} more"]
