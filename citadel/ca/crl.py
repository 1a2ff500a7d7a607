"""Certificate revocation lists that came with a plugged-in CA: read, held against their issuers, and against time.

An Envoy that is given any CRL wants a current one of every CA in every chain that it verifies, and refuses the peer
otherwise (X509_V_FLAG_CRL_CHECK_ALL). So a CRL that is missing or expired would stop the mesh; that is checked here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from citadel.ca import keys
from citadel.ca.certificates import name_of, pem_blocks
from citadel.ca.unreadable import UNREADABLE
from citadel.errors import InvalidInput

_MOST = 64
_SOON = timedelta(days=3)


def parse_crls(content: bytes) -> list[x509.CertificateRevocationList]:
    """The CRLs in a PEM file, in order. Raises InvalidInput if there is none, or anything else."""
    blocks = pem_blocks(content, "CRL", "openssl crl -inform DER -in OLD -out NEW")
    if not blocks or any(label != "X509 CRL" for label, _ in blocks):
        raise InvalidInput("expected CRLs in PEM (X509 CRL), and nothing else")
    if len(blocks) > _MOST:
        raise InvalidInput(f"it holds {len(blocks)} CRLs; at most {_MOST} are allowed")
    try:
        found = [x509.load_pem_x509_crl(block) for _, block in blocks]
        for crl in found:
            crl.issuer.rfc4514_string()
            tuple(crl.extensions)
            _ = crl.last_update_utc, crl.next_update_utc
            for revoked in crl:
                tuple(revoked.extensions)
    except UNREADABLE as error:
        raise InvalidInput(f"a CRL in it cannot be read: {error}") from error
    return found


def to_pem(crl: x509.CertificateRevocationList) -> bytes:
    return crl.public_bytes(serialization.Encoding.PEM)


def crl_faults(
    crls: Sequence[x509.CertificateRevocationList], authorities: Sequence[x509.Certificate], now: datetime
) -> Iterator[str]:
    """What is wrong with `crls` that came with `authorities`, as sentences."""
    for crl in crls:
        issuer = crl.issuer.rfc4514_string()
        if not any(is_of(crl, authority) for authority in authorities):
            yield f"the CRL of {issuer} is not signed by a CA of this chain, nor by another in cert-chain.pem"
        if any(extension.critical for extension in crl.extensions):
            yield f"the CRL of {issuer} is a delta or a part of one (it has a critical extension); expected a whole one"
        if now < crl.last_update_utc:
            yield f"the CRL of {issuer} is not valid before {crl.last_update_utc.isoformat()}"
        if crl.next_update_utc is None:
            yield f"the CRL of {issuer} does not say when the next one comes (RFC 5280, 5.1.2.5)"
        elif crl.next_update_utc < now:
            yield f"the CRL of {issuer} expired at {crl.next_update_utc.isoformat()}; Envoys would refuse everybody"


def uncovered(
    crls: Sequence[x509.CertificateRevocationList], authorities: Sequence[x509.Certificate]
) -> list[x509.Certificate]:
    """The CAs of `authorities` of which there is no CRL; none if there are no CRLs at all, since then nobody asks."""
    if not crls:
        return []
    return [authority for authority in authorities if not any(is_of(crl, authority) for crl in crls)]


def crl_warnings(crls: Sequence[x509.CertificateRevocationList], now: datetime) -> Iterator[str]:
    """Of those that end soon, or have ended, and are served all the same (docs/adr/0005)."""
    for crl in crls:
        end = crl.next_update_utc
        if end is None or end - now >= min(_SOON, (end - crl.last_update_utc) / 4):
            continue
        name = crl.issuer.rfc4514_string()
        if end >= now:
            yield f"the CRL of {name} expires at {end.isoformat()}; from then on Envoys refuse everybody"
        else:
            yield (
                f"the CRL of {name} expired at {end.isoformat()}, and Envoys refuse everybody: put a new ca-crl.pem "
                "there, or take it away, and nobody asks for revocations any more"
            )


def is_of(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    """Whether `authority` made this CRL and may (RFC 5280, 6.3.3 (f) and (g))."""
    key = authority.public_key()
    if crl.issuer != authority.subject or not isinstance(key, keys.PublicKey):
        return False
    try:
        if not authority.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign:
            return False
    except x509.ExtensionNotFound:
        pass
    try:
        return crl.is_signature_valid(key)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False


def name_all(authorities: Sequence[x509.Certificate]) -> str:
    return " and ".join(name_of(authority) for authority in authorities)
