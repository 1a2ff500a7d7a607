"""The way to a running Citadel: gRPC over its admin socket, with a deadline, and errors that say how to mend them."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar, cast

import grpc

from citadel.api.proto.citadel.v1.admin_pb2_grpc import AdminStub
from citadel.api.proto.citadel.v1.authorization_pb2_grpc import AuthorizationStub
from citadel.api.proto.citadel.v1.decisions_pb2_grpc import DecisionLogStub
from citadel.api.proto.citadel.v1.entities_pb2_grpc import EntityStoreStub
from citadel.api.proto.citadel.v1.keys_pb2_grpc import KeysStub
from citadel.api.proto.citadel.v1.policies_pb2_grpc import PolicyStoreStub
from citadel.api.proto.citadel.v1.rotation_pb2_grpc import RotationStub
from citadel.api.proto.spire.api.server.entry.v1.entry_pb2_grpc import EntryStub
from citadel.api.proto.spire.api.types import status_pb2
from citadel.cli.options import load_config
from citadel.errors import (
    Aborted,
    AlreadyExists,
    CitadelError,
    FailedPrecondition,
    InternalFault,
    InvalidInput,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)

PATIENCE = 30.0  # seconds that one call may take
_CONNECT_PATIENCE = 3.0  # seconds; who listens on this machine accepts at once
_NAME_IT = "name the admin socket with --socket"
_TRANSPORT = ("Socket closed", "connect", "Stream removed", "recvmsg", "sendmsg", "GOAWAY")  # in gRPC's own words
_MAX_MESSAGE = 64 << 20
_MAX_MISTAKES = 8 << 20
_Response = TypeVar("_Response")

_KINDS: dict[grpc.StatusCode, type[CitadelError]] = {
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.ABORTED: Aborted,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
}

_KINDS_BY_NUMBER: dict[int, type[CitadelError]] = {code.value[0]: kind for code, kind in _KINDS.items()}


class Mistakes(InvalidInput):
    """What the server found wrong with our data: one line each."""

    def sentence(self) -> str:
        return self.message


_KINDS_BY_NUMBER[grpc.StatusCode.INVALID_ARGUMENT.value[0]] = Mistakes


class Client:
    """A connection to the admin API. Every call raises a CitadelError, never one of gRPC's."""

    def __init__(self, channel: grpc.Channel, path: Path) -> None:
        self.admin = AdminStub(channel)
        self.entries = EntryStub(channel)
        self.rotation = RotationStub(channel)
        self.keys = KeysStub(channel)
        self.policies = PolicyStoreStub(channel)
        self.decisions = DecisionLogStub(channel)
        self.authorization = AuthorizationStub(channel)
        self.entities = EntityStoreStub(channel)
        self._path = path

    def call(self, method: Callable[..., _Response], request: object, *, patience: float = PATIENCE) -> _Response:
        """Call `method` of one of the stubs, and wait for the answer at most `patience` seconds."""
        try:
            return method(request, timeout=patience)
        except grpc.RpcError as error:
            raise _ours(error, self._path, patience) from error

    def check_each(self, statuses: Iterable[status_pb2.Status], names: Iterable[str]) -> None:
        """What became of each item of a batch (SPIRE's statuses). Raises the first failure, if there is one."""
        for status, name in zip(statuses, names, strict=True):
            if status.code:
                kind = _KINDS_BY_NUMBER.get(status.code, InternalFault)
                raise kind(f"{name}: {status.message}" if name else status.message)


def _ours(error: grpc.RpcError, path: Path, patience: float) -> CitadelError:
    call = cast(grpc.Call, error)  # what a unary call raises is both
    code, details = call.code(), call.details() or call.code().name
    match code:
        case grpc.StatusCode.INVALID_ARGUMENT | grpc.StatusCode.OUT_OF_RANGE:
            return Mistakes(details)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return Unavailable(f"Citadel did not answer within {patience:g} s", mend="see: citadel status, and its log")
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.UNKNOWN if any(sign in details for sign in _TRANSPORT):
            return _lost(path)
        case grpc.StatusCode.INTERNAL if "deserializing" in details:  # gRPC's own words
            return FailedPrecondition(f"what answers at {path} is not this Citadel's admin API", mend=_NAME_IT)
        case grpc.StatusCode.UNIMPLEMENTED:
            return FailedPrecondition(
                f"what answers at {path} does not know this call",
                mend="if it is the admin socket, restart Citadel, so that it is as new as this command; if not, "
                + _NAME_IT,
            )
        case _:
            return _KINDS.get(code, InternalFault)(details)


