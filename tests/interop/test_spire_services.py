"""SPIRE's services as its clients see them: generated stubs over the admin socket of a real `citadel up`."""

from __future__ import annotations

import queue
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf.wrappers_pb2 import BoolValue, StringValue

from citadel.api.proto.spire.api.server.agent.v1 import agent_pb2, agent_pb2_grpc
from citadel.api.proto.spire.api.server.bundle.v1 import bundle_pb2, bundle_pb2_grpc
from citadel.api.proto.spire.api.server.entry.v1 import entry_pb2, entry_pb2_grpc
from citadel.api.proto.spire.api.server.svid.v1 import svid_pb2, svid_pb2_grpc
from citadel.api.proto.spire.api.types import (
    agent_pb2 as agent_types,
)
from citadel.api.proto.spire.api.types import (
    bundle_pb2 as bundle_types,
)
from citadel.api.proto.spire.api.types import (
    entry_pb2 as entry_types,
)
from citadel.api.proto.spire.api.types import (
    federateswith_pb2,
    selector_pb2,
    spiffeid_pb2,
)
from citadel.spiffe import TrustDomain
from tests.support.cacerts import Mint
from tests.support.issuance import make_csr
from tests.support.up import Up, Workload, me, running

TD = "example.org"
OK, NOT_FOUND, EXISTS, INVALID, PRECONDITION = 0, 5, 6, 3, 9
Match = selector_pb2.SelectorMatch


class Spire:
    def __init__(self, channel: grpc.Channel) -> None:
        self.entries = entry_pb2_grpc.EntryStub(channel)
        self.bundles = bundle_pb2_grpc.BundleStub(channel)
        self.svids = svid_pb2_grpc.SVIDStub(channel)
        self.agents = agent_pb2_grpc.AgentStub(channel)

    def create(self, *entries: entry_types.Entry) -> list[Any]:
        return list(self.entries.BatchCreateEntry(entry_pb2.BatchCreateEntryRequest(entries=entries)).results)

    def list(self, **wanted: Any) -> list[str]:
        """The paths of the entries that a filter finds, in order of id; the count must agree."""
        found = self.entries.ListEntries(
            entry_pb2.ListEntriesRequest(filter=entry_pb2.ListEntriesRequest.Filter(**wanted))
        )
        count = self.entries.CountEntries(
            entry_pb2.CountEntriesRequest(filter=entry_pb2.CountEntriesRequest.Filter(**wanted))
        )
        assert count.count == len(found.entries)
        return [entry.spiffe_id.path for entry in found.entries]


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    with tempfile.TemporaryDirectory(prefix="citadel-") as folder, running(Path(folder) / "d") as one:
        yield one


@pytest.fixture
def spire(up: Up) -> Iterator[Spire]:
    with grpc.insecure_channel(f"unix:{up.admin_socket}") as channel:
        spire = Spire(channel)
        yield spire
        ids = [entry.id for entry in spire.entries.ListEntries(entry_pb2.ListEntriesRequest()).entries]
        spire.entries.BatchDeleteEntry(entry_pb2.BatchDeleteEntryRequest(ids=ids))
        bundles = spire.bundles.ListFederatedBundles(bundle_pb2.ListFederatedBundlesRequest()).bundles
        names = [bundle.trust_domain for bundle in bundles]
        spire.bundles.BatchDeleteFederatedBundle(bundle_pb2.BatchDeleteFederatedBundleRequest(trust_domains=names))


def spiffe_id(path: str, domain: str = TD) -> spiffeid_pb2.SPIFFEID:
    return spiffeid_pb2.SPIFFEID(trust_domain=domain, path=path)


def selectors(*texts: str) -> list[selector_pb2.Selector]:
    parts = (text.partition(":") for text in texts)
    return [selector_pb2.Selector(type=kind, value=value) for kind, _, value in parts]


def entry(path: str, *given: str, **more: Any) -> entry_types.Entry:
    return entry_types.Entry(spiffe_id=spiffe_id(path), selectors=selectors(*given or ("unix:uid:4242",)), **more)


def codes(results: Any) -> list[int]:
    return [result.status.code for result in results]


