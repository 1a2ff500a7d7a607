"""Policies in the store: what a change does, what it refuses, and what a server that follows it has in force."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from citadel.authz.load import SourceText, load
from citadel.authz.sources import FolderOrigin, KeptPolicies, PolicySource
from citadel.authz.stored import Changed, Named, StoredPolicies, StoreOrigin, Wish
from citadel.authz.stored.model import version_number
from citadel.authz.stored.texts import stored_documents
from citadel.errors import Aborted, BadFile, FailedPrecondition, InvalidInput, NotFound
from citadel.store import Store
from tests.support.clock import ManualClock
from tests.support.policies import FACTS, document, file, policy, record, use_cases, version
from tests.support.waiting import until

ME = Wish("uid:1000", "because")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with Store.open(f"sqlite:///{tmp_path}/db/citadel.db", writer="one") as opened:
        yield opened


@pytest.fixture
def cases(store: Store) -> StoredPolicies:
    return use_cases(store.policies)


def names(done: Changed) -> tuple[list[str], list[str], list[str], int]:
    change = done.change
    return (
        [one.key.name.name for one in change.created],
        [one.key.name.name for one in change.updated],
        [one.name.name for one in change.deleted],
        change.unchanged,
    )


async def test_apply_creates_and_replaces_and_leaves_the_rest(cases: StoredPolicies) -> None:
    assert names(await cases.apply([file("a", "b")], ME)) == (["a", "b"], [], [], 0)
    done = await cases.apply([file("b", "c", action="ALLOW")], ME)
    assert names(done) == (["c"], ["b"], [], 1)
    assert done.version is not None
    assert (done.version.number, done.version.documents, done.version.comment) == (2, 3, "because")
    only = Wish("uid:0", confirmed=True)
    assert names(await cases.apply([file("c", action="ALLOW")], only, prune=True)) == ([], [], ["a", "b"], 1)


async def test_what_is_the_same_makes_no_version(cases: StoredPolicies) -> None:
    await cases.apply([file("a")], ME)
    again = await cases.apply([SourceText("other.yaml", f"# a comment\n{policy('a')}".encode())], ME)
    assert (again.version, again.base, again.change.unchanged) == (None, 1, 1)
    assert len(await cases.history(10)) == 1


async def test_prune_and_delete_lose_most_only_when_it_is_confirmed(cases: StoredPolicies) -> None:
    await cases.apply([file("a", "b", "c")], ME)
    with pytest.raises(FailedPrecondition, match="3 policies in force 2 are not in it"):
        await cases.apply([file("a")], ME, prune=True)
    looked = await cases.apply([file("a")], Wish("uid:0", dry_run=True), prune=True)
    assert (looked.version, "2 are not in it" in looked.doubt) == (None, True)
    done = await cases.apply([file("a")], Wish("uid:0", confirmed=True), prune=True)
    assert done.version is not None
    assert done.version.confirmed
    with pytest.raises(FailedPrecondition, match="no AuthorizationPolicy any more"):
        await cases.delete([Named.parse("shop/a")], ME)
    assert len((await cases.listed()).documents) == 1
    await cases.delete([Named.parse("shop/a")], Wish("uid:0", confirmed=True))
    assert (await cases.listed()).documents == ()


async def test_a_first_set_without_any_policy_has_to_be_confirmed(cases: StoredPolicies) -> None:
    only = (
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p, namespace: shop}\n"
        "spec: {mtls: {mode: STRICT}}\n"
    )
    with pytest.raises(FailedPrecondition, match="no AuthorizationPolicy at all"):
        await cases.apply([SourceText("p.yaml", only.encode())], ME)
    with pytest.raises(InvalidInput, match="there is no policy"):
        await cases.apply([SourceText("p.yaml", b"")], ME)


async def test_a_mistake_anywhere_changes_nothing_and_is_named_with_its_place(cases: StoredPolicies) -> None:
    bad = policy("b").replace("DENY", "DENIED")
    with pytest.raises(BadFile) as caught:
        await cases.apply([file("a"), SourceText("b.yaml", bad.encode())], ME)
    assert "b.yaml:4" in str(caught.value.mistakes[0])
    assert (await cases.listed()).version is None


async def test_who_began_with_another_version_is_told_who_was_first(cases: StoredPolicies) -> None:
    await cases.apply([file("a")], ME)
    await cases.apply([file("b")], Wish("uid:7", "mine"))
    with pytest.raises(Aborted, match=r"v2 by uid:7 at .*, 'mine'; you began with v1"):
        await cases.apply([file("c")], Wish("uid:0", base=1))
    with pytest.raises(Aborted):
        await cases.delete([Named.parse("shop/a")], Wish("uid:0", base=0))


async def test_a_rollback_is_a_new_version_with_the_old_documents(cases: StoredPolicies) -> None:
    await cases.apply([file("a", "b")], ME)
    await cases.apply([file("b", "c", action="ALLOW")], Wish("uid:0", confirmed=True))
    with pytest.raises(FailedPrecondition, match="no ALLOW policy applies any more"):
        await cases.rollback(1, ME)
    done = await cases.rollback(1, Wish("uid:0", confirmed=True))
    assert names(done) == ([], ["b"], ["c"], 1)
    assert done.version is not None
    assert (done.version.number, done.version.restores) == (3, 1)
    first, third = await cases.listed(1), await cases.listed(3)
    assert [one.body for one in first.documents] == [one.body for one in third.documents]
    assert first.version is not None
    assert third.version is not None
    assert (first.version.content, first.version.set_version) == (third.version.content, third.version.set_version)
    assert (await cases.rollback(3, ME)).version is None
    with pytest.raises(NotFound, match="v9"):
        await cases.rollback(9, ME)


async def test_each_change_is_in_the_audit_log_and_a_dry_run_is_not(cases: StoredPolicies, store: Store) -> None:
    await cases.apply([file("a", "b")], Wish("uid:0", dry_run=True))
    await cases.apply([file("a", "b")], ME)
    await cases.delete([Named.parse("ap/shop/a")], Wish("uid:7"))
    records = [json.loads(line.body) for line in await store.audit.read("one", 0, 10)]
    assert [(one["action"], one["actor"], one["subject"], one["reason"]) for one in records] == [
        ("policy.apply", "uid:1000", "v1", "because"),
        ("policy.delete", "uid:7", "v2", ""),
    ]


async def test_a_document_is_deleted_by_its_name_and_kind(cases: StoredPolicies) -> None:
    token = (
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: a, namespace: shop}\n"
        "spec: {jwtRules: [{issuer: x, jwksUri: 'https://x.example/keys'}]}\n"
    )
    await cases.apply([file("a", "b", "c"), SourceText("t.yaml", token.encode())], ME)
    with pytest.raises(InvalidInput, match="several documents shop/a"):
        await cases.delete([Named.parse("shop/a")], ME)
    with pytest.raises(NotFound, match="no document shop/x, no RequestAuthentication shop/b"):
        await cases.delete([Named.parse("shop/x"), Named.parse("ra/shop/b")], ME)
    gone = [Named.parse("requestauthentications/shop/a"), Named.parse("shop/b")]
    with pytest.raises(FailedPrecondition, match="RequestAuthentications in force 1 does so no more: shop/a"):
        await cases.delete(gone, ME)
    done = await cases.delete(gone, Wish("uid:0", confirmed=True))
    assert names(done)[2] == ["b", "a"]


@pytest.mark.parametrize("text", ["", "a", "a/", "/a", "Pod/a/b", "a/b/c/d"])
def test_what_names_no_document_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        Named.parse(text)


@pytest.mark.parametrize(("text", "number"), [("v1", 1), ("12", 12)])
def test_versions_are_named_with_or_without_v(text: str, number: int) -> None:
    assert version_number(text) == number


@pytest.mark.parametrize("text", ["", "v", "v0", "-1", "v1.0", "latest"])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="no version"):
        version_number(text)


def test_what_is_kept_means_what_was_given_and_nothing_of_a_clusters() -> None:
    given = b"""
