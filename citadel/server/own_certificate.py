"""The server's own certificate, `spiffe://TRUST_DOMAIN/spire/server`: in memory only, renewed at half of its life."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from citadel.ca.issuer import Issuer, IssueRequest
from citadel.clock import Clock
from citadel.errors import CitadelError
from citadel.spiffe import SpiffeId, TrustDomain
from citadel.workload.keys import WorkloadKeys, request_for
from citadel.workload.renewal import Moment, Renewal
from citadel.workload.upstream import Upstream

_LOOK_AGAIN = 60.0  # seconds: the wall clock may have been set
log = structlog.get_logger("citadel")


@dataclass(frozen=True, slots=True)
class KeyAndChain:
    """PEM; the chain is leaf first, without the root. `authority` is the SKID of what signed the leaf."""

    key: bytes = field(repr=False)
    chain: bytes
    authority: str
    not_after: datetime


class OwnCertificate:
    """Use `current` once `run` has made the first one; keep `run` going."""

    def __init__(
        self,
        trust_domain: TrustDomain,
        dns_names: Sequence[str],
        keys: WorkloadKeys,
        issuer: Issuer,
        upstream: Upstream,
        clock: Clock,
    ) -> None:
        self.spiffe_id = SpiffeId.of(trust_domain, "spire", "server")
        self._dns_names = tuple(dns_names)
        self._keys = keys
        self._issuer = issuer
        self._upstream = upstream
        self._clock = clock
        self._renewal = Renewal()
        self._stirred = asyncio.Event()
        self.current: KeyAndChain | None = None
        """None: there is none yet."""
        self.obtained = asyncio.Event()

    async def run(self) -> None:
        """Obtain and renew it, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_reissue())
            while True:
                if self._renewal.seconds_left(Moment.of(self._clock)) <= 0:
                    await self._obtain()
                await self._rest(min(max(0.0, self._renewal.seconds_left(Moment.of(self._clock))), _LOOK_AGAIN))

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stirred.wait()
        except TimeoutError:
            pass
        self._stirred.clear()

    async def _follow_reissue(self) -> None:
        """What an authority signed that is left, in a rotation, is replaced before it runs out."""
        async with self._upstream.reissue() as news:
            async for reissue in news:
                if self.current is not None and self.current.authority in reissue.leave:
                    self._renewal.bring_forward(self._clock.now())
                    self._stirred.set()

    async def _obtain(self) -> None:
        self._renewal.asked()
        now = Moment.of(self._clock)
        try:
            key = await self._keys.make()
            svid = await self._issuer.issue(
                IssueRequest(
                    spiffe_id=self.spiffe_id,
                    entry_id="",
                    csr=request_for(key, self.spiffe_id),
                    requester=self.spiffe_id.uri,
                    dns_names=self._dns_names,
                    cut_ttl=True,
                )
            )
        except CitadelError as error:
            self._renewal.failed(now, _chance())
            log.error("the server's own certificate could not be renewed", why=error.message)
            return
        self._renewal.obtained(now, svid.not_after, _chance())
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.current = KeyAndChain(private, pem(svid.chain), svid.authority.hex, svid.not_after)
        self.obtained.set()


def _chance() -> float:
    return secrets.randbelow(1 << 20) / (1 << 20)


def pem(certificates: Iterable[bytes]) -> bytes:
    """Of DER."""
    return "".join(map(ssl.DER_cert_to_PEM_cert, certificates)).encode()
