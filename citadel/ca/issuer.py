"""The issuer: from a request to an X.509-SVID, one step after the other, nothing signed that is not on record."""

from __future__ import annotations

import secrets
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import structlog
from cryptography import x509

from citadel.audit import AuditEvent
from citadel.ca import csr, keys, profile
from citadel.ca.lint import lint
from citadel.ca.model import IssuanceIntent, IssuanceOutcome, IssuedSvid, Outcome
from citadel.ca.ports import Certifier, IssuanceLog, IssuanceMeter, Signer, SigningAuthorities, SigningAuthority
from citadel.ca.profile import CertificateSpec, Entropy, Parent, Validity
from citadel.ca.signing import sign_linted
from citadel.ca.tbs import encode
from citadel.clock import Clock
from citadel.errors import AlreadyExists, AnswerLost, CitadelError, InternalFault, InvalidInput, Unavailable
from citadel.spiffe import SpiffeId

_log = structlog.get_logger("citadel.ca")


@dataclass(frozen=True, slots=True)
class IssueRequest:
    """Somebody who was authorised asks for a certificate for the key of a CSR.

    Who may be `spiffe_id` was decided before (by the registry, or by Istio's rules): the issuer takes it and
    `dns_names` from here, and nothing but the key from `csr` (DER or PEM). A `ttl` of zero is the default. One that is
    longer than the longest is refused; with `cut_ttl`, it is cut to the longest: for entries, whose TTL was within the
    bounds when they were made, so that a setting that was lowered since takes nobody's certificate away. `requester` is
    as AuditEvent.actor.
    """

    spiffe_id: SpiffeId
    entry_id: str
    csr: bytes
    requester: str
    dns_names: tuple[str, ...] = ()
    ttl: timedelta = timedelta(0)
    cut_ttl: bool = False


@dataclass(frozen=True, slots=True)
class IssuancePolicy:
    """How long leaves live and how they look.

    A leaf that would end with its issuing CA less than `shortest` from now is not issued. `subject` is the DER of a
    Name, the same in all leaves; by default it is empty, and the names are then critical. Of our own signatures one in
    `verify_one_in` is verified (0: none); of a remote signer's, all.
    """

    default_ttl: timedelta = timedelta(hours=1)
    longest_ttl: timedelta = timedelta(days=1)
    shortest: timedelta = timedelta(seconds=10)
    backdate: timedelta = timedelta(seconds=60)
    subject: bytes = profile.EMPTY_NAME
    csr: csr.CsrPolicy = field(default_factory=csr.CsrPolicy)
    verify_one_in: int = 64


class NoMeter:
    """Counts nothing."""

    def issuance(self, result: str, seconds: float) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _Signing:
    """An authority with what is the same in all that it signs."""

    authority: SigningAuthority
    parent: Parent
    above: tuple[bytes, ...]  # what follows a leaf in its chain
    signer: Signer | None
    certifier: Certifier | None  # instead of a signer: it makes the whole certificate, elsewhere

    @classmethod
    def of(cls, signing: SigningAuthority) -> _Signing:
        authority = signing.authority
        parent = Parent.of(authority.certificate.der)
        if signing.signer.public_key != parent.public_key:
            raise InternalFault(f"the signer of authority {authority.skid} holds another key than its certificate")
        parent = replace(  # a leaf that outlived a CA further up would be renewed too late
            parent,
            not_before=max(parent.not_before, signing.begins),
            not_after=min(parent.not_after, signing.ends),
        )
        is_root = authority.skid == authority.root_skid  # plugged in by the user; a root is never in a served chain
        above = () if is_root else (authority.certificate.der, *authority.chain)
        if isinstance(signing.signer, Certifier):
            return cls(signing, parent, above, None, signing.signer)
        return cls(signing, parent, above, signing.signer, None)


