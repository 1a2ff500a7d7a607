"""The kinds of value that settings have: each is read from text once, and is right from then on.

Paths: `DATA_DIR/...` lies under `data_dir`; any other relative path is taken from the folder of the configuration file.
The loader passes both folders as pydantic's validation context (`Places`).
"""

from __future__ import annotations

import grp
import ipaddress
import os
import pwd
import re
import shlex
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta, tzinfo
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict
from urllib.parse import urlsplit

from pydantic import BeforeValidator, ByteSize, PlainSerializer, PlainValidator, ValidationInfo

from citadel.config.durations import format_duration, parse_duration
from citadel.errors import CitadelError
from citadel.quiet_hours import QuietRange, time_zone
from citadel.spiffe import SpiffeId, TrustDomain

DATA_DIR = "DATA_DIR"
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MAX_SOCKET_PATH = 107  # sockaddr_un.sun_path holds 108 bytes with its final zero (unix(7))

#: Kinds of key, in SPIRE's names; the same as ca.keys.KeyType.
KeyTypeName = Literal["ec-p256", "ec-p384", "rsa-2048", "rsa-3072", "rsa-4096"]

_STEPS = ("prepare", "activate", "remove")  # the same as ca.rotation.hooks.Checked


class Places(TypedDict):
    """Where relative paths start: the configuration file's folder, and `data_dir`. Both absolute."""

    base: Path
    data_dir: Path


@dataclass(frozen=True, slots=True)
class SecretSource:
    """Where a secret is read from: never the secret itself.

    `path`: a file of mode 0600 (`file`), or one in the folder that systemd's LoadCredential= names (`credential`).
    """

    kind: Literal["file", "credential"]
    where: str  # an absolute path, or the credential's name

    def __str__(self) -> str:
        return f"{self.kind}:{self.where}"


@dataclass(frozen=True, slots=True)
class TransitKey:
    """A key of Vault's transit engine, where it is mounted and what it is called."""

    mount: str
    name: str

    def __str__(self) -> str:
        return f"vault-transit:{self.mount}/{self.name}"


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """A TCP address to listen on. IPv6 hosts are without brackets."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        return ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class HeaderLine:
    """A response header; `{reason}` and the like in its text are filled in."""

    name: str  # in lower case
    text: str

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


def _from_text(read: Callable[[str], Any], *ready: type) -> Callable[[Any], Any]:
    """A validator that takes text (or what is already of a type in `ready`), and turns our errors into pydantic's."""

    def validate(value: Any) -> Any:
        if isinstance(value, ready):
            return value
        if not isinstance(value, str):
            raise ValueError(f"expected text, not {value!r}")
        try:
            return read(value)
        except CitadelError as error:
            raise ValueError(error.message) from error

    return validate


def _node_name(text: str) -> str:
    SpiffeId.of(TrustDomain("td"), text)
    if "/" in text:
        raise ValueError(f"{text!r} has a slash; a node's name is one segment of a SPIFFE ID's path")
    return text


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


def _path(value: Any, info: ValidationInfo) -> Path:
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
    return tuple(dict.fromkeys(_path(item, info) for item in items))


def _optional_path(value: Any, info: ValidationInfo) -> Path | None:
    return None if value in (None, "") else _path(value, info)


def _socket_path(value: Any, info: ValidationInfo) -> Path:
    path = _path(value, info)
    size = len(os.fsencode(path))
    if size > MAX_SOCKET_PATH:
        raise ValueError(
            f"{str(path)!r} has {size} bytes, and the kernel takes at most {MAX_SOCKET_PATH} for a socket's path; "
            "choose a shorter one"
        )
    return path


def _secret_source(value: Any, info: ValidationInfo) -> SecretSource | None:
    if value is None or isinstance(value, SecretSource):
        return value
    expected = "it must be file:PATH or credential:NAME"  # what was written is not shown: it may be the secret itself
    if not isinstance(value, str):
        raise ValueError(expected)
    kind, colon, where = value.partition(":")
    if kind == "credential" and colon:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", where):
            raise ValueError("a credential's name has letters, digits, '.', '_' and '-' only")
        return SecretSource("credential", where)
    if kind == "file" and colon:
        return SecretSource("file", str(_path(where, info)))
    raise ValueError(expected)


