"""What a node holds for its workloads, as values: identities with their keys, trust bundles, and one caller's view."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from citadel.spiffe import SpiffeId, TrustDomain


@dataclass(frozen=True, slots=True)
class HeldIdentity:
    """A key and certificate that a caller may use. Equal content is one object, shared by all who hold it.

    `chain` is DER, leaf first, without the root; `private_key` is PKCS#8 DER. Its repr shows no key.
    """

    spiffe_id: SpiffeId
    chain: tuple[bytes, ...]
    private_key: bytes
    serial: int
    not_after: datetime
    authority: str
    hint: str = ""
    dns_names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"HeldIdentity({self.spiffe_id.uri}, serial={self.serial:x}, not_after={self.not_after.isoformat()})"


@dataclass(frozen=True, slots=True)
class HeldBundle:
    """A trust bundle: roots in DER, never empty; CRLs in PEM."""

    trust_domain: TrustDomain
    roots: tuple[bytes, ...]
    sequence: int
    crls: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class View:
    """All that one caller may have now.

    `identities` are in the order in which `default` is chosen: that of the entry that was created first (equal times by
    entry id). A caller without a registration has neither identities nor bundles. `bundles` holds our own trust
    domain's and those that any of the caller's entries federates with.
    """

    trust_domain: TrustDomain
    identities: tuple[HeldIdentity, ...]
    bundles: Mapping[TrustDomain, HeldBundle]
    default_pending: bool = False  # the first entry's certificate is not there yet; another's never stands in for it

    @property
    def default(self) -> HeldIdentity | None:
        """What the caller is if it does not say which of its identities it wants; None while there is none."""
        return None if self.default_pending or not self.identities else self.identities[0]
