"""Secrets from files: which are served, to whom, and what happens when they change."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from google.protobuf.any_pb2 import Any

from citadel.clock import SystemClock
from citadel.errors import InvalidInput
from citadel.sds.files import FileName, FileSecrets, FileWatch
from tests.support.cacerts import Ca, make_ca


@dataclass(frozen=True)
class Someone:
    uid: int
    gid: int
    name: str = "pid 1"
    process: str = "1.7"


ROOT, OTHER = Someone(0, 0), Someone(4242, 4242)


class Place:
    """An allowed folder with a certificate, its key and roots; and whoever asks for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secrets = FileSecrets([folder], SystemClock(), max_bytes=20_000)
        self.told = asyncio.Event()
        folder.mkdir()
        self.write(make_ca("one"))

    def write(self, pair: Ca) -> None:
        """New files in the place of old ones, as careful programs do it."""
        for name, content in (("cert", pair.pem), ("key", pair.key_pem), ("roots", pair.pem)):
            new = self.folder / f".{name}.new"
            new.write_bytes(content)
            new.chmod(0o640 if name == "key" else 0o644)
            new.rename(self.folder / name)

    @property
    def pair(self) -> str:
        return f"file-cert:{self.folder}/cert~{self.folder}/key"

    @property
    def roots(self) -> str:
        return f"file-root:{self.folder}/roots"

    def watch(self, name: str, caller: Someone = ROOT) -> FileWatch:
        return self.secrets.watch(name, caller, self.told.set)

    async def content(self, watch: FileWatch, *, other_than: bytes = b"") -> bytes:
        """What is served, once it is there and another than before."""
        async with asyncio.timeout(10):
            while watch.resource is None or watch.resource.body == other_than:
                await self.told.wait()
                self.told.clear()
        return watch.resource.body

    async def fault(self, beginning: str) -> None:
        async with asyncio.timeout(10):
            while not any(beginning in fault for fault in self.secrets.faults()):
                await asyncio.sleep(0.02)


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    place = Place(tmp_path / "allowed")
    running = asyncio.create_task(place.secrets.run())
    yield place
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


def secret(body: bytes) -> secret_pb2.Secret:
    return secret_pb2.Secret.FromString(Any.FromString(body).value)


async def test_a_pair_and_roots_are_served_under_the_very_name(place: Place) -> None:
    pair = secret(await place.content(place.watch(place.pair)))
    assert pair.name == place.pair
    assert pair.tls_certificate.private_key.inline_bytes == (place.folder / "key").read_bytes()
    roots = secret(await place.content(place.watch(place.roots)))
    assert roots.validation_context.trusted_ca.inline_bytes == (place.folder / "roots").read_bytes()


async def test_changed_files_are_noticed(place: Place) -> None:
    watch = place.watch(place.pair)
    first = await place.content(watch)
    place.write(make_ca("two"))
    second = await place.content(watch, other_than=first)
    assert secret(second).tls_certificate.certificate_chain.inline_bytes == (place.folder / "cert").read_bytes()


async def test_a_folder_that_is_swapped_by_a_link_is_noticed_as_kubernetes_does_it(place: Place) -> None:
    for number in ("1", "2"):
        (place.folder / number).mkdir()
        (place.folder / number / "roots").write_bytes(make_ca(number).pem)
    (place.folder / "..data").symlink_to("1")
    (place.folder / "linked").symlink_to("..data/roots")
    watch = place.watch(f"file-root:{place.folder}/linked")
    first = await place.content(watch)
    (place.folder / "..data_tmp").symlink_to("2")
    (place.folder / "..data_tmp").rename(place.folder / "..data")
    assert await place.content(watch, other_than=first)


async def test_a_broken_pair_leaves_the_last_good_in_force_and_is_told(place: Place) -> None:
    watch = place.watch(place.pair)
    first = await place.content(watch)
    (place.folder / "key").write_bytes(make_ca("another").key_pem)
    await place.fault("the key is not the certificate's")
    assert watch.resource is not None
    assert watch.resource.body == first
    place.write(make_ca("mended"))
    await place.content(watch, other_than=first)
    assert place.secrets.faults() == []


