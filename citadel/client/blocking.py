"""The client for programs without asyncio."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from types import TracebackType

import grpc

from citadel.api.proto.citadel.v1 import authorization_pb2 as pb
from citadel.api.proto.citadel.v1 import authorization_pb2_grpc
from citadel.authz.request import Request
from citadel.client.answer import Answer, Explained
from citadel.client.asking import OPTIONS, Choice, batches, question, seconds, target, why
from citadel.errors import Unavailable


class BlockingAuthorizationClient:
    """As AuthorizationClient, but its calls block. Safe to use from many threads; a context."""

    def __init__(
        self,
        socket: str | Path,
        *,
        timeout: timedelta = timedelta(seconds=1),
        workload: Choice | None = None,
    ) -> None:
        """Raises InvalidInput: `socket` is no absolute path, or `timeout` no time; TypeError: it is no timedelta."""
        self._timeout = seconds(timeout)
        self._workload = (workload or Choice()).message()
        self._channel = grpc.insecure_channel(target(socket), options=OPTIONS)
        self._calls = authorization_pb2_grpc.AuthorizationStub(self._channel)

    def __enter__(self) -> BlockingAuthorizationClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def check(self, request: Request, *, request_id: str = "") -> Answer:
        """The decision; a denial if there is none in time. Raises nothing of gRPC."""
        asked = question(request, self._workload, request_id)
        try:
            return Answer.of(self._calls.Check(asked, timeout=self._timeout, wait_for_ready=True))
        except grpc.RpcError as error:
            return Answer.none(why(error))

    def check_all(self, requests: Iterable[Request]) -> list[Answer]:
        """The decisions, in order; those that do not come in time are denials."""
        answers: list[Answer] = []
        for batch in batches(requests, self._workload):
            try:
                asked = pb.BatchCheckRequest(questions=batch)
                came = self._calls.BatchCheck(asked, timeout=self._timeout, wait_for_ready=True)
                found = list(map(Answer.of, came.answers))
            except grpc.RpcError as error:
                found = [Answer.none(why(error))] * len(batch)
            answers += found if len(found) == len(batch) else [Answer.none("answers are missing")] * len(batch)
        return answers

    def explain(self, request: Request) -> Explained:
        """The decision, and what each policy made of the request. Raises Unavailable."""
        asked = question(request, self._workload, "")
        try:
            came = self._calls.Explain(asked, timeout=self._timeout, wait_for_ready=True)
        except grpc.RpcError as error:
            raise Unavailable(why(error)) from None
        return Explained(Answer.of(came.answer), came.detail, came.text, came.tree, came.json)
