"""LocalUpstream: the server as a node in the same process sees it. Contract: workload.upstream.Upstream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

import stamina

from citadel.ca.issuer import Issuer, IssueRequest
from citadel.ca.model import Skid
from citadel.ca.ports import AuthorityStore
from citadel.ca.rotation import leaving
from citadel.changes import Changes, Topic
from citadel.clock import Clock
from citadel.errors import CitadelError, PermissionDenied
from citadel.registry import Directory, Entry
from citadel.registry.roster import NodeReader
from citadel.spiffe import SpiffeId, TrustDomain
from citadel.store.ports import ClientStore
from citadel.workload.upstream import AckReport, AssignedEntry, Bundle, EntryUpdate, Reissue, SignedSvid, SvidRequest


class LocalUpstream:
    def __init__(
        self,
        node_id: SpiffeId,
        directory: Directory,
        clock: Clock,
        authorities: AuthorityStore,
        issuer: Issuer,
        clients: ClientStore,
        changes: Changes,
        *,
        reissue_per_second: float = 50.0,
    ) -> None:
        self._node_id = node_id
        self._directory = directory
        self._assigned = directory.node(node_id)
        self._clock = clock
        self._authorities = authorities
        self._issuer = issuer
        self._clients = clients
        self._changes = changes
        self._reissue_per_second = reissue_per_second

    @property
    def trust_domain(self) -> TrustDomain:
        return self._node_id.trust_domain

    @property
    def node_id(self) -> SpiffeId:
        return self._node_id

    @asynccontextmanager
    async def entries(self) -> AsyncIterator[AsyncIterator[EntryUpdate]]:
        async with aclosing(self._follow_entries(self._assigned.reader())) as updates:
            yield updates

    @asynccontextmanager
    async def bundles(self) -> AsyncIterator[AsyncIterator[dict[TrustDomain, Bundle]]]:
        async with self._changes.subscribe([Topic.BUNDLES]) as news:
            yield self._follow_bundles(news)

    @asynccontextmanager
    async def reissue(self) -> AsyncIterator[AsyncIterator[Reissue]]:
        async with self._changes.subscribe([Topic.AUTHORITIES]) as news:
            yield self._follow_reissue(news)

    async def sign(self, requests: Sequence[SvidRequest]) -> list[SignedSvid | CitadelError]:
        return list(await asyncio.gather(*map(self._sign, requests)))

    async def report(self, reports: Sequence[AckReport]) -> None:
        await self._clients.record(self._node_id.uri, reports)

    async def recorded(self) -> list[str]:
        mine = [one for one in await self._clients.all() if one.node == self._node_id.uri and one.kind != "ended"]
        return sorted({one.client for one in mine})

    async def _follow_entries(self, reader: NodeReader) -> AsyncGenerator[EntryUpdate]:
        while True:
            news = await self._directory.next(reader)
            yield EntryUpdate(tuple(map(_assigned, news.changed)), news.gone, news.whole)

    async def _follow_bundles(self, announcements: AsyncIterator[Topic]) -> AsyncIterator[dict[TrustDomain, Bundle]]:
        while True:
            async for attempt in stamina.retry_context(CitadelError, attempts=None, timeout=None, wait_max=5.0):
                with attempt:
                    found = await self._read_bundles()
            if self.trust_domain in found:
                yield found
            await anext(announcements)

    async def _follow_reissue(self, announcements: AsyncIterator[Topic]) -> AsyncIterator[Reissue]:
        before: frozenset[Skid] | None = None
        while True:
            async for attempt in stamina.retry_context(CitadelError, attempts=None, timeout=None, wait_max=5.0):
                with attempt:
                    left = leaving(await self._authorities.authorities())
            if left != before:
                yield Reissue(frozenset(skid.hex for skid in left), self._reissue_per_second)
            before = left
            await anext(announcements)

    async def _read_bundles(self) -> dict[TrustDomain, Bundle]:
        bundles = await self._authorities.bundles()
        return {b.trust_domain: Bundle(b.trust_domain, b.roots, b.sequence, b.refresh_hint, b.crls) for b in bundles}

    async def _sign(self, request: SvidRequest) -> SignedSvid | CitadelError:
        entry = self._assigned.entries.get(request.entry_id)
        if entry is None or (entry.expires_at is not None and entry.expires_at <= self._clock.now()):
            return PermissionDenied(f"{self._node_id} may not serve the entry {request.entry_id!r}")
        try:
            svid = await self._issuer.issue(
                IssueRequest(
                    spiffe_id=entry.spiffe_id,
                    entry_id=entry.id,
                    csr=request.csr,
                    requester=self._node_id.uri,
                    dns_names=entry.dns_names,
                    ttl=entry.x509_ttl,
                    cut_ttl=True,
                )
            )
        except CitadelError as error:
            return error
        return SignedSvid(svid.spiffe_id, svid.chain, svid.serial, svid.not_before, svid.not_after, svid.authority.hex)


def _assigned(entry: Entry) -> AssignedEntry:
    assert entry.created_at is not None  # the store set it
    return AssignedEntry(
        id=entry.id,
        spiffe_id=entry.spiffe_id,
        selectors=entry.selectors,
        revision=entry.revision,
        created_at=entry.created_at,
        x509_ttl=entry.x509_ttl,
        jwt_ttl=entry.jwt_ttl,
        dns_names=entry.dns_names,
        federates_with=entry.federates_with,
        hint=entry.hint,
        admin=entry.admin,
        store_svid=entry.store_svid,
        expires_at=entry.expires_at,
        labels=entry.labels,
    )
