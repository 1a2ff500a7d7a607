"""The contract of ports.Signer, over every implementation."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import secrets
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from citadel.ca import keys, profile, tbs
from citadel.ca.lint import LintedCertificate, lint
from citadel.ca.ports import Signer
from citadel.ca.profile import Validity
from citadel.ca.signers import SoftwareSigner
from tests.support.issuance import NOW, WEB, Chain, make_chain


@pytest.fixture(params=[keys.KeyType.EC_P256, keys.KeyType.EC_P384, keys.KeyType.RSA_2048])
async def chain(request: pytest.FixtureRequest) -> Chain:
    return await make_chain(kind=request.param)


@pytest.fixture(params=[SoftwareSigner])
def signer(request: pytest.FixtureRequest, chain: Chain) -> Signer:
    made: Signer = request.param(chain.issuing_key)
    return made


def linted(chain: Chain) -> LintedCertificate:
    spec = profile.leaf(
        parent=chain.parent,
        key=keys.SubjectKey.of(keys.generate().public_key()),
        spiffe_id=WEB,
        validity=Validity.starting(NOW, timedelta(hours=1), backdate=timedelta(0)),
        serial=profile.serial(secrets.token_bytes),
    )
    return lint(tbs.encode(spec), spec)


async def test_a_signature_verifies_over_exactly_what_was_linted(chain: Chain, signer: Signer) -> None:
    certificate = linted(chain)
    signature = await signer.sign(certificate)
    keys.verify(signer.public_key, signature, certificate.tbs)
    whole = x509.load_der_x509_certificate(tbs.assemble(certificate.tbs, certificate.parent, signature))
    assert whole.tbs_certificate_bytes == certificate.tbs
    whole.verify_directly_issued_by(x509.load_der_x509_certificate(chain.issuing))


async def test_the_public_key_is_that_of_the_certificate_it_signs_for(chain: Chain, signer: Signer) -> None:
    assert signer.public_key == x509.load_der_x509_certificate(chain.issuing).public_key()


async def test_many_may_sign_at_once(chain: Chain, signer: Signer) -> None:
    certificates = [linted(chain) for _ in range(20)]
    signatures = await asyncio.gather(*(signer.sign(certificate) for certificate in certificates))
    for certificate, signature in zip(certificates, signatures, strict=True):
        keys.verify(signer.public_key, signature, certificate.tbs)


async def test_it_says_whether_its_signatures_are_made_elsewhere(signer: Signer) -> None:
    assert signer.remote is not isinstance(signer, SoftwareSigner)


async def test_bytes_that_no_linter_saw_are_not_signed(signer: Signer) -> None:
    with pytest.raises((TypeError, AttributeError)):
        await signer.sign(b"anything")  # type: ignore[arg-type]  # that is the point


async def test_nothing_that_it_shows_of_itself_holds_the_key(chain: Chain, signer: Signer) -> None:
    secret = chain.issuing_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    shown = repr(signer) + str(signer)
    assert secret.hex() not in shown
    assert "private" not in shown.lower()
    assert keys.skid(signer.public_key).hex in shown
    with pytest.raises(TypeError):
        pickle.dumps(signer)
    public = [name for name, _ in inspect.getmembers(signer) if not name.startswith("_")]
    assert sorted(public) == ["public_key", "remote", "sign"]
