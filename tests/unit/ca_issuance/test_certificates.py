"""What roots, issuing CAs and leaves say, as others read them."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from citadel.ca import keys, profile
from citadel.ca.profile import Parent, Validity
from citadel.ca.signers import SoftwareSigner
from citadel.ca.signing import sign_certificate
from citadel.errors import InternalFault, InvalidInput, Unavailable
from citadel.spiffe import SpiffeId, TrustDomain
from tests.support.cacerts import Ca, make_ca, make_crl
from tests.support.issuance import NOW, TRUST_DOMAIN, WEB, Chain, make_chain
from tests.support.verdicts import assert_pkilint_content, openssl_verify

KINDS = [keys.KeyType.EC_P256, keys.KeyType.EC_P384, keys.KeyType.RSA_2048]
HOUR = timedelta(hours=1)


async def make_leaf(
    chain: Chain,
    *,
    key: keys.PrivateKey | None = None,
    dns_names: tuple[str, ...] = (),
    subject: bytes = profile.EMPTY_NAME,
    spiffe_id: SpiffeId = WEB,
    now: datetime = NOW,
    lifetime: timedelta = HOUR,
) -> bytes:
    parent = chain.parent
    spec = profile.leaf(
        parent=parent,
        key=keys.SubjectKey.of((key or keys.generate()).public_key()),
        spiffe_id=spiffe_id,
        dns_names=dns_names,
        subject=subject,
        validity=Validity.starting(now, lifetime, backdate=timedelta(minutes=1)).within(
            parent, now, shortest=timedelta(seconds=10)
        ),
        serial=profile.serial(secrets.token_bytes),
    )
    return await sign_certificate(spec, SoftwareSigner(chain.issuing_key))


def read(certificate: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(certificate)


def names(certificate: x509.Certificate) -> list[str]:
    value = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in value]


@pytest.mark.openssl
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("purpose", ["sslserver", "sslclient"])
async def test_openssl_verifies_a_chain_of_any_key_strictly_as_server_and_client(
    kind: keys.KeyType, purpose: str
) -> None:
    chain = await make_chain(kind=kind)
    leaf = await make_leaf(chain, key=keys.generate(kind), dns_names=("web.example.org",))
    openssl_verify(leaf, [chain.issuing], chain.root, purpose=purpose, at=NOW)


@pytest.mark.parametrize("kind", KINDS)
async def test_pkilint_finds_nothing_that_is_not_explained(kind: keys.KeyType) -> None:
    chain = await make_chain(kind=kind)
    leaf = await make_leaf(chain, key=keys.generate(kind), dns_names=("web.example.org", "web.default.svc"))
    for certificate in (chain.root, chain.issuing, leaf):
        assert_pkilint_content(certificate)


OF_OTHERS: dict[str, Any] = {
    "RSA 2048": lambda: rsa.generate_private_key(65537, 2048),
    "RSA 3072": lambda: rsa.generate_private_key(65537, 3072),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
}
LEAF_KEYS = [keys.generate(kind) for kind in KINDS]


@pytest.mark.openssl
@pytest.mark.parametrize("make", OF_OTHERS.values(), ids=OF_OTHERS.keys())
@pytest.mark.parametrize("between", [0, 1, 3])
async def test_leaves_of_every_key_under_cas_that_others_made_pass_with_crls_too(make: Any, between: int) -> None:
    now = datetime.now(UTC)
    line = [make_ca("root", key=make())]
    for number in range(between):  # none: the root signs leaves itself
        line.append(make_ca(f"ca {number}", line[-1], key=ec.generate_private_key(ec.SECP256R1())))
    crls = [make_crl(one) for one in line]
    for key in LEAF_KEYS:
        leaf = await leaf_under(line[-1], key, now)
        above = [one.der for one in reversed(line[1:])]
        openssl_verify(leaf, above, line[0].der, purpose="sslserver", at=now)
        openssl_verify(leaf, above, line[0].der, purpose="sslclient", at=now, crls=crls)
        assert_pkilint_content(leaf)
    revoked = [*crls[:-1], make_crl(line[-1], revoked=[read(leaf).serial_number])]
    with pytest.raises(AssertionError, match="revoked"):
        openssl_verify(leaf, above, line[0].der, purpose="sslclient", at=now, crls=revoked)


async def leaf_under(ca: Ca, key: keys.PrivateKey, now: datetime) -> bytes:
    parent = Parent.of(ca.der)
    spec = profile.leaf(
        parent=parent,
        key=keys.SubjectKey.of(key.public_key()),
        spiffe_id=WEB,
        dns_names=("web.example.org",),
        validity=Validity.starting(now, HOUR, backdate=timedelta(minutes=1)).within(
            parent, now, shortest=timedelta(seconds=10)
        ),
        serial=profile.serial(secrets.token_bytes),
    )
    return await sign_certificate(spec, SoftwareSigner(ca.key))


@pytest.mark.openssl
async def test_an_issuing_ca_of_ours_under_an_rsa_root_of_others_passes() -> None:
    now, root = datetime.now(UTC), make_ca("root", key=rsa.generate_private_key(65537, 2048))
    parent, key = Parent.of(root.der), keys.generate()
    spec = profile.issuing_ca(
        parent=parent,
        public_key=key.public_key(),
        trust_domain=TRUST_DOMAIN,
        validity=Validity.starting(now, HOUR, backdate=timedelta(minutes=1)).within(parent, now, shortest=HOUR),
        serial=profile.serial(secrets.token_bytes),
    )
    der = await sign_certificate(spec, SoftwareSigner(root.key))
    issuing = Ca(read(der), key, root)
    leaf = await leaf_under(issuing, LEAF_KEYS[0], now)
    crls = [make_crl(issuing), make_crl(root)]
    openssl_verify(leaf, [der], root.der, purpose="sslserver", at=now, crls=crls)
    assert_pkilint_content(der)


async def cross(parent: bytes, key: keys.PrivateKey, certificate: bytes, now: datetime = NOW) -> bytes:
    above = Parent.of(parent)
    spec = profile.cross_signed(
        parent=above,
        certificate=certificate,
        trust_domain=TRUST_DOMAIN,
        validity=Validity.starting(now, HOUR, backdate=timedelta(0)).within(above, now, shortest=timedelta(0)),
        serial=profile.serial(secrets.token_bytes),
    )
    return await sign_certificate(spec, SoftwareSigner(key))


@pytest.mark.openssl
@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_cross_signed_issuing_ca_signs_verifies_under_either_root(kind: keys.KeyType) -> None:
    old, new = await make_chain(), await make_chain(kind=kind)
    crossed = await cross(old.root, old.root_key, new.issuing)
    leaf = await make_leaf(new)
    for between, root in (([new.issuing], new.root), ([crossed], old.root)):
        for purpose in ("sslserver", "sslclient"):
            openssl_verify(leaf, between, root, purpose=purpose, at=NOW)
    assert_pkilint_content(crossed)
    assert read(crossed).subject == read(new.issuing).subject
    assert read(crossed).public_key() == read(new.issuing).public_key()


@pytest.mark.openssl
async def test_a_cross_signed_root_stands_between_its_issuing_ca_and_the_old_root() -> None:
    now, new = datetime.now(UTC), await make_chain(now=datetime.now(UTC))
    for path_length, left in ((None, None), (3, 2), (2, 1)):
        old = make_ca("old root", path_length=path_length)
        crossed = await cross(old.der, old.key, new.root, now)
        leaf = await make_leaf(new, now=now)
        openssl_verify(leaf, [new.issuing, crossed], old.der, purpose="sslserver", at=now)
        openssl_verify(leaf, [new.issuing], new.root, purpose="sslserver", at=now)
        assert_pkilint_content(crossed)
        assert read(crossed).extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == left


async def test_a_root_without_room_for_another_refuses_to_cross_sign_it() -> None:
    old, new, narrow = await make_chain(), await make_chain(), make_ca("narrow", path_length=1)
    with pytest.raises(InvalidInput, match="has path length 1; to cross-sign this one it needs 2"):
        await cross(narrow.der, narrow.key, new.root, datetime.now(UTC))
    with pytest.raises(InvalidInput, match="has path length 0; to cross-sign this one it needs 1"):
        await cross(old.issuing, old.issuing_key, new.issuing)


async def test_a_cross_signed_ca_keeps_the_identifier_that_its_own_certificate_has() -> None:
    odd = make_ca("odd", identifiers=False, more=[(x509.SubjectKeyIdentifier(b"\x07" * 8), False)])
    old = make_ca("old root")
    crossed = read(await cross(old.der, old.key, odd.der, datetime.now(UTC)))
    assert crossed.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest == b"\x07" * 8
    (own,) = [e for e in crossed.extensions if isinstance(e.value, x509.AuthorityKeyIdentifier)]
    assert own.value.key_identifier == x509.SubjectKeyIdentifier.from_public_key(old.key.public_key()).digest


@pytest.mark.openssl
async def test_certificates_beyond_2050_are_written_with_generalized_time() -> None:
    now = datetime(2049, 12, 31, 23, 30, tzinfo=UTC)
    chain = await make_chain(now=now)
    leaf = await make_leaf(chain, now=now)
    assert b"\x17\x0d491231232900Z" in leaf
    assert b"\x18\x0f20500101003000Z" in leaf
    openssl_verify(leaf, [chain.issuing], chain.root, purpose="sslserver", at=now + HOUR / 2)
    for certificate in (chain.root, chain.issuing, leaf):
        assert_pkilint_content(certificate)


async def test_a_leaf_is_an_x509_svid() -> None:
    chain = await make_chain()
    key = keys.generate()
    leaf = read(await make_leaf(chain, key=key, dns_names=("b.example.org", "a.example.org")))
    extensions = {extension.oid._name: extension for extension in leaf.extensions}
    assert {name: extension.critical for name, extension in extensions.items()} == {
        "keyUsage": True,
        "extendedKeyUsage": False,
        "basicConstraints": True,
        "subjectKeyIdentifier": False,
        "authorityKeyIdentifier": False,
        "subjectAltName": True,
    }
    assert leaf.version is x509.Version.v3
    assert not list(leaf.subject)
    assert names(leaf) == [WEB.uri, "b.example.org", "a.example.org"]
    assert leaf.public_key() == key.public_key()
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage == x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    assert list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    ]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    issuing = read(chain.issuing)
    leaf.verify_directly_issued_by(issuing)
    parents = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert parents == issuing.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


async def test_a_leaf_for_an_rsa_key_may_also_encipher_keys() -> None:
    leaf = read(await make_leaf(await make_chain(), key=keys.generate(keys.KeyType.RSA_2048)))
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_encipherment, usage.key_agreement) == (True, True, False)


async def test_with_a_subject_the_names_are_not_critical() -> None:
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example")])
    der = await make_leaf(await make_chain(), subject=subject.public_bytes())
    assert read(der).subject == subject
    assert not read(der).extensions.get_extension_for_class(x509.SubjectAlternativeName).critical
    assert_pkilint_content(der)


async def test_an_issuing_ca_signs_leaves_only_and_names_its_trust_domain() -> None:
    chain = await make_chain()
    issuing = read(chain.issuing)
    constraints = issuing.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    usage = issuing.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value == x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    assert names(issuing) == ["spiffe://example.org"]
    skid = keys.skid(chain.issuing_key.public_key())
    assert issuing.subject.rfc4514_string() == f"CN=example.org issuing CA {skid.hex[:8]}"
    issuing.verify_directly_issued_by(read(chain.root))


async def test_each_root_has_a_name_of_its_own() -> None:
    first, second = read((await make_chain()).root), read((await make_chain()).root)
    assert first.subject != second.subject
    assert first.subject == first.issuer
    assert first.subject.rfc4514_string().startswith("CN=example.org root ")
    assert names(first) == ["spiffe://example.org"]
    first.verify_directly_issued_by(first)


@pytest.mark.parametrize(("asked", "path_length"), [(None, None), (1, 1), (3, 3)])
async def test_a_roots_path_length_is_as_configured(asked: int | None, path_length: int | None) -> None:
    key = keys.generate()
    spec = profile.root(
        public_key=key.public_key(),
        trust_domain=TRUST_DOMAIN,
        validity=Validity.starting(NOW, HOUR, backdate=timedelta(0)),
        serial=7,
        path_length=asked,
    )
    root = read(await sign_certificate(spec, SoftwareSigner(key)))
    assert root.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == path_length


def test_a_root_that_could_sign_no_issuing_ca_is_refused() -> None:
    with pytest.raises(InvalidInput, match="path length 0 could sign no issuing CA"):
        profile.root(
            public_key=keys.generate().public_key(),
            trust_domain=TRUST_DOMAIN,
            validity=Validity.starting(NOW, HOUR, backdate=timedelta(0)),
            serial=7,
            path_length=0,
        )


@pytest.mark.openssl
@pytest.mark.parametrize("name", ["a" * 255, "under_score.example-1.org", "1.2.3.4"])
async def test_any_trust_domain_fits_into_a_subject(name: str) -> None:
    trust_domain = TrustDomain.parse(name)
    chain = await make_chain(trust_domain=trust_domain)
    leaf = await make_leaf(chain, spiffe_id=SpiffeId.of(trust_domain, "web"))
    assert names(read(chain.issuing)) == [f"spiffe://{name}"]
    openssl_verify(leaf, [chain.issuing], chain.root, purpose="sslclient", at=NOW)
    for certificate in (chain.root, chain.issuing, leaf):
        assert_pkilint_content(certificate)


async def test_an_issuing_ca_cannot_sign_another() -> None:
    chain = await make_chain()
    with pytest.raises(InvalidInput, match="path length 0"):
        profile.issuing_ca(
            parent=chain.parent,
            public_key=keys.generate().public_key(),
            trust_domain=TRUST_DOMAIN,
            validity=Validity.starting(NOW, HOUR, backdate=timedelta(0)),
            serial=7,
        )


async def test_a_trust_domain_is_no_workload() -> None:
    with pytest.raises(InvalidInput, match="names a trust domain"):
        await make_leaf(await make_chain(), spiffe_id=TRUST_DOMAIN.id)


async def test_a_leaf_cannot_sign() -> None:
    with pytest.raises(InvalidInput, match="cannot sign others"):
        Parent.of(await make_leaf(await make_chain()))


async def test_what_is_no_certificate_cannot_sign() -> None:
    with pytest.raises(InvalidInput, match="cannot sign others"):
        Parent.of(b"0\x03\x02\x01\x01")


def test_the_issuers_name_is_repeated_byte_for_byte_even_if_it_is_written_as_nobody_writes_today() -> None:
    key = keys.generate()
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    odd = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Old CA", x509.name._ASN1Type.BMPString)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(odd)
        .issuer_name(odd)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + HOUR)
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )
    assert "Old CA".encode("utf-16-be") in Parent.of(certificate).name
    assert Parent.of(certificate).key_id.hex() == keys.skid(key.public_key()).hex  # it has no identifier of its own


async def test_nothing_outlives_what_signed_it() -> None:
    chain = await make_chain(root_lifetime=timedelta(days=3), issuing_lifetime=timedelta(days=7))
    assert read(chain.issuing).not_valid_after_utc == read(chain.root).not_valid_after_utc
    leaf = read(await make_leaf(chain, lifetime=timedelta(days=9)))
    assert leaf.not_valid_after_utc == read(chain.root).not_valid_after_utc


async def test_nothing_is_signed_that_would_end_at_once_with_its_signer() -> None:
    chain = await make_chain(issuing_lifetime=timedelta(seconds=5))
    with pytest.raises(Unavailable, match="leaves less than 0:00:10"):
        await make_leaf(chain)


async def test_a_lifetime_that_is_shorter_by_wish_is_given() -> None:
    leaf = read(await make_leaf(await make_chain(), lifetime=timedelta(seconds=2)))
    assert leaf.not_valid_after_utc == NOW + timedelta(seconds=2)


async def test_nothing_is_signed_before_its_signer_is_valid() -> None:
    with pytest.raises(Unavailable, match="not valid before") as caught:
        await make_leaf(await make_chain(), now=NOW - HOUR)
    assert "check this machine's clock" in caught.value.sentence()


def test_a_serial_has_128_random_bits_and_is_never_zero() -> None:
    draws = iter([bytes(16), b"\xff" * 16])
    assert profile.serial(lambda size: next(draws)[:size]) == 2**128 - 1
    with pytest.raises(InternalFault, match="gives zeros"):
        profile.serial(bytes)
