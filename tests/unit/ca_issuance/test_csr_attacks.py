"""Requests that no library would write, made byte by byte by somebody who means harm: each gets one clear sentence.

What they cost is measured, not timed here: see docs/certificates.md.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from citadel.ca import keys
from citadel.ca.csr import CsrPolicy, Entitlement, admit
from citadel.errors import BadCsr
from tests.support.issuance import WEB

ENTITLED = Entitlement(WEB, ("web.example.org",))
KEY = ec.generate_private_key(ec.SECP256R1())
RSA = keys.generate(keys.KeyType.RSA_2048)
SPKI = keys.spki(KEY.public_key())

ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
RSA_SHA256 = bytes.fromhex("300d06092a864886f70d01010b0500")
EXTENSION_REQUEST = bytes.fromhex("06092a864886f70d01090e")
SAN, KEY_USAGE, CONSTRAINTS, USES = (bytes.fromhex(f"0603551d{last}") for last in ("11", "0f", "13", "25"))
CRITICAL = b"\x01\x01\xff"
NO_ATTRIBUTES = b"\xa0\x00"
random.seed(7)


def value(tag: int, content: bytes) -> bytes:
    if len(content) < 0x80:
        return bytes((tag, len(content))) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(length))) + length + content


def integer(number: int) -> bytes:
    return value(2, number.to_bytes(number.bit_length() // 8 + 1))


def odd(bits: int) -> int:
    """An odd number of so many bits, without small factors."""
    product = 3 * 5 * 7 * 11 * 13
    number = random.getrandbits(bits) | 1 << (bits - 1) | 1
    return number + (1 - number % product) * (product + 1) % (2 * product)


def rsa_key(modulus: int, exponent: int, algorithm: str = "06092a864886f70d0101010500") -> bytes:
    inner = value(0x30, integer(modulus) + integer(exponent))
    return value(0x30, value(0x30, bytes.fromhex(algorithm)) + value(3, b"\x00" + inner))


def ec_key(point: bytes, curve: bytes = bytes.fromhex("06082a8648ce3d030107")) -> bytes:
    return value(0x30, value(0x30, bytes.fromhex("06072a8648ce3d0201") + curve) + value(3, b"\x00" + point))


def signed(inside: bytes) -> bytes:
    return keys.sign(KEY, inside)


def request(
    spki: bytes = SPKI,
    attributes: bytes = NO_ATTRIBUTES,
    *,
    sign: Callable[[bytes], bytes] = signed,
    algorithm: bytes = ECDSA_SHA256,
    version: bytes = b"\x02\x01\x00",
    subject: bytes = b"\x30\x00",
) -> bytes:
    inside = value(0x30, version + subject + spki + attributes)
    return value(0x30, inside + algorithm + value(3, b"\x00" + sign(inside)))


def rsa_request(spki: bytes, signature: bytes = b"\x01" * 256) -> bytes:
    return request(spki, sign=lambda _: signature, algorithm=RSA_SHA256)


def asking(*extensions: bytes) -> bytes:
    wanted = value(0x31, value(0x30, b"".join(extensions)))
    return request(attributes=value(0xA0, value(0x30, EXTENSION_REQUEST + wanted)))


def extension(oid: bytes, content: bytes, critical: bytes = b"") -> bytes:
    return value(0x30, oid + critical + value(4, content))


def names(*general: bytes) -> bytes:
    return asking(extension(SAN, value(0x30, b"".join(general))))


def uri(text: str) -> bytes:
    return value(0x86, text.encode())


def deep(levels: int) -> bytes:
    nested = b"\x05\x00"
    for _ in range(levels):
        nested = value(0x30, nested)
    return nested


def test_these_tools_make_requests_that_are_let_in_when_nothing_is_wrong() -> None:
    key_usage = extension(KEY_USAGE, bytes.fromhex("03020780"), CRITICAL)
    for one in (request(), names(uri(WEB.uri)), asking(key_usage), asking(extension(CONSTRAINTS, b"\x30\x00"))):
        assert admit(one, ENTITLED, CsrPolicy()).public_key == KEY.public_key()
    one = request(keys.spki(RSA.public_key()), sign=lambda inside: keys.sign(RSA, inside), algorithm=RSA_SHA256)
    assert admit(one, ENTITLED, CsrPolicy()).public_key == RSA.public_key()


MODULUS = odd(2048)

ATTACKS: dict[str, tuple[bytes, str]] = {
    # what would take long if it were tried
    "a modulus of 120,000 bits": (rsa_request(rsa_key(odd(120_000), 65537)), "RSA with 120000 bits; expected 2048"),
    "an exponent of 59,990 bits": (rsa_request(rsa_key(odd(60_000), odd(59_990))), "RSA with 60000 bits"),
    "an exponent as long as the modulus": (rsa_request(rsa_key(MODULUS, MODULUS - 2)), "exponent of 2048 bits"),
    "a signature of 9,000 bytes": (rsa_request(keys.spki(RSA.public_key()), b"\x01" * 9000), "signature"),
    "ECDSA numbers of 50,000 bits": (
        request(sign=lambda _: value(0x30, integer(odd(50_000)) * 2)),
        "signature does not verify",
    ),
    "3,000 levels of nesting in an attribute": (
        request(attributes=value(0xA0, value(0x30, EXTENSION_REQUEST + value(0x31, deep(3000))))),
        "cannot be read",
    ),
    "3,000 levels of nesting in a name": (request(subject=deep(3000)), "cannot be read: its DER is malformed"),
    "900 attributes": (
        request(attributes=value(0xA0, value(0x30, b"\x06\x03\x2a\x03\x04\x31\x02\x05\x00") * 900)),
        "only an extension request is allowed|cannot be read: Duplicate",
    ),
    "600 URIs": (names(*[uri(WEB.uri)] * 600), "asks for 600 URIs"),
    "PEM that only begins": (b"-----BEGIN CERTIFICATE REQUEST-----\n" * 450, "not one block of PEM"),
    "PEM of line ends": (b"-----BEGIN CERTIFICATE REQUEST-----\n" + b"\n" * 16_000, "not one block of PEM"),
    "16 KiB of blanks": (b" " * 16_384, "cannot be read"),
    # keys
    "exponent 1": (rsa_request(rsa_key(MODULUS, 1)), "cannot be read: e must be"),
    "exponent 0": (rsa_request(rsa_key(MODULUS, 0)), "cannot be read: e must be"),
    "modulus 0": (rsa_request(rsa_key(0, 65537)), "cannot be read: n must be"),
    "an even modulus": (rsa_request(rsa_key(MODULUS - 1, 65537)), "small factor"),
    "a square": (rsa_request(rsa_key(RSA.private_numbers().p ** 2, 65537)), "close together|2047 bits"),  # type: ignore[union-attr]  # it is RSA
    "a key for PSS alone": (
        request(
            rsa_key(RSA.public_key().public_numbers().n, 65537, "06092a864886f70d01010a"),  # type: ignore[union-attr]  # as above
            sign=lambda inside: keys.sign(RSA, inside),
            algorithm=RSA_SHA256,
        ),
        "RSA for PSS signatures only",
    ),
    "a point off the curve": (request(ec_key(b"\x04" + b"\x01" * 64)), "cannot be read: Invalid key"),
    "the point at infinity": (request(ec_key(b"\x00")), "point is at infinity"),
    "P-192": (request(ec_key(b"\x04" + b"\x01" * 48, bytes.fromhex("06082a8648ce3d030101"))), "cannot be read"),
    "a curve by its numbers": (
        request(ec_key(b"\x04" + b"\x01" * 64, value(0x30, b"\x02\x01\x01" + value(0x30, integer(5))))),
        "cannot be read",
    ),
    "a signature of zeros": (request(sign=lambda _: value(0x30, integer(0) * 2)), "signature does not verify"),
    "bytes behind the signature": (request(sign=lambda inside: signed(inside) + b"\x00"), "does not verify"),
    # names
    "a scheme in capitals": (names(uri("SPIFFE://example.org/web")), "asks for the URI 'SPIFFE://"),
    "a trust domain in capitals": (names(uri("spiffe://Example.org/web")), "asks for the URI"),
    "a path with a percent sign": (names(uri("spiffe://example.org/%77eb")), "asks for the URI"),
    "a zero byte behind the ID": (names(uri(WEB.uri + "\x00")), "asks for the URI"),
    "a comma and another ID": (names(uri(WEB.uri + ",spiffe://example.org/admin")), "asks for the URI"),
    "an ID that looks the same": (names(uri("spiffe://example.org/wеb")), "asks for the URI"),
    "a second URI": (names(uri(WEB.uri), uri("spiffe://example.org/admin")), "asks for the URI"),
    "another kind of name behind": (
        names(uri(WEB.uri), value(0xA0, b"\x06\x03\x2a\x03\x04" + value(0xA0, b"\x0c\x01a"))),
        "of the kind OtherName",
    ),
    "an X.400 address": (names(value(0xA3, b"\x30\x00")), "cannot be read"),
    "an address of five bytes": (names(value(0x87, b"12345")), "cannot be read"),
    "bytes behind the names": (
        asking(extension(SAN, value(0x30, uri(WEB.uri)) + b"\x00")),
        r"malformed \(ExtraData in subject_alternative_name\)",
    ),
    # extensions
    "names twice": (asking(*[extension(SAN, value(0x30, uri(WEB.uri)))] * 2), "Duplicate 2.5.29.17"),
    "an unknown one, critical": (
        asking(extension(b"\x06\x03\x2a\x03\x04", b"\x05\x00", CRITICAL)),
        "asks for the extension 1.2.3.4",
    ),
    "truth that is not DER": (asking(extension(SAN, value(0x30, uri(WEB.uri)), b"\x01\x01\x01")), "cannot be read"),
    "a default that is written": (asking(extension(SAN, value(0x30, b""), b"\x01\x01\x00")), "cannot be read"),
    "CA:FALSE written out": (asking(extension(CONSTRAINTS, b"\x30\x03\x01\x01\x00")), "malformed"),
    "a path length without CA": (asking(extension(CONSTRAINTS, b"\x30\x03\x02\x01\x00")), "cannot be read"),
    "a path length of 3,000 bits": (
        asking(extension(CONSTRAINTS, value(0x30, CRITICAL + integer(odd(3000))))),
        "malformed",
    ),
    "a use for deciphering only": (asking(extension(KEY_USAGE, bytes.fromhex("0303078080"))), "cannot be read"),
    "no uses": (asking(extension(USES, b"\x30\x00")), "malformed"),
    # the frame
    "a negative version": (request(version=b"\x02\x01\xff"), "malformed"),
    "a version with a leading zero": (request(version=b"\x02\x02\x00\x00"), "malformed"),
    "no attributes at all": (request(attributes=b""), "malformed"),
    "an indefinite length": (b"\x30\x80" + request()[3:] + b"\x00\x00", "malformed"),
    "a length with a leading zero": (b"\x30\x82\x00" + request()[2:], "malformed"),
    "bytes behind it": (request() + b"\x00", r"malformed \(ExtraData\)"),
    "an unknown signature algorithm": (request(algorithm=value(0x30, b"\x06\x03\x2a\x03\x04")), "signed with 1.2.3.4"),
}


@pytest.mark.filterwarnings("ignore::Warning")  # the library warns of some malformed names and numbers
@pytest.mark.parametrize(("attack", "because"), ATTACKS.values(), ids=ATTACKS.keys())
def test_an_attack_is_refused_with_a_short_sentence(attack: bytes, because: str) -> None:
    assert len(attack) <= CsrPolicy().max_bytes, "it must get past the first check"
    with pytest.raises(BadCsr, match=because) as caught:
        admit(attack, ENTITLED, CsrPolicy())
    assert "\n" not in caught.value.sentence()
    assert len(caught.value.sentence()) < 500
    assert "ParseError" not in caught.value.sentence()
