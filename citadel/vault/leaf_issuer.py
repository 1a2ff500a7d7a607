"""An issuing CA whose key is in Vault's PKI engine, which makes every leaf itself, by a role (API docs, PKI).

The issuer is pinned by its id, and is an intermediate: it is verified here up to the root that is in force. Vault
chooses the serial; everything else of what it makes is verified before it is handed out.
"""

from __future__ import annotations

import base64
import math
from datetime import timedelta

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from citadel.ca import keys
from citadel.ca.certificates import describe, name_of, parse, skid_of
from citadel.ca.chain import ca_faults, link_faults, order_chain, root_faults
from citadel.ca.granted import leaf_faults
from citadel.ca.model import Authority, AuthorityKind, AuthorityState, KeySource
from citadel.ca.profile import CertificateSpec
from citadel.clock import Clock
from citadel.errors import CitadelError, FailedPrecondition, InternalFault, NotFound, PermissionDenied, Unavailable
from citadel.spiffe import TrustDomain
from citadel.vault.failures import LATER
from citadel.vault.findings import Finding, FindingKind
from citadel.vault.pki import IssuerReference, PkiMount
from citadel.vault.session import Session

_SKEW = timedelta(seconds=60)  # by how much Vault's clock may be ahead
log = structlog.get_logger("citadel.vault")


class VaultLeafIssuer:
    """Contract: ca.ports.BroughtIssuingCa."""

    def __init__(self, session: Session, where: IssuerReference, trust_domain: TrustDomain, clock: Clock) -> None:
        """`where.issuer` may be empty: then it is the only one of the mount that is no root."""
        self._mount = PkiMount(session, where.mount)
        self._pinned = where
        self._trust_domain = trust_domain
        self._clock = clock

    async def load(self, root: Authority, state: AuthorityState) -> Authority:
        where, (own, *above) = await self._found()
        if not root_faults(own):
            raise FailedPrecondition(
                f"{where}, {name_of(own)}, is a root; workloads' certificates are signed by a CA under it",
                mend="let citadel vault setup --apply make an issuing CA under it, and pin that (signer.vault_issuer); "
                "it may be in the root's own mount (signer.vault_mount)",
            )
        found = order_chain(own, above, [parse(root.certificate.der)])
        if found is None:
            raise FailedPrecondition(
                f"{where}, {name_of(own)}, does not chain to the root in force, {root.skid}",
                mend="pin the issuer under that root (signer.vault_issuer), or rotate to its root: citadel root rotate",
            )
        now = self._clock.now()
        line = [own, *found[0]]
        faults = [
            f"{name_of(one)}: {fault}"
            for below, one in enumerate(line)
            for fault in ca_faults(one, below=below, trust_domain=self._trust_domain, now=now)
        ]
        for child, parent in zip(line, [*line[1:], found[1]], strict=True):
            faults += [f"{name_of(child)}: {fault}" for fault in link_faults(child, parent)]
        if faults:
            raise FailedPrecondition(
                f"{where} cannot sign for workloads: " + "; ".join(faults),
                mend="pin another issuer (signer.vault_issuer), or mend this one in Vault",
            )
        return Authority(
            skid=skid_of(own),
            kind=AuthorityKind.ISSUING,
            state=state,
            trust_domain=self._trust_domain,
            key_source=KeySource.VAULT,
            certificates=(describe(own),),
            root_skid=root.skid,
            created_at=now,
            changed_at=now,
            chain=tuple(one.public_bytes(Encoding.DER) for one in found[0]),
            key_ref=where.reference,
        )

    async def _found(self) -> tuple[IssuerReference, list[x509.Certificate]]:
        if self._pinned.issuer:
            return self._pinned, await self._mount.issuer(self._pinned.issuer)
        found = []
        for one in await self._mount.issuers():
            certificates = await self._mount.issuer(one.id)
            if root_faults(certificates[0]):
                found.append((IssuerReference(self._pinned.mount, one.id), certificates))
        if len(found) != 1:
            raise FailedPrecondition(
                f"the PKI mount {self._pinned.mount} in Vault has {len(found)} issuers that are no roots, and none is "
                "pinned",
                mend="set signer.vault_issuer to the id of the one that is to sign; citadel vault setup makes one",
            )
        return found[0]


