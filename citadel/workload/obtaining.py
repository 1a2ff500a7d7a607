"""New keys with new certificates: made here, signed by the server, and looked at before anybody gets them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from cryptography import x509

from citadel.clock import Clock
from citadel.errors import CitadelError, InternalFault, Unavailable
from citadel.held import HeldIdentity
from citadel.workload.keys import PrivateKey, WorkloadKeys, pkcs8, request_for
from citadel.workload.upstream import AssignedEntry, SignedSvid, SvidRequest, Upstream

_ANSWER_SECONDS = 30.0
log = structlog.get_logger("citadel.workload")


class Obtaining:
    """What makes identities of entries."""

    def __init__(self, upstream: Upstream, clock: Clock, keys: WorkloadKeys) -> None:
        self._upstream = upstream
        self._clock = clock
        self._keys = keys

    @property
    def batch(self) -> int:
        """How many to ask for at once."""
        return self._keys.batch

    async def obtain(self, entries: Sequence[AssignedEntry]) -> list[HeldIdentity | CitadelError]:
        """One outcome for each, in their order. What goes wrong with one, or with all, is an outcome too."""
        keys = await asyncio.gather(*(self._keys.make() for _ in entries))
        answers = await self._ask(entries, keys)
        return [
            answer if isinstance(answer, CitadelError) else self._made(entry, key, answer)
            for entry, key, answer in zip(entries, keys, answers, strict=True)
        ]

    async def _ask(
        self, entries: Sequence[AssignedEntry], keys: Sequence[PrivateKey]
    ) -> Sequence[SignedSvid | CitadelError]:
        requests = [
            SvidRequest(entry.id, request_for(key, entry.spiffe_id)) for entry, key in zip(entries, keys, strict=True)
        ]
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                answers = await self._upstream.sign(requests)
        except TimeoutError:
            return [Unavailable(f"the server did not answer within {_ANSWER_SECONDS:g} s")] * len(requests)
        except CitadelError as error:
            return [error] * len(requests)
        except Exception:  # a defect must not end the renewal of everything else
            log.exception("asking for certificates failed")
            return [InternalFault("asking for a certificate failed; the log has the rest")] * len(requests)
        if len(answers) != len(requests):
            return [InternalFault("the server gave another number of answers than it was asked for")] * len(requests)
        return answers

    def _made(self, entry: AssignedEntry, key: PrivateKey, svid: SignedSvid) -> HeldIdentity | CitadelError:
        try:
            self._check(svid, entry, key)
        except InternalFault as error:
            return error
        return HeldIdentity(
            spiffe_id=svid.spiffe_id,
            chain=svid.chain,
            private_key=pkcs8(key),
            serial=svid.serial,
            not_after=svid.not_after,
            authority=svid.authority,
            hint=entry.hint,
            dns_names=entry.dns_names,
        )

    def _check(self, svid: SignedSvid, entry: AssignedEntry, key: PrivateKey) -> None:
        """What came back is for our key and our identity. Raises InternalFault."""
        try:
            leaf = x509.load_der_x509_certificate(svid.chain[0])
            names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, IndexError, x509.ExtensionNotFound) as error:
            raise InternalFault("the server sent something that is no X.509-SVID") from error
        if leaf.public_key() != key.public_key():
            raise InternalFault("the server sent a certificate for another key")
        if names.get_values_for_type(x509.UniformResourceIdentifier) != [entry.spiffe_id.uri]:
            raise InternalFault(f"the server sent a certificate that is not {entry.spiffe_id}'s")
        if svid.spiffe_id != entry.spiffe_id or leaf.not_valid_after_utc != svid.not_after:
            raise InternalFault("the server says something else of a certificate than the certificate does")
        if leaf.not_valid_after_utc <= self._clock.now():
            raise InternalFault("the server sent a certificate that has expired already; compare the clocks")