def refused(call: Any, code: grpc.StatusCode) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() is code
    return str(caught.value.details())


def test_what_is_created_is_found_and_named_and_has_its_revision(spire: Spire) -> None:
    [made] = spire.create(entry("/a", hint="h", x509_svid_ttl=600, dns_names=["a.b"], admin=True, downstream=True))
    assert made.status.code == OK
    assert (made.entry.revision_number, made.entry.parent_id.path) == (0, "/spire/agent/local")
    assert made.entry.created_at > 0
    assert spire.entries.GetEntry(entry_pb2.GetEntryRequest(id=made.entry.id)) == made.entry


def test_a_similar_entry_is_returned_with_already_exists(spire: Spire) -> None:
    [first] = spire.create(entry("/a", hint="first"))
    second, third, other = spire.create(entry("/a", hint="second"), entry("/b"), entry("/c", id=first.entry.id))
    assert codes([second, third, other]) == [EXISTS, OK, EXISTS]
    assert second.entry == first.entry
    assert not other.HasField("entry")  # only the id is taken: there is no such entry
    assert first.entry.id in other.status.message


def test_in_a_batch_each_entry_has_its_own_fate(spire: Spire) -> None:
    results = spire.create(
        entry("/good"),
        entry("/spire/agent/x"),
        entry("/good"),
        entry_types.Entry(spiffe_id=spiffe_id("/none")),
        entry("/elsewhere", parent_id=spiffe_id("/x", "other.org")),
        entry("/ttl", x509_svid_ttl=-1),
    )
    assert codes(results) == [OK, INVALID, EXISTS, INVALID, INVALID, INVALID]
    assert "reserved" in results[1].status.message
    assert "everybody would match" in results[3].status.message
    assert spire.list() == ["/good"]


@pytest.mark.parametrize(
    ("behaviour", "given", "found"),
    [
        (Match.MATCH_EXACT, ["unix:uid:1"], {"/one"}),
        (Match.MATCH_SUBSET, ["unix:uid:1", "unix:gid:1"], {"/one", "/two"}),
        (Match.MATCH_SUPERSET, ["unix:uid:1"], {"/one", "/two"}),
        (Match.MATCH_ANY, ["unix:uid:1", "unix:uid:3"], {"/one", "/two", "/three"}),
        (Match.MATCH_ANY, ["unix:uid:9"], set()),
    ],
)
def test_selectors_match_in_four_ways(spire: Spire, behaviour: Any, given: list[str], found: set[str]) -> None:
    spire.create(entry("/one", "unix:uid:1"), entry("/two", "unix:uid:1", "unix:gid:1"), entry("/three", "unix:uid:3"))
    assert set(spire.list(by_selectors=Match(selectors=selectors(*given), match=behaviour))) == found


def test_every_filter_finds_what_it_says(spire: Spire) -> None:
    spire.create(
        entry("/a", hint="x", federates_with=["other.org"]),
        entry("/b", downstream=True, federates_with=["other.org", "third.org"]),
        entry("/c", parent_id=spiffe_id("/a")),
    )
    assert spire.list(by_spiffe_id=spiffe_id("/a")) == ["/a"]
    assert spire.list(by_parent_id=spiffe_id("/a")) == ["/c"]
    assert spire.list(by_hint=StringValue(value="x")) == ["/a"]
    assert spire.list(by_downstream=BoolValue(value=True)) == ["/b"]
    assert set(spire.list(by_downstream=BoolValue(value=False))) == {"/a", "/c"}
    federates = federateswith_pb2.FederatesWithMatch
    for behaviour, given, found in (
        (federates.MATCH_EXACT, ["other.org"], {"/a"}),
        (federates.MATCH_SUBSET, ["other.org"], {"/a"}),
        (federates.MATCH_SUPERSET, ["other.org"], {"/a", "/b"}),
        (federates.MATCH_ANY, ["third.org", "fourth.org"], {"/b"}),
    ):
        wanted = federates(trust_domains=given, match=behaviour)
        assert set(spire.list(by_federates_with=wanted)) == found
    assert spire.list(by_spiffe_id=spiffe_id("/a"), by_downstream=BoolValue(value=True)) == []


