"""A Vault that somebody else has: what it signs is not used unless it is just what was asked for, and whatever it
answers ends in one of our errors."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from citadel.ca import keys
from citadel.ca.model import Authority, AuthorityKind, AuthorityState
from citadel.clock import SystemClock
from citadel.errors import CitadelError, FailedPrecondition
from citadel.vault import PkiMount, RootWatch, Session, TransitKek, TransitKeys, TransitSigner, VaultRoot
from citadel.vault.connections import Answered
from citadel.vault.failures import TryAgain
from citadel.vault.transit_keys import TransitKey
from citadel.vault.transport import Reply, _reply
from tests.support.issuance import TRUST_DOMAIN
from tests.support.vault_double.pki import PkiMounts
from tests.support.vault_double.transit import TransitMounts

OWN = f"spiffe://{TRUST_DOMAIN}"
DAY = timedelta(days=1)


class Compromised:
    """The double's engines without a socket. `lie` changes what they say of a path."""

    def __init__(self) -> None:
        self.pki = PkiMounts({"pki": 3650 * DAY})
        self.pki.issuers["pki"] = {}
        self.transit = TransitMounts()
        self.lie: Callable[[str, dict[str, Any]], object] = lambda _, data: data

    async def call(self, method: str, path: str, body: Any = None, **_more: object) -> Reply:
        mount, _, rest = path.partition("/")
        engine = self.pki if mount == "pki" else self.transit
        verb = {"get": "GET", "post": "POST", "list": "LIST"}[method]
        answer: dict[str, Any] = engine.answer(verb, mount, rest.split("/"), dict(body or {})) or {}
        said: dict[str, object] = {
            "data": self.lie(path, answer.get("data") or answer),
            "warnings": answer.get("warnings"),
            "auth": None,
        }
        try:
            return _reply(Answered(200, json.dumps(said).encode()), "there", path, "", {})
        except TryAgain as caught:
            raise caught.error from None


class World:
    def __init__(self) -> None:
        self.vault = Compromised()
        body = {"common_name": "mesh root", "key_type": "ec", "ttl": "8760h", "issuer_name": "mesh"}
        self.issuer = self.vault.pki._new_root("pki", body)["issuer_id"]
        self.session = cast("Session", self.vault)
        mount = PkiMount(self.session, "pki")
        self.root = VaultRoot(mount, self.issuer, TRUST_DOMAIN, SystemClock(), issuing_ttl=7 * DAY)
        self.watch = RootWatch(mount, self.root, self.issuer)
        self.key = keys.generate()

    async def in_force(self) -> Authority:
        state, now = await self.root.load(), SystemClock().now()
        return Authority(
            state.skid, AuthorityKind.ROOT, AuthorityState.ACTIVE, TRUST_DOMAIN, state.key_source, state.roots,
            state.skid, now, now, key_ref=state.key_ref,
        )  # fmt: skip


def signed(world: World, body: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """A CA that Vault signs for our request, but for what `change` makes of it."""
    above = world.vault.pki.issuers["pki"][world.issuer]
    request = x509.load_pem_x509_csr(body["csr"].encode())
    now = SystemClock().now()
    above_id = above.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    parts: dict[str, Any] = {
        "subject": body["common_name"],
        "key": request.public_key(),
        "begins": now - timedelta(seconds=60),
        "ends": now + 7 * DAY,
        "basic": x509.BasicConstraints(True, 0),
        "usage": x509.KeyUsage(False, False, False, False, False, True, True, False, False),
        "names": [OWN],
        "ski": None,
        "aki": x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above_id),
        "more": [],
        "by": above.key,
        "hash": hashes.SHA256(),
    }
    change(parts)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, parts["subject"])]))
        .issuer_name(above.certificate.subject)
        .public_key(parts["key"])
        .serial_number(x509.random_serial_number())
        .not_valid_before(parts["begins"])
        .not_valid_after(parts["ends"])
        .add_extension(parts["ski"] or x509.SubjectKeyIdentifier.from_public_key(parts["key"]), False)
        .add_extension(parts["aki"], False)
    )
    for extension in (parts["basic"], parts["usage"]):
        builder = builder.add_extension(extension, True) if extension else builder
    if parts["names"]:
        uris = [x509.UniformResourceIdentifier(one) for one in parts["names"]]
        builder = builder.add_extension(x509.SubjectAlternativeName(uris), False)
    for extension, critical in parts["more"]:
        builder = builder.add_extension(extension, critical)
    pem = builder.sign(parts["by"], parts["hash"]).public_bytes(Encoding.PEM).decode()
    return {"certificate": pem, "ca_chain": [pem], "issuing_ca": pem}


def _in(seconds: float) -> datetime:
    return SystemClock().now() + timedelta(seconds=seconds)


