"""spire.api.server.bundle.v1: our own trust bundle, and those of the domains that we federate with."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any

from citadel.api.admin import convert, masks
from citadel.api.admin.access import Gate
from citadel.api.admin.citadel_v1 import AdminUseCases
from citadel.api.admin.spire import messages
from citadel.api.proto.spire.api.server.bundle.v1 import bundle_pb2, bundle_pb2_grpc
from citadel.api.proto.spire.api.types import bundle_pb2 as types_bundle
from citadel.api.status import answering
from citadel.ca.model import TrustBundle
from citadel.errors import InvalidInput
from citadel.registry.ports import EntryQuery, Match
from citadel.spiffe import TrustDomain

_Mode = bundle_pb2.BatchDeleteFederatedBundleRequest.Mode
_JWT_DROPPED = "its JWT authorities are not kept: this server has no use for them yet"


class BundleService(bundle_pb2_grpc.BundleServicer):
    def __init__(self, cases: AdminUseCases, gate: Gate) -> None:
        self._cases = cases
        self._gate = gate

    async def CountBundles(self, request: bundle_pb2.CountBundlesRequest, context: Any) -> Any:
        async with answering(context):
            self._gate.actor(context)
            return bundle_pb2.CountBundlesResponse(count=len(await self._cases.authority_store.bundles()))

    async def GetBundle(self, request: bundle_pb2.GetBundleRequest, context: Any) -> Any:
        async with answering(context):
            self._gate.actor(context)
            return _masked(await self._cases.authorities.bundle(), masks.mask_of(request))

    async def AppendBundle(self, request: bundle_pb2.AppendBundleRequest, context: Any) -> Any:
        async with answering(context):
            self._gate.actor(context)
            await messages.missing(context, "authorities come into our bundle by a rotation of the root only")

    async def PublishJWTAuthority(self, request: bundle_pb2.PublishJWTAuthorityRequest, context: Any) -> Any:
        async with answering(context):
            self._gate.actor(context)
            await messages.missing(context, "this server has no JWT authorities yet")

    async def ListFederatedBundles(self, request: bundle_pb2.ListFederatedBundlesRequest, context: Any) -> Any:
        async with answering(context):
            self._gate.actor(context)
            size, mask = messages.page_size(request.page_size), masks.mask_of(request)
            after = request.page_token
            found = [b for b in await self._cases.federation.all() if b.trust_domain.name > after]
            page = found[:size]
            return bundle_pb2.ListFederatedBundlesResponse(
                bundles=[_masked(bundle, mask) for bundle in page],
                next_page_token=page[-1].trust_domain.name if len(found) > size else "",
            )

    async def GetFederatedBundle(self, request: bundle_pb2.GetFederatedBundleRequest, context: Any) -> Any:
        async with answering(context):
            self._gate.actor(context)
            bundle = await self._cases.federation.get(TrustDomain.parse(request.trust_domain))
            return _masked(bundle, masks.mask_of(request))

    async def BatchCreateFederatedBundle(
        self, request: bundle_pb2.BatchCreateFederatedBundleRequest, context: Any
    ) -> Any:
        async with answering(context):
            actor = self._gate.actor(context)

            async def create(message: types_bundle.Bundle) -> TrustBundle:
                return await self._cases.federation.create(_read(message), actor)

            return await _put(bundle_pb2.BatchCreateFederatedBundleResponse(), request, create)

    async def BatchSetFederatedBundle(self, request: bundle_pb2.BatchSetFederatedBundleRequest, context: Any) -> Any:
        async with answering(context):
            actor = self._gate.actor(context)

            async def put(message: types_bundle.Bundle) -> TrustBundle:
                return await self._cases.federation.set(_read(message), actor)

            return await _put(bundle_pb2.BatchSetFederatedBundleResponse(), request, put)

    async def BatchUpdateFederatedBundle(
        self, request: bundle_pb2.BatchUpdateFederatedBundleRequest, context: Any
    ) -> Any:
        async with answering(context):
            actor = self._gate.actor(context)
            mask = masks.mask_of(request, "input_mask")

            async def change(message: types_bundle.Bundle) -> TrustBundle:
                new = _read(message)
                old = await self._cases.federation.get(new.trust_domain)
                if mask is not None:
                    new = replace(
                        old,
                        roots=new.roots if mask.x509_authorities else old.roots,
                        refresh_hint=new.refresh_hint if mask.refresh_hint else old.refresh_hint,
                        sequence=new.sequence if mask.sequence_number else 0,
                    )
                return await self._cases.federation.update(new, actor)

            return await _put(bundle_pb2.BatchUpdateFederatedBundleResponse(), request, change)

    async def BatchDeleteFederatedBundle(
        self, request: bundle_pb2.BatchDeleteFederatedBundleRequest, context: Any
    ) -> Any:
        async with answering(context):
            actor = self._gate.actor(context)
            if request.mode not in _Mode.values():
                raise InvalidInput(f"there is no deletion mode {request.mode}")

            async def delete(name: str) -> None:
                domain = TrustDomain.parse(name)
                if request.mode != _Mode.RESTRICT:
                    await self._cases.federation.get(domain)  # what is not there takes no entries with it
                    await self._part_with(domain, actor, delete=request.mode == _Mode.DELETE)
                await self._cases.federation.delete(domain, actor)

            messages.refuse_too_many(request.trust_domains)
            answer = bundle_pb2.BatchDeleteFederatedBundleResponse()
            results = await messages.each(request.trust_domains, delete)
            for name, (status, _) in zip(request.trust_domains, results, strict=True):
                answer.results.add(status=status, trust_domain=name)
            return answer

    async def _part_with(self, domain: TrustDomain, actor: str, *, delete: bool) -> None:
        """Delete the entries that federate with `domain`, or end only that."""
        registry, why = self._cases.registry, f"the bundle of {domain} is deleted"
        await registry.expire()  # what is over cannot be changed any more
        query = EntryQuery(federates_with=(frozenset({domain}), Match.ANY), limit=sys.maxsize)
        entries = await registry.find(query)
        if delete:
            await registry.delete([entry.id for entry in entries], actor, reason=why)
        else:
            changed = [replace(entry, federates_with=entry.federates_with - {domain}) for entry in entries]
            await registry.update(changed, actor, reason=why)


async def _put(answer: Any, request: Any, work: Callable[[types_bundle.Bundle], Awaitable[TrustBundle]]) -> Any:
    bundles: Iterable[types_bundle.Bundle] = request.bundle
    messages.refuse_too_many(request.bundle)
    results = await messages.each(bundles, work)
    for message, (status, bundle) in zip(bundles, results, strict=True):
        result = answer.results.add(status=status)
        if bundle is not None:
            result.bundle.CopyFrom(_masked(bundle, masks.mask_of(request)))
            if message.jwt_authorities:
                result.status.message = _JWT_DROPPED
    return answer


def _read(message: types_bundle.Bundle) -> TrustBundle:
    """Raises BadSpiffeId."""
    return TrustBundle(
        trust_domain=TrustDomain.parse(message.trust_domain),
        roots=tuple(authority.asn1 for authority in message.x509_authorities),
        sequence=message.sequence_number,
        refresh_hint=message.refresh_hint,
    )


def _masked(bundle: TrustBundle, mask: types_bundle.BundleMask | None) -> Any:
    return masks.masked(convert.spire_bundle_message(bundle), mask, always="trust_domain")
