"""Questions as messages, and how a connection to Citadel is held. For both clients."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import grpc

from citadel.api.authorization.messages import message_of
from citadel.api.proto.citadel.v1 import authorization_pb2 as pb
from citadel.authz.request import Request
from citadel.errors import InvalidInput

MOST_QUESTIONS = 1_000
MOST_BYTES = 200 << 10  # the workload socket takes 256 KiB
_RETRIED = {
    "maxAttempts": 5,  # gRPC's most
    "initialBackoff": "0.05s",
    "maxBackoff": "0.5s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
_UNARY = [{"service": "citadel.v1.Authorization", "method": name} for name in ("Check", "BatchCheck", "Explain")]
#: A Citadel that restarts is found again within a fraction of a second; who asked just as it ended is asked for again.
OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config", json.dumps({"methodConfig": [{"name": _UNARY, "retryPolicy": _RETRIED}]})),
)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which of the caller's registration entries is meant, if it has several. Operators state any workload."""

    spiffe_id: str = ""
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def message(self) -> pb.AskedWorkload:
        return pb.AskedWorkload(spiffe_id=self.spiffe_id, namespace=self.namespace, labels=self.labels)


def target(socket: str | Path) -> str:
    """Raises InvalidInput."""
    path = Path(socket)
    if not path.is_absolute():
        raise InvalidInput(f"{str(socket)!r} is not the absolute path of a socket")
    return f"unix:{path}"


def seconds(timeout: timedelta) -> float:
    """Raises TypeError for what is no timedelta, InvalidInput for one in which nothing can be answered."""
    if not isinstance(timeout, timedelta):
        given = f"{timeout!r} ({type(timeout).__name__})"
        raise TypeError(f"timeout: expected a timedelta, as timedelta(seconds=1); not {given}")
    if timeout <= timedelta(0):
        raise InvalidInput(f"timeout: expected more than no time; not {timeout.total_seconds():g} seconds")
    return timeout.total_seconds()


def question(request: Request, workload: pb.AskedWorkload, request_id: str) -> pb.AuthorizationQuestion:
    return pb.AuthorizationQuestion(request=message_of(request), workload=workload, request_id=request_id)


def batches(requests: Iterable[Request], workload: pb.AskedWorkload) -> list[list[pb.AuthorizationQuestion]]:
    """Questions in batches that a server takes."""
    found: list[list[pb.AuthorizationQuestion]] = []
    size = MOST_BYTES
    for request in requests:
        asked = question(request, workload, "")
        size += asked.ByteSize() + 8
        if size > MOST_BYTES or len(found[-1]) == MOST_QUESTIONS:
            found.append([])
            size = asked.ByteSize() + 8
        found[-1].append(asked)
    return found


def why(error: grpc.RpcError) -> str:
    """What went wrong, in words."""
    code = getattr(error, "code", lambda: None)()
    details = getattr(error, "details", lambda: None)()
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "deadline exceeded: there was no answer in time; Citadel does not run, not at this socket, or is busy"
    return f"{'no answer' if code is None else code.name.lower().replace('_', ' ')}: {details or 'nothing was said'}"