class Issuer:
    """Issues X.509-SVIDs under whatever authority is current. Safe to call from many tasks at once."""

    def __init__(
        self,
        signing: SigningAuthorities,
        log: IssuanceLog,
        clock: Clock,
        policy: IssuancePolicy,
        *,
        entropy: Entropy = secrets.token_bytes,
        meter: IssuanceMeter | None = None,
    ) -> None:
        self._authorities = signing
        self._log = log
        self._clock = clock
        self._entropy = entropy
        self._meter = meter or NoMeter()
        self._started = clock.now()
        self._signing: _Signing | None = None
        self.policy = policy

    async def issue(self, request: IssueRequest) -> IssuedSvid:
        """A certificate for `request`, which is on record when this returns.

        Raises BadCsr and InvalidInput (the request's fault), Unavailable (no authority may sign, it ends too soon, or
        the store cannot be written), InternalFault. Whatever it raises, no certificate was handed out.
        """
        began = self._clock.monotonic()
        try:
            svid = await self._issue(request)
        except BaseException as error:
            self._report(request, error, self._clock.monotonic() - began)
            raise
        seconds = self._clock.monotonic() - began
        self._meter.issuance("issued", seconds)
        _log.info(
            "issued",
            spiffe_id=request.spiffe_id.uri,
            serial=f"{svid.serial:x}",
            authority=svid.authority.hex,
            not_after=svid.not_after.isoformat(),
            entry=request.entry_id,
            requester=request.requester,
            seconds=round(seconds, 6),
        )
        return svid

    async def settle_unfinished(self, *, older_than: timedelta = timedelta(0)) -> int:
        """Settle as UNKNOWN what was intended before this issuer was made and never settled; how many they were.

        Where several servers write one log, `older_than` is longer than an issuance can take, so that what another
        one is about to finish is left alone. Call it at start.
        """
        unfinished = await self._log.unsettled(self._started - older_than)
        for intent in unfinished:
            detail = "no outcome was recorded; it may have been signed"
            await self._log.settle(IssuanceOutcome(intent.serial, Outcome.UNKNOWN, detail=detail))
            _log.warning(
                "unfinished issuance settled as unknown", spiffe_id=intent.spiffe_id.uri, serial=f"{intent.serial:x}"
            )
        return len(unfinished)

    async def _issue(self, request: IssueRequest) -> IssuedSvid:
        signing = self._current()  # this one to the end, whatever becomes current meanwhile
        key = csr.admit(request.csr, csr.Entitlement(request.spiffe_id, request.dns_names), self.policy.csr)
        await _OTHERS_TURN
        now = self._clock.now()
        spec = self._specify(request, key, signing, now)
        await _OTHERS_TURN
        await self._intend(spec, request, signing, now)  # durable before anything is signed (ADR: durable first)
        if signing.certifier is not None:
            return await self._have_certified(spec, request, signing, signing.certifier)
        assert signing.signer is not None
        certificate = await self._certify(spec, signing.signer)
        await self._log.settle(IssuanceOutcome(spec.serial, Outcome.ISSUED, keys.fingerprint(certificate)))
        return IssuedSvid(
            spiffe_id=spec.spiffe_id,
            chain=(certificate, *signing.above),
            serial=spec.serial,
            not_before=spec.validity.not_before,
            not_after=spec.validity.not_after,
            authority=signing.authority.authority.skid,
        )

    def _current(self) -> _Signing:
        current = self._authorities.current()
        known = self._signing
        if known is None or known.authority is not current:
            known = self._signing = _Signing.of(current)
        return known

    def _specify(
        self, request: IssueRequest, key: keys.SubjectKey, signing: _Signing, now: datetime
    ) -> CertificateSpec:
        policy, parent, ours = self.policy, signing.parent, signing.authority.authority.trust_domain
        if request.spiffe_id.trust_domain != ours:  # whoever asks should know; a CA's reach is its own trust domain
            raise InvalidInput(f"{request.spiffe_id} is not in the trust domain {ours} of the CA")
        validity = Validity.starting(now, _lifetime(request, policy), backdate=policy.backdate)
        return profile.leaf(
            parent=parent,
            key=key,
            spiffe_id=request.spiffe_id,
            dns_names=request.dns_names,
            subject=policy.subject,
            validity=validity.within(parent, now, shortest=policy.shortest),
            serial=profile.serial(self._entropy),
        )

    async def _intend(self, spec: CertificateSpec, request: IssueRequest, signing: _Signing, now: datetime) -> None:
        """Write serial and audit record. Raises Unavailable, InternalFault."""
        skid = signing.authority.authority.skid
        intent = IssuanceIntent(
            serial=spec.serial,
            spiffe_id=spec.spiffe_id,
            entry_id=request.entry_id,
            authority=skid,
            not_before=spec.validity.not_before,
            not_after=spec.validity.not_after,
            dns_names=spec.dns_names,
            key_fingerprint=keys.fingerprint(spec.key.spki),
            requester=request.requester,
            at=now,
        )
        try:
            await self._log.intend(intent, _audit_event(intent))
        except AlreadyExists as error:
            raise InternalFault(f"serial {spec.serial:x} was used before: the source of randomness repeats") from error
        except CitadelError:
            raise
        except BaseException as error:  # cancelled, mostly: it may have been written all the same
            await self._settle_failed(spec, error)
            raise

    async def _have_certified(
        self, spec: CertificateSpec, request: IssueRequest, signing: _Signing, certifier: Certifier
    ) -> IssuedSvid:
        """Somebody else makes the certificate, and chooses its serial: on record before it is handed out."""
        try:
            certificate = await certifier.certify(spec, request.csr)
            made, fingerprint = x509.load_der_x509_certificate(certificate), keys.fingerprint(certificate)
            serial = made.serial_number
            outcome = IssuanceOutcome(spec.serial, Outcome.ISSUED, fingerprint)
            event = AuditEvent(
                at=self._clock.now(),
                actor=request.requester,
                action="svid.certified",
                subject=spec.spiffe_id.uri,
                detail={"intent": f"{spec.serial:x}", "serial": f"{serial:x}", "fingerprint": fingerprint},
            )
            await self._log.settle_as(outcome, serial, event)
        except BaseException as error:
            await self._settle_failed(spec, error)
            raise
        return IssuedSvid(
            spiffe_id=spec.spiffe_id,
            chain=(certificate, *signing.above),
            serial=serial,
            not_before=made.not_valid_before_utc,
            not_after=made.not_valid_after_utc,
            authority=signing.authority.authority.skid,
        )

    async def _certify(self, spec: CertificateSpec, signer: Signer) -> bytes:
        """Lint, sign, and verify the signature if it is its turn. On failure the intent is settled as FAILED."""
        every = self.policy.verify_one_in
        verify = every > 0 and spec.serial % every == 0  # serials are random, so this is a fair sample
        try:
            written = encode(spec)
            await _OTHERS_TURN
            linted = lint(written, spec)
            await _OTHERS_TURN
            certificate = await sign_linted(linted, signer, verify=verify)
            await _OTHERS_TURN
            return certificate
        except BaseException as error:  # whatever cut it off, nothing is handed out
            await self._settle_failed(spec, error)
            raise

    async def _settle_failed(self, spec: CertificateSpec, error: BaseException) -> None:
        detail = error.message if isinstance(error, CitadelError) else f"cut off: {type(error).__name__}"
        outcome = Outcome.UNKNOWN if isinstance(error, AnswerLost) else Outcome.FAILED
        try:
            await self._log.settle(IssuanceOutcome(spec.serial, outcome, detail=detail))
        except CitadelError as second:  # it stays unsettled, and the next start finds it
            _log.error("a failed issuance could not be settled", serial=f"{spec.serial:x}", error=second.sentence())

    def _report(self, request: IssueRequest, error: BaseException, seconds: float) -> None:
        match error:
            case InvalidInput():
                result = "refused"
            case Unavailable():
                result = "unavailable"
            case _:
                result = "failed"
        self._meter.issuance(result, seconds)
        _log.warning(
            "not issued",
            result=result,
            spiffe_id=request.spiffe_id.uri,
            entry=request.entry_id,
            requester=request.requester,
            error=error.sentence() if isinstance(error, CitadelError) else type(error).__name__,
        )


