"""Leaves by way of Vault, in the three modes, and without it, at 64 callers: per second, p99, and our CPU for each.

Against the contract double, in a process of its own, with no latency and with 5 ms added to each of its answers. On a
busy machine leaves per second say little: CPU for each says more.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import uvloop

from citadel.audit import AuditEvent
from citadel.ca.issuer import IssuancePolicy, Issuer, IssueRequest
from citadel.ca.kek import LocalKek
from citadel.ca.keyring import Keyring
from citadel.ca.keys import KeyType
from citadel.ca.model import Authority, AuthorityKind, AuthorityState, KeySource, SealedKey
from citadel.ca.ports import SigningAuthority
from citadel.ca.roots import DiskRoot, IssuingCas
from citadel.ca.signers import KeyPlaces, SealedKeys
from citadel.clock import SystemClock
from citadel.store import Store
from citadel.telemetry import logging as our_logging
from citadel.telemetry.metrics import Metrics
from citadel.vault import IssuerReference, LeafProfile, PkiMount, VaultKeys, VaultLeafIssuer, VaultRoot
from tests.bench.row import Row
from tests.support.issuance import TRUST_DOMAIN, WEB, CurrentAuthority, make_csr
from tests.support.vault import Vault
from tests.support.vault_double import VaultDouble

_CALLERS = 64
_LEAVES = 640
_KEYS = 100
_WEEK = timedelta(days=7)
_GOALS = {("vault-transit", 5): 1500.0, ("vault-pki", 5): 800.0}


@dataclass(frozen=True, slots=True)
class _Figures:
    per_second: float
    p99: float  # milliseconds
    cpu: float  # milliseconds a leaf


def rows() -> Iterator[Row]:
    for latency in (0, 5):
        with _double(latency / 1000) as vault:
            found = uvloop.run(_measured(vault))
        ours = found["disk"].per_second
        for mode, one in found.items():
            goal = _GOALS.get((mode, latency))
            yield Row(
                name=f"{mode}, {latency} ms (p99 {one.p99:.1f} ms, CPU {one.cpu:.2f} ms a leaf)",
                figure=one.per_second,
                unit="leaves a second",
                reference=ours,
                reference_name="disk",
                goal="" if goal is None else f"{goal:.0f}",
                met=None if goal is None else one.per_second >= goal,
            )


@contextmanager
def _double(latency: float) -> Iterator[Vault]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there, latency), daemon=True)
    process.start()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.callback(process.join, 10)
        stack.callback(here.send, "end")
        address, token = here.recv()
        yield Vault(address, token, folder)


def _serve(control: Connection, latency: float) -> None:
    with VaultDouble() as double:
        double.latency = latency
        control.send((double.address, double.root_token))
        control.recv()


async def _measured(vault: Vault) -> dict[str, _Figures]:
    requests = [IssueRequest(WEB, f"entry-{n}", make_csr(), requester="spiffe://example.org/a") for n in range(_KEYS)]
    root_mount = vault.mount("pki")
    root_id = vault.new_root(root_mount)
    hour = timedelta(hours=1)
    profile = LeafProfile(TRUST_DOMAIN, hour * 24, hour, timedelta(seconds=60), "ec", 256)
    leaf_mount, _ = vault.new_leaf_issuer(root_mount, root_id, profile)
    transit, clock = vault.mount("transit"), SystemClock()
    session = vault.session()
    found = {}
    with Path(os.devnull).open("w") as nowhere:
        our_logging.configure("info", "json", nowhere)
        async with _store() as store:
            remote = VaultRoot(PkiMount(session, root_mount), root_id, TRUST_DOMAIN, clock, issuing_ttl=_WEEK)
            root = await _root(remote)
            ring = Keyring(store.authorities, LocalKek(os.urandom(32)))
            here = SealedKeys(ring)
            elsewhere = VaultKeys(session, clock, transit=transit, role="citadel")
            brought = VaultLeafIssuer(session, IssuerReference(leaf_mount, ""), TRUST_DOMAIN, clock)
            disk = DiskRoot(store.authorities, ring, clock, TRUST_DOMAIN, ttl=_WEEK * 500, issuing_ttl=_WEEK)
            kind, new = KeyType.EC_P256, KeySource.VAULT
            places = {
                "disk": (IssuingCas(disk, here, kind, clock), await disk.make()),
                "root only": (IssuingCas(remote, here, kind, clock, remote=remote), root),
                "vault-transit": (
                    IssuingCas(remote, KeyPlaces(here, elsewhere, new=new), kind, clock, remote=remote), root
                ),
                "vault-pki": (IssuingCas(remote, elsewhere, kind, clock, remote=remote, brought=brought), root),
            }  # fmt: skip
            for mode, (cas, above) in places.items():
                authority, sealed = await cas.make(above, AuthorityState.PREPARED)
                if sealed is not None:
                    await _keep(store, authority, sealed)
                signing = SigningAuthority(authority, await cas.signer(authority))
                issuer = Issuer(
                    CurrentAuthority(signing), store.issuance, clock, IssuancePolicy(), meter=Metrics("bench")
                )
                await _issue(issuer, requests, _CALLERS * 2)  # threads and connections are there then
                found[mode] = await _issue(issuer, requests, _LEAVES)
    await session.close()
    return found


async def _issue(issuer: Issuer, requests: list[IssueRequest], count: int) -> _Figures:
    numbers, took = iter(range(count)), []

    async def caller() -> None:
        for number in numbers:
            began = time.perf_counter()
            await issuer.issue(requests[number % len(requests)])
            took.append(time.perf_counter() - began)

    wall, cpu = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(_CALLERS):
            group.create_task(caller())
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return _Figures(count / wall, sorted(took)[int(count * 0.99)] * 1000, cpu / count * 1000)


@asynccontextmanager
async def _store() -> AsyncIterator[Store]:
    with tempfile.TemporaryDirectory() as folder:
        async with Store.open(f"sqlite:///{Path(folder) / 'citadel.db'}", writer="bench") as store:
            yield store


async def _root(remote: VaultRoot) -> Authority:
    state, now = await remote.load(), datetime.now(UTC)
    return Authority(
        state.skid,
        AuthorityKind.ROOT,
        AuthorityState.ACTIVE,
        TRUST_DOMAIN,
        state.key_source,
        state.roots,
        state.skid,
        now,
        now,
    )


async def _keep(store: Store, authority: Authority, sealed: SealedKey) -> None:
    event = AuditEvent(datetime.now(UTC), "bench", "ca.activate", authority.skid.hex)
    await store.authorities.add(authority, sealed, event)
