"""Keeps secrets and control characters out of the log, whatever somebody passes to it."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, MutableMapping
from typing import Any

HIDDEN = "***"
_MAX_TEXT = 4096  # characters of one value; what goes on is cut
_MAX_TRACE = 32_768
_MAX_ITEMS = 64
_MAX_DEPTH = 4

_SECRET_WORDS = frozenset(
    {
        "secret",
        "secrets",
        "password",
        "passwd",
        "passphrase",
        "pin",
        "token",
        "tokens",
        "credential",
        "credentials",
        "authorization",
        "cookie",
        "bearer",
        "dsn",
        "kek",
        "plaintext",
    }
)
_SECRET_KEYS = frozenset({"private_key", "api_key", "access_key", "signing_key", "key_pem", "key_der", "pkcs8"})
_PUBLIC_ENDINGS = frozenset({"id", "type", "name", "count", "file", "path", "fingerprint", "kind", "ttl"})

_PEM_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_URL_PASSWORD = re.compile(r"(?<=://)([^\s/@:]*):[^\s/@]+@")
_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_VAULT_TOKEN = re.compile(r"\bhv[sbr]\.[A-Za-z0-9_-]{20,}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_CONTROL_IN_TRACE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # all but tab and newline


@functools.lru_cache(maxsize=1024)
def is_secret(key: str) -> bool:
    """Whether a key by its name holds what must not be read: `vault_token`, but not `token_type` or `kek_id`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower().replace("-", "_").split("_")
    if words[-1] in _PUBLIC_ENDINGS:
        return False
    return not _SECRET_WORDS.isdisjoint(words) or any(name in "_".join(words) for name in _SECRET_KEYS)


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: secrets are hidden, bytes counted, long values cut, control characters escaped.

    Goes last before the renderer, so that tracebacks pass through it too.
    """
    for key, value in list(event.items()):
        if key.startswith("_"):  # structlog's own (`_record`)
            continue
        if type(value) is str and _is_plain(value) and not is_secret(key):
            continue
        event[key] = _trace(value) if key == "exception" else _clean(key, value, 0)
    return event


def _clean(key: str, value: object, depth: int) -> object:
    if is_secret(key) and value not in (None, "", True, False):
        return HIDDEN
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return _CONTROL.sub(_escaped, _hidden(value[: _MAX_TEXT + 1], _MAX_TEXT))
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
        case Mapping() if depth < _MAX_DEPTH:
            items = list(value.items())[:_MAX_ITEMS]
            return {_clean("", str(name), depth): _clean(str(name), item, depth + 1) for name, item in items}
        case list() | tuple() | set() | frozenset() if depth < _MAX_DEPTH:
            return [_clean("", item, depth + 1) for item in list(value)[:_MAX_ITEMS]]
        case _:
            return _clean(key, _text(value), depth)


def _is_plain(text: str) -> bool:
    """True for most values, at a fraction of the patterns' cost: each of them matches only what has one of these."""
    return (
        len(text) <= _MAX_TEXT
        and text.isprintable()  # _CONTROL
        and "@" not in text  # _URL_PASSWORD
        and "eyJ" not in text  # _JWT
        and "hv" not in text  # _VAULT_TOKEN
        and "-----BEGIN" not in text  # _PEM_KEY
    )


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:  # a broken __str__ must not cost us the line
        return f"<{type(value).__name__}>"


def _trace(value: object) -> str:
    return _CONTROL_IN_TRACE.sub(_escaped, _hidden(_text(value), _MAX_TRACE))


def _hidden(text: str, longest: int) -> str:
    text = _PEM_KEY.sub(HIDDEN, text)
    text = _URL_PASSWORD.sub(rf"\1:{HIDDEN}@", text)
    text = _JWT.sub(HIDDEN, text)
    text = _VAULT_TOKEN.sub(HIDDEN, text)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape", "surrogatepass").decode("ascii")
