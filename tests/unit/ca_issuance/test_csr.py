"""What the CSR gate lets in, and what it says of the rest."""

from __future__ import annotations

import base64
import inspect
import ipaddress
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from citadel.ca import keys
from citadel.ca.csr import CsrPolicy, Entitlement, admit, wanted_id
from citadel.ca.strength import KeyPolicy
from citadel.errors import BadCsr, BadSpiffeId
from tests.support.issuance import WEB, make_csr, pem

ENTITLED = Entitlement(WEB, ("web.example.org", "www.example.org"))
KEY = keys.generate()
RSA_KEY = keys.generate(keys.KeyType.RSA_2048)


def refused(request: bytes, because: str, policy: CsrPolicy | None = None) -> BadCsr:
    with pytest.raises(BadCsr, match=because) as caught:
        admit(request, ENTITLED, policy or CsrPolicy())
    assert "\n" not in caught.value.sentence()
    return caught.value


def usage(**wanted: bool) -> x509.KeyUsage:
    fields = inspect.signature(x509.KeyUsage).parameters
    return x509.KeyUsage(**(dict.fromkeys(fields, False) | wanted))


@pytest.mark.parametrize("kind", list(keys.KeyType))
def test_every_kind_of_key_that_we_make_is_let_in(kind: keys.KeyType) -> None:
    key = keys.generate(kind)
    admitted = admit(make_csr(key), ENTITLED, CsrPolicy())
    assert admitted.public_key == key.public_key()
    assert admitted.spki == keys.spki(key.public_key())


@pytest.mark.parametrize("hash_", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_every_sha_2_signature_is_let_in(hash_: hashes.SHA256 | hashes.SHA384 | hashes.SHA512) -> None:
    for key in (KEY, RSA_KEY):
        assert admit(make_csr(key, hash_=hash_), ENTITLED, CsrPolicy()).public_key == key.public_key()


@pytest.mark.parametrize(
    "asked",
    [
        {"uris": ()},
        {"uris": (WEB.uri,), "dns_names": ("www.example.org",)},
        {"uris": (), "dns_names": ("www.example.org", "web.example.org")},
        {"extensions": [usage(digital_signature=True)]},
        {"extensions": [x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])]},
        {"extensions": [x509.BasicConstraints(ca=False, path_length=None)]},
        {"subject": x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "SPIRE")])},
    ],
)
def test_what_asks_for_no_more_than_it_gets_is_let_in(asked: dict[str, Any]) -> None:
    assert admit(make_csr(KEY, **asked), ENTITLED, CsrPolicy()).public_key == KEY.public_key()


def test_an_rsa_key_may_ask_to_encipher_keys() -> None:
    request = make_csr(RSA_KEY, extensions=[usage(digital_signature=True, key_encipherment=True)])
    assert admit(request, ENTITLED, CsrPolicy()).public_key == RSA_KEY.public_key()


@pytest.mark.parametrize("label", [b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST"])
def test_one_block_of_pem_is_let_in(label: bytes) -> None:
    request = pem(make_csr(KEY), "CERTIFICATE REQUEST").replace(b"CERTIFICATE REQUEST", label)
    assert admit(b"\n" + request + b"\n", ENTITLED, CsrPolicy()).public_key == KEY.public_key()


@pytest.mark.parametrize(
    ("asked", "because"),
    [
        ({"uris": ("spiffe://example.org/admin",)}, "asks for the URI 'spiffe://example.org/admin'; its caller is"),
        ({"uris": (WEB.uri + "/",)}, "asks for the URI"),
        ({"uris": (WEB.uri.upper(),)}, "asks for the URI"),
        ({"uris": (WEB.uri, WEB.uri)}, "asks for 2 URIs"),
        ({"uris": (WEB.uri, "spiffe://example.org/admin")}, "asks for the URI"),
        ({"dns_names": ("db.example.org",)}, "DNS name 'db.example.org', which the entry does not list"),
        ({"dns_names": ("WEB.example.org",)}, "which the entry does not list"),
        ({"extensions": [usage(key_cert_sign=True)]}, "asks for the key usage keyCertSign; only digitalSignature"),
        ({"extensions": [usage(digital_signature=True, crl_sign=True)]}, "key usage cRLSign"),
        ({"extensions": [usage(key_encipherment=True, key_agreement=True)]}, "keyEncipherment, keyAgreement"),
        ({"extensions": [usage(data_encipherment=True)]}, "dataEncipherment"),
        ({"extensions": [usage(content_commitment=True)]}, "contentCommitment"),
        (
            {"extensions": [x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])]},
            r"extended use codeSigning \(1.3.6.1.5.5.7.3.3\)",
        ),
        (
            {"extensions": [x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])]},
            "extended use 2.5.29.37.0",
        ),
        ({"extensions": [x509.BasicConstraints(ca=True, path_length=None)]}, "asks to be a certificate authority"),
        ({"extensions": [x509.BasicConstraints(ca=True, path_length=0)]}, "asks to be a certificate authority"),
        (
            {"extensions": [x509.NameConstraints([x509.DNSName("example.org")], None)]},
            "asks for the extension nameConstraints",
        ),
        (
            {"extensions": [x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00")]},
            "asks for the extension 1.2.3.4; only",
        ),
        ({"extensions": [x509.SubjectKeyIdentifier(b"12345678")]}, "asks for the extension subjectKeyIdentifier"),
    ],
)
def test_what_asks_for_more_is_refused_and_told_what(asked: dict[str, Any], because: str) -> None:
    refused(make_csr(KEY, **asked), because)


