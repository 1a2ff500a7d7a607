"""Addresses to listen on and to call, hosts and networks."""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import PlainSerializer, PlainValidator

from citadel.config.values.reading import AS_TEXT, from_text, several, write_texts

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


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


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a network, such as 10.0.0.0/8: {error}") from None


def _host_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?", text):
        raise ValueError(f"{text!r} is not a host's name")
    return text.lower()


def _optional_https_url(value: Any) -> str:
    if value == "":
        return ""
    url = _url(value)
    if not url.startswith("https:"):
        raise ValueError(f"{value!r} must begin with https://")
    return url


def _optional_https_document(value: Any) -> str:
    """`https://host/path`, as it is written: an issuer is told from others by every character of it."""
    if value == "":
        return ""
    parts = None
    if isinstance(value, str) and re.fullmatch(r"[!-~]+", value):
        with suppress(ValueError):
            parts = urlsplit(value)
            _ = parts.port
    if parts is None or parts.scheme != "https" or not parts.hostname:
        raise ValueError(f"{value!r} is not an address such as https://idp.example.org/realms/shop")
    if "@" in parts.netloc or parts.fragment:
        raise ValueError(f"{parts.hostname!r}: such an address has no password and no fragment")
    return str(value)


Networks = Annotated[
    tuple[Network, ...],
    PlainValidator(several(_network, "networks", ipaddress.IPv4Network, ipaddress.IPv6Network)),
    PlainSerializer(write_texts, return_type=list),
]
HostNames = Annotated[
    tuple[str, ...], PlainValidator(several(_host_name, "host names")), PlainSerializer(write_texts, return_type=list)
]
OptionalHttpsDocument = Annotated[str, PlainValidator(_optional_https_document)]
OptionalHttpsUrl = Annotated[str, PlainValidator(_optional_https_url)]
OptionalListen = Annotated[
    ListenAddress | None, PlainValidator(from_text(_optional_listen, ListenAddress, type(None))), AS_TEXT
]
Urls = Annotated[tuple[str, ...], PlainValidator(_urls), PlainSerializer(list, return_type=list)]
