"""TLS of the AuthZEN port: every client shows a certificate, and what we trust follows the trust bundle.

A rotation of the root changes the anchors while we run, and our own certificate is renewed in its files: each handshake
uses the context of the moment. TLS 1.3 without resumption: a resumed session would be of a client that nobody verified
again.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from citadel.ca.files import read_public, read_secret
from citadel.errors import CitadelError, FailedPrecondition, UnsafePermissions
from citadel.spiffe import TrustDomain

log = structlog.get_logger("citadel.authzen")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: our certificate with its chain, and its key."""

    certificate: Path
    key: Path

    def read(self) -> KeyPair:
        """Raises FailedPrecondition; UnsafePermissions if others may read the key, or put another in its place."""
        try:
            key = read_secret(self.key, what="TLS key", links=True, group_reads=True)  # as Kubernetes mounts it
            return KeyPair(read_public(self.certificate, what="TLS certificate"), key)
        except UnsafePermissions:
            raise
        except CitadelError as error:
            raise FailedPrecondition(error.message, mend="see authorization.authzen.tls_cert and tls_key") from None


@dataclass(frozen=True, slots=True)
class KeyPair:
    """What is in them."""

    certificate: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Anchors:
    """Whom clients' certificates must come from, and which of these certificates are revoked."""

    roots: tuple[bytes, ...]
    """DER."""
    crls: tuple[bytes, ...] = ()
    """PEM, verified by whoever gives them."""
    trust_domains: frozenset[TrustDomain] = frozenset()
    """Of whom certificates below these roots can be. One that says that it is of another domain names nobody."""


class Contexts:
    """The context of the moment. `anchors` gives those in force; with none of them nobody gets in."""

    def __init__(self, files: TlsFiles, anchors: Callable[[], Anchors], *, demanded: bool = True) -> None:
        """`demanded`: every client shows a certificate. Raises FailedPrecondition: the files cannot be used."""
        self._demanded = demanded
        self._files = files
        self.anchors = anchors
        self._pair = files.read()
        self._trusted = anchors()
        self._current = context_of(self._pair, self._trusted, demanded=demanded)
        self._fault = ""
        self.public = context_of(self._pair, Anchors(()), demanded=demanded)
        """To listen with: it hands each handshake over to the one of the moment."""
        self.public.sni_callback = self._switch

    def _switch(self, connection: ssl.SSLObject, _name: str | None, _of: ssl.SSLContext) -> None:
        """OpenSSL calls this in every handshake, with a server name or without."""
        pair, anchors = self._pair, self.anchors()
        try:
            pair = self._files.read()
            if (pair, anchors) != (self._pair, self._trusted):
                self._take(pair, anchors)
            self._fault = ""
        except CitadelError as error:  # half-written, perhaps: the certificate before goes on
            if self._fault != (fault := error.message):
                log.error("the certificate before stays in use at the AuthZEN port", why=fault)
                self._fault = fault
            if anchors != self._trusted:
                self._take(self._pair, anchors)
        connection.context = self._current

    def _take(self, pair: KeyPair, anchors: Anchors) -> None:
        self._current = context_of(pair, anchors, demanded=self._demanded)
        self._pair, self._trusted = pair, anchors


def context_of(pair: KeyPair, anchors: Anchors, *, demanded: bool = True) -> ssl.SSLContext:
    """A server's context that demands a client's certificate below one of the anchors, or else takes one if it is.

    Raises FailedPrecondition."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.verify_mode = ssl.CERT_REQUIRED if demanded else ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    with ExitStack() as stack:
        certificate, key = (stack.enter_context(_as_file(one)) for one in (pair.certificate, pair.key))
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise FailedPrecondition(
                f"what is in authorization.authzen.tls_cert and tls_key is no certificate with its key: {error}"
            ) from None
    for root in anchors.roots:
        context.load_verify_locations(cadata=root)
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted")


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A name in memory alone: ssl reads keys from files only."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
