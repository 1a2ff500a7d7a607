"""Callers over the network: what a certificate must be, and for how long it counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from citadel.authz.doors import Registered, Registration, RemoteCallers, Trust
from citadel.errors import PermissionDenied, Unavailable
from citadel.spiffe import SpiffeId, TrustDomain
from tests.support.certificates import Ca
from tests.support.clock import ManualClock

TD = TrustDomain("example.org")
CART = SpiffeId.parse("spiffe://example.org/ns/shop/sa/cart")


class Entries(dict[SpiffeId, list[Registration]]):
    """Contract: doors.Registrations."""

    loaded = True

    def of(self, spiffe_id: SpiffeId) -> Sequence[Registration]:
        if not self.loaded:
            raise Unavailable("not here yet")
        return self.get(spiffe_id, [])


class Proven:
    """Contract: doors.Connection."""

    def __init__(self, *certificates: bytes) -> None:
        self._certificates = certificates

    def peer(self) -> str:
        return "somewhere"

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        return {"x509_pem_cert": list(self._certificates)} if self._certificates else {}


class World:
    def __init__(self, folder: Path) -> None:
        self.ca, self.folder = Ca("ca"), folder
        self.clock = ManualClock(datetime.now(UTC))
        cart = Registration(Registered(CART, {"app": "cart"}), frozenset([TrustDomain("b.org")]))
        self.entries = Entries({CART: [cart]})
        self.crls: tuple[bytes, ...] = ()
        self.callers = RemoteCallers(self.entries, lambda: Trust(TD, self.crls), self.clock, lambda _: "10.0.0.7")

    def proven(self, uri: str = CART.uri) -> Proven:
        certificate, _ = self.ca.issue(self.folder / "c", uri)
        return Proven(certificate.read_bytes())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_a_caller_is_what_its_certificate_says_and_what_that_is_registered_as(world: World) -> None:
    caller = await world.callers.caller(world.proven())
    assert [one.spiffe_id for one in caller.entries] == [CART]
    assert caller.trust_domains == {TD, TrustDomain("b.org")}
    assert (caller.name, caller.local) == (f"{CART} at 10.0.0.7", False)


async def test_who_is_not_registered_has_no_entries(world: World) -> None:
    assert (await world.callers.caller(world.proven("spiffe://example.org/nobody"))).entries == ()


@pytest.mark.parametrize(
    "uri", ["spiffe://other.org/ns/shop/sa/cart", "https://example.org/", "spiffe://example.org/a//b"]
)
async def test_who_is_of_another_domain_or_has_no_spiffe_id_is_refused(world: World, uri: str) -> None:
    with pytest.raises(PermissionDenied):
        await world.callers.caller(world.proven(uri))


async def test_two_names_are_none(world: World) -> None:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    names = [x509.UniformResourceIdentifier(CART.uri), x509.UniformResourceIdentifier("spiffe://example.org/b")]
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(world.ca.name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .sign(world.ca.key, hashes.SHA256())
    )
    with pytest.raises(PermissionDenied):
        await world.callers.caller(Proven(made.public_bytes(Encoding.PEM)))


@pytest.mark.parametrize("proven", [Proven(), Proven(b"nonsense"), Proven(b"a", b"b")])
async def test_without_a_certificate_nobody_is_anybody(world: World, proven: Proven) -> None:
    with pytest.raises(PermissionDenied):
        await world.callers.caller(proven)


async def test_a_certificate_counts_until_it_ends_or_is_revoked(world: World) -> None:
    proven = world.proven()
    await world.callers.caller(proven)
    world.crls = (world.ca.crl(world.ca.last.serial_number),)
    with pytest.raises(PermissionDenied, match="revoked"):
        await world.callers.caller(proven)
    world.crls = (Ca("other").crl(world.ca.last.serial_number),)
    await world.callers.caller(proven)
    world.clock.advance(timedelta(hours=2))
    with pytest.raises(PermissionDenied, match="ended"):
        await world.callers.caller(proven)


async def test_before_anybody_is_known_nobody_is_answered_for(world: World) -> None:
    world.entries.loaded = False
    with pytest.raises(Unavailable):
        await world.callers.caller(world.proven())
