"""Federation: the trust bundles of other trust domains, as an administrator brings them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cryptography import x509

from citadel.audit import AuditEvent
from citadel.ca.certificates import describe, parse, split_der
from citadel.ca.model import TrustBundle
from citadel.ca.ports import AuthorityStore, FederationStore
from citadel.clock import Clock
from citadel.errors import CitadelError, InvalidInput, NotFound
from citadel.spiffe import SCHEME, SpiffeId, TrustDomain

_MAX_ROOTS = 64
_MAX_HINT = 2**31 - 1


@dataclass(frozen=True)
class Federation:
    """Bundles of foreign trust domains. Our own follows from the authorities and cannot be touched here."""

    reads: AuthorityStore
    writes: FederationStore
    trust_domain: TrustDomain
    clock: Clock

    async def all(self) -> list[TrustBundle]:
        """In order of trust domain."""
        return [bundle for bundle in await self.reads.bundles() if bundle.trust_domain != self.trust_domain]

    async def get(self, trust_domain: TrustDomain) -> TrustBundle:
        """Raises InvalidInput (our own), NotFound."""
        self._refuse_ours(trust_domain)
        bundle = await self.reads.bundle(trust_domain)
        if bundle is None:
            raise NotFound(f"there is no bundle of {trust_domain}")
        return bundle

    async def create(self, bundle: TrustBundle, actor: str) -> TrustBundle:
        """Raises InvalidInput, AlreadyExists."""
        return await self._put(bundle, actor, "create", present=False)

    async def update(self, bundle: TrustBundle, actor: str) -> TrustBundle:
        """Raises InvalidInput, NotFound."""
        return await self._put(bundle, actor, "update", present=True)

    async def set(self, bundle: TrustBundle, actor: str) -> TrustBundle:
        """Create or update. Raises InvalidInput."""
        return await self._put(bundle, actor, "set", present=None)

    async def delete(self, trust_domain: TrustDomain, actor: str) -> None:
        """Raises InvalidInput (our own), NotFound, FailedPrecondition while an entry federates with it."""
        self._refuse_ours(trust_domain)
        event = AuditEvent(self.clock.now(), actor, "bundle.delete", trust_domain.name)
        await self.writes.delete_federated(trust_domain, event)

    async def _put(self, bundle: TrustBundle, actor: str, verb: str, *, present: bool | None) -> TrustBundle:
        self._refuse_ours(bundle.trust_domain)
        if not 0 <= bundle.refresh_hint <= _MAX_HINT or not 0 <= bundle.sequence < 2**63 - 1:
            raise InvalidInput(f"the bundle of {bundle.trust_domain}: refresh hint or sequence number is out of range")
        bundle = replace(bundle, roots=read_roots(bundle.roots, bundle.trust_domain))
        event = AuditEvent(
            self.clock.now(), actor, f"bundle.{verb}", bundle.trust_domain.name, {"roots": len(bundle.roots)}
        )
        return await self.writes.put_federated(bundle, event, present=present)

    def _refuse_ours(self, trust_domain: TrustDomain) -> None:
        if trust_domain == self.trust_domain:
            raise InvalidInput(
                f"{trust_domain} is our own trust domain; its bundle follows from the authorities",
                mend="see: citadel ca list",
            )


def read_roots(ders: Iterable[bytes], trust_domain: TrustDomain) -> tuple[bytes, ...]:
    """The CA certificates of a foreign bundle, each once, sorted by fingerprint. One item may hold several (DER after
    DER), as SPIRE allows.

    Raises InvalidInput: if there is none, too many, one that is no CA, or that says it is another trust domain's.
    """
    found: dict[str, bytes] = {}
    for number, joined in enumerate(ders, 1):
        where = f"the bundle of {trust_domain}, authority {number}"
        for der in _split(joined, where):
            certificate = _parse(der, where)
            _refuse_strange(certificate, trust_domain, where)
            found[describe(certificate).fingerprint] = der
    if not found:
        raise InvalidInput(f"the bundle of {trust_domain} has no X.509 authority: nobody could be verified with it")
    if len(found) > _MAX_ROOTS:
        raise InvalidInput(f"the bundle of {trust_domain} has {len(found)} authorities; at most {_MAX_ROOTS}")
    return tuple(der for _, der in sorted(found.items()))


def _split(joined: bytes, where: str) -> Sequence[bytes]:
    try:
        return split_der(joined)
    except (CitadelError, ValueError, IndexError) as error:
        raise InvalidInput(f"{where} is not DER") from error


def _parse(der: bytes, where: str) -> x509.Certificate:
    try:
        return parse(der)
    except CitadelError as error:
        raise InvalidInput(f"{where}: {error.message}") from error


def _refuse_strange(certificate: x509.Certificate, trust_domain: TrustDomain, where: str) -> None:
    try:
        is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_ca = False
    if not is_ca:
        raise InvalidInput(f"{where} is not a CA certificate")
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return
    for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
        if uri.startswith(SCHEME) and SpiffeId.parse(uri).trust_domain != trust_domain:
            raise InvalidInput(f"{where} is of another trust domain: it names {uri}")