apiVersion: v1
kind: List
items:
- apiVersion: security.istio.io/v1
  kind: PeerAuthentication
  metadata: {name: p, creationTimestamp: 2026-01-02T03:04:05Z, resourceVersion: "7", generation: 3, uid: x}
  spec: {selector: {matchLabels: {app: x}}, mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: DISABLE}}}
  status: {conditions: []}
- apiVersion: security.istio.io/v1beta1
  kind: AuthorizationPolicy
  metadata:
    name: q
    annotations: {istio.io/dry-run: "true", kubectl.kubernetes.io/last-applied-configuration: "{}"}
  spec: {rules: [{to: [{operation: {paths: ["/\xc3\xa9*"]}}]}]}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: r, namespace: shop}
spec: {jwtRules: [{issuer: x, jwksUri: 'https://x.example/keys', forwardOriginalToken: true}]}
"""
    loaded = load([SourceText("x.yaml", given)], default_namespace="here")
    kept = stored_documents(loaded)
    again = load([one.text() for one in kept], default_namespace="elsewhere")
    assert again == loaded
    assert [str(one.key) for one in kept] == [
        "AuthorizationPolicy here/q",
        "PeerAuthentication here/p",
        "RequestAuthentication shop/r",
    ]
    for cluster in ("resourceVersion", "uid", "last-applied", "status", "generation"):
        assert all(cluster not in one.body for one in kept)
    assert all("\n" not in one.body for one in kept)


# --- a server that follows the store


def follower(store: Store, folder: Path) -> PolicySource:
    origin = StoreOrigin(store.policies, store.changes, heartbeat=3600)
    return PolicySource(origin, FACTS, KeptPolicies(folder / "last.json"), ManualClock())


@asynccontextmanager
async def running(one: PolicySource) -> AsyncIterator[PolicySource]:
    await one.restore()
    task = asyncio.create_task(one.run())
    try:
        yield one
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_version_is_in_force_as_soon_as_it_is_stored(
    cases: StoredPolicies, store: Store, tmp_path: Path
) -> None:
    async with running(follower(store, tmp_path)) as one:
        await until(lambda: "nothing was applied" in one.fault)
        assert one.policies is None
        done = await cases.apply([file("a", "b", "c")], ME)
        assert done.version is not None
        assert await one.reached(done.version.set_version, 20)
        assert one.in_force is not None
        assert (one.fault, one.in_force.number) == ("", 1)
        done = await cases.delete([Named.parse("shop/a"), Named.parse("shop/b")], Wish("uid:0", confirmed=True))
        assert done.version is not None
        assert await one.reached(done.version.set_version, 20)  # it was confirmed once, and is not asked again
        assert not await one.reached("another", 0.01)


async def test_the_last_version_is_in_force_after_a_restart_before_the_store_answers(
    cases: StoredPolicies, store: Store, tmp_path: Path
) -> None:
    done = await cases.apply([file("a")], ME)
    assert done.version is not None
    async with running(follower(store, tmp_path)) as one:
        await one.reached(done.version.set_version, 20)
    again = follower(store, tmp_path)
    await again.restore()
    assert again.in_force is not None
    assert (again.in_force.restored, again.in_force.number) == (True, 1)
    assert again.policies is not None
    assert again.policies.version == done.version.set_version


async def test_a_store_that_has_less_than_the_files_before_it_waits_to_be_confirmed(
    cases: StoredPolicies, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.yaml").write_bytes(file("a", "b", "c").content)
    origin = FolderOrigin(tmp_path / "files", heartbeat=3600)
    async with running(PolicySource(origin, FACTS, KeptPolicies(tmp_path / "last.json"), ManualClock())) as files:
        await until(lambda: files.policies is not None)
    async with running(follower(store, tmp_path)) as one:
        await until(lambda: "nothing was applied" in one.fault)
        assert one.policies is not None
        assert len(one.policies.documents) == 3  # what the files said stays in force
        await cases.apply([file("a")], ME)
        await until(lambda: one.held is not None)
        assert len(one.policies.documents) == 3
        await one.confirm()
        assert len(one.policies.documents) == 1


async def test_a_store_that_went_back_waits_to_be_confirmed_if_it_lost_most(
    cases: StoredPolicies, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    async with Store.open(f"sqlite:///{tmp_path}/other/db/citadel.db", writer="one") as newer:
        await use_cases(newer.policies).apply([file("a")], ME)
        await use_cases(newer.policies).apply([file("b", "c")], ME)
        async with running(follower(newer, tmp_path)) as one:
            await until(lambda: one.in_force is not None and one.in_force.number == 2)
    await cases.apply([file("a")], ME)  # as in a backup that was put back
    async with running(follower(store, tmp_path)) as one:
        await until(lambda: one.held is not None)
        assert one.policies is not None
        assert len(one.policies.documents) == 3


async def test_a_version_that_this_server_cannot_read_leaves_the_one_before(
    cases: StoredPolicies, store: Store, tmp_path: Path
) -> None:
    await cases.apply([file("a")], ME)
    async with running(follower(store, tmp_path)) as one:
        await until(lambda: one.policies is not None)
        set_version = one.policies.version if one.policies else ""
        await store.policies.commit(version(2), [document("b", '{"kind": "Later"}')], [], record(2))
        await until(lambda: "store:AuthorizationPolicy/shop/b" in one.fault)
        assert one.policies is not None
        assert one.policies.version == set_version
