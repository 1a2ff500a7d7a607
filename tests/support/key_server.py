"""A real HTTPS server of key sets, with every fault that one may have, and the authority that vouches for it."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from citadel.authz.tokens.fetching import Address

HOST = "keys.test"


class KeyServer:
    """Answers by path: with a document, or with the fault of that name. Set `documents` and `fault` while it runs."""

    def __init__(self) -> None:
        self.documents: dict[str, str] = {}
        self.fault = ""
        self.asked: list[str] = []
        self.hosts: list[str] = []
        self.port = 0
        self.released = asyncio.Event()  # what `slow` waits for

    def url(self, path: str = "/keys", host: str = HOST, scheme: str = "https") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split(" ")[1]
            self.asked.append(path)
            self.hosts += [line[6:] for line in head.split("\r\n") if line.lower().startswith("host: ")]
            await self._answer(path, writer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def _answer(self, path: str, writer: asyncio.StreamWriter) -> None:
        body = self.documents.get(path, "").encode()
        if self.fault == "slow":
            await self.released.wait()
        match self.fault:
            case "closes":
                return
            case "not http":
                writer.write(b"SSH-2.0-odd\r\n" * 10)
            case "cut":
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n" + body)
            case "compressed":
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 0\r\n\r\n")
            case "redirect":
                writer.write(
                    f"HTTP/1.1 302 Found\r\nlocation: {self.url('/other')}\r\ncontent-length: 0\r\n\r\n".encode()
                )
            case "error":
                writer.write(b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n")
            case "endless":
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                while True:
                    writer.write(b" " * 65536)
                    await writer.drain()
            case "trickle":
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                while not self.released.is_set():
                    writer.write(b" ")
                    await writer.drain()
                    await asyncio.sleep(0.01)
            case _ if not body:
                writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            case _:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()

    async def resolve(self, host: str, port: int) -> Sequence[Address]:
        """Contract: ports.Resolver. Every name is here."""
        return [ip_address("127.0.0.1")]


@asynccontextmanager
async def key_server(*, tls: bool = True) -> AsyncIterator[KeyServer]:
    server = KeyServer()
    listening = await asyncio.start_server(server.handle, "127.0.0.1", 0, ssl=_server_context() if tls else None)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        server.released.set()
        listening.close()


def client_context() -> ssl.SSLContext:
    """Trusts the authority of the server."""
    return ssl.create_default_context(cadata=_certificate()[0].decode())


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "both.pem"
        file.write_bytes(b"".join(_certificate()))
        context.load_cert_chain(file)
    return context


@cache
def _certificate() -> tuple[bytes, bytes]:
    """A certificate for HOST that vouches for itself, and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "keys")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(Encoding.PEM), key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
