"""The server as a node sees it, in memory (contract: workload.upstream.Upstream): a real issuer, a list of entries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

from citadel.ca.issuer import IssuancePolicy, Issuer, IssueRequest
from citadel.clock import Clock
from citadel.errors import CitadelError, PermissionDenied, Unavailable
from citadel.spiffe import SpiffeId, TrustDomain
from citadel.workload.upstream import (
    AckKind,
    AckReport,
    AssignedEntry,
    Bundle,
    EntryUpdate,
    Reissue,
    Selector,
    SignedSvid,
    SvidRequest,
)
from tests.support.issuance import NOW, Chain, CurrentAuthority, MemoryIssuanceLog, make_chain

TD = TrustDomain("example.org")


def assigned(name: str, *selectors: str, ttl: timedelta = timedelta(hours=1), **more: object) -> AssignedEntry:
    """An entry of `/name` whose id is the name, as the node gets it."""
    given = frozenset(Selector.parse(text) for text in selectors or ("unix:uid:1000",))
    fields: dict[str, object] = {"revision": 0, "created_at": NOW, "x509_ttl": ttl, **more}
    return AssignedEntry(name, SpiffeId.of(TD, name), given, **fields)  # type: ignore[arg-type]


class MemoryUpstream:
    """`away`: the server does not answer. `hold`: while it is clear, answers to `sign` wait. `asked` and `most` count
    requests, and those that were there at once."""

    def __init__(self, chain: Chain, clock: Clock) -> None:
        self.away = False
        self.hold = asyncio.Event()
        self.hold.set()
        self.asked: list[str] = []
        self.most = 0
        self.reported: list[AckReport] = []
        self.records = MemoryIssuanceLog()
        self._now = 0
        self._clock = clock
        self._chain = chain
        policy = IssuancePolicy(shortest=timedelta(seconds=1))
        self._issuer = Issuer(CurrentAuthority(chain.signing_authority()), self.records, clock, policy)
        self._entries: dict[str, AssignedEntry] = {}
        self._bundle: Bundle | None = None
        self._reissue = Reissue(frozenset(), 1.0)
        self._changed = asyncio.Condition()

    @classmethod
    async def make(cls, clock: Clock) -> MemoryUpstream:
        """With authorities that outlive every jump of a clock in the tests."""
        chain = await make_chain(now=clock.now() - timedelta(days=30), issuing_lifetime=timedelta(days=365))
        return cls(chain, clock)

    @property
    def trust_domain(self) -> TrustDomain:
        return TD

    @property
    def node_id(self) -> SpiffeId:
        return SpiffeId.of(TD, "spire", "agent", "local")

    async def put(self, *entries: AssignedEntry) -> None:
        async with self._changed:
            self._entries |= {entry.id: entry for entry in entries}
            self._changed.notify_all()

    async def delete(self, *entry_ids: str) -> None:
        async with self._changed:
            for entry_id in entry_ids:
                del self._entries[entry_id]
            self._changed.notify_all()

    async def put_bundle(self, roots: tuple[bytes, ...] | None = None, sequence: int = 1) -> None:
        async with self._changed:
            self._bundle = Bundle(TD, roots or (self._chain.root,), sequence, 300)
            self._changed.notify_all()

    @asynccontextmanager
    async def entries(self) -> AsyncIterator[AsyncIterator[EntryUpdate]]:
        yield self._follow_entries()

    async def _follow_entries(self) -> AsyncIterator[EntryUpdate]:
        known = dict(self._entries)
        yield EntryUpdate(tuple(known.values()), whole=True)
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda known=known: known != self._entries)  # type: ignore[misc]
                changed = tuple(e for i, e in self._entries.items() if known.get(i) != e)
                gone = frozenset(known.keys() - self._entries.keys())
                known = dict(self._entries)
            yield EntryUpdate(changed, gone)

    @asynccontextmanager
    async def bundles(self) -> AsyncIterator[AsyncIterator[dict[TrustDomain, Bundle]]]:
        yield self._follow_bundles()

    async def _follow_bundles(self) -> AsyncIterator[dict[TrustDomain, Bundle]]:
        known: Bundle | None = None
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda known=known: known != self._bundle)  # type: ignore[misc]
                known = self._bundle
            assert known is not None
            yield {TD: known}

    @asynccontextmanager
    async def reissue(self) -> AsyncIterator[AsyncIterator[Reissue]]:
        yield self._follow_reissue()

    async def put_reissue(self, directive: Reissue) -> None:
        async with self._changed:
            self._reissue = directive
            self._changed.notify_all()

    async def _follow_reissue(self) -> AsyncIterator[Reissue]:
        known: Reissue | None = None
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda known=known: known != self._reissue)  # type: ignore[misc]
                known = self._reissue
            yield known

    async def sign(self, requests: Sequence[SvidRequest]) -> list[SignedSvid | CitadelError]:
        self._now += len(requests)
        self.most = max(self.most, self._now)
        try:
            self.asked += [request.entry_id for request in requests]
            await self.hold.wait()
            if self.away:
                raise Unavailable("the server does not answer")
            return [await self._sign(request) for request in requests]
        finally:
            self._now -= len(requests)

    async def _sign(self, request: SvidRequest) -> SignedSvid | CitadelError:
        entry = self._entries.get(request.entry_id)
        if entry is None:
            return PermissionDenied(f"{self.node_id} may not serve the entry {request.entry_id!r}")
        try:
            svid = await self._issuer.issue(
                IssueRequest(
                    entry.spiffe_id, entry.id, request.csr, self.node_id.uri, entry.dns_names, entry.x509_ttl, True
                )
            )
        except CitadelError as error:
            return error
        return SignedSvid(svid.spiffe_id, svid.chain, svid.serial, svid.not_before, svid.not_after, svid.authority.hex)

    async def report(self, reports: Sequence[AckReport]) -> None:
        if self.away:
            raise Unavailable("the server does not answer")
        self.reported += reports

    async def recorded(self) -> list[str]:
        ended = {report.client for report in self.reported if report.kind is AckKind.ENDED}
        return sorted({report.client for report in self.reported} - ended)
