"""A process that issues as fast as it can, for a test to kill: `python -m tests.chaos.issuing URL WRITER OUT`.

Each certificate that it is handed is written to OUT, whole and synced, before the next is asked for; so what is in OUT
was handed out.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime

from citadel.audit.notary import Notary
from citadel.ca.issuer import IssuancePolicy, Issuer, IssueRequest
from citadel.ca.kek import LocalKek
from citadel.clock import SystemClock
from citadel.store import Store
from tests.support.issuance import WEB, CurrentAuthority, make_chain, make_csr

_AT_ONCE = 32


async def main(url: str, writer: str, out: int) -> None:
    chain, clock, csr = await make_chain(now=datetime.now(UTC)), SystemClock(), make_csr()
    async with Store.open(url, writer=writer) as store:
        notary = Notary(store.audit, store.audit, LocalKek(bytes(32)), clock, every=50)
        await notary.open()
        issuer = Issuer(CurrentAuthority(chain.signing_authority()), store.issuance, clock, IssuancePolicy())
        await issuer.settle_unfinished()
        os.write(out, b"started\n")

        async def client() -> None:
            while True:
                svid = await issuer.issue(IssueRequest(WEB, "e", csr, "uid:0"))
                os.write(out, f"{svid.serial:x}\n".encode())

        async with asyncio.TaskGroup() as group:
            group.create_task(notary.follow())
            for _ in range(_AT_ONCE):
                group.create_task(client())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], os.open(sys.argv[3], os.O_WRONLY | os.O_APPEND | os.O_CREAT)))