@pytest.mark.parametrize(
    "name",
    [
        x509.RFC822Name("root@example.org"),
        x509.IPAddress(ipaddress.ip_address("10.0.0.1")),
        x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")])),
        x509.RegisteredID(ObjectIdentifier("1.2.3")),
        x509.OtherName(ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x01a"),
    ],
)
def test_names_of_any_other_kind_are_refused(name: x509.GeneralName) -> None:
    request = make_csr(KEY, uris=(), extensions=[x509.SubjectAlternativeName([name])])
    refused(request, f"a name of the kind {type(name).__name__}")


def test_a_request_that_is_too_long_is_refused_unread() -> None:
    refused(b"0" * 16385, "has 16385 bytes; at most 16384 are allowed")
    refused(make_csr(KEY), "at most 100 are allowed", CsrPolicy(max_bytes=100))


@pytest.mark.parametrize(
    "request_",
    [
        b"",
        b"\x30",
        b"\x30\x80\x00\x00",
        b"hello",
        make_csr(KEY) + b"\x00",
        make_csr(KEY) + make_csr(KEY),
        make_csr(KEY)[:-1],
        keys.spki(KEY.public_key()),
    ],
    ids=range(8),  # the bytes are others in each run
)
def test_what_is_not_one_request_in_der_is_refused(request_: bytes) -> None:
    refused(request_, "the CSR cannot be read")


@pytest.mark.parametrize(
    "request_",
    [
        pem(make_csr(KEY), "CERTIFICATE REQUEST") * 2,
        b"Subject: root\n" + pem(make_csr(KEY), "CERTIFICATE REQUEST"),
        pem(make_csr(KEY), "CERTIFICATE REQUEST") + b"more",
        pem(make_csr(KEY), "CERTIFICATE REQUEST").replace(b"CERTIFICATE REQUEST", b"CERTIFICATE"),
        pem(make_csr(KEY), "CERTIFICATE REQUEST").replace(b"END CERT", b"END NEW CERT"),
        b"-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n",
        b"-----BEGIN CERTIFICATE REQUEST-----\nA=BC\n-----END CERTIFICATE REQUEST-----\n",
        b"-----BEGIN CERTIFICATE REQUEST-----\nMAMCAQE=\n-----END CERTIFICATE REQUEST-----\n",
    ],
)
def test_what_is_not_one_block_of_pem_is_refused(request_: bytes) -> None:
    with pytest.raises(BadCsr):
        admit(request_, ENTITLED, CsrPolicy())


def weak_rsa(modulus: int, exponent: int = 65537) -> rsa.RSAPublicKey:
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


@asn1.sequence
class Info:
    version: int
    subject: asn1.TLV
    spki: asn1.TLV
    attributes: asn1.TLV


@asn1.sequence
class Request:
    info: Info
    algorithm: asn1.TLV
    signature: asn1.BitString


def forged(*, spki: bytes, version: int = 0, attributes: bytes = b"\xa0\x00", algorithm: bytes, signer: Any) -> bytes:
    """A request that no library would write; `signer` signs its inside."""

    def tlv(der: bytes) -> asn1.TLV:
        return asn1.decode_der(asn1.TLV, der)

    info = Info(version=version, subject=tlv(b"\x30\x00"), spki=tlv(spki), attributes=tlv(attributes))
    signature = asn1.BitString(signer(asn1.encode_der(info)), 0)
    return asn1.encode_der(Request(info=info, algorithm=tlv(algorithm), signature=signature))


ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
EXTENSION_REQUEST = bytes.fromhex("06092a864886f70d01090e")


def sequence(*parts: bytes, tag: int = 0x30) -> bytes:
    content = b"".join(parts)
    assert len(content) < 128
    return bytes((tag, len(content))) + content


def forge(attributes: bytes = b"\xa0\x00", version: int = 0) -> bytes:
    return forged(
        spki=keys.spki(KEY.public_key()),
        version=version,
        attributes=attributes,
        algorithm=ECDSA_SHA256,
        signer=lambda inside: keys.sign(KEY, inside),
    )


def test_the_forge_makes_requests_that_are_let_in_when_nothing_is_wrong() -> None:
    assert admit(forge(), ENTITLED, CsrPolicy()).public_key == KEY.public_key()


@pytest.mark.parametrize("version", [1, 2, 127])
def test_another_version_is_refused(version: int) -> None:
    refused(forge(version=version), "cannot be read: .*version")


CA_FALSE = sequence(bytes.fromhex("0603551d13"), sequence(sequence(), tag=0x04))
REQUESTS = sequence(EXTENSION_REQUEST, sequence(sequence(CA_FALSE), tag=0x31))


@pytest.mark.parametrize(
    ("attributes", "because"),
    [
        (sequence(REQUESTS, REQUESTS, tag=0xA0), "two extension requests"),
        (
            sequence(sequence(EXTENSION_REQUEST, sequence(sequence(CA_FALSE), sequence(), tag=0x31)), tag=0xA0),
            "cannot be read",
        ),
        (
            sequence(sequence(EXTENSION_REQUEST, sequence(sequence(CA_FALSE, CA_FALSE), tag=0x31)), tag=0xA0),
            "cannot be read: Duplicate",
        ),
        (
            sequence(
                sequence(bytes.fromhex("06092a864886f70d010907"), sequence(b"\x0c\x06secret", tag=0x31)), tag=0xA0
            ),
            "has a challenge password",
        ),
        (
            sequence(sequence(bytes.fromhex("06092a864886f70d010902"), sequence(b"\x0c\x01a", tag=0x31)), tag=0xA0),
            "has the attribute 1.2.840.113549.1.9.2",
        ),
        (
            sequence(
                sequence(bytes.fromhex("060a2b06010401823702010e"), sequence(sequence(CA_FALSE), tag=0x31)),
                tag=0xA0,
            ),
            "has the attribute 1.3.6.1.4.1.311.2.1.14",
        ),
        (sequence(sequence(EXTENSION_REQUEST, sequence(b"\x05\x00", tag=0x31)), tag=0xA0), "cannot be read"),
    ],
)
def test_attributes_are_one_extension_request_and_nothing_else(attributes: bytes, because: str) -> None:
    refused(forge(attributes), because)


def test_a_refused_challenge_password_is_not_repeated() -> None:
    secret = sequence(bytes.fromhex("06092a864886f70d010907"), sequence(b"\x0c\x06secret", tag=0x31))
    error = refused(forge(sequence(secret, tag=0xA0)), "challenge password")
    assert "secret" not in error.sentence()


def test_a_request_that_another_key_signed_is_refused() -> None:
    other = keys.generate()
    request = forged(
        spki=keys.spki(KEY.public_key()), algorithm=ECDSA_SHA256, signer=lambda inside: keys.sign(other, inside)
    )
    refused(request, "signature does not verify")


def test_a_request_without_a_signature_is_refused() -> None:
    request = forged(spki=keys.spki(KEY.public_key()), algorithm=ECDSA_SHA256, signer=lambda _: b"")
    refused(request, "signature")


@pytest.mark.parametrize("algorithm", ["300906072a8648ce3d0401", "300a06082a8648ce3d040301"])
def test_a_hash_that_is_too_weak_is_refused(algorithm: str) -> None:
    def sign(inside: bytes) -> bytes:
        assert isinstance(KEY, ec.EllipticCurvePrivateKey)
        return KEY.sign(inside, ec.ECDSA(hashes.SHA1()))

    request = forged(spki=keys.spki(KEY.public_key()), algorithm=bytes.fromhex(algorithm), signer=sign)
    refused(request, "the CSR is signed with .*; expected ECDSA with SHA-256, SHA-384 or SHA-512")


def test_rsa_with_sha_1_or_md5_or_pss_is_refused() -> None:
    assert isinstance(RSA_KEY, rsa.RSAPrivateKey)
    key = RSA_KEY
    for algorithm in ("300d06092a864886f70d0101050500", "300d06092a864886f70d0101040500"):
        request = forged(
            spki=keys.spki(key.public_key()),
            algorithm=bytes.fromhex(algorithm),
            signer=lambda inside: key.sign(inside, padding.PKCS1v15(), hashes.SHA1()),
        )
        refused(request, "the CSR is signed with")
    pss = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(key, hashes.SHA256(), rsa_padding=padding.PSS(padding.MGF1(hashes.SHA256()), 32))
    )
    refused(pss.public_bytes(serialization.Encoding.DER), "expected RSA .PKCS #1 v1.5. with SHA-256")


