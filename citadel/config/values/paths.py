"""Paths of files, folders and sockets, and file modes.

`DATA_DIR/...` lies under `data_dir`; any other relative path is taken from the folder of the configuration file. The
loader passes both folders as pydantic's validation context (`Places`).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, TypedDict

from pydantic import PlainSerializer, PlainValidator, ValidationInfo

from citadel.config.values.reading import AS_TEXT

DATA_DIR = "DATA_DIR"
MAX_SOCKET_PATH = 107  # sockaddr_un.sun_path holds 108 bytes with its final zero (unix(7))


class Places(TypedDict):
    """Where relative paths start: the configuration file's folder, and `data_dir`. Both absolute."""

    base: Path
    data_dir: Path


def _mode(value: Any) -> int:
    """A file mode as chmod takes it, in octal: "0660"; with TOML's own octal (0o660) it is a number already."""
    if isinstance(value, int) and not isinstance(value, bool):
        mode = value
    elif isinstance(value, str) and re.fullmatch(r"(0o)?[0-7]{3,4}", value):
        mode = int(value.removeprefix("0o"), 8)
    else:
        raise ValueError(f'{value!r} is not a file mode; write it in octal and quotes, as in "0660"')
    if not 0 <= mode <= 0o777:
        raise ValueError(f'{value!r} is not a file mode; write it in octal and quotes, as in "0660"')
    return mode


def _absolute(text: str, places: Places | None) -> Path:
    if not text:
        raise ValueError("the path is empty")
    if "\0" in text:
        raise ValueError("a path cannot hold a zero byte")
    first, _, rest = text.partition("/")
    if first == DATA_DIR and places is not None:
        path = places["data_dir"] / rest
    elif places is not None:
        path = places["base"] / Path(text).expanduser()
    else:
        path = Path(text)
    if not path.is_absolute():
        raise ValueError(f"{text!r} is not an absolute path")
    return Path(os.path.normpath(path))


def read_path(value: Any, info: ValidationInfo) -> Path:
    if not isinstance(value, str | Path):
        raise ValueError(f"expected a path as text, not {value!r}")
    try:
        return _absolute(str(value), info.context)
    except RuntimeError as error:  # ~user of a user who does not exist
        raise ValueError(str(error)) from error


def _paths(value: Any, info: ValidationInfo) -> tuple[Path, ...]:
    items = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise ValueError(f"expected a list of paths, not {value!r}")
    return tuple(dict.fromkeys(read_path(item, info) for item in items))


def _optional_path(value: Any, info: ValidationInfo) -> Path | None:
    return None if value in (None, "") else read_path(value, info)


def _socket_path(value: Any, info: ValidationInfo) -> Path:
    path = read_path(value, info)
    size = len(os.fsencode(path))
    if size > MAX_SOCKET_PATH:
        raise ValueError(
            f"{str(path)!r} has {size} bytes, and the kernel takes at most {MAX_SOCKET_PATH} for a socket's path; "
            "choose a shorter one"
        )
    return path


def _optional_socket_path(value: Any, info: ValidationInfo) -> Path | None:
    return None if value in (None, "") else _socket_path(value, info)


def _write_mode(mode: int) -> str:
    return f"{mode:04o}"


def _write_paths(paths: tuple[Path, ...]) -> list[str]:
    return list(map(str, paths))


_MODE_AS_TEXT = PlainSerializer(_write_mode, return_type=str)
FileMode = Annotated[int, PlainValidator(_mode), _MODE_AS_TEXT]
AbsolutePath = Annotated[Path, PlainValidator(read_path), AS_TEXT]
OptionalPath = Annotated[Path | None, PlainValidator(_optional_path), AS_TEXT]
Paths = Annotated[tuple[Path, ...], PlainValidator(_paths), PlainSerializer(_write_paths, return_type=list)]
SocketPath = Annotated[Path, PlainValidator(_socket_path), AS_TEXT]
OptionalSocketPath = Annotated[Path | None, PlainValidator(_optional_socket_path), AS_TEXT]