class PkiCertifier:
    """Contract: ca.ports.Certifier. `role` is asked for by its name each time."""

    def __init__(
        self, session: Session, where: IssuerReference, role: str, issuer: x509.Certificate, clock: Clock
    ) -> None:
        key = issuer.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)  # no other kind was written down
        self._mount = PkiMount(session, where.mount)
        self._where = where
        self._role = role
        self._public: keys.PublicKey = key
        self._clock = clock
        self._cut = False

    @property
    def public_key(self) -> keys.PublicKey:
        return self._public

    async def certify(self, spec: CertificateSpec, csr: bytes) -> bytes:
        """See ports.Certifier. All that Vault refuses is Unavailable: whoever asked can do nothing about it."""
        now = self._clock.now()
        seconds = math.ceil((spec.validity.not_after - now).total_seconds())
        asked: dict[str, object] = {
            "csr": _pem(csr),
            "uri_sans": spec.spiffe_id.uri,
            "alt_names": ",".join(spec.dns_names),
            "exclude_cn_from_sans": True,
            "ttl": f"{seconds}s",
            "format": "pem",
        }
        try:
            made = await self._mount.sign_leaf(self._where.issuer, self._role, asked)
        except Unavailable:  # or AnswerLost: it may have been made
            raise
        except CitadelError as error:
            raise Unavailable(error.message, mend=error.mend, retry_after=LATER) from error
        if faults := leaf_faults(made, spec, now, skew=_SKEW):
            raise InternalFault(
                f"{self._where} made something else than was asked for with the role {self._role}: {'; '.join(faults)}",
                mend="it was not handed out; compare the role: citadel vault check",
            )
        self._tell_if_cut(made, spec)
        return made.public_bytes(Encoding.DER)

    async def examine(self) -> list[Finding]:
        """What became of the issuer, for the watch. Raises what Session.call does."""
        who = self._where.issuer
        mend = "make another issuing CA in Vault, pin it (signer.vault_issuer), and restart; or set this one back"
        try:
            use = await self._mount.use(who)
        except PermissionDenied:
            return []  # the policy may do without it
        except NotFound:
            return [
                Finding(FindingKind.ISSUER_GONE, who, f"{self._where}, which signs, is not there", mend, stops=True)
            ]
        if use.revoked:
            sentence = f"{self._where}, which signs, was revoked in Vault"
            return [Finding(FindingKind.ISSUER_REVOKED, who, sentence, mend, stops=True)]
        if not use.signs:
            sentence = f"{self._where} was retired in Vault: it may sign nothing any more (usage)"
            return [Finding(FindingKind.ISSUER_RETIRED, who, sentence, mend, stops=True)]
        return []

    def __repr__(self) -> str:
        return f"PkiCertifier({keys.skid(self._public)})"

    def _tell_if_cut(self, made: x509.Certificate, spec: CertificateSpec) -> None:
        """Once, and again when it was well in between: it will be so with all."""
        cut = made.not_valid_after_utc < spec.validity.not_after - _SKEW
        if cut and not self._cut:
            log.warning(
                "Vault cuts certificates short",
                meant=spec.validity.not_after.isoformat(),
                ends=made.not_valid_after_utc.isoformat(),
                mend=f"raise max_ttl of the role {self._role}, or lower svid.default_ttl and svid.max_ttl",
            )
        self._cut = cut


def _pem(csr: bytes) -> str:
    if csr.lstrip().startswith(b"-----BEGIN"):
        return csr.decode("ascii")
    lines = base64.encodebytes(csr).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{lines}-----END CERTIFICATE REQUEST-----\n"
