"""The source of policies: what is taken into force, what is not, and what is remembered."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from citadel.authz import MeshFacts
from citadel.authz.load import SourceText
from citadel.authz.sources import FolderOrigin, Kept, KeptPolicies, PolicySource, kept_in, take_along
from citadel.errors import CitadelError, FailedPrecondition, NotFound
from citadel.spiffe import TrustDomain
from tests.support.clock import ManualClock
from tests.support.waiting import until

FACTS = MeshFacts(TrustDomain("example.org"))


def policy(name: str, action: str = "DENY") -> str:
    return (
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
        f"metadata: {{name: {name}, namespace: shop}}\nspec: {{action: {action}, rules: [{{}}]}}\n"
    )


def policies(*names: str) -> str:
    return "---\n".join(map(policy, names))


class Meter:
    def __init__(self) -> None:
        self.outcomes: list[str] = []

    def policies(self, version: str, documents: int) -> None: ...

    def policy_load(self, outcome: str) -> None:
        self.outcomes.append(outcome)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "p").mkdir()
    return tmp_path / "p"


@pytest.fixture
def kept(tmp_path: Path) -> KeptPolicies:
    return KeptPolicies(tmp_path / "kept" / "last.json")


def source(folder: Path, kept: KeptPolicies, meter: Meter | None = None) -> PolicySource:
    origin = FolderOrigin(folder, rest=timedelta(milliseconds=20), heartbeat=3600)
    return PolicySource(origin, FACTS, kept, ManualClock(), meter=meter)


@asynccontextmanager
async def running(one: PolicySource) -> AsyncIterator[PolicySource]:
    await one.restore()
    task = asyncio.create_task(one.run())
    try:
        yield one
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def names(one: PolicySource) -> set[str]:
    return set() if one.policies is None else {document.name.name for document in one.policies.documents}


async def test_a_change_of_any_kind_is_taken_whole(folder: Path, kept: KeptPolicies, tmp_path: Path) -> None:
    (folder / "a.yaml").write_text(policies("a", "b", "c"))
    async with running(source(folder, kept)) as one:
        await until(lambda: names(one) == {"a", "b", "c"})
        (folder / "deep").mkdir()
        (folder / "deep" / "d.yaml").write_text(policies("d"))
        await until(lambda: names(one) == {"a", "b", "c", "d"})
        (tmp_path / "new").write_text(policies("a", "b", "c", "e"))
        (tmp_path / "new").replace(folder / "a.yaml")
        await until(lambda: names(one) == {"a", "b", "c", "d", "e"})
        with (folder / "f.yaml").open("w") as file:  # as an editor that takes its time
            for piece in policy("f").splitlines(keepends=True):
                file.write(piece)
                file.flush()
                await asyncio.sleep(0.005)
        await until(lambda: "f" in names(one))
        assert one.fault == ""


async def test_a_volume_of_kubernetes_is_followed(tmp_path: Path, kept: KeptPolicies) -> None:
    volume = tmp_path / "volume"
    for version, text in (("..1", policies("a", "b")), ("..2", policies("a", "c", "b"))):
        (volume / version).mkdir(parents=True)
        (volume / version / "p.yaml").write_text(text)
    (volume / "..data").symlink_to("..1")
    (volume / "p.yaml").symlink_to("..data/p.yaml")
    async with running(source(volume, kept)) as one:
        await until(lambda: names(one) == {"a", "b"})
        (volume / "..data_tmp").symlink_to("..2")
        (volume / "..data_tmp").replace(volume / "..data")
        await until(lambda: names(one) == {"a", "b", "c"})


async def test_a_set_is_never_made_of_two_versions_of_a_volume(tmp_path: Path, kept: KeptPolicies) -> None:
    volume = tmp_path / "volume"
    for version in ("1", "2"):
        (volume / f"..{version}").mkdir(parents=True)
        for name in ("a", "b", "c"):
            (volume / f"..{version}" / f"{name}.yaml").write_text(policy(f"{name}{version}"))
            (volume / f"..{version}" / f"also-{name}.yaml").write_text(policy(name))
    (volume / "..data").symlink_to("..1")
    one = source(volume, kept)
    seen: set[frozenset[str]] = set()
    async with running(one):
        for turn in range(40):
            (volume / "..data_tmp").symlink_to(f"..{turn % 2 + 1}")
            (volume / "..data_tmp").replace(volume / "..data")
            await asyncio.sleep(0.02 if turn % 3 else 0.06)
            seen.add(frozenset(names(one)))
        await until(lambda: names(one) == {"a", "b", "c", "a2", "b2", "c2"})
    whole = {frozenset({"a", "b", "c", *(f"{name}{version}" for name in "abc")}) for version in "12"}
    assert seen <= {*whole, frozenset()}


async def test_files_that_come_and_go_while_they_are_read_lose_none_of_the_others(
    folder: Path, kept: KeptPolicies
) -> None:
    meter = Meter()
    (folder / "a.yaml").write_text(policies("a", "b", "c"))
    async with running(source(folder, kept, meter)) as one:
        await until(lambda: names(one) == {"a", "b", "c"})
        for turn in range(60):
            passing = folder / f"x{turn % 3}.yaml"
            if passing.exists():
                passing.unlink()
            else:
                passing.write_text(policy(f"x{turn % 3}"))
            await asyncio.sleep(0.001 * (turn % 25))
            assert names(one) >= {"a", "b", "c"}
        for left in folder.glob("x*.yaml"):
            left.unlink()
        await until(lambda: names(one) == {"a", "b", "c"} and one.fault == "")
    assert "held" not in meter.outcomes


async def test_an_empty_mount_in_its_place_changes_nothing(folder: Path, kept: KeptPolicies) -> None:
    (folder / "a.yaml").write_text(policies("a", "b"))
    async with running(source(folder, kept)) as one:
        await until(lambda: len(names(one)) == 2)
        folder.rename(folder.with_name("away"))
        folder.mkdir()
        await until(lambda: one.held is not None)
        assert (names(one), "has no AuthorizationPolicy any more" in one.fault) == ({"a", "b"}, True)
    async with running(source(folder, kept)) as again:  # nor does a restart open anything
        await until(lambda: again.held is not None)
        assert names(again) == {"a", "b"}


async def test_what_editors_leave_beside_a_file_is_no_policy(folder: Path, kept: KeptPolicies) -> None:
    given = folder / "a.yaml"
    given.write_text(policies("a", "b"))
    async with running(source(folder, kept)) as one:
        await until(lambda: names(one) == {"a", "b"})
        (folder / ".a.yaml.swp").write_bytes(b"b0VIM 9.1\0")
        (folder / "4913").write_text("")
        (folder / "4913").unlink()
        given.rename(folder / "a.yaml~")  # as vim writes, with a backup
        given.write_text(policies("a", "b", "c"))
        (folder / "#a.yaml#").write_text("half of")
        await until(lambda: names(one) == {"a", "b", "c"})
        assert one.fault == ""


async def test_a_pipe_in_the_folder_keeps_nobody_waiting(folder: Path, kept: KeptPolicies) -> None:
    (folder / "a.yaml").write_text(policies("a"))
    async with running(source(folder, kept)) as one:
        await until(lambda: names(one) == {"a"})
        os.mkfifo(folder / "b.yaml")
        await until(lambda: "b.yaml: it is not a regular file" in one.fault)
        (folder / "b.yaml").unlink()
        await until(lambda: one.fault == "")


async def test_a_mistake_leaves_the_last_good_set_in_force_over_a_restart(folder: Path, kept: KeptPolicies) -> None:
    meter = Meter()
    (folder / "a.yaml").write_text(policies("a"))
    async with running(source(folder, kept, meter)) as one:
        await until(lambda: names(one) == {"a"})
        version = one.policies.version if one.policies else ""
        (folder / "b.yaml").write_text(policy("b").replace("DENY", "DENIED"))
        await until(lambda: "DENIED" in one.fault)
        assert "b.yaml:4" in one.fault
        assert names(one) == {"a"}
    async with running(source(folder, kept)) as again:
        assert again.in_force is not None
        assert again.in_force.restored
        assert again.in_force.policies.version == version
        await until(lambda: "DENIED" in again.fault)
        (folder / "b.yaml").write_text(policy("b"))
        await until(lambda: names(again) == {"a", "b"})
        assert (again.fault, again.in_force.restored) == ("", False)
    assert meter.outcomes == ["applied", "failed"]


@pytest.mark.parametrize("there", [True, False])
async def test_nothing_is_in_force_before_the_first_good_set(folder: Path, kept: KeptPolicies, there: bool) -> None:
    if not there:
        folder.rmdir()
    async with running(source(folder, kept)) as one:
        await until(lambda: one.fault != "")
        assert one.policies is None
        folder.mkdir(exist_ok=True)
        (folder / "a.yaml").write_text(policies("a"))
        await until(lambda: names(one) == {"a"})


async def test_losing_most_policies_waits_to_be_confirmed(folder: Path, kept: KeptPolicies) -> None:
    meter = Meter()
    (folder / "a.yaml").write_text(policies("a", "b", "c", "d"))
    async with running(source(folder, kept, meter)) as one:
        await until(lambda: len(names(one)) == 4)
        (folder / "a.yaml").write_text(policies("a", "b"))
        await until(lambda: len(names(one)) == 2)
        switch = one.switches.coming
        (folder / "a.yaml").unlink()
        await until(lambda: one.held is not None)
        assert (names(one), switch.is_set()) == ({"a", "b"}, False)
        assert one.held is not None
        assert f"citadel policy confirm {one.held.version}" in one.fault
        with pytest.raises(FailedPrecondition):
            await one.confirm("another")
        await one.confirm(one.held.version)
        assert (len(names(one)), one.fault, switch.is_set()) == (0, "", True)
        with pytest.raises(NotFound):
            await one.confirm()
    assert meter.outcomes == ["applied", "applied", "held", "applied"]
    async with running(source(folder, kept)) as again:  # what was confirmed is not asked again
        await asyncio.sleep(0.1)
        assert (again.policies is not None, names(again), again.fault) == (True, set(), "")


async def test_what_is_held_back_is_forgotten_when_the_policies_come_back(folder: Path, kept: KeptPolicies) -> None:
    (folder / "a.yaml").write_text(policies("a", "b"))
    async with running(source(folder, kept)) as one:
        await until(lambda: len(names(one)) == 2)
        folder.rename(folder.with_name("away"))
        await until(lambda: one.fault != "")
        folder.with_name("away").rename(folder)
        await until(lambda: one.fault == "")
        assert (one.held, len(names(one))) == (None, 2)


async def test_a_set_that_cannot_be_kept_is_not_applied(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (folder / "a.yaml").write_text(policies("a"))
    origin = FolderOrigin(folder, rest=timedelta(milliseconds=20), heartbeat=3600)
    kept = KeptPolicies(tmp_path / "file" / "last.json")
    async with running(PolicySource(origin, FACTS, kept, ManualClock(), retry=0.05)) as one:
        await until(lambda: "cannot be written" in one.fault)
        assert one.policies is None
        (tmp_path / "file").unlink()  # when it can be, it is, though nothing else changes
        await until(lambda: names(one) == {"a"})
        assert one.fault == ""


@pytest.mark.parametrize("content", ["", "[]", "{", '{"schema": "other"}', "\0", "[" * 100_000])
async def test_what_was_kept_and_cannot_be_read_is_named(folder: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "last.json").write_text(content)
    kept = KeptPolicies(tmp_path / "last.json")
    with pytest.raises(CitadelError, match=r"last\.json does not hold"):
        kept.load()
    (folder / "a.yaml").write_text(policies("a"))
    async with running(source(folder, kept)) as one:
        await until(lambda: names(one) == {"a"})


def test_what_is_kept_is_for_our_eyes_only(kept: KeptPolicies, tmp_path: Path) -> None:
    kept.save([])
    assert (tmp_path / "kept" / "last.json").stat().st_mode & 0o777 == 0o600
    assert kept.load() == Kept([])


async def test_what_is_kept_is_none_of_the_policies_though_they_are_in_the_same_folder(tmp_path: Path) -> None:
    kept = KeptPolicies(kept_in(tmp_path))
    (tmp_path / "a.yaml").write_text(policies("a"))
    async with running(source(tmp_path, kept)) as one:
        await until(lambda: names(one) == {"a"})
        (tmp_path / "b.yaml").write_text(policies("b"))
        await until(lambda: names(one) == {"a", "b"})
        assert one.fault == ""


def test_what_a_former_version_kept_is_taken_along(tmp_path: Path) -> None:
    texts = [SourceText("p.yaml", policies("a").encode())]
    former = tmp_path / "policies" / "last-good.json"
    take_along(tmp_path)
    KeptPolicies(former).save(texts, 7)
    take_along(tmp_path)
    take_along(tmp_path)
    assert KeptPolicies(kept_in(tmp_path)).load() == Kept(texts, 7)
    assert not former.exists()


def test_a_policy_of_the_name_that_was_ours_stays(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    own = tmp_path / "policies" / "last-good.json"
    own.write_text("{}")
    take_along(tmp_path)
    assert own.read_text() == "{}"
    assert not kept_in(tmp_path).exists()
