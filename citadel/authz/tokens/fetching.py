"""Fetching key sets over HTTP, from whoever a policy names, without being led to where nobody meant us to go.

HTTPS, unless the configuration allows the host; no redirects, no proxies from the environment, no compression; a bound
on size and on time. The host is resolved once, every address is checked, and the connection goes to an address that was
checked (TLS still speaks to, and verifies, the name): a name server that answers differently the second time gains
nothing.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from types import TracebackType
from typing import TYPE_CHECKING, Self

from citadel.authz.tokens.keys import MAX_KEY_SET
from citadel.authz.tokens.ports import Resolver
from citadel.authz.tokens.refusals import KeysUnavailable

if TYPE_CHECKING:
    import httpx  # which costs every start a tenth of a second: imported when something is fetched

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

LOOPBACK: tuple[Network, ...] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_NEVER: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "169.254.0.0/16",  # link-local, and the metadata service of most clouds
        "100.100.100.200/32",  # metadata: Alibaba
        "192.0.0.192/32",  # metadata: Oracle
        "168.63.129.16/32",  # the host of a virtual machine: Azure
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/128",
        "fe80::/10",
        "fec0::/10",
        "fd00:ec2::254/128",  # metadata: AWS
        "fd20:ce::254/128",  # metadata: Google
        "ff00::/8",
    )
)
_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))  # RFC 6052, RFC 8215
_ADDRESSES_TRIED = 3


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """What may be fetched. The default is for keys that lie anywhere but on this machine."""

    plain_http_hosts: frozenset[str] = frozenset()
    """Hosts (in lower case, without port) that may be asked without TLS."""
    refused_networks: tuple[Network, ...] = LOOPBACK
    """Addresses that are never connected to; besides, always: link-local, multicast, reserved and cloud metadata."""
    longest: int = MAX_KEY_SET
    """Bytes of an answer."""

    def refuses(self, address: Address) -> bool:
        return any(
            one in network
            for one in _meanings(address)
            for network in (*_NEVER, *self.refused_networks)
            if network.version == one.version
        )


def _meanings(address: Address) -> list[Address]:
    """The address, and the IPv4 address that it may lead to."""
    if isinstance(address, IPv4Address):
        return [address]
    inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if any(address in network for network in _NAT64) or int(address) >> 32 == 0:  # and "IPv4-compatible"
        inner.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return [address.__class__(int(address)), *(one for one in inner if one is not None)]


async def system_resolver(host: str, port: int) -> Sequence[Address]:
    """Contract: ports.Resolver, by the system's own resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ip_address(str(one[4][0]).partition("%")[0]) for one in found))


class HttpFetch:
    """Contract: ports.Fetch. An async context manager: its connections are closed at the end."""

    def __init__(
        self,
        policy: FetchPolicy | None = None,
        tls: ssl.SSLContext | None = None,
        resolver: Resolver = system_resolver,
    ) -> None:
        self._policy = policy or FetchPolicy()
        self._resolver = resolver
        self._tls = tls
        self._made: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        if self._made is not None:
            await self._made.aclose()

    @property
    def _client(self) -> httpx.AsyncClient:
        import httpx

        if self._made is None:
            self._made = httpx.AsyncClient(
                verify=self._tls or ssl.create_default_context(),
                trust_env=False,
                follow_redirects=False,
                headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "citadel"},
                limits=httpx.Limits(max_connections=32, max_keepalive_connections=0),  # each connection checked anew
            )
        return self._made

    async def __call__(self, url: str, *, timeout: float) -> bytes:
        """Contract: ports.Fetch."""
        import httpx

        try:
            async with asyncio.timeout(timeout):
                return await self._fetch(_parsed(url), timeout)
        except TimeoutError:
            raise _failed(url, f"no whole answer within {timeout:g} s") from None
        except httpx.HTTPError as error:
            raise _failed(url, f"{type(error).__name__}: {error}") from None
        except (OSError, UnicodeError, ValueError) as error:
            raise _failed(url, str(error)) from None

    async def _fetch(self, url: httpx.URL, timeout: float) -> bytes:
        import httpx

        failure: Exception | None = None
        for address in (await self._addresses(url))[:_ADDRESSES_TRIED]:
            try:
                return await self._fetch_from(address, url, timeout)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
        raise failure or OSError("the host has no address")

    async def _addresses(self, url: httpx.URL) -> Sequence[Address]:
        """Where to connect to. Raises ValueError if even one address is refused: the name is not to be trusted."""
        host = url.host.lower().rstrip(".")
        if url.scheme != "https" and not (url.scheme == "http" and host in self._policy.plain_http_hosts):
            raise ValueError("only https is asked, unless the configuration allows plain http for this host")
        if url.userinfo:
            raise ValueError("a URL with a password in it is not asked")
        port = url.port or (443 if url.scheme == "https" else 80)
        addresses = await self._resolver(host, port)
        for address in addresses:
            if self._policy.refuses(address):
                raise ValueError(f"{host} has the address {address}, which the configuration refuses")
        return addresses

    async def _fetch_from(self, address: Address, url: httpx.URL, timeout: float) -> bytes:
        request = self._client.build_request(
            "GET",
            url.copy_with(host=str(address)),
            headers={"Host": url.netloc.decode("ascii")},
            extensions={"sni_hostname": url.raw_host.decode("ascii").strip("[]").rstrip(".")},
            timeout=timeout,
        )
        response = await self._client.send(request, stream=True)
        try:
            if response.status_code != 200:
                raise ValueError(f"it answered {response.status_code}; redirects are not followed")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise ValueError("it answered with compression, which was not asked for")
            body = bytearray()
            async for part in response.aiter_raw():
                body += part
                if len(body) > self._policy.longest:
                    raise ValueError(f"the answer has more than {self._policy.longest} bytes")
            return bytes(body)
        finally:
            await response.aclose()


def _parsed(url: str) -> httpx.URL:
    import httpx

    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        raise ValueError("it is not a URL") from None
    if not parsed.host:
        raise ValueError("the URL has no host")
    if parsed.port is not None and not 0 < parsed.port < 65536:
        raise ValueError("the URL has a port that cannot be")
    return parsed


def _failed(url: str, why: str) -> KeysUnavailable:
    place = url.partition("?")[0].partition("#")[0]
    scheme, separator, rest = place.partition("://")
    place = scheme + separator + rest.rpartition("@")[2]
    return KeysUnavailable(f"{place[:200]!r} could not be read: {why[:300]}")
