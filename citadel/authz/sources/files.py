"""Policies from files, directories and standard input: what is read, and how much of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from citadel.authz.load import PolicyDocuments, SourceText, load
from citadel.authz.load.text import MAX_FILE_BYTES
from citadel.errors import BadFile, Mistake

MAX_FILES = 20_000
MAX_TOTAL_BYTES = 256 * 1024 * 1024
SUFFIXES = (".yaml", ".yml", ".json")
"""What is read of a directory. A file that is named itself may have any name."""
TESTS = ("_test.yaml", "_test.yml")
"""Tables of decisions lie beside policies, and are none."""
STDIN = "-"
_PIECE = 1 << 20


def load_paths(
    paths: Iterable[str | Path],
    *,
    stdin: BinaryIO | None = None,
    default_namespace: str = "default",
    previous: PolicyDocuments | None = None,
) -> PolicyDocuments:
    """Read and load files, directories, and with `-` standard input. Blocks.

    Of a directory everything below it that ends in .yaml, .yml or .json is read, except what is hidden and tables of
    decisions (`*_test.yaml`). A Kubernetes volume is read as the one version that it has at the start.

    Raises BadFile with everything that cannot be read and every mistake in the rest.
    """
    texts, unreadable = read_paths(paths, stdin=stdin)
    try:
        documents = load(texts, default_namespace=default_namespace, previous=previous)
    except BadFile as error:
        raise BadFile([*unreadable, *error.mistakes]) from None
    if unreadable:
        raise BadFile(unreadable)
    return documents


def read_paths(paths: Iterable[str | Path], *, stdin: BinaryIO | None = None) -> tuple[list[SourceText], list[Mistake]]:
    """The bytes of all files, sorted by path within a directory, each once; and what could not be read. Blocks."""
    texts: list[SourceText] = []
    mistakes: list[Mistake] = []
    seen: set[str] = set()
    folders: dict[str, str] = {}
    total = 0
    for name, path, named in _files(paths, mistakes):
        try:
            if path is None:
                content = _bounded(stdin, name) if stdin is not None else b""
            else:
                real = _real(path, folders)
                if real in seen:
                    continue
                seen.add(real)
                content = _read(path, name, named=named)
        except BadFile as error:
            mistakes.extend(error.mistakes)
            continue
        except OSError as error:
            mistakes.append(Mistake(name, "", f"it cannot be read: {error.strerror}"))
            continue
        total += len(content)
        if total > MAX_TOTAL_BYTES or len(texts) >= MAX_FILES:
            limit = f"{MAX_FILES} files and {MAX_TOTAL_BYTES // 2**20} MiB"
            mistakes.append(Mistake(name, "", f"with it there are more than {limit} of policies; reading stopped here"))
            break
        texts.append(SourceText(name, content))
    return texts, mistakes


def _real(path: Path, folders: dict[str, str]) -> str:
    """The path without symbolic links. `folders` are those that are known; of ten thousand files most share one."""
    folder, name = os.path.split(path)
    if not name or name == ".." or path.is_symlink():
        return os.path.realpath(path)
    real = folders.get(folder)
    if real is None:
        real = folders[folder] = os.path.realpath(folder)
    return f"{real}/{name}"


def files_of(path: Path) -> list[tuple[str, Path]]:
    """The files that `load_paths` would read for `path`, by the names that a user knows them by. Blocks."""
    return [(name, file) for name, file, _ in _files([path], []) if file is not None]


def _files(paths: Iterable[str | Path], mistakes: list[Mistake]) -> Iterator[tuple[str, Path | None, bool]]:
    """Each file as (the name that a user knows it by, where it is, whether it was named itself)."""
    for given in paths:
        if str(given) == STDIN:
            yield "<stdin>", None, True
        elif Path(given).is_dir():
            yield from ((name, path, False) for name, path in _below(Path(given), mistakes))
        else:
            yield str(given), Path(given), True


def _below(directory: Path, mistakes: list[Mistake]) -> Iterator[tuple[str, Path]]:
    """The files of a directory. In a Kubernetes volume `..data` points to the version in force: only that is read."""
    version = directory / "..data"
    root = Path(os.path.realpath(version)) if version.is_symlink() else directory
    visited: set[str] = set()

    def unreadable(error: OSError) -> None:
        mistakes.append(Mistake(str(error.filename), "", f"it cannot be read: {error.strerror}"))

    for folder, folders, files in os.walk(root, onerror=unreadable, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:  # symbolic links that lead in a circle
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        prefix = str(directory / Path(folder).relative_to(root) / "_")[:-1]
        for name in sorted(files):
            if name.endswith(SUFFIXES) and not name.endswith(TESTS) and not name.startswith("."):
                yield prefix + name, Path(folder, name)


def _read(path: Path, name: str, *, named: bool) -> bytes:
    """The bytes of a file. What a user named may be a pipe; what lies in a directory is waited for by nobody."""
    wait = 0 if named else os.O_NONBLOCK
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | wait)
    with open(descriptor, "rb") as file:
        if not named and not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BadFile([Mistake(name, "", "it is not a regular file")])
        return _bounded(file, name)


def _bounded(file: BinaryIO, name: str) -> bytes:
    """All of it, by its size: a buffer for the largest file that there may be costs more than reading a small one."""
    try:
        content = file.read(min(os.fstat(file.fileno()).st_size, MAX_FILE_BYTES) + 1)
    except (OSError, ValueError):  # a stream without a descriptor
        content = b""
    while len(content) <= MAX_FILE_BYTES and (more := file.read(min(_PIECE, MAX_FILE_BYTES + 1 - len(content)))):
        content += more
    if len(content) > MAX_FILE_BYTES:
        raise BadFile([Mistake(name, "", f"it is larger than {MAX_FILE_BYTES // 2**20} MiB")])
    return content