def test_an_algorithm_of_another_kind_of_key_is_refused() -> None:
    request = forged(
        spki=keys.spki(KEY.public_key()),
        algorithm=bytes.fromhex("300d06092a864886f70d01010b0500"),
        signer=lambda inside: keys.sign(KEY, inside),
    )
    refused(request, "the CSR is signed with .*; expected ECDSA")


@pytest.mark.parametrize(
    ("make", "because"),
    [
        (ed25519.Ed25519PrivateKey.generate, "the CSR's key is Ed25519; expected EC"),
        (lambda: ec.generate_private_key(ec.SECP521R1()), "is on the curve secp521r1; expected secp256r1 or secp384r1"),
        (lambda: ec.generate_private_key(ec.SECP256K1()), "is on the curve secp256k1"),
        (lambda: ec.generate_private_key(ec.SECP224R1()), "is on the curve secp224r1"),
        (lambda: dsa.generate_private_key(1024), "is DSA"),
        (lambda: rsa.generate_private_key(65537, 1024), "is RSA with 1024 bits; expected 2048 to 4096"),
        (lambda: rsa.generate_private_key(3, 2048), "public exponent 3; expected 65537"),
    ],
)
def test_keys_that_are_weak_or_that_envoy_cannot_use_are_refused(make: Callable[[], Any], because: str) -> None:
    key = make()
    hash_ = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hash_)
    refused(request.public_bytes(serialization.Encoding.DER), because)