def _kek_source(value: Any, info: ValidationInfo) -> SecretSource | TransitKey | None:
    if isinstance(value, TransitKey):
        return value
    if isinstance(value, str) and value.startswith("vault-transit"):
        mount, _, name = _vault_path(value.removeprefix("vault-transit").removeprefix(":")).rpartition("/")
        if not mount or not name:
            raise ValueError(
                "a transit key is written as vault-transit:MOUNT/NAME, such as vault-transit:transit/citadel"
            )
        return TransitKey(mount, name)
    try:
        return _secret_source(value, info)
    except ValueError as error:
        raise ValueError(f"{error}, or vault-transit:MOUNT/NAME") from None


def _optional_secret_source(value: Any, info: ValidationInfo) -> SecretSource | None:
    return None if value == "" else _secret_source(value, info)


def _urls(value: Any) -> tuple[str, ...]:
    items = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise ValueError(f"expected a list of addresses, not {value!r}")
    return tuple(dict.fromkeys(_url(item) for item in items))


def _url(item: Any) -> str:
    """`https://host:port`; without TLS only on this machine."""
    parts = None
    if isinstance(item, str):
        with suppress(ValueError):
            parts = urlsplit(item.rstrip("/"))
            _ = parts.port
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{item!r} is not an address such as https://vault.example.org:8200")
    if parts.path or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(f"{parts.hostname!r}: an address has a scheme, a host and a port only")
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise ValueError(f"{item!r} would send secrets in the clear; use https")
    return f"{parts.scheme}://{parts.netloc}"


def _webhook(value: Any) -> str:
    """`https://host[:port]/path`; without TLS only on this machine."""
    if not value:
        return ""
    parts = None
    if isinstance(value, str):
        with suppress(ValueError):
            parts = urlsplit(value)
            _ = parts.port
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{value!r} is not an address such as https://gate.example.org/rotation")
    if "@" in parts.netloc:
        raise ValueError("an address in a configuration file holds no password; use webhook_secret")
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise ValueError(f"{value!r} would be asked in the clear, and anybody on the way could answer; use https")
    return str(value)


def _command(value: Any) -> tuple[str, ...]:
    """A program's absolute path, and its arguments. Text is split as a shell would, and run without one."""
    items = shlex.split(value) if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) and "\0" not in item for item in items):
        raise ValueError(f"expected a list of a program and its arguments, not {value!r}")
    if items and not items[0].startswith("/"):
        raise ValueError(f"{items[0]!r} is not the absolute path of a program")
    return tuple(items)


def _part(value: Any) -> float:
    """A part of a life, in percent (`80%`) or as a number from 0 to 1."""
    text = value.strip() if isinstance(value, str) else value
    try:
        if isinstance(text, bool):
            raise ValueError
        part = float(text.removesuffix("%")) / 100 if isinstance(text, str) and text.endswith("%") else float(text)
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is not a part of a life; write it as 80%") from None
    if not 0 <= part <= 1:
        raise ValueError(f"{value!r} is not a part of a life: it goes from 0% to 100%")
    return part


def _step(text: str) -> str:
    if text not in _STEPS:
        raise ValueError(f"{text!r} is no step that is asked about; expected {', '.join(_STEPS)}")
    return text


def _write_part(part: float) -> str:
    return f"{part * 100:g}%"


def _vault_path(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"(?:[A-Za-z0-9_.:-]+/?)*", value) or ".." in value:
        raise ValueError(f"{value!r} is not a path or name in Vault: letters, digits, '_', '.', ':', '-' and '/'")
    return value.strip("/")


def _listen(text: str) -> ListenAddress:
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)|(localhost)):(\d{1,5})", text)
    try:
        if match is None:
            raise ValueError
        host = ipaddress.ip_address(match[1] or match[2] or "127.0.0.1")
        port = int(match[4])
    except ValueError:
        raise ValueError(f"{text!r} is not an address and port, such as 127.0.0.1:8080 or [::1]:8080") from None
    if not 0 < port < 65536:
        raise ValueError(f"{port} is not a port; ports go from 1 to 65535")
    return ListenAddress(str(host), port)


def _optional_listen(text: str) -> ListenAddress | None:
    return _listen(text) if text else None


_HEADER_FACTS = ("reason", "policy", "id", "version")
_NO_HEADERS = frozenset(
    ["connection", "content-length", "content-type", "host", "transfer-encoding", "upgrade", "date"]
)


