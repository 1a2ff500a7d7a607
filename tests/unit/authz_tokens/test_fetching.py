"""Fetching of key sets, from a real server with every fault that one may have."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_address, ip_network

import pytest

from citadel.authz.tokens import FetchPolicy, HttpFetch, KeysUnavailable
from citadel.authz.tokens.fetching import Address, Network
from tests.support.key_server import HOST, KeyServer, client_context, key_server

HERE = FetchPolicy(refused_networks=(), longest=100_000)


@pytest.fixture
async def server() -> AsyncIterator[KeyServer]:
    async with key_server() as made:
        made.documents["/keys"] = "the document"
        yield made


async def fetched(server: KeyServer, url: str = "", policy: FetchPolicy = HERE, timeout: float = 10) -> bytes:
    async with HttpFetch(policy, client_context(), server.resolve) as fetch:
        return await fetch(url or server.url(), timeout=timeout)


async def test_a_document_is_read_over_tls_from_the_name_that_the_url_has(server: KeyServer) -> None:
    assert await fetched(server) == b"the document"
    assert server.hosts == [f"{HOST}:{server.port}"]


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("redirect", "302"),
        ("error", "500"),
        ("endless", "more than 100000 bytes"),
        ("closes", "RemoteProtocolError"),
        ("not http", "RemoteProtocolError"),
        ("cut", "RemoteProtocolError"),
        ("compressed", "compression"),
    ],
)
async def test_a_fault_is_told_and_nothing_is_read(server: KeyServer, fault: str, why: str) -> None:
    server.fault = fault
    with pytest.raises(KeysUnavailable, match=why):
        await fetched(server)
    assert server.asked == ["/keys"]  # no redirect is followed


@pytest.mark.parametrize("fault", ["slow", "trickle"])
async def test_a_slow_answer_is_given_up(server: KeyServer, fault: str) -> None:
    server.fault = fault
    async with asyncio.timeout(30):
        with pytest.raises(KeysUnavailable, match=r"no whole answer within 0\.5 s"):
            await fetched(server, timeout=0.5)


async def test_a_server_that_is_down_is_told() -> None:
    async with key_server() as server:
        pass
    with pytest.raises(KeysUnavailable, match="ConnectError"):
        await fetched(server)


async def test_a_server_with_the_wrong_name_or_authority_is_not_believed(server: KeyServer) -> None:
    with pytest.raises(KeysUnavailable, match="ConnectError"):
        await fetched(server, server.url(host="other.test"))
    async with HttpFetch(HERE, ssl.create_default_context(), server.resolve) as fetch:
        with pytest.raises(KeysUnavailable, match="ConnectError"):
            await fetch(server.url(), timeout=10)
    assert server.asked == []


async def test_plain_http_needs_the_configurations_word() -> None:
    async with key_server(tls=False) as server:
        server.documents["/keys"] = "plain"
        url = server.url(scheme="http")
        with pytest.raises(KeysUnavailable, match="only https"):
            await fetched(server, url)
        assert server.asked == []
        assert await fetched(server, url, FetchPolicy(frozenset({HOST}), ())) == b"plain"


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "keys",
            "https://",
            "ftp://keys.test/",
            "file:///etc/passwd",
            "https://keys.test:99999/",
            "https://[::1/",
        ),
        *("https://user:secret@keys.test/", "https://\0/", "https://" + "a" * 70000, "https://é\ud800/"),
    ],
)
async def test_an_odd_url_is_refused(server: KeyServer, url: str) -> None:
    with pytest.raises(KeysUnavailable) as refused:
        await fetched(server, url or "://")
    assert "secret" not in refused.value.message
    assert len(refused.value.message) < 1500


REFUSED = [
    *("127.0.0.1", "127.9.9.9", "0.0.0.0", "169.254.169.254", "169.254.0.1", "224.0.0.1", "255.255.255.255"),
    *("100.100.100.200", "192.0.0.192", "::1", "::", "fe80::1", "ff02::1", "fd00:ec2::254", "fd20:ce::254"),
    *(
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "168.63.129.16",
        "2002:a9fe:a9fe::1",
        "::169.254.169.254",
    ),
]


@pytest.mark.parametrize("address", REFUSED)
async def test_where_nobody_meant_us_to_go_we_do_not_go(server: KeyServer, address: str) -> None:
    async def leads_there(host: str, port: int) -> Sequence[Address]:
        return [ip_address("192.0.2.1"), ip_address(address)]

    async with HttpFetch(FetchPolicy(), client_context(), leads_there) as fetch:
        with pytest.raises(KeysUnavailable, match="which the configuration refuses"):
            await fetch(server.url(), timeout=10)
    assert server.asked == []


@pytest.mark.parametrize("address", ["10.0.0.1", "192.168.1.1", "8.8.8.8", "fd00::1", "2001:db8::1", "::ffff:10.0.0.1"])
def test_addresses_of_the_mesh_and_of_the_world_are_allowed(address: str) -> None:
    assert not FetchPolicy().refuses(ip_address(address))


@pytest.mark.parametrize("network", ["10.0.0.0/8", "10.1.0.0/16"])
def test_a_network_that_the_configuration_names_is_refused(network: str) -> None:
    networks: tuple[Network, ...] = (ip_network(network),)
    assert FetchPolicy(refused_networks=networks).refuses(ip_address("10.1.2.3"))
    assert FetchPolicy(refused_networks=networks).refuses(ip_address("::ffff:10.1.2.3"))


async def test_a_name_is_resolved_once_and_the_address_that_was_checked_is_used(server: KeyServer) -> None:
    answers = [[ip_address("127.0.0.1")], [ip_address("169.254.169.254")]]

    async def rebinding(host: str, port: int) -> Sequence[Address]:
        return answers.pop(0)

    async with HttpFetch(HERE, client_context(), rebinding) as fetch:
        assert await fetch(server.url(), timeout=10) == b"the document"
        assert len(answers) == 1
        with pytest.raises(KeysUnavailable, match=r"169\.254\.169\.254"):
            await fetch(server.url(), timeout=10)


async def test_the_next_address_is_tried_when_one_does_not_answer(server: KeyServer) -> None:
    async def two(host: str, port: int) -> Sequence[Address]:
        return [ip_address("127.0.0.2"), ip_address("127.0.0.1")]  # the server listens on the second only

    async with HttpFetch(HERE, client_context(), two) as fetch:
        assert await fetch(server.url(), timeout=10) == b"the document"


async def test_proxies_of_the_environment_are_not_asked(server: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert await fetched(server) == b"the document"


async def test_a_name_that_does_not_exist_is_told() -> None:
    async def nobody(host: str, port: int) -> Sequence[Address]:
        raise OSError("no such host")

    async with HttpFetch(HERE, client_context(), nobody) as fetch:
        with pytest.raises(KeysUnavailable, match="no such host"):
            await fetch("https://nowhere.test/", timeout=10)
