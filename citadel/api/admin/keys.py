"""citadel.v1.Keys: the key-encryption key. Message in, message out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from citadel.api.admin.access import Gate
from citadel.api.proto.citadel.v1 import keys_pb2 as pb
from citadel.api.proto.citadel.v1 import keys_pb2_grpc
from citadel.api.status import answering
from citadel.ca.rekeying import Rekeying
from citadel.errors import InvalidInput


class KeysService(keys_pb2_grpc.KeysServicer):
    """Each call names its caller, then is a use case of Rekeying."""

    def __init__(self, rekeying: Rekeying, gate: Gate) -> None:
        self._rekeying = rekeying
        self._gate = gate

    async def Rekey(self, request: pb.RekeyRequest, context: Any) -> Any:
        async with answering(context):
            actor, given = self._gate.actor(context), _path(request.key_file)
            if request.stage:
                return pb.RekeyResponse(kek_id=await self._rekeying.stage(actor, given), staged_only=True)
            done = await self._rekeying.rekey(actor, given, all_staged=request.all_staged)
            return pb.RekeyResponse(kek_id=done.kek_id, keys=done.keys, resealed=done.resealed, in_place=done.in_place)

    async def ForgetKey(self, request: pb.ForgetKeyRequest, context: Any) -> Any:
        async with answering(context):
            return pb.ForgetKeyResponse(kek_id=await self._rekeying.forget(self._gate.actor(context)))


def _path(text: str) -> Path | None:
    if text and not text.startswith("/"):
        raise InvalidInput(f"{text[:120]!r} is not an absolute path", mend="give the file's whole path")
    return Path(text) if text else None
