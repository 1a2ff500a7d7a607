"""citadel.v1.Admin: status, authorities, bundle, issuance log, clients, entries as files give them, audit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from citadel import __version__
from citadel.api.admin import convert
from citadel.api.ports import PolicyView, Situation, VaultView
from citadel.api.proto.citadel.v1 import admin_pb2 as pb
from citadel.audit import Checkpoint
from citadel.audit.auditor import Auditor
from citadel.audit.notary import Notary
from citadel.audit.ports import AuditLog
from citadel.ca.authorities import Authorities
from citadel.ca.federation import Federation
from citadel.ca.model import Skid
from citadel.ca.ports import AuthorityStore, IssuanceLog, IssuanceQuery
from citadel.clock import Clock
from citadel.errors import BadFile, CitadelError, InvalidInput, Mistake, NotFound
from citadel.registry import Directory, Entry, Registry
from citadel.registry.ports import EntryQuery, Match
from citadel.registry.roster import NodeEntries
from citadel.registry.selectors import Selector
from citadel.spiffe import SpiffeId, TrustDomain
from citadel.store.ports import ClientStore

log = structlog.get_logger("citadel.api")
_PAGE = 1000
_KEY_ID = re.compile(r"[0-9a-f]{64}")


def leaves_under(signed: Mapping[Skid, int], root_of: Mapping[Skid, Skid]) -> Counter[Skid]:
    """How many live leaves chain to each authority, from how many each `signed`: a root has those of its CAs, too."""
    under = Counter(signed)
    for skid, root in root_of.items():
        if root != skid:
            under[root] += signed.get(skid, 0)
    return under


@dataclass(frozen=True)
class AdminUseCases:
    """Message in, message out; `actor` is who asks. Raises CitadelErrors."""

    trust_domain: TrustDomain
    node_id: SpiffeId
    store_kind: str
    clock: Clock
    registry: Registry
    directory: Directory
    served: NodeEntries
    federation: Federation
    authorities: Authorities
    authority_store: AuthorityStore
    issuance: IssuanceLog
    clients: ClientStore
    audit: AuditLog
    auditor: Auditor
    notary: Notary
    situation: Situation

    async def get_status(self) -> pb.Status:
        """Told whatever ails it: without its store, what the store knows is left out, and `store_error` says why."""
        status = pb.Status(
            version=__version__,
            trust_domain=self.trust_domain.name,
            node_id=self.node_id.uri,
            started_at=convert.seconds(self.situation.started_at),
            store_kind=self.store_kind,
            streams=self.situation.streams(),
            waiting=self.situation.waiting(),
        )
        try:
            status.authorities.extend((await self.list_authorities()).authorities)
            bundle = await self.authority_store.bundle(self.trust_domain)
            status.bundle_sequence = bundle.sequence if bundle else 0
            status.entries = await self.registry.count(EntryQuery())
            for job in await self.situation.jobs():
                status.jobs.add(
                    name=job.name,
                    last_started_at=convert.seconds(job.started_at),
                    last_finished_at=convert.seconds(job.finished_at),
                    ok=job.ok,
                    detail=job.detail,
                    next_run_at=convert.seconds(job.next_run),
                )
        except CitadelError as error:
            status.store_error = error.sentence()
        for check in await self.situation.checks():
            status.checks.add(name=check.name, ok=check.ok, reason=check.reason, since=convert.seconds(check.since))
        for held in self.situation.held():
            status.identities.add(
                entry_id=held.entry_id,
                spiffe_id=held.spiffe_id,
                not_after=convert.seconds(held.not_after),
                renew_at=convert.seconds(held.renew_at),
                last_error=held.last_error,
            )
        if (policies := self.situation.policies()) is not None:
            status.policies.CopyFrom(_policies(policies))
        if (vault := self.situation.vault()) is not None:
            status.vault.CopyFrom(_vault(vault))
        return status

    async def confirm_policies(self, request: pb.ConfirmPoliciesRequest, actor: str) -> pb.Policies:
        view = await self.situation.confirm_policies(request.version, actor)
        log.warning("policies were confirmed", version=view.version, documents=view.documents, actor=actor)
        return _policies(view)

    async def list_authorities(self) -> pb.ListAuthoritiesResponse:
        live = await self.authority_store.live_leaves(self.clock.now())
        authorities = await self.authorities.all()
        under = leaves_under(live, {one.skid: one.root_skid for one in authorities})
        return pb.ListAuthoritiesResponse(
            authorities=[convert.authority_message(one, under[one.skid]) for one in authorities]
        )

    async def get_bundle(self, request: pb.GetBundleRequest) -> pb.Bundle:
        domain = TrustDomain.parse(request.trust_domain) if request.trust_domain else self.trust_domain
        bundle = await self.authority_store.bundle(domain)
        if bundle is None:
            raise NotFound(f"there is no bundle of {domain}")
        return convert.bundle_message(bundle)

    async def list_issuances(self, request: pb.ListIssuancesRequest) -> pb.ListIssuancesResponse:
        size = _size(request.page_size, 100)
        live = request.live or request.orphaned
        records = await self.issuance.find(
            IssuanceQuery(
                spiffe_id=SpiffeId.parse(request.spiffe_id) if request.spiffe_id else None,
                authority=Skid(request.authority.lower().replace(":", "")) if request.authority else None,
                entry_id=request.entry_id or None,
                live_at=self.clock.now() if live else None,
                expires_before=convert.moment(request.expires_before),
                orphaned=request.orphaned,
                serial_prefix=_serial_digits(request.serial_prefix),
                limit=size,
                after=_serial(request.page_token) if request.page_token else None,
            )
        )
        token = f"{records[-1].intent.serial:032x}" if len(records) == size else ""
        return pb.ListIssuancesResponse(
            issuances=[convert.issuance_message(record) for record in records], next_page_token=token
        )

    async def get_issuance(self, request: pb.GetIssuanceRequest) -> pb.Issuance:
        return convert.issuance_message(await self.issuance.get(_serial(request.serial)))

    async def list_clients(self, request: pb.ListClientsRequest) -> pb.ListClientsResponse:
        size = _size(request.page_size)
        after = convert.read_client_key(request.page_token) if request.page_token else None
        found = await self.clients.page(size + 1, after)
        return pb.ListClientsResponse(
            clients=[convert.client_message(one) for one in found[:size]],
            next_page_token=convert.client_key(found[size - 1]) if len(found) > size else "",
        )

    async def create_entries(self, request: pb.CreateEntriesRequest, actor: str) -> pb.CreateEntriesResponse:
        created = await self.registry.create(self._read(request.entries), actor, dry_run=request.dry_run)
        return pb.CreateEntriesResponse(entries=[convert.details_message(entry) for entry in created])

    async def update_entries(self, request: pb.UpdateEntriesRequest, actor: str) -> pb.UpdateEntriesResponse:
        old = await self.registry.get_all([change.details.entry.id for change in request.changes])
        new = [
            replace(
                convert.changed(before, change.details.entry, change.mask),
                labels=tuple(sorted(change.details.labels.items())) if change.labels else before.labels,
            )
            for before, change in zip(old, request.changes, strict=True)
        ]
        updated = await self.registry.update(new, actor)
        return pb.UpdateEntriesResponse(entries=[convert.details_message(entry) for entry in updated])

    async def apply_entries(self, request: pb.ApplyEntriesRequest, actor: str) -> pb.ApplyEntriesResponse:
        plan = await self.registry.apply(
            self._read(request.entries), request.apply_set, actor, prune=request.prune, dry_run=request.dry_run
        )
        answer = pb.ApplyEntriesResponse(
            created=[convert.details_message(entry) for entry in plan.create],
            deleted=[convert.details_message(entry) for entry in plan.delete],
            unchanged=len(plan.unchanged),
        )
        for before, after in plan.update:
            answer.updated.add(before=convert.details_message(before), after=convert.details_message(after))
        return answer

    async def list_entries(self, request: pb.ListEntriesRequest) -> pb.ListEntriesResponse:
        if request.id:
            return pb.ListEntriesResponse(entries=[convert.details_message(await self.registry.get(request.id))])
        size = _size(request.page_size)
        chosen = frozenset(map(Selector.parse, request.selectors))
        found = await self.registry.find(
            EntryQuery(
                spiffe_id=SpiffeId.parse(request.spiffe_id) if request.spiffe_id else None,
                parent_id=SpiffeId.parse(request.parent_id) if request.parent_id else None,
                selectors=(chosen, Match.SUPERSET) if chosen else None,
                hint=request.hint or None,
                id_prefix=request.id_prefix,
                apply_set=request.apply_set or None,
                limit=size,
                after=request.page_token,
            )
        )
        token = found[-1].id if len(found) == size else ""
        return pb.ListEntriesResponse(
            entries=[convert.details_message(entry) for entry in found], next_page_token=token
        )

    async def authorised(self) -> list[Entry]:
        """What our node may serve now, in order of id."""
        await self.directory.loaded()
        return [entry for _, entry in sorted(self.served.entries.items())]

    async def served_entry(self, entry_id: str) -> Entry:
        """An entry that our node may serve now. Raises NotFound."""
        await self.directory.loaded()
        entry = self.served.entries.get(entry_id)
        if entry is None or (entry.expires_at is not None and entry.expires_at <= self.clock.now()):
            raise NotFound(f"{self.node_id} serves no entry {entry_id!r}")
        return entry

    async def list_audit(self, request: pb.ListAuditRequest) -> pb.ListAuditResponse:
        answer = pb.ListAuditResponse()
        size = _size(request.page_size, 100)
        for writer in [request.writer] if request.writer else await self.audit.writers():
            for line in await self.audit.read(writer, request.after, size):
                answer.records.add(writer=line.writer, sequence=line.sequence, hash=line.hash, body=line.body)
        return answer

    async def verify_audit(self, request: pb.VerifyAuditRequest) -> pb.VerifyAuditResponse:
        """Walk every chain. Raises InvalidInput for a checkpoint or key id that is none."""
        outside = [Checkpoint.parse(text) for text in request.checkpoints]
        for key_id in request.key_ids:
            if not _KEY_ID.fullmatch(key_id):
                raise InvalidInput(
                    f"{key_id[:80]!r} is no key id: expected 64 hex digits", mend="see: citadel audit key"
                )
        answer = pb.VerifyAuditResponse()
        for chain in await self.auditor.verify(outside, request.key_ids):
            answer.chains.add(
                writer=chain.writer,
                pruned=chain.pruned,
                first=chain.first,
                last=chain.last,
                checkpoints=chain.checkpoints,
                signed=chain.signed,
                signed_at=chain.signed_at // 1_000_000,
                faults=chain.faults,
            )
        return answer

    async def list_audit_keys(self) -> pb.ListAuditKeysResponse:
        keys = [pb.ListAuditKeysResponse.Key(id=key.id, pem=key.pem) for key in await self.auditor.keys()]
        return pb.ListAuditKeysResponse(keys=keys)

    async def create_audit_checkpoint(self) -> pb.CreateAuditCheckpointResponse:
        await self.notary.checkpoint()
        chains = [await self.audit.checkpoints(writer) for writer in await self.audit.writers()]
        newest = [str(max(chain, key=lambda one: (one.sequence, one.at))) for chain in chains if chain]
        return pb.CreateAuditCheckpointResponse(checkpoints=newest)

    def _read(self, messages: Sequence[pb.EntryDetails]) -> list[Entry]:
        """All entries of a request. Raises BadFile with the mistakes of all of them."""
        entries: list[Entry] = []
        mistakes: list[Mistake] = []
        for message in messages:
            try:
                entry = convert.read_entry(message.entry, default_parent=self.node_id)
                labels = tuple(sorted(message.labels.items()))
                entries.append(replace(entry, labels=labels, apply_set=message.apply_set))
            except BadFile as error:
                mistakes.extend(error.mistakes)
            except CitadelError as error:
                mistakes.append(Mistake(message.entry.id or "entry", "", error.message))
        if mistakes:
            raise BadFile(mistakes)
        return entries


def _vault(view: VaultView) -> pb.Vault:
    return pb.Vault(
        address=view.address,
        signed_in_as=view.signed_in_as,
        policies=view.policies,
        token_until=convert.seconds(view.token_until),
        token_renewed_at=convert.seconds(view.token_renewed_at),
        fault=view.fault,
        fault_since=convert.seconds(view.fault_since),
        last_fault=view.last_fault,
        last_fault_at=convert.seconds(view.last_fault_at),
        server_version=view.server_version,
        cluster=view.cluster,
        initialised=view.initialised,
        sealed=view.sealed,
        standby=view.standby,
        lasts=view.lasts,
        findings=[
            pb.VaultFinding(
                kind=one.kind,
                subject=one.subject,
                sentence=one.sentence,
                mend=one.mend,
                stops=one.stops,
                since=convert.seconds(one.since),
            )
            for one in view.findings
        ],
    )


def _policies(view: PolicyView) -> pb.Policies:
    return pb.Policies(
        source=view.source,
        version=view.version,
        documents=view.documents,
        since=convert.seconds(view.since),
        restored=view.restored,
        fault=view.fault,
        held_version=view.held_version,
        held_documents=view.held_documents,
        held_why=view.held_why,
        stored_version=view.stored_version,
    )


def _size(asked: int, usual: int = _PAGE) -> int:
    if asked < 0:
        raise InvalidInput(f"a page of {asked} is not possible")
    return min(asked or usual, _PAGE)


def _serial_digits(text: str) -> str:
    digits = text.replace(":", "").lower()
    if set(digits) - set("0123456789abcdef"):
        raise InvalidInput(f"{text[:80]!r} is not the beginning of a serial number: expected hex")
    return digits


def _serial(text: str) -> int:
    try:
        return int(text.replace(":", ""), 16)
    except ValueError:
        raise InvalidInput(f"{text[:80]!r} is no serial number: expected hex") from None
