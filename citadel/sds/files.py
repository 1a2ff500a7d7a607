"""Secrets from files that clients name, as Istio's agent takes them: `file-cert:<certificate>~<key>` and
`file-root:<certificates>`. Only from folders that the operator allowed, and only what the caller may read itself.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from watchfiles import awatch

from citadel.clock import Clock
from citadel.errors import CitadelError, InvalidInput, PermissionDenied, ResourceExhausted
from citadel.sds.ports import Caller
from citadel.sds.resources import resource
from citadel.sds.stream import MAX_NAME_BYTES, Resource

_CERT, _ROOT = "file-cert:", "file-root:"
_MOST_WATCHED = 1024
_LOOK_ANYWAY_MS = 5_000  # a change that the kernel did not tell of (network file systems) is found by looking
log = structlog.get_logger("citadel.sds")


def is_file_name(name: str) -> bool:
    return name.startswith((_CERT, _ROOT))


@dataclass(frozen=True, slots=True)
class FileName:
    """A parsed name. `key` is None for roots."""

    certificates: str
    key: str | None

    @classmethod
    def parse(cls, name: str) -> FileName:
        """Raises InvalidInput."""
        if len(name) > MAX_NAME_BYTES:
            raise InvalidInput(f"the name is longer than {MAX_NAME_BYTES} bytes")
        if name.startswith(_ROOT):
            return cls(_plain(name.removeprefix(_ROOT)), None)
        certificate, tilde, key = name.removeprefix(_CERT).partition("~")
        if not tilde or "~" in key:
            raise InvalidInput(f"{name!r} is not {_CERT}<certificate>~<key>")
        return cls(_plain(certificate), _plain(key))

    @property
    def paths(self) -> list[str]:
        return [self.certificates] if self.key is None else [self.certificates, self.key]


def _plain(path: str) -> str:
    if not path.startswith("/") or "\0" in path or os.path.normpath(path) != path or path.startswith("//"):
        raise InvalidInput(f"{path!r} is not an absolute path without '.', '..' and doubled slashes")
    return path


@dataclass(frozen=True, slots=True)
class _Read:
    """A file's content, and who may read it."""

    content: bytes = field(repr=False)
    uid: int
    gid: int
    mode: int

    def readable_by(self, caller: Caller) -> bool:
        """By the file's mode; of the caller's groups its primary one counts."""
        if caller.uid == 0:
            return True
        if caller.uid == self.uid:
            return bool(self.mode & stat.S_IRUSR)
        return bool(self.mode & (stat.S_IRGRP if caller.gid == self.gid else stat.S_IROTH))


@dataclass(eq=False, slots=True)
class _Held:
    """What is held for one name."""

    name: str
    files: FileName
    resource: Resource | None = None
    reads: tuple[_Read, ...] = ()
    fault: str = ""
    watches: set[FileWatch] = field(default_factory=set)


class FileWatch:
    """One stream's interest in one name. `close` it."""

    __slots__ = ("_caller", "_held", "_owner", "told")

    def __init__(self, owner: FileSecrets, held: _Held | None, caller: Caller, told: Callable[[], None]) -> None:
        self._owner = owner
        self._held = held
        self._caller = caller
        self.told = told

    @property
    def resource(self) -> Resource | None:
        """What this caller may have by that name now."""
        held = self._held
        if held is None or not all(read.readable_by(self._caller) for read in held.reads):
            return None
        return held.resource

    def close(self) -> None:
        if self._held is not None:
            self._owner.forget(self._held, self)
            self._held = None


