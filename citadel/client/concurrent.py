"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
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

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds


class AuthorizationClient:
    """Asks on one connection, which is made again when it breaks. Safe to use from many tasks; an async context.

    `socket`: Citadel's workload socket. `timeout`: for each question, waiting for a connection included; after it the
    answer is a denial. `workload`: which registration entry of the caller is meant, if it has several.
    """

    def __init__(
        self,
        socket: str | Path,
        *,
        timeout: timedelta = timedelta(seconds=1),
        workload: Choice | None = None,
    ) -> None:
        """Raises InvalidInput: `socket` is no absolute path, or `timeout` no time; TypeError: it is no timedelta."""
        self._target = target(socket)
        self._timeout = seconds(timeout)
        self._workload = (workload or Choice()).message()
        self._channel: grpc.aio.Channel | None = None

    async def __aenter__(self) -> AuthorizationClient:
        self._channel = grpc.aio.insecure_channel(self._target, options=OPTIONS)
        self._calls = authorization_pb2_grpc.AuthorizationStub(self._channel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._channel is not None:
            await self._channel.close(None)

    async def check(self, request: Request, *, request_id: str = "") -> Answer:
        """The decision; a denial if there is none in time. Raises nothing of gRPC."""
        asked = question(request, self._workload, request_id)
        try:
            return Answer.of(await self._calls.Check(asked, timeout=self._timeout, wait_for_ready=True))
        except grpc.RpcError as error:
            return Answer.none(why(error))

    async def check_all(self, requests: Iterable[Request]) -> list[Answer]:
        """The decisions, in order; those that do not come in time are denials."""
        answers: list[Answer] = []
        for batch in batches(requests, self._workload):
            try:
                came = await self._calls.BatchCheck(
                    pb.BatchCheckRequest(questions=batch), timeout=self._timeout, wait_for_ready=True
                )
                found = list(map(Answer.of, came.answers))
            except grpc.RpcError as error:
                found = [Answer.none(why(error))] * len(batch)
            answers += found if len(found) == len(batch) else [Answer.none("answers are missing")] * len(batch)
        return answers

    async def explain(self, request: Request) -> Explained:
        """The decision, and what each policy made of the request. Raises Unavailable."""
        try:
            came = await self._calls.Explain(
                question(request, self._workload, ""), timeout=self._timeout, wait_for_ready=True
            )
        except grpc.RpcError as error:
            raise Unavailable(why(error)) from None
        return Explained(Answer.of(came.answer), came.detail, came.text, came.tree, came.json)

    async def versions(self) -> AsyncGenerator[str]:
        """The version of the policies in force, now and whenever it changes; empty: there are none yet.

        Goes on for ever: if the connection breaks, it is made again."""
        told: str | None = None
        pause = _FIRST_PAUSE
        while True:
            try:
                async for message in self._calls.WatchVersion(pb.WatchVersionRequest(), wait_for_ready=True):
                    pause = _FIRST_PAUSE
                    if message.version != told:
                        told = message.version
                        yield told
            except grpc.RpcError:
                pass
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