def _header_line(line: str) -> HeaderLine:
    name, colon, text = line.partition(":")
    text = text.strip()
    if not colon or not text or not re.fullmatch(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]{1,128}", name):
        raise ValueError(f"{line[:100]!r} is not a header, such as 'x-denied-by: {{policy}}'")
    if name.lower() in _NO_HEADERS:
        raise ValueError(f"{name!r} is not a header that a denial can set")
    if unknown := [fact for fact in re.findall(r"\{([^{}]*)\}", text) if fact not in _HEADER_FACTS]:
        raise ValueError(f"{{{unknown[0]}}} is none of {', '.join(f'{{{fact}}}' for fact in _HEADER_FACTS)}")
    if not text.isascii() or not text.isprintable():
        raise ValueError(f"{line[:100]!r} has characters that do not belong into a header")
    return HeaderLine(name.lower(), text)


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a network, such as 10.0.0.0/8: {error}") from None


def _host_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?", text):
        raise ValueError(f"{text!r} is not a host's name")
    return text.lower()


def _header_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}", text):
        raise ValueError(f"{text!r} is not the name of a header")
    return text.lower()


def _several(read: Callable[[str], Any], noun: str, *ready: type) -> Callable[[Any], tuple[Any, ...]]:
    """A validator of a list of what `read` makes of text; text alone is split at commas."""

    def validate(value: Any) -> tuple[Any, ...]:
        items = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        if not isinstance(items, list | tuple):
            raise ValueError(f"expected a list of {noun}, not {value!r}")
        return tuple(dict.fromkeys(_from_text(read, *ready)(item) for item in items))

    return validate


def _ids(lookup: Callable[[str], int], noun: str) -> Callable[[Any], tuple[int, ...]]:
    def read(value: Any) -> tuple[int, ...]:
        items = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        if not isinstance(items, list | tuple):
            raise ValueError(f"expected a list of {noun} names or numbers, not {value!r}")
        return tuple(sorted({one(item) for item in items}))

    def one(item: Any) -> int:
        if isinstance(item, bool) or not isinstance(item, int | str):
            raise ValueError(f"{item!r} is neither the name nor the number of a {noun}")
        if isinstance(item, int) or item.isdecimal():
            number = int(item)
            if number > 0xFFFFFFFE or number < 0:
                raise ValueError(f"{number} is not the number of a {noun}")
            return number
        try:
            return lookup(item)
        except KeyError:
            raise ValueError(f"this machine has no {noun} {item!r}") from None

    return read


def _group(text: str) -> int:
    return grp.getgrnam(text).gr_gid


def _user(text: str) -> int:
    return pwd.getpwnam(text).pw_uid


def _optional_group(value: Any) -> int | None:
    return None if value in (None, "") else _ids(_group, "group")([value])[0]


def _caller(text: str) -> str:
    """`uid:N`, `gid:N` with the number of what was named, or a SPIFFE ID."""
    kind, colon, name = text.partition(":")
    ids = {"uid": (_user, "user"), "gid": (_group, "group")}.get(kind)
    if colon and ids is not None:
        lookup, noun = ids
        return f"{kind}:{_ids(lookup, noun)([name])[0]}"
    if text.startswith("spiffe://"):
        return SpiffeId.parse(text).uri
    raise ValueError(f"{text!r} names nobody; expected uid:NAME, gid:NAME or a SPIFFE ID")


def _optional_spiffe_id(text: str) -> SpiffeId | None:
    return SpiffeId.parse(text) if text else None


def _optional_socket_path(value: Any, info: ValidationInfo) -> Path | None:
    return None if value in (None, "") else _socket_path(value, info)


def _optional_https_url(value: Any) -> str:
    if value == "":
        return ""
    url = _url(value)
    if not url.startswith("https:"):
        raise ValueError(f"{value!r} must begin with https://")
    return url


def _write_mode(mode: int) -> str:
    return f"{mode:04o}"


def _write_size(size: ByteSize) -> str:
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(int(size))


def _write_paths(paths: tuple[Path, ...]) -> list[str]:
    return list(map(str, paths))


def _write_texts(values: tuple[object, ...]) -> list[str]:
    return list(map(str, values))


def _or_empty(value: object) -> str:
    return "" if value is None else str(value)


_AS_TEXT = PlainSerializer(_or_empty, return_type=str)
_MODE_AS_TEXT = PlainSerializer(_write_mode, return_type=str)