def test_an_empty_set_to_filter_by_is_a_mistake(spire: Spire) -> None:
    assert "empty" in refused(lambda: spire.list(by_selectors=Match()), grpc.StatusCode.INVALID_ARGUMENT)
    empty = federateswith_pb2.FederatesWithMatch()
    assert "empty" in refused(lambda: spire.list(by_federates_with=empty), grpc.StatusCode.INVALID_ARGUMENT)


def test_pages_hold_each_entry_once_and_the_last_has_no_token(spire: Spire) -> None:
    spire.create(*(entry(f"/n{n}", f"unix:uid:{n}") for n in range(10)))
    seen, token, sizes = [], "", []
    while True:
        page = spire.entries.ListEntries(entry_pb2.ListEntriesRequest(page_size=5, page_token=token))
        seen += [one.spiffe_id.path for one in page.entries]
        sizes.append(len(page.entries))
        if not (token := page.next_page_token):
            break
    assert (sorted(seen), sizes) == (sorted(f"/n{n}" for n in range(10)), [5, 5])
    everything = spire.entries.ListEntries(entry_pb2.ListEntriesRequest())
    assert (len(everything.entries), everything.next_page_token) == (10, "")


def test_a_mask_leaves_what_it_names_and_the_id(spire: Spire) -> None:
    [made] = spire.create(entry("/a", hint="x"))
    mask = entry_types.EntryMask(spiffe_id=True, selectors=True)
    wanted = entry_types.Entry(id=made.entry.id, spiffe_id=spiffe_id("/a"), selectors=made.entry.selectors)
    [listed] = spire.entries.ListEntries(entry_pb2.ListEntriesRequest(output_mask=mask)).entries
    assert listed == wanted
    assert spire.entries.GetEntry(entry_pb2.GetEntryRequest(id=made.entry.id, output_mask=mask)) == wanted
    nothing = entry_types.EntryMask()
    assert spire.entries.GetEntry(
        entry_pb2.GetEntryRequest(id=made.entry.id, output_mask=nothing)
    ) == entry_types.Entry(id=made.entry.id)


def test_an_update_changes_what_its_mask_names_and_counts_the_revision_up(spire: Spire) -> None:
    [made] = spire.create(entry("/a", hint="old", x509_svid_ttl=600, dns_names=["a.b"]))
    change = entry_types.Entry(id=made.entry.id, hint="new", x509_svid_ttl=900)
    request = entry_pb2.BatchUpdateEntryRequest(entries=[change], input_mask=entry_types.EntryMask(hint=True))
    [updated] = spire.entries.BatchUpdateEntry(request).results
    new = updated.entry
    assert (new.hint, new.x509_svid_ttl, list(new.dns_names), new.revision_number) == ("new", 600, ["a.b"], 1)
    assert new.created_at == made.entry.created_at
    whole = entry("/a", id=made.entry.id)
    [cleared] = spire.entries.BatchUpdateEntry(entry_pb2.BatchUpdateEntryRequest(entries=[whole])).results
    assert cleared.status.code == INVALID  # without a mask everything is meant, the missing parent too
    whole.parent_id.CopyFrom(made.entry.parent_id)
    [cleared] = spire.entries.BatchUpdateEntry(entry_pb2.BatchUpdateEntryRequest(entries=[whole])).results
    assert (cleared.entry.hint, cleared.entry.x509_svid_ttl, cleared.entry.revision_number) == ("", 0, 2)


def test_an_update_into_a_duplicate_and_of_nobody_are_refused(spire: Spire) -> None:
    _, b = spire.create(entry("/a"), entry("/b"))
    mask = entry_types.EntryMask(spiffe_id=True)
    changes = [entry_types.Entry(id=b.entry.id, spiffe_id=spiffe_id("/a")),
               entry_types.Entry(id="nobody", spiffe_id=spiffe_id("/x")), entry_types.Entry()]  # fmt: skip
    request = entry_pb2.BatchUpdateEntryRequest(entries=changes, input_mask=mask)
    assert codes(spire.entries.BatchUpdateEntry(request).results) == [EXISTS, NOT_FOUND, INVALID]