def _lifetime(request: IssueRequest, policy: IssuancePolicy) -> timedelta:
    """How long the leaf is to live, before its issuer's end is looked at. Raises InvalidInput."""
    if request.ttl < timedelta(0):
        raise InvalidInput(f"a TTL of {request.ttl} is negative; expected zero (the default) or more")
    if request.ttl > policy.longest_ttl and not request.cut_ttl:
        raise InvalidInput(f"a TTL of {request.ttl} is longer than the longest, {policy.longest_ttl}")
    return min(request.ttl or policy.default_ttl, policy.longest_ttl)


class _OthersTurn:
    """Let the other issuances catch up between two steps.

    Many then go through the same step one after the other, while its code and tables are in the CPU's caches: at 256 at
    once that takes a third less CPU than each going through all steps at a stretch. And no issuance holds up the loop.
    (As asyncio.sleep(0), without the two coroutines that it would make each time.)
    """

    def __await__(self) -> Generator[None, None, None]:
        yield


_OTHERS_TURN = _OthersTurn()


def _audit_event(intent: IssuanceIntent) -> AuditEvent:
    return AuditEvent(
        at=intent.at,
        actor=intent.requester,
        action="svid.issue",
        subject=intent.spiffe_id.uri,
        detail={
            "serial": f"{intent.serial:x}",
            "entry": intent.entry_id,
            "authority": intent.authority.hex,
            "not_after": intent.not_after.astimezone(UTC).isoformat(),
            "key": intent.key_fingerprint,
        },
    )
