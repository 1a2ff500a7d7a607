"""Where key-encryption keys lie: a file with its successor and its predecessor beside it, or credentials of systemd.

    kek            in force
    kek.next       staged: to take its place
    kek.previous   whose place it took, until `citadel keys forget`

A kill between any two steps leaves the current key where it was, whole.
"""

from __future__ import annotations

import base64
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from citadel.ca.files import read_secret
from citadel.ca.kek import LocalKek, credential_kek, decode, file_kek
from citadel.ca.kek_ring import KekRing
from citadel.durable import replace_file, sync_folder
from citadel.errors import AlreadyExists, FailedPrecondition, NotFound, PermissionDenied


class KekPlace(Protocol):
    """Implementations: FilePlace, CredentialPlace. Every change is durable on return."""

    def load(self) -> KekRing:
        """All keys that are there. Raises as kek.file_kek."""

    def stage(self, given: Path | None) -> LocalKek:
        """Put the key in the file `given`, or a new one, beside the current one. Raises AlreadyExists if another one
        is there; FailedPrecondition if it is the current one, or keys are not ours to place; as kek.file_kek."""

    def promote(self) -> bool:
        """The staged key takes the current one's place, which is kept as the previous one. False: only the operator
        can do that."""

    def forget(self) -> None:
        """The previous key is gone. Raises FailedPrecondition if only the operator can do that."""


class FilePlace:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = path.with_name(path.name + ".next")
        self._previous = path.with_name(path.name + ".previous")

    def load(self) -> KekRing:
        current = file_kek(self._path)
        previous = self._read(self._previous)
        if previous is not None and previous.id == current.id:
            previous = None  # killed between the two steps of `promote`
        return KekRing(current, staged=self._read(self._next), previous=previous)

    def stage(self, given: Path | None) -> LocalKek:
        there = self._read(self._next)
        content = read_secret(given) if given is not None else base64.b64encode(secrets.token_bytes(32)) + b"\n"
        wanted = decode(content, given) if given is not None else None
        if wanted is not None and wanted.id == file_kek(self._path).id:
            raise FailedPrecondition(f"{given} holds the key that is in force already", mend="give another one")
        if there is not None:
            if wanted is not None and wanted.id != there.id:
                raise AlreadyExists(f"another key is staged already, {self._next}", mend="go on with that one")
            return there
        self._write(content)
        return file_kek(self._next)

    def promote(self) -> bool:
        file_kek(self._next)  # what takes the place is what lies there
        try:
            with suppress(FileExistsError):
                os.link(self._path, self._previous)
            if file_kek(self._previous).id != file_kek(self._path).id:
                raise FailedPrecondition(
                    f"{self._previous} still holds an older key", mend="run first: citadel keys forget"
                )
            sync_folder(self._path.parent)
            self._next.rename(self._path)
            sync_folder(self._path.parent)
        except OSError as error:
            raise _unwritable(self._path, error) from error
        return True

    def forget(self) -> None:
        try:
            self._previous.unlink(missing_ok=True)
            sync_folder(self._path.parent)
        except OSError as error:
            raise _unwritable(self._previous, error) from error

    def _read(self, path: Path) -> LocalKek | None:
        try:
            return file_kek(path)
        except NotFound:
            return None

    def _write(self, content: bytes) -> None:
        try:
            replace_file(self._next, content)
        except OSError as error:
            raise _unwritable(self._next, error) from error


class CredentialPlace:
    """The credential NAME, with its successor as NAME.next and its predecessor as NAME.previous, all placed by the
    operator."""

    def __init__(self, name: str, directory: str | None) -> None:
        self._name = name
        self._directory = directory

    def load(self) -> KekRing:
        current = credential_kek(self._name, self._directory)
        return KekRing(current, staged=self._read("next"), previous=self._read("previous"))

    def stage(self, given: Path | None) -> LocalKek:
        staged = self._read("next")
        if given is not None or staged is None:
            raise FailedPrecondition(
                "the key-encryption key is a credential of systemd, which Citadel cannot place",
                mend=f"add LoadCredential={self._name}.next:FILE with the new key, restart, and run this again "
                "without --key",
            )
        if staged.id == credential_kek(self._name, self._directory).id:
            raise FailedPrecondition(f"{self._name}.next holds the key that is in force already", mend="remove it")
        return staged

    def promote(self) -> bool:
        return False

    def forget(self) -> None:
        if self._read("previous") is not None:
            raise FailedPrecondition(
                f"the credential {self._name}.previous is not ours to remove", mend="remove its LoadCredential="
            )

    def _read(self, suffix: str) -> LocalKek | None:
        try:
            return credential_kek(f"{self._name}.{suffix}", self._directory)
        except NotFound:
            return None


def _unwritable(path: Path, error: OSError) -> PermissionDenied:
    return PermissionDenied(f"{path} cannot be replaced: {error.strerror}", mend="check who owns its folder")


__all__ = ["CredentialPlace", "FilePlace", "KekPlace"]