def test_deletions_have_a_status_each(spire: Spire) -> None:
    a, b = spire.create(entry("/a"), entry("/b"))
    ids = [a.entry.id, "nobody", "", b.entry.id, b.entry.id]
    results = spire.entries.BatchDeleteEntry(entry_pb2.BatchDeleteEntryRequest(ids=ids)).results
    assert codes(results) == [OK, NOT_FOUND, INVALID, OK, NOT_FOUND]
    assert [result.id for result in results] == ids
    assert spire.list() == []


def authorised(spire: Spire) -> set[str]:
    answer = spire.entries.GetAuthorizedEntries(entry_pb2.GetAuthorizedEntriesRequest())
    return {one.spiffe_id.path for one in answer.entries}


def eventually(look: Any, wanted: Any) -> None:
    for _ in range(500):
        if look() == wanted:
            return
    assert look() == wanted


def test_our_node_is_authorised_for_what_is_below_it(spire: Spire) -> None:
    other = spiffe_id("/spire/agent/other")
    spire.create(entry("/a"), entry("/below", parent_id=spiffe_id("/a")), entry("/far", parent_id=other))
    eventually(lambda: authorised(spire), {"/a", "/below"})


def test_a_small_set_is_synchronised_whole_and_a_large_one_by_revisions(spire: Spire) -> None:
    spire.create(*(entry(f"/n{n}", f"unix:uid:{n}") for n in range(3)))
    eventually(lambda: len(authorised(spire)), 3)
    sync = entry_pb2.SyncAuthorizedEntriesRequest
    [whole] = spire.entries.SyncAuthorizedEntries(iter([sync()]))
    assert ({one.spiffe_id.path for one in whole.entries}, whole.more) == ({"/n0", "/n1", "/n2"}, False)
    spire.create(*(entry(f"/m{n}", f"unix:uid:{n}") for n in range(1200)))
    eventually(lambda: len(authorised(spire)), 1203)

    asked: queue.SimpleQueue[Any] = queue.SimpleQueue()
    asked.put(sync(output_mask=entry_types.EntryMask(spiffe_id=True, revision_number=True)))
    responses = spire.entries.SyncAuthorizedEntries(iter(asked.get, None))
    revisions: list[Any] = []
    for response in responses:
        revisions += response.entry_revisions
        if not response.more:
            break
    wanted = [one.id for one in revisions][:700]
    asked.put(sync(ids=[*wanted, "nobody"]))
    entries: list[Any] = []
    for response in responses:
        entries += response.entries
        if not response.more:
            break
    asked.put(None)
    assert list(responses) == []
    assert len({one.id for one in revisions}) == 1203
    assert [one.id for one in entries] == sorted(wanted)
    assert all(one.spiffe_id.path and not one.selectors for one in entries)
    masked = sync(output_mask=entry_types.EntryMask(spiffe_id=True))
    refused(lambda: list(spire.entries.SyncAuthorizedEntries(iter([masked]))), grpc.StatusCode.INVALID_ARGUMENT)
    refused(
        lambda: list(spire.entries.SyncAuthorizedEntries(iter([sync(ids=["a"])]))), grpc.StatusCode.INVALID_ARGUMENT
    )


def foreign(name: str = "other.org", *mints: Mint) -> bundle_types.Bundle:
    made = mints or (Mint(TrustDomain(name)),)
    authorities = [bundle_types.X509Certificate(asn1=mint.root_der) for mint in made]
    return bundle_types.Bundle(trust_domain=name, x509_authorities=authorities, refresh_hint=60, sequence_number=7)


def put(spire: Spire, *bundles: bundle_types.Bundle) -> list[Any]:
    request = bundle_pb2.BatchSetFederatedBundleRequest(bundle=bundles)
    return list(spire.bundles.BatchSetFederatedBundle(request).results)