async def test_a_file_that_is_not_there_yet_is_served_once_it_is(place: Place) -> None:
    late = place.folder / "late"
    watch = place.watch(f"file-root:{late}")
    await place.fault("No such file")
    late.write_bytes(make_ca("late").pem)
    await place.content(watch)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs to give files away")
@pytest.mark.parametrize(
    ("mode", "owner", "caller", "served"),
    [
        (0o600, (4242, 0), OTHER, True),
        (0o600, (0, 0), OTHER, False),
        (0o640, (0, 4242), OTHER, True),
        (0o640, (0, 0), OTHER, False),
        (0o040, (4242, 4242), OTHER, False),
        (0o600, (1, 1), ROOT, True),
    ],
)
async def test_a_caller_gets_what_it_could_read_itself(
    place: Place, mode: int, owner: tuple[int, int], caller: Someone, served: bool
) -> None:
    key = place.folder / "key"
    os.chown(key, *owner)
    key.chmod(mode)
    mine = place.watch(place.pair, caller)
    await place.content(place.watch(place.pair, ROOT))
    assert (mine.resource is not None) == served


def replaced_by_a_pipe(place: Place) -> None:
    (place.folder / "key").unlink()
    os.mkfifo(place.folder / "key", 0o600)


def replaced_by_a_link(place: Place, target: str) -> None:
    (place.folder / "key").unlink()
    (place.folder / "key").symlink_to(target)


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda p: (p.folder / "key").chmod(0o644), "everybody can read the key"),
        (lambda p: (p.folder / "key").write_bytes(b"x" * 30_000), "more than 20000 bytes"),
        (lambda p: (p.folder / "key").write_bytes(b"-----BEGIN PRIVATE KEY-----\n"), "the key cannot be read"),
        (lambda p: (p.folder / "cert").write_bytes(b""), "no certificates in PEM"),
        (lambda p: (p.folder / "cert").write_bytes(make_ca("another").pem), "the key is not the certificate's"),
        (lambda p: p.write(make_ca("old", ends=-timedelta(hours=1))), "expired"),
        (replaced_by_a_pipe, "is not a file"),
        (lambda p: replaced_by_a_link(p, "/etc/hostname"), "leads out"),
        (lambda p: replaced_by_a_link(p, "key"), "symbolic links"),
    ],
)
async def test_what_is_not_as_it_should_be_is_not_served_and_told(
    place: Place, damage: Callable[[Place], object], fault: str
) -> None:
    damage(place)
    watch = place.watch(place.pair)
    await place.fault(fault)
    assert watch.resource is None


@pytest.mark.parametrize(
    "name",
    [
        "file-root:/etc/hostname", "file-root:{allowed}", "file-root:{allowed}/../roots", "file-root:{allowed}//roots",
        "file-root:roots", "file-root:", "file-cert:{allowed}/cert", "file-cert:{allowed}/cert~", "file-cert:~",
        "file-cert:{allowed}/cert~{allowed}/key~", "file-root:{allowed}-other/roots", "file-root:{allowed}/\0",
        "file-root:{allowed}/./roots", "file-root:{allowed}/roots/", "file-cert:{allowed}/cert~/etc/shadow",
    ],
)  # fmt: skip
async def test_a_name_that_leads_elsewhere_is_nothing(place: Place, name: str) -> None:
    watch = place.watch(name.replace("{allowed}", str(place.folder)))
    await place.content(place.watch(place.roots))
    assert watch.resource is None
    assert len(place.secrets.faults()) == 0


async def test_without_an_allowed_folder_nothing_is_served(tmp_path: Path) -> None:
    watch = FileSecrets((), SystemClock()).watch(f"file-root:{tmp_path}/x", ROOT, lambda: None)
    assert watch.resource is None


async def test_what_nobody_wants_is_not_watched_any_more(place: Place) -> None:
    missing = place.watch(f"file-root:{place.folder}/missing")
    await place.fault("No such file")
    missing.close()
    assert place.secrets.faults() == []


def test_a_name_parses_or_raises() -> None:
    assert FileName.parse("file-cert:/a/c~/b/k").paths == ["/a/c", "/b/k"]
    assert FileName.parse("file-root:/a/r").paths == ["/a/r"]
    with pytest.raises(InvalidInput, match="longer than"):
        FileName.parse("file-root:/" + "x" * 3000)