def _lost(path: Path) -> Unavailable:
    return Unavailable(
        f"the connection to {path} was lost",
        mend="see whether Citadel still runs, and whether what was asked for was done; then try again",
    )


@contextmanager
def connect(config: Path | None, given: Path | None) -> Iterator[Client]:
    """Connect to the Citadel that --socket, CITADEL_ADMIN_SOCKET or the configuration names.

    Raises Unavailable, PermissionDenied or InvalidInput if nobody answers there; what load_config raises.
    """
    path = admin_socket(config, given)
    _knock(path)
    options = [
        ("grpc.max_receive_message_length", _MAX_MESSAGE),
        ("grpc.max_send_message_length", _MAX_MESSAGE),
        ("grpc.max_metadata_size", _MAX_MISTAKES),  # many mistakes in one answer
        ("grpc.absolute_max_metadata_size", _MAX_MISTAKES),
        ("grpc.enable_retries", 0),
    ]
    with grpc.insecure_channel(f"unix:{path}", options=options) as channel:
        _greet(channel, path)
        yield Client(channel, path)


def _greet(channel: grpc.Channel, path: Path) -> None:
    """Wait until the other side has said what it is: who takes connections and then is silent is no gRPC server."""
    heard = threading.Event()

    def changed(state: grpc.ChannelConnectivity) -> None:
        if state in (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE):
            heard.set()  # a failure is told by the call

    channel.subscribe(changed, try_to_connect=True)
    try:
        if not heard.wait(_CONNECT_PATIENCE):
            raise Unavailable(f"who listens at {path} says nothing", mend="see its log, and restart it; or " + _NAME_IT)
    finally:
        channel.unsubscribe(changed)


def admin_socket(config: Path | None, given: Path | None) -> Path:
    """Where the admin socket is: said, in the environment, or in the configuration."""
    if given is not None:
        return given.expanduser().absolute()
    if config is None and (named := os.environ.get("CITADEL_ADMIN_SOCKET")):
        return Path(named).expanduser().absolute()
    return load_config(config).settings.sockets.admin.path


def _knock(path: Path) -> None:
    """Find out why nobody answers before gRPC does: it would only say that it could not connect."""
    try:
        with socket.socket(socket.AF_UNIX) as knocker:
            knocker.settimeout(_CONNECT_PATIENCE)
            knocker.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        if path.exists() and not path.is_socket():
            raise InvalidInput(f"{path} is not a socket", mend=_NAME_IT) from None
        raise Unavailable(
            f"no Citadel listens at {path}", mend="start it with 'citadel up', or name its admin socket with --socket"
        ) from None
    except PermissionError:
        raise PermissionDenied(f"{_me()} may not use the admin socket {path}", mend=_who_may(path)) from None
    except TimeoutError:
        raise Unavailable(f"whoever listens at {path} takes no connections", mend="see its log; restart it") from None
    except OSError as error:  # too long a path, not a directory on the way
        raise InvalidInput(f"{path} cannot be connected to: {error.strerror or error}", mend=_NAME_IT) from None


def _me() -> str:
    try:
        return f"user {pwd.getpwuid(os.geteuid()).pw_name}"
    except KeyError:
        return f"uid {os.geteuid()}"


def _who_may(path: Path) -> str:
    try:
        status = path.stat()
        group = grp.getgrgid(status.st_gid).gr_name
    except (OSError, KeyError):
        return "run this as root, or as the user that Citadel runs as"
    if status.st_mode & 0o020 and status.st_gid != 0:
        return f"run this as root or as a member of the group {group}"
    return "run this as root, or set sockets.admin.group and sockets.admin.allow_gids"