def test_our_bundle_is_given_and_counted(spire: Spire) -> None:
    bundle = spire.bundles.GetBundle(bundle_pb2.GetBundleRequest())
    assert (bundle.trust_domain, len(bundle.x509_authorities), bundle.sequence_number) == (TD, 1, 1)
    mask = bundle_types.BundleMask(refresh_hint=True)
    assert spire.bundles.GetBundle(bundle_pb2.GetBundleRequest(output_mask=mask)) == bundle_types.Bundle(
        trust_domain=TD, refresh_hint=bundle.refresh_hint
    )
    assert spire.bundles.CountBundles(bundle_pb2.CountBundlesRequest()).count == 1


def test_federated_bundles_are_created_updated_set_listed_and_deleted(spire: Spire) -> None:
    first = foreign()
    create = bundle_pb2.BatchCreateFederatedBundleRequest(bundle=[first, first])
    made, again = spire.bundles.BatchCreateFederatedBundle(create).results
    assert (made.status.code, again.status.code, made.bundle) == (OK, EXISTS, first)
    get = bundle_pb2.GetFederatedBundleRequest
    assert spire.bundles.GetFederatedBundle(get(trust_domain="other.org")) == first
    assert spire.bundles.CountBundles(bundle_pb2.CountBundlesRequest()).count == 2
    second = foreign()
    change = bundle_pb2.BatchUpdateFederatedBundleRequest(
        bundle=[second, foreign("nobody.org")], input_mask=bundle_types.BundleMask(x509_authorities=True)
    )
    updated, missing = spire.bundles.BatchUpdateFederatedBundle(change).results
    assert (updated.status.code, missing.status.code) == (OK, NOT_FOUND)
    assert (updated.bundle.x509_authorities, updated.bundle.sequence_number) == (second.x509_authorities, 8)
    [unchanged] = put(spire, second)
    assert unchanged.bundle.sequence_number == 8  # the same content is no change
    put(spire, foreign("third.org"))
    pages, token = [], ""
    while True:
        page = spire.bundles.ListFederatedBundles(bundle_pb2.ListFederatedBundlesRequest(page_size=1, page_token=token))
        pages += [one.trust_domain for one in page.bundles]
        if not (token := page.next_page_token):
            break
    assert pages == ["other.org", "third.org"]
    delete = bundle_pb2.BatchDeleteFederatedBundleRequest(trust_domains=["other.org", "other.org", TD, "NOT ONE"])
    assert codes(spire.bundles.BatchDeleteFederatedBundle(delete).results) == [OK, NOT_FOUND, INVALID, INVALID]
    refused(lambda: spire.bundles.GetFederatedBundle(get(trust_domain="other.org")), grpc.StatusCode.NOT_FOUND)
    refused(lambda: spire.bundles.GetFederatedBundle(get(trust_domain=TD)), grpc.StatusCode.INVALID_ARGUMENT)


def test_a_bundle_that_nobody_could_be_verified_with_is_refused(spire: Spire, up: Up) -> None:
    empty = bundle_types.Bundle(trust_domain="other.org")
    ours = foreign(TD)
    strange = foreign("other.org", Mint(TrustDomain("third.org")))
    noise = bundle_types.Bundle(
        trust_domain="other.org", x509_authorities=[bundle_types.X509Certificate(asn1=b"\x30\x03abc")]
    )
    [minted] = [spire.svids.MintX509SVID(svid_pb2.MintX509SVIDRequest(csr=make_csr()))]
    leaf = bundle_types.Bundle(
        trust_domain="other.org", x509_authorities=[bundle_types.X509Certificate(asn1=minted.svid.cert_chain[0])]
    )
    results = put(spire, empty, ours, strange, noise, leaf)
    assert codes(results) == [INVALID] * 5
    for result, word in zip(results, ("no X.509", "our own", "third.org", "authority 1", "not a CA"), strict=True):
        assert word in result.status.message
    assert spire.bundles.CountBundles(bundle_pb2.CountBundlesRequest()).count == 1


