"""Signing: the one way from a specification to a certificate. Encode, lint, sign, verify, assemble."""

from __future__ import annotations

from citadel.ca import keys, tbs
from citadel.ca.lint import LintedCertificate, lint
from citadel.ca.ports import Signer
from citadel.ca.profile import CertificateSpec


async def sign_certificate(spec: CertificateSpec, signer: Signer) -> bytes:
    """The certificate (DER) that `spec` means, signed by `signer`, its signature verified.

    Raises InternalFault if the linter or the verification objects; what Signer.sign raises.
    """
    return await sign_linted(lint(tbs.encode(spec), spec), signer, verify=True)


async def sign_linted(certificate: LintedCertificate, signer: Signer, *, verify: bool) -> bytes:
    """Sign what the linter passed; verify the signature if `verify` says so, and always if the signer is remote."""
    signature = await signer.sign(certificate)
    if verify or signer.remote:
        keys.verify(certificate.parent.public_key, signature, certificate.tbs)
    return tbs.assemble(certificate.tbs, certificate.parent, signature)
