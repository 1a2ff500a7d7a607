"""The use cases of the registry, over entries in memory that keep the store's contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from citadel.errors import AlreadyExists, BadFile, InvalidInput, NotFound
from citadel.registry import Entry, Registry, RegistryPolicy
from citadel.registry.ports import Edit
from tests.support.clock import ManualClock
from tests.support.registry import NODE, TD, MemoryEntryStore, entry

HOUR = timedelta(hours=1)


class Setting:
    """A registry with all that it stands on."""

    def __init__(self, store: MemoryEntryStore | None = None) -> None:
        self.store = store or MemoryEntryStore()
        self.clock = ManualClock()
        policy = RegistryPolicy(timedelta(minutes=1), 24 * HOUR)
        self.registry = Registry(self.store, TD, self.clock, policy, new_id=iter(f"id-{n}" for n in range(99)).__next__)


def actions(setting: Setting) -> list[tuple[str, str, str]]:
    return [(event.actor, event.action, event.subject) for event in setting.store.events]


async def test_an_entry_is_created_with_an_id_and_an_audit_record() -> None:
    setting = Setting()
    [made] = await setting.registry.create([replace(entry("cart"), id="")], "uid:0", reason="ticket 7")
    assert (made.id, made.created_at) == ("id-0", setting.clock.now())
    [event] = setting.store.events
    assert actions(setting) == [("uid:0", "entry.create", "id-0")]
    assert event.reason == "ticket 7"
    assert event.detail == {
        "spiffe_id": "spiffe://example.org/cart",
        "parent_id": NODE.uri,
        "selectors": "unix:uid:1000",
    }


async def test_of_several_entries_all_are_created_or_none_and_every_fault_is_told() -> None:
    setting = Setting()
    broken = [entry("spire/a"), entry("b"), entry("c", x509_ttl=-HOUR, hint="\n")]
    with pytest.raises(BadFile) as caught:
        await setting.registry.create(broken, "uid:0")
    assert [(m.file, m.document, m.field) for m in caught.value.mistakes] == [
        ("entries[0]", "spiffe://example.org/spire/a", "spiffe_id"),
        ("entries[2]", "spiffe://example.org/c", "x509_ttl"),
        ("entries[2]", "spiffe://example.org/c", "hint"),
    ]
    with pytest.raises(AlreadyExists):
        await setting.registry.create([entry("b"), replace(entry("b"), id="b2")], "uid:0")
    assert (setting.store.entries, setting.store.events) == ({}, [])


async def test_all_that_is_registered_already_is_told_at_once_and_together_with_the_faults() -> None:
    setting = Setting()
    await setting.registry.create([entry("a"), entry("b")], "uid:0")
    again = [entry("a"), entry("new"), replace(entry("b"), id="other")]
    twice = ["entries[0]: id: the entry id a is taken", "entries[2]: spiffe_id: spiffe://example.org/b is registered"]
    for dry_run in (False, True):
        with pytest.raises(AlreadyExists) as caught:
            await setting.registry.create(again, "uid:0", dry_run=dry_run)
        assert [line.partition(" already")[0] for line in caught.value.sentence().splitlines()] == twice
    with pytest.raises(BadFile) as faulty:
        await setting.registry.create([*again, entry("c", hint="\n")], "uid:0")
    assert [(m.file, m.field) for m in faulty.value.mistakes] == [
        ("entries[3]", "hint"),
        ("entries[0]", "id"),
        ("entries[2]", "spiffe_id"),
    ]
    assert await setting.registry.create([entry("new")], "uid:0", dry_run=True)
    assert set(setting.store.entries) == {"a", "b"}


async def test_a_dry_run_of_a_set_tells_what_of_others_is_in_its_way() -> None:
    setting = Setting()
    await setting.registry.create([entry("a")], "uid:0")
    for dry_run in (True, False):
        with pytest.raises(AlreadyExists, match=r"example\.org/a is registered already, as a"):
            await setting.registry.apply([replace(entry("a"), id="")], "set", "uid:0", dry_run=dry_run)


async def test_an_update_is_checked_like_a_creation() -> None:
    setting = Setting()
    [made] = await setting.registry.create([entry("cart")], "uid:0")
    with pytest.raises(InvalidInput, match="is negative"):
        await setting.registry.update([replace(made, jwt_ttl=-HOUR)], "uid:0")
    [new] = await setting.registry.update([replace(made, jwt_ttl=HOUR)], "uid:0")
    assert new.revision == 1
    assert actions(setting)[-1] == ("uid:0", "entry.update", "cart")


async def test_a_deletion_leaves_on_record_who_it_was() -> None:
    setting = Setting()
    await setting.registry.create([entry("a"), entry("b")], "uid:0")
    with pytest.raises(NotFound, match="nobody"):
        await setting.registry.delete(["a", "nobody"], "uid:0")
    await setting.registry.delete(["a", "b", "a"], "uid:7")
    assert setting.store.entries == {}
    assert actions(setting)[2:] == [("uid:7", "entry.delete", "a"), ("uid:7", "entry.delete", "b")]
    assert setting.store.events[-1].detail["spiffe_id"] == "spiffe://example.org/b"


async def test_expiry_deletes_what_is_over_and_nothing_else() -> None:
    setting = Setting()
    now = setting.clock.now()
    ending = [entry(f"e{n}", expires_at=now + HOUR) for n in range(700)]
    await setting.registry.create([entry("stays"), entry("later", expires_at=now + 2 * HOUR), *ending], "uid:0")
    assert await setting.registry.expire() == 0
    setting.clock.advance(HOUR)
    assert await setting.registry.expire() == 700
    assert set(setting.store.entries) == {"stays", "later"}
    assert setting.store.events[-1].actor == "system:expire"


class Contended(MemoryEntryStore):
    """Somebody else deletes one of the entries after they were read."""

    async def expired(self, at: datetime, limit: int) -> list[Entry]:
        found = await super().expired(at, limit)
        self.entries.pop("e1", None)
        return found


async def test_expiry_goes_on_when_somebody_else_deletes_at_the_same_time() -> None:
    setting = Setting(Contended())
    await setting.registry.create([entry(f"e{n}", expires_at=setting.clock.now() + HOUR) for n in range(3)], "uid:0")
    setting.clock.advance(HOUR)
    assert await setting.registry.expire() == 2
    assert setting.store.entries == {}


async def applied(setting: Setting, wanted: Sequence[Entry], **options: bool) -> tuple[list[str], ...]:
    plan = await setting.registry.apply(wanted, "shop", "uid:0", **options)
    parts = (plan.create, [new for _, new in plan.update], plan.delete, plan.unchanged)
    return tuple([e.spiffe_id.path for e in part] for part in parts)


async def test_an_apply_creates_updates_and_leaves_alone_in_one_edit() -> None:
    setting = Setting()
    nameless = [replace(entry(name), id="") for name in ("a", "b")]
    assert await applied(setting, nameless) == (["/a", "/b"], [], [], [])
    changed = [nameless[0], replace(nameless[1], hint="new"), replace(entry("c"), id="")]
    assert await applied(setting, changed) == (["/c"], ["/b"], [], ["/a"])
    assert await applied(setting, changed) == ([], [], [], ["/a", "/b", "/c"])
    assert {e.apply_set for e in setting.store.entries.values()} == {"shop"}


async def test_only_with_prune_is_deleted_and_only_in_the_set() -> None:
    setting = Setting()
    await setting.registry.create([entry("by-hand"), entry("others", apply_set="other")], "uid:0")
    await applied(setting, [entry("a"), entry("b")])
    assert await applied(setting, [entry("a")]) == ([], [], [], ["/a"])
    assert await applied(setting, [entry("a")], prune=True) == ([], [], ["/b"], ["/a"])
    assert set(setting.store.entries) == {"by-hand", "others", "a"}


async def test_a_dry_run_tells_the_same_and_changes_nothing() -> None:
    setting = Setting()
    await applied(setting, [entry("a"), entry("b")])
    before, told = dict(setting.store.entries), len(setting.store.events)
    change = [replace(entry("a"), hint="x"), entry("c")]
    assert await applied(setting, change, prune=True, dry_run=True) == (["/c"], ["/a"], ["/b"], [])
    assert (setting.store.entries, len(setting.store.events)) == (before, told)
    assert await applied(setting, change, prune=True) == (["/c"], ["/a"], ["/b"], [])


async def test_an_apply_never_takes_over_what_was_made_by_hand() -> None:
    setting = Setting()
    await setting.registry.create([entry("cart")], "uid:0")
    with pytest.raises(AlreadyExists):
        await applied(setting, [replace(entry("cart"), id="", hint="mine"), entry("other")])
    assert set(setting.store.entries) == {"cart"}
    assert setting.store.entries["cart"].apply_set == ""


async def test_two_entries_for_one_are_refused_and_not_written_over_each_other() -> None:
    setting = Setting()
    await applied(setting, [entry("cart")])
    with pytest.raises(AlreadyExists):
        await applied(setting, [replace(entry("cart"), hint="1"), replace(entry("cart"), id="", hint="2")])
    assert setting.store.entries["cart"].hint == ""


async def test_a_faulty_file_changes_nothing() -> None:
    setting = Setting()
    await applied(setting, [entry("a")])
    with pytest.raises(BadFile, match="negative"):
        await applied(setting, [replace(entry("b"), x509_ttl=-HOUR)], prune=True)
    with pytest.raises(InvalidInput, match="needs a name"):
        await setting.registry.apply([entry("a")], "", "uid:0", prune=True)
    assert set(setting.store.entries) == {"a"}


async def test_an_edit_that_the_store_refuses_is_passed_on() -> None:
    setting = Setting()
    with pytest.raises(NotFound):
        await setting.registry.update([entry("nobody")], "uid:0")
    assert await setting.store.edit(Edit(), setting.clock.now()) == []