def test_a_curve_is_let_in_if_the_policy_says_so() -> None:
    key = ec.generate_private_key(ec.SECP521R1())
    policy = CsrPolicy(keys=KeyPolicy(curves=frozenset({"secp521r1"})))
    assert admit(make_csr(key), ENTITLED, policy).public_key == key.public_key()


def test_base64_with_rubbish_in_it_is_refused() -> None:
    body = base64.b64encode(make_csr(KEY))
    refused(
        b"-----BEGIN CERTIFICATE REQUEST-----\n" + body[:-1] + b"\n-----END CERTIFICATE REQUEST-----\n", "base64|read"
    )


def test_a_caller_who_may_have_any_id_says_which_in_the_request() -> None:
    for request in (make_csr(KEY), pem(make_csr(KEY), "CERTIFICATE REQUEST")):
        assert wanted_id(request, CsrPolicy()) == WEB


@pytest.mark.parametrize(
    ("request_", "error", "because"),
    [
        (make_csr(KEY, uris=()), BadCsr, "names no SPIFFE ID"),
        (make_csr(KEY, uris=(), dns_names=("a.b",)), BadCsr, "names 0 URIs"),
        (make_csr(KEY, uris=(WEB.uri, WEB.uri)), BadCsr, "names 2 URIs"),
        (make_csr(KEY, uris=("https://example.org/web",)), BadSpiffeId, "is not a SPIFFE ID"),
        (b"0" * 20_000, BadCsr, "has 20000 bytes"),
        (b"rubbish", BadCsr, "cannot be read"),
    ],
)
def test_a_request_for_no_id_or_several_is_refused(request_: bytes, error: type[BadCsr], because: str) -> None:
    with pytest.raises(error, match=because):
        wanted_id(request_, CsrPolicy())
