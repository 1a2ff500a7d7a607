"""Whatever bytes come in, the gate answers with a key or with BadCsr; and what it lets in asks for nothing more."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID
from hypothesis import example, given, settings
from hypothesis import strategies as st

from citadel.ca import keys
from citadel.ca.csr import CsrPolicy, Entitlement, admit
from citadel.errors import BadCsr
from tests.support.issuance import WEB, make_csr, pem

ENTITLED = Entitlement(WEB, ("web.example.org", "www.example.org"))
EC, RSA = keys.generate(), keys.generate(keys.KeyType.RSA_2048)
POLICY = CsrPolicy()

# The library warns of some malformed names and numbers; the server only logs that, so it is no finding here.
pytestmark = pytest.mark.filterwarnings("ignore::Warning")

SEEDS = [
    make_csr(EC),
    make_csr(RSA, dns_names=("web.example.org",)),
    make_csr(
        EC,
        dns_names=("www.example.org",),
        extensions=[
            x509.BasicConstraints(ca=False, path_length=None),
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
            x509.KeyUsage(True, False, False, False, False, False, False, False, False),
        ],
    ),
    pem(make_csr(EC), "CERTIFICATE REQUEST"),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good request with up to four bytes flipped, inserted, removed, repeated, or its end cut off."""
    request = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(request) - 1)) if request else 0
        match draw(st.sampled_from(["flip", "set", "insert", "remove", "repeat", "cut"])):
            case "flip" if request:
                request[at] ^= 1 << draw(st.integers(0, 7))
            case "set" if request:
                request[at] = draw(st.integers(0, 255))
            case "insert":
                request[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "remove":
                del request[at : at + draw(st.integers(1, 8))]
            case "repeat":
                request[at:at] = request[at : at + draw(st.integers(1, 64))]
            case _:
                del request[at:]
    return bytes(request)


@given(mutated())
@settings(max_examples=1500, deadline=None)
def test_a_damaged_request_gives_bad_csr_or_the_key_that_signed_it(request: bytes) -> None:
    with contextlib.suppress(BadCsr):
        admitted = admit(request, ENTITLED, POLICY)
        assert admitted.public_key in (EC.public_key(), RSA.public_key())  # the signature still covers all of it


@given(st.binary(max_size=400))
@example(b"-----BEGIN CERTIFICATE REQUEST-----")
@example(b"-----BEGIN CERTIFICATE REQUEST-----\n\xff\n-----END CERTIFICATE REQUEST-----")
@settings(max_examples=500, deadline=None)
def test_rubbish_gives_bad_csr(request: bytes) -> None:
    with pytest.raises(BadCsr):
        admit(request, ENTITLED, POLICY)


def test_no_single_bit_of_a_signed_request_can_change() -> None:
    for seed in SEEDS[:1]:
        for position in range(len(seed)):
            for bit in range(8):
                changed = bytearray(seed)
                changed[position] ^= 1 << bit
                with pytest.raises(BadCsr):
                    admit(bytes(changed), ENTITLED, POLICY)


NAMES: st.SearchStrategy[x509.GeneralName] = st.one_of(
    st.sampled_from([WEB.uri, WEB.uri + "x", "spiffe://example.org/", "https://example.org/web"]).map(
        x509.UniformResourceIdentifier
    ),
    st.sampled_from(["web.example.org", "www.example.org", "db.example.org", "*.example.org"]).map(x509.DNSName),
    st.sampled_from(["root@example.org"]).map(x509.RFC822Name),
)
FLAGS = st.lists(st.booleans(), min_size=7, max_size=7)
USES = st.lists(
    st.sampled_from(
        [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.CODE_SIGNING]
    ),
    min_size=1,
    max_size=3,
)


@st.composite
def asking(draw: st.DrawFn) -> bytes:
    """A request, well signed, that asks for anything."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if names := draw(st.lists(NAMES, max_size=4)):
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=draw(st.booleans()))
    if draw(st.booleans()):
        flags = [*draw(FLAGS), False, False]
        builder = builder.add_extension(x509.KeyUsage(*flags), critical=draw(st.booleans()))
    if draw(st.booleans()):
        builder = builder.add_extension(x509.ExtendedKeyUsage(draw(USES)), critical=False)
    if draw(st.booleans()):
        builder = builder.add_extension(x509.BasicConstraints(draw(st.booleans()), None), critical=True)
    if draw(st.integers(0, 9)) == 0:
        builder = builder.add_attribute(x509.ObjectIdentifier("1.2.840.113549.1.9.7"), b"secret")
    request = builder.sign(draw(st.sampled_from([EC, RSA])), hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


@given(asking())
@settings(max_examples=400, deadline=None)
def test_what_is_let_in_asks_for_nothing_that_is_not_allowed(request: bytes) -> None:
    allowed = _asks_only_for_what_is_allowed(x509.load_der_x509_csr(request))
    if allowed:
        admit(request, ENTITLED, POLICY)
    else:
        with pytest.raises(BadCsr):
            admit(request, ENTITLED, POLICY)


def _asks_only_for_what_is_allowed(request: x509.CertificateSigningRequest) -> bool:
    """The rule of docs/certificates.md, told once more."""
    asked: dict[Any, Any] = {extension.oid: extension.value for extension in request.extensions}
    names = list(asked.get(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, []))
    uses = set(asked.get(ExtensionOID.EXTENDED_KEY_USAGE, []))
    constraints = asked.get(ExtensionOID.BASIC_CONSTRAINTS)
    usage = asked.get(ExtensionOID.KEY_USAGE)
    may_encipher = request.public_key() == RSA.public_key()
    return (
        all(attribute.oid.dotted_string == "1.2.840.113549.1.9.14" for attribute in request.attributes)
        and all(
            name in (x509.UniformResourceIdentifier(WEB.uri), *map(x509.DNSName, ENTITLED.dns_names)) for name in names
        )
        and names.count(x509.UniformResourceIdentifier(WEB.uri)) <= 1
        and uses <= {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
        and (constraints is None or not constraints.ca)
        and (
            usage is None
            or not (
                usage.content_commitment
                or usage.data_encipherment
                or usage.key_agreement
                or usage.key_cert_sign
                or usage.crl_sign
                or (usage.key_encipherment and not may_encipher)
            )
        )
    )
