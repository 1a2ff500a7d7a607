"""LocalUpstream: the server as a node in the same process sees it. Contract: workload.upstream.Upstream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import structlog

from citadel.ca.issuer import Issuer, IssueRequest
from citadel.ca.ports import AuthorityStore
from citadel.changes import Changes, Topic
from citadel.errors import CitadelError, PermissionDenied
from citadel.registry import Registry
from citadel.registry.model import Entry
from citadel.spiffe import SpiffeId, TrustDomain
from citadel.store.ports import ClientStore
from citadel.workload.upstream import AckReport, AssignedEntry, Bundle, SignedSvid, SvidRequest

_RETRY_SECONDS = 0.5
_T = TypeVar("_T")
log = structlog.get_logger("citadel.api")


class LocalUpstream:
    def __init__(
        self,
        node_id: SpiffeId,
        registry: Registry,
        authorities: AuthorityStore,
        issuer: Issuer,
        clients: ClientStore,
        changes: Changes,
    ) -> None:
        self._node_id = node_id
        self._registry = registry
        self._authorities = authorities
        self._issuer = issuer
        self._clients = clients
        self._changes = changes
        self._authorised: dict[str, Entry] = {}

    @property
    def trust_domain(self) -> TrustDomain:
        return self._node_id.trust_domain

    @property
    def node_id(self) -> SpiffeId:
        return self._node_id

    @asynccontextmanager
    async def entries(self) -> AsyncIterator[AsyncIterator[tuple[AssignedEntry, ...]]]:
        async with self._changes.subscribe([Topic.ENTRIES]) as news:
            yield self._follow(news, self._read_entries)

    @asynccontextmanager
    async def bundles(self) -> AsyncIterator[AsyncIterator[dict[TrustDomain, Bundle]]]:
        async with self._changes.subscribe([Topic.BUNDLES]) as news:
            yield self._follow(news, self._read_bundles)

    async def sign(self, requests: Sequence[SvidRequest]) -> list[SignedSvid | CitadelError]:
        return list(await asyncio.gather(*map(self._sign, requests)))

    async def report(self, reports: Sequence[AckReport]) -> None:
        await self._clients.record(self._node_id.uri, reports)

    async def _follow(self, news: AsyncIterator[Topic], read: Callable[[], Awaitable[_T | None]]) -> AsyncIterator[_T]:
        """What `read` gives now, and again after each change; over troubles of the store it tries until it can."""
        while True:
            try:
                found = await read()
            except CitadelError as error:
                log.warning("the node cannot be told of changes now", error=error.sentence())
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if found is not None:
                yield found
            await anext(news)

    async def _read_entries(self) -> tuple[AssignedEntry, ...]:
        entries = await self._registry.authorised(self._node_id)
        self._authorised = {entry.id: entry for entry in entries}
        return tuple(_assigned(entry) for entry in entries if entry.created_at is not None)

    async def _read_bundles(self) -> dict[TrustDomain, Bundle] | None:
        bundles = await self._authorities.bundles()
        found = {b.trust_domain: Bundle(b.trust_domain, b.roots, b.sequence, b.refresh_hint, b.crls) for b in bundles}
        return found if self.trust_domain in found else None

    async def _sign(self, request: SvidRequest) -> SignedSvid | CitadelError:
        entry = self._authorised.get(request.entry_id)
        if entry is None:
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
