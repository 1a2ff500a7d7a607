"""A whole Citadel, in this process, whose clock jumps, whose disk fills up, whose database is gone: it goes on."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from citadel import config
from citadel.ca.rotation.commands import Wish
from citadel.cli import init
from citadel.config.settings import Settings
from citadel.errors import CitadelError, Unavailable
from citadel.registry import Entry
from citadel.registry.selectors import Selector
from citadel.server import Server, up
from citadel.spiffe import SpiffeId, TrustDomain
from tests.support import postgres
from tests.support.up import Workload, me

ID = "spiffe://example.org/web"


class Shifted:
    """The machine's clock, and `by` more."""

    by = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.by

    def monotonic(self) -> float:
        return time.monotonic()


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="citadel-") as name:
        yield Path(name)


def laid_out(home: Path, **more: object) -> Settings:
    init.lay_out(home, TrustDomain("example.org"))
    off = {"enabled": False}
    tables = {"trust_domain": "example.org", "data_dir": str(home), "http": {"address": ""}}
    soon = {"reconnect_window": "200ms", "assumed_after": "200ms", "grace": "1s"}
    return config.parse(tables | {"attestors": {"systemd": off, "docker": off}, "rotation": soon} | more, base=home)


async def registered(server: Server, name: str = "web") -> None:
    identity = SpiffeId.parse(f"spiffe://example.org/{name}")
    node = SpiffeId.parse("spiffe://example.org/spire/agent/local")
    wanted = Entry(id=name, spiffe_id=identity, parent_id=node, selectors=frozenset({Selector.parse(me())}))
    await server.registry.create([wanted], "test")


async def leaf(workload: Workload, fits: Callable[[x509.Certificate], bool] = lambda _: True) -> x509.Certificate:
    """The first certificate that comes and fits."""
    while True:
        for secret in (await asyncio.to_thread(workload.take)).values():
            if not secret.HasField("tls_certificate"):
                continue  # the trust bundle
            found = x509.load_pem_x509_certificates(secret.tls_certificate.certificate_chain.inline_bytes)[0]
            if fits(found):
                return found


async def test_when_the_clock_jumps_workloads_soon_hold_what_is_valid_by_it(folder: Path) -> None:
    clock = Shifted()

    def is_valid(found: x509.Certificate) -> bool:
        return found.not_valid_before_utc <= clock.now() < found.not_valid_after_utc

    async with up(laid_out(folder / "d"), clock) as server:
        await registered(server)
        with Workload(folder / "d/run/workload.sock", ID) as workload:
            first = await leaf(workload, is_valid)
            clock.by = timedelta(hours=3)
            assert not is_valid(first)
            second = await leaf(workload, is_valid)
            clock.by = timedelta(0)
            assert not is_valid(second)
            assert await leaf(workload, is_valid) != first
            assert all(check.ok for check in await server.situation.checks())


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Path]:
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root, and a machine that allows it")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


async def test_on_a_full_disk_nothing_is_promised_what_is_held_goes_on_and_it_heals_by_itself(small_disk: Path) -> None:
    filling = small_disk / "filling"
    async with up(laid_out(small_disk / "d"), Shifted()) as server:
        await registered(server)
        with Workload(small_disk / "d/run/workload.sock", ID, "ROOTCA") as workload:
            first = await leaf(workload)
            with filling.open("wb", buffering=0) as file, suppress(OSError):
                while file.write(bytes(4096)):
                    pass
            refused = 0
            for number in range(50):  # what is left in the database's own pages is used up first
                with suppress(CitadelError):
                    await registered(server, f"more-{number}")
                    continue
                refused += 1
            assert refused
            there = {entry.id for entry in await server.store.entries.all()}
            assert len(there) == 1 + 50 - refused, "nothing that was refused is there, and all else is"
            bundle = await server.authorities.bundle()
            with pytest.raises(Unavailable, match="the disk is full"):
                await server.rotations.prepare(Wish("uid:0", "drill"))
            assert await server.store.rotation.plans() == []
            assert await server.authorities.bundle() == bundle
            with Workload(small_disk / "d/run/workload.sock", ID, "ROOTCA", node="another") as another:
                assert await leaf(another) == first, "what is held is served without the disk"
            filling.unlink()
            async with asyncio.timeout(30):
                while True:
                    with suppress(CitadelError):
                        await registered(server, "afterwards")
                        break
                    await asyncio.sleep(0.1)
            assert "afterwards" in {entry.id for entry in await server.store.entries.all()}
            await server.rotations.prepare(Wish("uid:0", "drill"))
            await leaf(workload, lambda found: found.issuer != first.issuer)  # it acknowledges what comes before


@pytest.mark.postgres
async def test_while_postgresql_is_gone_a_rotation_stands_still_and_says_so_and_goes_on_by_itself(folder: Path) -> None:
    with postgres.installed() as database:
        store = {"url": await postgres.new_database(database.url), "timeout": "2s"}
        async with up(laid_out(folder / "d", store=store), Shifted()) as server:
            await registered(server)
            with Workload(folder / "d/run/workload.sock", ID, "ROOTCA") as workload:
                first = await leaf(workload)
                await server.rotations.prepare(Wish("uid:0", "drill"))
                await asyncio.to_thread(database.stop)
                with pytest.raises(Unavailable, match=r"the database .* cannot be used now|PostgreSQL is") as refused:
                    await server.rotations.activate(Wish("uid:0", "drill"))
                assert refused.value.mend
                assert any("database" in check.reason for check in await server.situation.checks() if not check.ok)
                await asyncio.to_thread(database.start)
                await leaf(workload, lambda found: found.issuer != first.issuer)  # it acknowledges what comes before
