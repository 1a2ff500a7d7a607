"""SPIRE's entry, bundle, svid and agent services, over the same use cases as everything else.

Calls that are not implemented here answer UNIMPLEMENTED (the generated base classes do that).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from citadel.api.admin import convert
from citadel.api.admin.access import Gate
from citadel.api.admin.citadel_v1 import AdminUseCases
from citadel.api.proto.spire.api.server.agent.v1 import agent_pb2, agent_pb2_grpc
from citadel.api.proto.spire.api.server.bundle.v1 import bundle_pb2, bundle_pb2_grpc
from citadel.api.proto.spire.api.server.entry.v1 import entry_pb2, entry_pb2_grpc
from citadel.api.proto.spire.api.server.svid.v1 import svid_pb2, svid_pb2_grpc
from citadel.api.proto.spire.api.types import agent_pb2 as types_agent
from citadel.api.proto.spire.api.types import bundle_pb2 as types_bundle
from citadel.api.proto.spire.api.types import entry_pb2 as types_entry
from citadel.api.proto.spire.api.types import status_pb2, x509svid_pb2
from citadel.api.status import answering
from citadel.ca.csr import wanted_id
from citadel.ca.issuer import Issuer, IssueRequest
from citadel.errors import BadCsr, CitadelError, NotFound
from citadel.registry.model import Entry
from citadel.registry.ports import EntryQuery, Match
from citadel.registry.selectors import Selector
from citadel.spiffe import TrustDomain

_PAGE = 500


class EntryService(entry_pb2_grpc.EntryServicer):
    def __init__(self, cases: AdminUseCases, gate: Gate) -> None:
        self._cases = cases
        self._gate = gate

    async def CountEntries(self, request: entry_pb2.CountEntriesRequest, context: Any) -> Any:
        async with answering(context):
            self._gate.actor(context)
            return entry_pb2.CountEntriesResponse(count=await self._cases.registry.count(_query(request.filter)))

    async def ListEntries(self, request: entry_pb2.ListEntriesRequest, context: Any) -> Any:
        async with answering(context):
            self._gate.actor(context)
            size = min(request.page_size or _PAGE, _PAGE)
            query = replace(_query(request.filter), limit=size, after=request.page_token)
            found = await self._cases.registry.find(query)
            return entry_pb2.ListEntriesResponse(
                entries=[_masked(convert.entry_message(e), request) for e in found],
                next_page_token=found[-1].id if len(found) == size else "",
            )

    async def GetEntry(self, request: entry_pb2.GetEntryRequest, context: Any) -> Any:
        async with answering(context):
            self._gate.actor(context)
            return _masked(convert.entry_message(await self._cases.registry.get(request.id)), request)

    async def BatchCreateEntry(self, request: entry_pb2.BatchCreateEntryRequest, context: Any) -> Any:
        async with answering(context):
            actor = self._gate.actor(context)

            async def create(message: types_entry.Entry) -> Entry:
                entry = convert.read_entry(message, default_parent=self._cases.node_id)
                return (await self._cases.registry.create([entry], actor))[0]

            answer = entry_pb2.BatchCreateEntryResponse()
            async for status, entry in _each(request.entries, create):
                result = answer.results.add(status=status)
                if entry is not None:
                    result.entry.CopyFrom(_masked(convert.entry_message(entry), request))
            return answer

    async def BatchUpdateEntry(self, request: entry_pb2.BatchUpdateEntryRequest, context: Any) -> Any:
        async with answering(context):
            actor = self._gate.actor(context)

            async def change(message: types_entry.Entry) -> Entry:
                old = await self._cases.registry.get(message.id)
                whole = convert.entry_message(old)
                if request.HasField("input_mask"):
                    _copy_masked(message, whole, request.input_mask)
                else:
                    whole.CopyFrom(message)
                new = convert.read_entry(whole)
                new = replace(new, revision=old.revision, apply_set=old.apply_set, labels=old.labels)
                return (await self._cases.registry.update([new], actor))[0]

            answer = entry_pb2.BatchUpdateEntryResponse()
            async for status, entry in _each(request.entries, change):
                result = answer.results.add(status=status)
                if entry is not None:
                    result.entry.CopyFrom(_masked(convert.entry_message(entry), request))
            return answer

    async def BatchDeleteEntry(self, request: entry_pb2.BatchDeleteEntryRequest, context: Any) -> Any:
        async with answering(context):
            actor = self._gate.actor(context)

            async def delete(entry_id: str) -> None:
                await self._cases.registry.delete([entry_id], actor)

            answer = entry_pb2.BatchDeleteEntryResponse()
            names = iter(request.ids)
            async for status, _ in _each(request.ids, delete):
                answer.results.add(status=status, id=next(names))
            return answer

    async def GetAuthorizedEntries(self, request: entry_pb2.GetAuthorizedEntriesRequest, context: Any) -> Any:
        async with answering(context):
            self._gate.actor(context)
            entries = await self._cases.authorised()
            messages = [_masked(convert.entry_message(e), request) for e in entries]
            return entry_pb2.GetAuthorizedEntriesResponse(entries=messages)


class BundleService(bundle_pb2_grpc.BundleServicer):
    def __init__(self, cases: AdminUseCases, gate: Gate) -> None:
        self._cases = cases
        self._gate = gate

    async def CountBundles(self, request: bundle_pb2.CountBundlesRequest, context: Any) -> Any:
        async with answering(context):
            self._gate.actor(context)
            return bundle_pb2.CountBundlesResponse(count=len(await self._cases.authority_store.bundles()))

    async def GetBundle(self, request: bundle_pb2.GetBundleRequest, context: Any) -> types_bundle.Bundle:
        async with answering(context):
            self._gate.actor(context)
            return convert.spire_bundle_message(await self._cases.authorities.bundle())
        raise AssertionError("answering ends the call")

    async def GetFederatedBundle(self, request: bundle_pb2.GetFederatedBundleRequest, context: Any) -> Any:
        async with answering(context):
            self._gate.actor(context)
            domain = TrustDomain.parse(request.trust_domain)
            bundle = await self._cases.authority_store.bundle(domain)
            if bundle is None or domain == self._cases.trust_domain:
                raise NotFound(f"there is no federated bundle of {domain}")
            return convert.spire_bundle_message(bundle)


class SvidService(svid_pb2_grpc.SVIDServicer):
    def __init__(self, cases: AdminUseCases, gate: Gate, issuer: Issuer) -> None:
        self._cases = cases
        self._gate = gate
        self._issuer = issuer

    async def MintX509SVID(self, request: svid_pb2.MintX509SVIDRequest, context: Any) -> Any:
        async with answering(context):
            actor = self._gate.actor(context)
            spiffe_id = wanted_id(request.csr, self._issuer.policy.csr)
            if spiffe_id.trust_domain != self._cases.trust_domain:
                raise BadCsr(f"{spiffe_id} is not in our trust domain {self._cases.trust_domain}")
            svid = await self._issuer.issue(
                IssueRequest(spiffe_id, "", request.csr, actor, ttl=timedelta(seconds=request.ttl))
            )
            message = x509svid_pb2.X509SVID(
                cert_chain=svid.chain,
                id=convert.id_message(svid.spiffe_id),
                expires_at=convert.seconds(svid.not_after),
            )
            return svid_pb2.MintX509SVIDResponse(svid=message)


class AgentService(agent_pb2_grpc.AgentServicer):
    """The one agent that there is: the node in this process. Others come with the network."""

    def __init__(self, cases: AdminUseCases, gate: Gate) -> None:
        self._cases = cases
        self._gate = gate

    async def CountAgents(self, request: agent_pb2.CountAgentsRequest, context: Any) -> Any:
        async with answering(context):
            self._gate.actor(context)
            return agent_pb2.CountAgentsResponse(count=1)

    async def ListAgents(self, request: agent_pb2.ListAgentsRequest, context: Any) -> Any:
        async with answering(context):
            self._gate.actor(context)
            return agent_pb2.ListAgentsResponse(agents=[self._local()])

    async def GetAgent(self, request: agent_pb2.GetAgentRequest, context: Any) -> types_agent.Agent:
        async with answering(context):
            self._gate.actor(context)
            if convert.read_id(request.id) != self._cases.node_id:
                raise NotFound(f"there is no agent {convert.read_id(request.id)}")
            return self._local()
        raise AssertionError("answering ends the call")

    def _local(self) -> types_agent.Agent:
        return types_agent.Agent(id=convert.id_message(self._cases.node_id), attestation_type="local")


async def _each(items: Iterable[Any], work: Callable[[Any], Awaitable[Any]]) -> Any:
    """Work on each item by itself, as SPIRE does: a status each, and the result of those that went well."""
    for item in items:
        try:
            yield status_pb2.Status(), await work(item)
        except CitadelError as error:
            yield status_pb2.Status(code=int(error.code), message=error.sentence()), None


def _masked(entry: types_entry.Entry, request: Any) -> types_entry.Entry:
    """Only the fields that the request's output mask names; all of them if it has none. The id is always there."""
    if not request.HasField("output_mask"):
        return entry
    chosen = types_entry.Entry(id=entry.id)
    _copy_masked(entry, chosen, request.output_mask)
    return chosen


