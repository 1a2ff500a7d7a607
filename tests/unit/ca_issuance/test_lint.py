"""The linter stands between what was written and the signing key."""

from __future__ import annotations

import dataclasses
import secrets
from dataclasses import replace
from datetime import timedelta

import pytest

from citadel.ca import keys, profile, tbs
from citadel.ca.lint import LintedCertificate, lint
from citadel.ca.profile import CertificateSpec, Parent, Validity
from citadel.errors import InternalFault
from citadel.spiffe import SpiffeId, TrustDomain
from tests.support.issuance import NOW, TRUST_DOMAIN, WEB, make_chain

HOUR = timedelta(hours=1)


@pytest.fixture
async def leaf() -> CertificateSpec:
    chain = await make_chain()
    return profile.leaf(
        parent=chain.parent,
        key=keys.SubjectKey.of(keys.generate().public_key()),
        spiffe_id=WEB,
        dns_names=("web.example.org",),
        validity=Validity.starting(NOW, HOUR, backdate=timedelta(seconds=30)),
        serial=profile.serial(secrets.token_bytes),
    )


@pytest.fixture
async def issuing(leaf: CertificateSpec) -> CertificateSpec:
    chain = await make_chain()
    return profile.issuing_ca(
        parent=Parent.of(chain.root),
        public_key=keys.generate().public_key(),
        trust_domain=TRUST_DOMAIN,
        validity=Validity.starting(NOW, HOUR, backdate=timedelta(seconds=30)),
        serial=profile.serial(secrets.token_bytes),
    )


def test_what_was_written_as_meant_passes_unchanged(leaf: CertificateSpec) -> None:
    written = tbs.encode(leaf)
    assert lint(written, leaf).tbs == written


def test_only_the_linter_makes_what_a_signer_accepts(leaf: CertificateSpec) -> None:
    written = tbs.encode(leaf)
    with pytest.raises(InternalFault, match="only the linter"):
        LintedCertificate(written, leaf.parent, object())
    linted = lint(written, leaf)
    with pytest.raises((TypeError, ValueError)):
        replace(linted, tbs=b"")  # type: ignore[call-arg]  # that is the point
    with pytest.raises(dataclasses.FrozenInstanceError):
        linted.tbs = b""  # type: ignore[misc]  # that is the point


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")  # some bits make it warn
def test_no_bit_changes_without_the_linter_noticing(leaf: CertificateSpec, issuing: CertificateSpec) -> None:
    for spec in (leaf, issuing):
        written = tbs.encode(spec)
        for position in range(len(written)):
            for bit in range(8):
                changed = bytearray(written)
                changed[position] ^= 1 << bit
                with pytest.raises(InternalFault):
                    lint(bytes(changed), spec)


def test_no_byte_is_lost_or_added_without_the_linter_noticing(leaf: CertificateSpec) -> None:
    written = tbs.encode(leaf)
    for position in range(len(written)):
        for changed in (
            written[:position],
            written[:position] + written[position + 1 :],
            written[:position] + b"\x00" + written[position:],
        ):
            with pytest.raises(InternalFault):
                lint(changed, leaf)
    with pytest.raises(InternalFault):
        lint(written + b"\x00", leaf)


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"serial": 77}, "its serial is not the one meant"),
        ({"spiffe_id": SpiffeId.parse("spiffe://example.org/other")}, "its names are not the SPIFFE ID meant"),
        ({"dns_names": ()}, "its names are not the SPIFFE ID meant"),
        ({"dns_names": ("web.example.org", "more.example.org")}, "its names are not the SPIFFE ID meant"),
        ({"key": keys.SubjectKey.of(keys.generate().public_key())}, "its public key is not the one meant"),
        ({"validity": Validity(NOW, NOW + HOUR)}, "its validity is not the one meant"),
        ({"subject": bytes.fromhex("300c310a300806035504030c0161")}, "its subject is not the one meant"),
    ],
)
def test_what_was_written_otherwise_than_meant_is_named(
    leaf: CertificateSpec, change: dict[str, object], finding: str
) -> None:
    other = replace(leaf, **change)  # type: ignore[arg-type]  # a table of fields
    with pytest.raises(InternalFault, match=finding) as caught:
        lint(tbs.encode(other), leaf)
    assert "no leaf certificate was signed for spiffe://example.org/web" in caught.value.message


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"serial": 0}, "not a positive number"),
        ({"serial": 2**128}, "at most 128 bits"),
        ({"validity": Validity(NOW, NOW)}, "ends before it begins"),
        ({"validity": Validity(NOW, NOW + timedelta(days=8))}, "valid when the signing certificate is not"),
        ({"validity": Validity(NOW - timedelta(days=1), NOW + HOUR)}, "valid when the signing certificate is not"),
        ({"spiffe_id": TRUST_DOMAIN.id}, "a leaf's SPIFFE ID has a path"),
        ({"spiffe_id": SpiffeId(TRUST_DOMAIN, "/a/../b")}, "dot segments are not allowed"),
        ({"spiffe_id": SpiffeId(TrustDomain("Example.org"), "/a")}, "'E' is not allowed"),
        ({"dns_names": ("Web.example.org",)}, "not a host name"),
        ({"dns_names": ("web_1.example.org",)}, "not a host name"),
        ({"dns_names": ("a" * 64 + ".org",)}, "not a host name"),
        ({"dns_names": ("10.0.0.1",)}, "not a host name"),
        ({"dns_names": ("*.example.org",)}, "not a host name"),
        ({"path_length": 0}, "a leaf has no path length"),
    ],
)
def test_what_was_meant_must_be_sound_too(leaf: CertificateSpec, change: dict[str, object], finding: str) -> None:
    unsound = replace(leaf, **change)  # type: ignore[arg-type]  # a table of fields
    with pytest.raises(InternalFault, match=finding):
        lint(tbs.encode(unsound), unsound)


def test_everything_that_is_wrong_is_said_at_once(leaf: CertificateSpec) -> None:
    unsound = replace(leaf, dns_names=("UPPER",), serial=0)
    with pytest.raises(InternalFault, match=r"serial.*; .*host name"):
        lint(tbs.encode(unsound), unsound)


@pytest.mark.parametrize("path_length", [None, 1])
def test_an_issuing_ca_that_could_have_cas_below_it_is_not_signed(
    issuing: CertificateSpec, path_length: int | None
) -> None:
    unsound = replace(issuing, path_length=path_length)
    with pytest.raises(InternalFault, match="path length 0"):
        lint(tbs.encode(unsound), unsound)


def test_a_leaf_is_not_taken_for_an_authority_nor_the_other_way_round(
    leaf: CertificateSpec, issuing: CertificateSpec
) -> None:
    for written, meant in ((leaf, profile.Purpose.ISSUING_CA), (issuing, profile.Purpose.LEAF)):
        with pytest.raises(InternalFault, match=r"no .* certificate was signed"):
            lint(tbs.encode(written), replace(written, purpose=meant))


def test_a_leaf_for_the_authoritys_own_key_is_not_signed(leaf: CertificateSpec) -> None:
    unsound = replace(leaf, key=keys.SubjectKey.of(leaf.parent.public_key))
    with pytest.raises(InternalFault, match="a root, and nothing else"):
        lint(tbs.encode(unsound), unsound)
