"""Certificates that somebody brings for a rotation: a root with its key, or what the holder of an offline root signed.

Pure, and verified whole: everything that is wrong is told at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization

from citadel.ca import keys
from citadel.ca.certificates import describe, name_of, parse, parse_pem, skid_of
from citadel.ca.chain import ca_faults, dead_end, link_faults, order_chain, root_faults
from citadel.ca.model import Authority, AuthorityCertificate, AuthorityKind, Skid
from citadel.ca.roots.cacerts import private_key
from citadel.errors import InvalidInput
from citadel.spiffe import TrustDomain

_MOST = 16
_STRONG = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


@dataclass(frozen=True, slots=True)
class HandedIn:
    """A root with its key."""

    skid: Skid
    certificate: AuthorityCertificate
    key: keys.PrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class Signed:
    """An issuing CA's certificate, the intermediates above it without the root, and the root that it chains to."""

    skid: Skid
    certificate: AuthorityCertificate
    chain: tuple[bytes, ...]
    root_skid: Skid
    root: AuthorityCertificate


def handed_in(
    certificates: bytes, key: bytes, known: Sequence[Authority], trust_domain: TrustDomain, now: datetime
) -> HandedIn:
    """The root in `certificates` (PEM, one) with its private key (PEM). Raises InvalidInput with all that is wrong."""
    found = parse_pem(certificates, most=_MOST)
    if len(found) != 1:
        raise InvalidInput(f"the root's file holds {len(found)} certificates; expected one, the root itself")
    root, private = found[0], private_key(key)
    faults = [*root_faults(root), *_signature_faults(root)]
    faults += ca_faults(root, below=1, trust_domain=trust_domain, now=now)
    if private.public_key() != root.public_key():
        faults.append("the key is not its key")
    faults += _taken(root, known)
    _refuse(f"the root {name_of(root)} cannot be used", faults)
    return HandedIn(skid_of(root), describe(root), private)


def signed(
    certificates: bytes, wanted: keys.PublicKey, known: Sequence[Authority], trust_domain: TrustDomain, now: datetime
) -> Signed:
    """What was signed for the key `wanted`: in `certificates` (PEM, in any order) are the issuing CA's certificate, the
    root, and whatever is between them. Raises InvalidInput with all that is wrong."""
    found = parse_pem(certificates, most=_MOST)
    ours = [one for one in found if one.public_key() == wanted]
    others = [one for one in found if one not in ours]
    roots = [one for one in others if one.issuer == one.subject]
    if len(ours) != 1:
        raise InvalidInput(
            f"{len(ours)} of the {len(found)} certificates are for the key that waits, or was brought; expected one: "
            "was another request signed?"
        )
    if not roots:
        raise InvalidInput("there is no root among the certificates; put the offline root's own one into the file too")
    between = [one for one in others if one not in roots]
    way = order_chain(ours[0], between, roots)
    if way is None:
        where = dead_end(ours[0], between, roots)
        raise InvalidInput(f"no chain of signatures leads from the issuing CA to a root in the file: {where}")
    line = [ours[0], *way[0], way[1]]
    _refuse("what was signed cannot be used", list(_line_faults(line, known, trust_domain, now)))
    der = serialization.Encoding.DER
    return Signed(
        skid_of(line[0]), describe(line[0]), tuple(c.public_bytes(der) for c in line[1:-1]), skid_of(line[-1]),
        describe(line[-1]),
    )  # fmt: skip


def _line_faults(
    line: Sequence[x509.Certificate], known: Sequence[Authority], trust_domain: TrustDomain, now: datetime
) -> Iterator[str]:
    for below, one in enumerate(line):
        faults = ca_faults(one, below=below, trust_domain=trust_domain, now=now)
        if below + 1 < len(line):
            above = line[below + 1]
            faults += link_faults(one, above)
            if one.not_valid_after_utc > above.not_valid_after_utc:
                ends = above.not_valid_after_utc.isoformat()
                faults.append(f"it outlives {name_of(above)}, which signed it and ends at {ends}")
        yield from (f"{name_of(one)}: {fault}" for fault in faults)
    wanted, expected = line[0], keys.skid(line[0].public_key())  # type: ignore[arg-type]  # as the request's key
    if skid_of(wanted) != expected:
        yield f"{name_of(wanted)}: its subject key identifier is not {expected}, which the request asks for"
    if wanted.subject == line[-1].subject:
        yield f"{name_of(wanted)}: it has the name of its root"
    yield from (f"{name_of(wanted)}: {fault}" for fault in _taken(wanted, known))
    yield from (f"{name_of(line[-1])}: {fault}" for fault in (*root_faults(line[-1]), *_signature_faults(line[-1])))
    root = skid_of(line[-1])
    yield from (f"{name_of(line[-1])}: {fault}" for fault in _taken(line[-1], known, but=root))


def _signature_faults(root: x509.Certificate) -> Iterator[str]:
    """Nobody verifies what a root says of itself; but one that is new has no excuse for SHA-1."""
    try:
        algorithm = root.signature_hash_algorithm
    except UnsupportedAlgorithm:
        algorithm = None
    if not isinstance(algorithm, _STRONG):
        yield f"it signed itself with {algorithm.name if algorithm else 'an algorithm'}; expected SHA-256 or better"


def _taken(root: x509.Certificate, known: Iterable[Authority], but: Skid | None = None) -> Iterator[str]:
    """Whose key or name it has. `but`: an authority that it may be."""
    named = any(isinstance(extension.value, x509.SubjectKeyIdentifier) for extension in root.extensions)
    for other in known:
        theirs = parse(other.certificate.der)
        if theirs.public_key() == root.public_key():
            if other.skid != but or other.kind is not AuthorityKind.ROOT:
                yield f"its key is that of the {other.kind} authority {other.skid}, which is {other.state}"
            elif theirs != root:
                yield f"another certificate of its key is known: that of {other.skid}"
        elif other.skid == skid_of(root):
            yield f"its subject key identifier is that of the {other.kind} authority {other.skid}, with another key"
        elif theirs.subject == root.subject and not named:
            yield f"its name is that of {other.skid}, and it has no subject key identifier to tell the two apart"


def _refuse(what: str, faults: Sequence[str]) -> None:
    if faults:
        raise InvalidInput(f"{what}: {'; '.join(dict.fromkeys(faults))}", mend="make it anew; see docs/rotation.md")