class FileSecrets:
    """Reads files for streams, and again when they change. Without `directories` every name stays unknown.

    Run `run` as long as it lives. A file that is broken leaves the last good content in force; `faults` says so.
    """

    def __init__(self, directories: Sequence[Path], clock: Clock, *, max_bytes: int = 256 * 1024) -> None:
        self._directories = [os.path.normpath(directory) for directory in directories]
        self._clock = clock
        self._max_bytes = max_bytes
        self._held: dict[str, _Held] = {}
        self._new = asyncio.Event()  # somebody wants a name that was not wanted before

    def watch(self, name: str, caller: Caller, told: Callable[[], None]) -> FileWatch:
        """`told` is called in the event loop when what `name` stands for has changed."""
        watch = FileWatch(self, self._wanted(name, caller), caller, told)
        if watch._held is not None:
            watch._held.watches.add(watch)
        return watch

    def _wanted(self, name: str, caller: Caller) -> _Held | None:
        if not self._directories:
            return None
        if name in self._held:
            return self._held[name]
        try:
            files = FileName.parse(name)
            for path in files.paths:
                self._allowed(path)
            if len(self._held) >= _MOST_WATCHED:
                raise ResourceExhausted(f"{_MOST_WATCHED} files are watched already")
        except CitadelError as error:
            log.warning("a file is not served", caller=caller.name, why=error.message)
            return None
        self._held[name] = held = _Held(name, files)
        self._new.set()
        return held

    def forget(self, held: _Held, watch: FileWatch) -> None:
        held.watches.discard(watch)
        if not held.watches:
            self._held.pop(held.name, None)

    def faults(self) -> list[str]:
        """What is wrong with files that somebody wants, as sentences."""
        return [f"{held.name} is not as it should be: {held.fault}" for held in self._held.values() if held.fault]

    async def run(self) -> None:
        """Follow the files until cancelled."""
        while True:
            self._new.clear()
            folders = await self._look()
            try:
                await self._wait(folders)
            except OSError as error:  # a folder went away just now, or the kernel takes no more watches
                log.warning("files are looked at now and then, not watched", error=str(error))
                await self._wait(set())

    async def _wait(self, folders: set[str]) -> None:
        """Until there is something else to watch; what changes in `folders` meanwhile is read again."""
        if not folders:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_ANYWAY_MS / 1000 if self._held else None):
                    await self._new.wait()
            return
        changes = awatch(
            *folders,
            recursive=False,
            stop_event=self._new,
            step=20,
            rust_timeout=_LOOK_ANYWAY_MS,
            yield_on_timeout=True,
            ignore_permission_denied=True,
        )
        async for _ in changes:
            if await self._look() != folders:
                return

    async def _look(self) -> set[str]:
        """Read everything again, tell who must know, and return the folders in which changes would be seen."""
        for held in list(self._held.values()):
            try:
                now = self._clock.now()
                reads, found = await asyncio.to_thread(self._read_all, held.name, held.files, now)
            except (CitadelError, OSError) as error:
                self._broken(held, error)
                continue
            held.fault = ""
            if (held.resource, held.reads) != (found, reads):
                held.resource, held.reads = found, reads
                for watch in list(held.watches):
                    watch.told()
        return {folder for held in self._held.values() for path in held.files.paths for folder in _folders(path)}

    def _broken(self, held: _Held, error: CitadelError | OSError) -> None:
        why = error.message if isinstance(error, CitadelError) else f"{error.filename}: {error.strerror}"
        if why != held.fault:
            log.warning("a file that is served is broken", name=held.name, why=why, last_good=held.resource is not None)
        held.fault = why

    def _read_all(self, name: str, files: FileName, now: datetime) -> tuple[tuple[_Read, ...], Resource]:
        """Raises OSError, InvalidInput, PermissionDenied."""
        certificates = self._read(files.certificates)
        if files.key is None:
            return (certificates,), _roots(name, certificates.content)
        key = self._read(files.key)
        if key.mode & (stat.S_IROTH | stat.S_IWOTH):
            raise PermissionDenied(f"everybody can read the key {files.key}", mend=f"run: chmod o= {files.key}")
        return (certificates, key), _pair(name, certificates.content, key.content, now)

    def _allowed(self, path: str) -> None:
        if not any(path.startswith(f"{directory.rstrip('/')}/") for directory in self._directories):
            raise PermissionDenied(f"{path} lies in no folder that files.directories allows")

    def _read(self, path: str) -> _Read:
        """The file's content. What was really opened must lie in an allowed folder, wherever links led."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            real = os.fspath(Path(f"/proc/self/fd/{descriptor}").readlink())
            if not any(real.startswith(f"{os.path.realpath(folder).rstrip('/')}/") for folder in self._directories):
                raise PermissionDenied(f"{path} leads out of the folders that files.directories allows")
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise InvalidInput(f"{path} is not a file")
            content = file.read(self._max_bytes + 1)
        if len(content) > self._max_bytes:
            raise InvalidInput(f"{path} has more than {self._max_bytes} bytes")
        return _Read(content, facts.st_uid, facts.st_gid, facts.st_mode)


def _folders(path: str) -> set[str]:
    """Where a change of `path` would be seen: its folder, and that of what it links to."""
    found = {os.path.dirname(path), os.path.dirname(os.path.realpath(path))}  # noqa: PTH120  # text, as names are
    return {folder for folder in found if os.path.isdir(folder)}  # noqa: PTH112


def _certificates(content: bytes) -> list[x509.Certificate]:
    try:
        found = x509.load_pem_x509_certificates(content)
        for certificate in found:
            certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidInput(f"no certificates in PEM: {error}") from error
    if content.count(b"-----BEGIN ") != len(found):
        raise InvalidInput("expected certificates in PEM, and nothing else")
    return found


def _roots(name: str, content: bytes) -> Resource:
    _certificates(content)
    secret = secret_pb2.Secret(name=name)
    secret.validation_context.trusted_ca.inline_bytes = content
    return resource(name, secret)


def _pair(name: str, chain: bytes, key: bytes, now: datetime) -> Resource:
    leaf, *_ = _certificates(chain)
    try:
        private = serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidInput("the key cannot be read: expected one in PEM, without a password") from error
    if private.public_key() != leaf.public_key():
        raise InvalidInput("the key is not the certificate's")
    if leaf.not_valid_after_utc <= now:
        raise InvalidInput(f"the certificate expired at {leaf.not_valid_after_utc.isoformat()}")
    secret = secret_pb2.Secret(name=name)
    secret.tls_certificate.certificate_chain.inline_bytes = chain
    secret.tls_certificate.private_key.inline_bytes = key
    uris: list[str] = []
    with suppress(x509.ExtensionNotFound, ValueError):
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return replace(
        resource(name, secret),
        spiffe_id=uris[0] if len(uris) == 1 else "",
        serial=f"{leaf.serial_number:032x}",
        not_after=leaf.not_valid_after_utc,
    )
