"""Issuance in process: CSR bytes to a certificate on record, per CPU second, beside bare pyca in the same run.

Ours with all that the server has: the log as JSON, one line a certificate (to /dev/null), and the metrics.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from citadel.ca.issuer import IssuancePolicy, Issuer, IssueRequest
from citadel.ca.ports import IssuanceLog
from citadel.clock import SystemClock
from citadel.store import Store
from citadel.telemetry import logging
from citadel.telemetry.metrics import Metrics
from tests.bench.row import Row
from tests.support.issuance import WEB, Chain, CurrentAuthority, MemoryIssuanceLog, make_chain, make_csr

_KEYS = 200
_AT_ONCE = 256  # concurrent issuances: what a group commit has to work with
_BATCH = 1500
_ROUNDS = 7  # reference and ours take turns, so that a noisy neighbour hits both


def rows() -> list[Row]:
    return uvloop.run(_rows())


async def _rows() -> list[Row]:
    requests = [
        IssueRequest(WEB, f"entry-{number}", make_csr(), requester="spiffe://example.org/agent/1")
        for number in range(_KEYS)
    ]
    chain = await make_chain(now=datetime.now(UTC))
    async with AsyncExitStack() as stack:
        nowhere = stack.enter_context(Path(os.devnull).open("w"))  # noqa: SIM115  # the stack closes it
        logging.configure("info", "json", nowhere)
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        store = await stack.enter_async_context(Store.open(f"sqlite:///{Path(folder) / 'citadel.db'}", writer="bench"))
        return [
            await _measure("issuance, log in memory", chain, MemoryIssuanceLog(), requests, goal=None),
            await _measure("issuance, durable in SQLite", chain, store.issuance, requests, goal=0.7),
        ]


async def _measure(
    name: str, chain: Chain, log: IssuanceLog, requests: Sequence[IssueRequest], *, goal: float | None
) -> Row:
    issuer = Issuer(
        CurrentAuthority(chain.signing_authority()), log, SystemClock(), IssuancePolicy(), meter=Metrics("bench")
    )
    await _issue(issuer, requests)
    ours, bare = [], []
    for _ in range(_ROUNDS):
        bare.append(bare_per_cpu_second(chain, requests))
        ours.append(await _issue(issuer, requests))
    ratio = statistics.median(a / b for a, b in zip(ours, bare, strict=True))
    reference = statistics.median(bare)
    return Row(
        name=name,
        figure=ratio * reference,
        unit="certificates per CPU second",
        reference=reference,
        reference_name="bare pyca",
        goal=f"{goal} of it" if goal else "",
        met=None if goal is None else ratio >= goal,
    )


async def _issue(issuer: Issuer, requests: Sequence[IssueRequest]) -> float:
    """Certificates per CPU second of this process, all its threads included."""
    numbers = iter(range(_BATCH))

    async def client() -> None:
        for number in numbers:
            await issuer.issue(requests[number % len(requests)])
            await asyncio.sleep(0)  # the next request comes with the loop's next turn

    began = time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(client())
    return _BATCH / (time.process_time() - began)


def bare_per_cpu_second(chain: Chain, requests: Sequence[IssueRequest]) -> float:
    """The same certificate by cryptography's own builder: no gate, no linter, no record."""
    issuer = x509.load_der_x509_certificate(chain.issuing)
    parent_key_id = x509.SubjectKeyIdentifier.from_public_key(chain.issuing_key.public_key())
    assert isinstance(chain.issuing_key, ec.EllipticCurvePrivateKey)
    began = time.process_time()
    for number in range(_BATCH):
        csr = x509.load_der_x509_csr(requests[number % len(requests)].csr)
        assert csr.is_signature_valid
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        key = csr.public_key()
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(issuer.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(_KEY_USAGE, critical=True)
            .add_extension(_EXTENDED_KEY_USAGE, critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(parent_key_id), critical=False
            )
            .add_extension(names, critical=True)
            .sign(chain.issuing_key, hashes.SHA256())
        )
        certificate.public_bytes(serialization.Encoding.DER)
    return _BATCH / (time.process_time() - began)


_KEY_USAGE = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
_EXTENDED_KEY_USAGE = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
