"""spire.api.server.svid.v1: issuance for administrators, and for the entries of our node."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from cryptography import x509

from citadel.api.admin import convert
from citadel.api.admin.access import Gate
from citadel.api.admin.citadel_v1 import AdminUseCases
from citadel.api.admin.spire import messages
from citadel.api.proto.spire.api.server.svid.v1 import svid_pb2, svid_pb2_grpc
from citadel.api.proto.spire.api.types import status_pb2, x509svid_pb2
from citadel.api.status import answering
from citadel.ca.issuer import Issuer, IssueRequest
from citadel.ca.model import IssuedSvid
from citadel.errors import BadCsr, CitadelError, InvalidInput
from citadel.registry.validate import dns_faults, identity_faults
from citadel.spiffe import SpiffeId

_MOST_AT_ONCE = 500
_NO_JWT = "this server issues no JWT-SVIDs yet"


class SvidService(svid_pb2_grpc.SVIDServicer):
    def __init__(self, cases: AdminUseCases, gate: Gate, issuer: Issuer) -> None:
        self._cases = cases
        self._gate = gate
        self._issuer = issuer

    async def MintX509SVID(self, request: svid_pb2.MintX509SVIDRequest, context: Any) -> Any:
        async with answering(context):
            actor = self._gate.actor(context)
            if request.ttl < 0:
                raise InvalidInput(f"a TTL of {request.ttl} s is negative; 0 means the default")
            spiffe_id, dns_names = self._names(request.csr)
            ttl = timedelta(seconds=request.ttl)
            svid = await self._issuer.issue(IssueRequest(spiffe_id, "", request.csr, actor, dns_names, ttl))
            return svid_pb2.MintX509SVIDResponse(svid=_message(svid))

    async def BatchNewX509SVID(self, request: svid_pb2.BatchNewX509SVIDRequest, context: Any) -> Any:
        async with answering(context):
            actor = self._gate.actor(context)
            if not request.params:
                raise InvalidInput("nothing is asked for: params is empty")
            if len(request.params) > _MOST_AT_ONCE:
                raise InvalidInput(
                    f"{len(request.params)} certificates in one call are too many; at most {_MOST_AT_ONCE}"
                )
            work = [self._new(one, actor) for one in request.params]
            return svid_pb2.BatchNewX509SVIDResponse(results=await asyncio.gather(*work))

    async def MintJWTSVID(self, request: svid_pb2.MintJWTSVIDRequest, context: Any) -> Any:
        async with answering(context):
            self._gate.actor(context)
            await messages.missing(context, _NO_JWT)

    async def NewJWTSVID(self, request: svid_pb2.NewJWTSVIDRequest, context: Any) -> Any:
        async with answering(context):
            self._gate.actor(context)
            await messages.missing(context, _NO_JWT)

    async def NewDownstreamX509CA(self, request: svid_pb2.NewDownstreamX509CARequest, context: Any) -> Any:
        async with answering(context):
            self._gate.actor(context)
            await messages.missing(context, "this server signs no CA of another server yet")

    async def _new(self, params: svid_pb2.NewX509SVIDParams, actor: str) -> svid_pb2.BatchNewX509SVIDResponse.Result:
        try:
            if not params.entry_id:
                raise InvalidInput("the entry's id is missing")
            entry = await self._cases.served_entry(params.entry_id)
            svid = await self._issuer.issue(
                IssueRequest(entry.spiffe_id, entry.id, params.csr, actor, entry.dns_names, entry.x509_ttl)
            )
        except CitadelError as error:
            return svid_pb2.BatchNewX509SVIDResponse.Result(status=messages.status_of(error))
        message = _message(svid, hint=entry.hint)
        return svid_pb2.BatchNewX509SVIDResponse.Result(status=status_pb2.Status(), svid=message)

    def _names(self, csr: bytes) -> tuple[SpiffeId, tuple[str, ...]]:
        """What an administrator's request asks for, and may. Raises BadCsr; what else is wrong the CSR gate finds."""
        most = self._issuer.policy.csr.max_bytes
        if len(csr) > most:
            raise BadCsr(f"the CSR has {len(csr)} bytes; at most {most} are allowed")
        spiffe_id, dns_names = names_in(csr)
        faults = [*identity_faults(spiffe_id, self._cases.trust_domain), *dns_faults(dns_names)]
        if faults:
            raise BadCsr("; ".join(faults))
        return spiffe_id, dns_names


def names_in(csr: bytes) -> tuple[SpiffeId, tuple[str, ...]]:
    """The one SPIFFE ID and the DNS names that a CSR asks for. Raises BadCsr, BadSpiffeId."""
    try:
        names = x509.load_der_x509_csr(csr).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, TypeError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.InvalidVersion) as error:
        raise BadCsr("the request must be DER and name exactly one URI, the SPIFFE ID to mint") from error
    return SpiffeId.parse(uri), tuple(names.get_values_for_type(x509.DNSName))


def _message(svid: IssuedSvid, *, hint: str = "") -> x509svid_pb2.X509SVID:
    return x509svid_pb2.X509SVID(
        cert_chain=svid.chain,
        id=convert.id_message(svid.spiffe_id),
        expires_at=convert.seconds(svid.not_after),
        hint=hint,
    )