Duration = Annotated[
    timedelta,
    PlainValidator(_from_text(parse_duration, timedelta)),
    PlainSerializer(format_duration, return_type=str),
]
TrustDomainName = Annotated[TrustDomain, PlainValidator(_from_text(TrustDomain.parse, TrustDomain)), _AS_TEXT]
TrustDomainNames = Annotated[
    tuple[TrustDomain, ...],
    PlainValidator(_several(TrustDomain.parse, "trust domains", TrustDomain)),
    PlainSerializer(_write_texts, return_type=list),
]
SpiffeIds = Annotated[
    tuple[SpiffeId, ...],
    PlainValidator(_several(SpiffeId.parse, "SPIFFE IDs", SpiffeId)),
    PlainSerializer(_write_texts, return_type=list),
]
HeaderLines = Annotated[
    tuple[HeaderLine, ...],
    PlainValidator(_several(_header_line, "headers", HeaderLine)),
    PlainSerializer(_write_texts, return_type=list),
]
Networks = Annotated[
    tuple[Network, ...],
    PlainValidator(_several(_network, "networks", ipaddress.IPv4Network, ipaddress.IPv6Network)),
    PlainSerializer(_write_texts, return_type=list),
]
HostNames = Annotated[
    tuple[str, ...], PlainValidator(_several(_host_name, "host names")), PlainSerializer(_write_texts, return_type=list)
]
Callers = Annotated[
    tuple[str, ...], PlainValidator(_several(_caller, "callers")), PlainSerializer(list, return_type=list)
]
OptionalSpiffeId = Annotated[
    SpiffeId | None, PlainValidator(_from_text(_optional_spiffe_id, SpiffeId, type(None))), _AS_TEXT
]
OptionalHttpsUrl = Annotated[str, PlainValidator(_optional_https_url)]
HeaderNames = Annotated[
    tuple[str, ...], PlainValidator(_several(_header_name, "headers")), PlainSerializer(_write_texts, return_type=list)
]
NodeName = Annotated[str, PlainValidator(_from_text(_node_name))]
FileMode = Annotated[int, PlainValidator(_mode), _MODE_AS_TEXT]
AbsolutePath = Annotated[Path, PlainValidator(_path), _AS_TEXT]
OptionalPath = Annotated[Path | None, PlainValidator(_optional_path), _AS_TEXT]
Paths = Annotated[tuple[Path, ...], PlainValidator(_paths), PlainSerializer(_write_paths, return_type=list)]
SocketPath = Annotated[Path, PlainValidator(_socket_path), _AS_TEXT]
OptionalSocketPath = Annotated[Path | None, PlainValidator(_optional_socket_path), _AS_TEXT]
Secret = Annotated[SecretSource, PlainValidator(_secret_source), _AS_TEXT]
Kek = Annotated[SecretSource | TransitKey, PlainValidator(_kek_source), _AS_TEXT]
OptionalSecret = Annotated[SecretSource | None, PlainValidator(_optional_secret_source), _AS_TEXT]
OptionalListen = Annotated[
    ListenAddress | None, PlainValidator(_from_text(_optional_listen, ListenAddress, type(None))), _AS_TEXT
]
Urls = Annotated[tuple[str, ...], PlainValidator(_urls), PlainSerializer(list, return_type=list)]
WebhookUrl = Annotated[str, PlainValidator(_webhook)]
Command = Annotated[tuple[str, ...], PlainValidator(_command), PlainSerializer(list, return_type=list)]
Part = Annotated[float, PlainValidator(_part), PlainSerializer(_write_part, return_type=str)]
Quiet = Annotated[
    tuple[QuietRange, ...],
    PlainValidator(_several(QuietRange.parse, "quiet hours", QuietRange)),
    PlainSerializer(_write_texts, return_type=list),
]
Steps = Annotated[
    tuple[str, ...],
    PlainValidator(_several(_step, "steps", tuple)),
    PlainSerializer(list, return_type=list),
]
TimeZone = Annotated[tzinfo, PlainValidator(_from_text(time_zone, tzinfo)), _AS_TEXT]
VaultPath = Annotated[str, PlainValidator(_vault_path)]
Users = Annotated[tuple[int, ...], BeforeValidator(_ids(_user, "user"))]
OptionalGroup = Annotated[int | None, PlainValidator(_optional_group), _AS_TEXT]
Groups = Annotated[tuple[int, ...], BeforeValidator(_ids(_group, "group"))]
Size = Annotated[ByteSize, PlainSerializer(_write_size, return_type=str)]