def test_deleting_a_bundle_that_entries_federate_with_goes_by_its_mode(spire: Spire) -> None:
    deletion = bundle_pb2.BatchDeleteFederatedBundleRequest

    def delete(mode: Any) -> list[int]:
        request = deletion(trust_domains=["other.org"], mode=mode)
        return codes(spire.bundles.BatchDeleteFederatedBundle(request).results)

    spire.create(entry("/a", federates_with=["other.org", "third.org"]), entry("/b"))
    put(spire, foreign())
    assert delete(deletion.RESTRICT) == [PRECONDITION]
    assert delete(deletion.DISSOCIATE) == [OK]
    [a] = [one for one in spire.entries.ListEntries(entry_pb2.ListEntriesRequest()).entries if one.federates_with]
    assert (list(a.federates_with), a.revision_number) == (["third.org"], 1)
    put(spire, foreign("third.org"))
    request = deletion(trust_domains=["third.org"], mode=deletion.DELETE)
    assert codes(spire.bundles.BatchDeleteFederatedBundle(request).results) == [OK]
    assert spire.list() == ["/b"]
    assert delete(deletion.DELETE) == [NOT_FOUND]


def test_a_workload_gets_the_bundles_that_its_entry_federates_with(spire: Spire, up: Up) -> None:
    mint = Mint(TrustDomain("other.org"))
    spire.create(entry("/w", me(), federates_with=["other.org"]))
    with Workload(up.workload_socket, "spiffe://other.org", "ALL", node="federated") as workload:
        seen: dict[str, Any] = {}
        while "ALL" not in seen:
            seen |= workload.take()
        assert "spiffe://other.org" not in seen
        put(spire, foreign("other.org", mint), foreign("third.org"))
        while "spiffe://other.org" not in seen:
            seen |= workload.take()
        pem = seen["spiffe://other.org"].validation_context.trusted_ca.inline_bytes
        assert x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER) == mint.root_der
        while b"third.org" in (every := everything(seen)) or b"other.org" not in every:
            seen |= workload.take()


def everything(seen: dict[str, Any]) -> bytes:
    return bytes(seen["ALL"].validation_context.custom_validator_config.typed_config.value)


def test_an_administrator_mints_what_the_csr_names_within_the_rules(spire: Spire) -> None:
    csr = make_csr(uris=[f"spiffe://{TD}/minted"], dns_names=["a.b"])
    svid = spire.svids.MintX509SVID(svid_pb2.MintX509SVIDRequest(csr=csr, ttl=120)).svid
    leaf = x509.load_der_x509_certificate(svid.cert_chain[0])
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [f"spiffe://{TD}/minted"]
    assert names.get_values_for_type(x509.DNSName) == ["a.b"]
    assert svid.expires_at == int(leaf.not_valid_after_utc.timestamp())
    assert (svid.id, len(svid.cert_chain)) == (spiffe_id("/minted"), 2)
    for wrong in (
        make_csr(uris=[f"spiffe://{TD}/spire/server"]),
        make_csr(uris=["spiffe://other.org/a"]),
        make_csr(uris=[f"spiffe://{TD}/a", f"spiffe://{TD}/b"]),
        make_csr(uris=[]),
        make_csr(uris=[f"spiffe://{TD}/a"], dns_names=["*.b"]),
        b"noise",
        b"",
        b"\x30" * 100_000,
    ):
        request = svid_pb2.MintX509SVIDRequest(csr=wrong)
        refused(lambda request=request: spire.svids.MintX509SVID(request), grpc.StatusCode.INVALID_ARGUMENT)


def test_certificates_for_entries_come_in_batches_with_a_status_each(spire: Spire) -> None:
    other = spiffe_id("/spire/agent/other")
    mine, far, default = spire.create(
        entry("/a", hint="x", x509_svid_ttl=600), entry("/far", parent_id=other), entry("/default")
    )
    eventually(lambda: authorised(spire), {"/a", "/default"})
    csr, wrong = make_csr(uris=[f"spiffe://{TD}/a"]), make_csr(uris=[f"spiffe://{TD}/b"])
    new = svid_pb2.NewX509SVIDParams
    params = [new(entry_id=mine.entry.id, csr=csr), new(entry_id=far.entry.id, csr=csr), new(csr=csr),
              new(entry_id=mine.entry.id, csr=wrong), new(entry_id=mine.entry.id)]  # fmt: skip
    results = spire.svids.BatchNewX509SVID(svid_pb2.BatchNewX509SVIDRequest(params=params)).results
    assert codes(results) == [OK, NOT_FOUND, INVALID, INVALID, INVALID]
    svid = results[0].svid
    assert (svid.id, svid.hint, len(svid.cert_chain)) == (spiffe_id("/a"), "x", 2)
    assert lifetime(svid) == timedelta(seconds=600)
    params = [new(entry_id=default.entry.id, csr=make_csr(uris=[f"spiffe://{TD}/default"]))]
    [result] = spire.svids.BatchNewX509SVID(svid_pb2.BatchNewX509SVIDRequest(params=params)).results
    assert lifetime(result.svid) == timedelta(hours=1)  # a TTL of zero is the default
    refused(lambda: spire.svids.BatchNewX509SVID(svid_pb2.BatchNewX509SVIDRequest()), grpc.StatusCode.INVALID_ARGUMENT)