def _copy_masked(source: Any, target: Any, mask: types_entry.EntryMask) -> None:  # Any: fields go by their names
    for name, wanted in ((field.name, getattr(mask, field.name)) for field in mask.DESCRIPTOR.fields):
        if not wanted:
            continue
        target.ClearField(name)
        field = source.DESCRIPTOR.fields_by_name[name]
        if field.is_repeated:
            getattr(target, name).extend(getattr(source, name))
        elif field.message_type is not None:
            if source.HasField(name):
                getattr(target, name).CopyFrom(getattr(source, name))
        else:
            setattr(target, name, getattr(source, name))


def _query(wanted: Any) -> EntryQuery:
    """SPIRE's filter (the same in CountEntries and ListEntries) as a query."""
    selectors = federates = None
    if wanted.HasField("by_selectors"):
        given = frozenset(Selector.of(s.type, s.value) for s in wanted.by_selectors.selectors)
        selectors = (given, Match(wanted.by_selectors.match))
    if wanted.HasField("by_federates_with"):
        domains = frozenset(map(TrustDomain.parse, wanted.by_federates_with.trust_domains))
        federates = (domains, Match(wanted.by_federates_with.match))
    return EntryQuery(
        spiffe_id=convert.read_id(wanted.by_spiffe_id) if wanted.HasField("by_spiffe_id") else None,
        parent_id=convert.read_id(wanted.by_parent_id) if wanted.HasField("by_parent_id") else None,
        selectors=selectors,
        federates_with=federates,
        hint=wanted.by_hint.value if wanted.HasField("by_hint") else None,
        downstream=wanted.by_downstream.value if wanted.HasField("by_downstream") else None,
    )