NO_SIGNING = x509.KeyUsage(True, False, False, False, False, False, True, False, False)
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda p: p.update(key=keys.generate().public_key()), "another key than ours"),
        (lambda p: p.update(subject="somebody"), "its subject is"),
        (lambda p: p.update(names=[]), "its names are"),
        (lambda p: p.update(names=["spiffe://another.example"]), "its names are"),
        (lambda p: p.update(names=[OWN, f"{OWN}/admin"]), "its names are"),
        (lambda p: p.update(basic=x509.BasicConstraints(True, 1)), "path length is 1"),
        (lambda p: p.update(basic=x509.BasicConstraints(True, None)), "path length is None"),
        (lambda p: p.update(basic=x509.BasicConstraints(False, None)), "is no CA certificate"),
        (lambda p: p.update(basic=None), "no basic constraints"),
        (lambda p: p.update(usage=None), "no key usage"),
        (lambda p: p.update(usage=NO_SIGNING), "does not allow signing certificates"),
        (lambda p: p.update(begins=_in(30)), "is not valid before"),
        (lambda p: p.update(ends=_in(-1)), "expired"),
        (lambda p: p.update(ends=_in(8 * 86400)), "later than was asked for"),
        (lambda p: p.update(ends=_in(400 * 86400)), "after its issuer"),
        (lambda p: p.update(ski=x509.SubjectKeyIdentifier(bytes(20))), "subject key identifier"),
        (lambda p: p.update(aki=x509.AuthorityKeyIdentifier(bytes(20), None, None)), "authority key identifier"),
        (lambda p: p.update(by=keys.generate()), "did not sign it"),
        (lambda p: p.update(hash=hashes.SHA224()), "sha224"),
        (lambda p: p["more"].append((UNKNOWN, True)), "critical extension 1.2.3.4"),
        (
            lambda p: p["more"].append((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False)),
            "extended key usage",
        ),
        (
            lambda p: p["more"].append((x509.NameConstraints(None, [x509.DNSName("example.org")]), True)),
            "name constraints",
        ),
    ],
)
async def test_a_ca_that_is_anything_else_than_was_asked_for_is_not_used(
    change: Callable[[dict[str, Any]], object], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    root = await world.in_force()
    monkeypatch.setattr(world.vault.pki, "_sign", lambda _mount, _issuer, body: signed(world, body, change))
    with pytest.raises(FailedPrecondition, match=why) as caught:
        await world.root.sign_issuing_ca(root, world.key)
    assert "it is not used" in caught.value.sentence()


async def test_what_is_just_as_asked_for_is_used_whatever_chain_comes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    root = await world.in_force()
    monkeypatch.setattr(world.vault.pki, "_sign", lambda _mount, _issuer, body: signed(world, body, lambda _: None))
    grant = await world.root.sign_issuing_ca(root, world.key)
    assert grant.chain == ()
    assert grant.root_skid == root.skid


JUNK: list[Any] = [
    None, 1, True, -5, 1e300, float("nan"), [], {}, {"a": 1}, "x", "", "\x00\r\n", "x" * 100_000, [1], [None],
    ["x"] * 50, [{"a": []}], "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "é",
]  # fmt: skip


def _lies(fields: str, more: Callable[[object], list[object]] = lambda _: []) -> Iterator[tuple[str, object]]:
    for name in fields.split():
        for junk in JUNK:
            yield from ((name, one) for one in [junk, *more(junk)])


async def _ends(work: Awaitable[object]) -> None:
    with suppress(CitadelError):
        await work


async def test_whatever_the_pki_engine_answers_ends_in_an_error_of_ours() -> None:
    world = World()
    root = await world.in_force()
    await world.watch.look([root], root)
    for name, junk in _lies("certificate ca_chain issuer_name usage revoked key_info issuing_ca issuer_id"):
        world.vault.lie = lambda _, data, name=name, junk=junk: {**data, name: junk}  # type: ignore[misc]
        await _ends(world.root.load())
        await _ends(world.root.sign_issuing_ca(root, world.key))
        await _ends(world.watch.look([root], root))
    for junk in JUNK:
        world.vault.lie = lambda _, _data, junk=junk: junk  # type: ignore[misc]
        await _ends(world.root.load())
        await _ends(world.watch.look([root], root))


async def test_whatever_the_transit_engine_answers_ends_in_an_error_of_ours() -> None:
    world = World()
    made = await TransitKeys(world.session, "transit").make(keys.KeyType.EC_P256)
    key = TransitKey.parse(made.reference)
    signer = TransitSigner(world.session, key, made.private.public_key())
    world.vault.transit.answer("POST", "kek", ["keys", "k"], {})
    kek = TransitKek(world.session, "kek", "k")
    sealed = await kek.seal(b"private", b"place")

    def within(junk: object) -> list[object]:
        return [{"1": junk}, {"1": {"public_key": junk}}, [{"signature": junk}]]

    for name, junk in _lies("type keys latest_version batch_results ciphertext plaintext derived", within):
        world.vault.lie = lambda _, data, name=name, junk=junk: {**data, name: junk}  # type: ignore[misc]
        signer._fits = kek._fits = False
        for work in (signer.sign_digest(bytes(32)), signer.examine(), kek.seal(b"x", b"y"), kek.examine()):
            await _ends(work)
        await _ends(kek.open(sealed, b"place"))