def lifetime(svid: Any) -> timedelta:
    """Without the minute by which it begins in the past."""
    leaf = x509.load_der_x509_certificate(svid.cert_chain[0])
    return leaf.not_valid_after_utc - leaf.not_valid_before_utc - timedelta(minutes=1)


def test_the_one_agent_is_our_node(spire: Spire) -> None:
    local = agent_types.Agent(id=spiffe_id("/spire/agent/local"), attestation_type="local")
    found = spire.agents.GetAgent(agent_pb2.GetAgentRequest(id=local.id))
    assert found.agent_version
    local.agent_version = found.agent_version
    assert found == local
    assert list(spire.agents.ListAgents(agent_pb2.ListAgentsRequest()).agents) == [local]
    bare = agent_pb2.ListAgentsRequest(output_mask=agent_types.AgentMask())
    assert list(spire.agents.ListAgents(bare).agents) == [agent_types.Agent(id=local.id)]
    refused(
        lambda: spire.agents.GetAgent(agent_pb2.GetAgentRequest(id=spiffe_id("/spire/agent/other"))),
        grpc.StatusCode.NOT_FOUND,
    )
    for wanted, count in (
        ({}, 1),
        ({"by_attestation_type": "local"}, 1),
        ({"by_attestation_type": "join_token"}, 0),
        ({"by_banned": BoolValue(value=True)}, 0),
        ({"by_banned": BoolValue(value=False)}, 1),
        ({"by_can_reattest": BoolValue(value=True)}, 0),
        ({"by_selector_match": Match(selectors=selectors("a:b"))}, 0),
        ({"by_expires_before": "2030-01-01 00:00:00 -0000 -00"}, 0),
    ):
        request = agent_pb2.CountAgentsRequest(filter=agent_pb2.CountAgentsRequest.Filter(**wanted))
        assert spire.agents.CountAgents(request).count == count


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda s: s.bundles.AppendBundle(bundle_pb2.AppendBundleRequest()), "rotation"),
        (lambda s: s.bundles.PublishJWTAuthority(bundle_pb2.PublishJWTAuthorityRequest()), "JWT"),
        (lambda s: s.svids.MintJWTSVID(svid_pb2.MintJWTSVIDRequest()), "JWT"),
        (lambda s: s.svids.NewJWTSVID(svid_pb2.NewJWTSVIDRequest()), "JWT"),
        (lambda s: s.svids.NewDownstreamX509CA(svid_pb2.NewDownstreamX509CARequest()), "another server"),
        (lambda s: s.agents.DeleteAgent(agent_pb2.DeleteAgentRequest()), "over the network"),
        (lambda s: s.agents.BanAgent(agent_pb2.BanAgentRequest()), "over the network"),
        (lambda s: s.agents.RenewAgent(agent_pb2.RenewAgentRequest()), "over the network"),
        (lambda s: s.agents.CreateJoinToken(agent_pb2.CreateJoinTokenRequest()), "over the network"),
        (lambda s: s.agents.PostStatus(agent_pb2.PostStatusRequest()), "over the network"),
        (lambda s: list(s.agents.AttestAgent(iter([agent_pb2.AttestAgentRequest()]))), "over the network"),
    ],
)
def test_what_is_not_there_says_what_is_missing(spire: Spire, call: Any, word: str) -> None:
    assert word in refused(lambda: call(spire), grpc.StatusCode.UNIMPLEMENTED)
