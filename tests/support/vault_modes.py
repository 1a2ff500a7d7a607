"""The three modes over one Vault, each as something that signs, with just the policy that it needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from cryptography import x509

from citadel.ca import keys
from citadel.ca.issuer import IssuancePolicy, Issuer, IssueRequest
from citadel.ca.model import Authority, AuthorityKind, AuthorityState, KeySource, Outcome
from citadel.ca.ports import LeafSigner, SigningAuthority
from citadel.clock import Clock, SystemClock
from citadel.errors import CitadelError
from citadel.vault import (
    IssuerReference,
    LeafProfile,
    Need,
    PkiMount,
    Session,
    VaultKeys,
    VaultLeafIssuer,
    VaultRoot,
    hcl,
    leaf_issuer_needs,
    pki_needs,
    session_needs,
    transit_signer_needs,
)
from tests.support.issuance import TRUST_DOMAIN, WEB, CurrentAuthority, MemoryIssuanceLog, make_csr
from tests.support.vault import Vault

HOUR = timedelta(hours=1)
PROFILE = LeafProfile(TRUST_DOMAIN, HOUR * 24, HOUR, timedelta(seconds=60), "ec", 256)
NAMES = ("root", "pki", "transit")


@dataclass
class Mode:
    """`ask` has one thing signed: an issuing CA by the root (a), or a leaf (b, c), which `log` has on record then."""

    ask: Callable[[], Awaitable[object]]
    log: MemoryIssuanceLog = field(default_factory=MemoryIssuanceLog)

    async def asks_until_it_is(self) -> None:
        """Signed; each refusal is an answer of ours."""
        async with asyncio.timeout(30):
            while True:
                with suppress(CitadelError):
                    await self.ask()
                    return
                await asyncio.sleep(0.1)

    def outcomes(self) -> dict[Outcome | None, int]:
        found = [record.outcome for record in self.log.rows.values()]
        return {one: found.count(one) for one in found}


@dataclass
class Modes:
    """`root_mount` has the issuer `root_id`, `leaf_mount` the issuer `leaf_id` and the role `citadel`, `transit_mount`
    the key `key`."""

    vault: Vault
    session: Session
    needs: list[Need]
    policy: str
    root_mount: str
    root_id: str
    leaf_mount: str
    leaf_id: str
    transit_mount: str
    key: str
    by_name: dict[str, Mode]

    def permit(self, needs: list[Need]) -> None:
        self.vault.call("PUT", f"sys/policies/acl/{self.policy}", {"policy": hcl(needs)})


@asynccontextmanager
async def modes(vault: Vault, clock: Clock | None = None, **access: Any) -> AsyncIterator[Modes]:
    """All three, working. `clock` is ours, after they were set up."""
    root_mount, transit_mount = vault.mount("pki"), vault.mount("transit")
    root_id = vault.new_root(root_mount)
    leaf_mount, leaf_id = vault.new_leaf_issuer(root_mount, root_id, PROFILE)
    needs = [
        *session_needs(),
        *pki_needs(root_mount, root_id),
        *leaf_issuer_needs(leaf_mount, leaf_id, "citadel"),
        *transit_signer_needs(transit_mount),
    ]
    sign_in = vault.approle(hcl(needs), token_ttl="1h")
    (policy,) = vault.call("LIST", f"auth/{sign_in.mount}/role")["data"]["keys"]
    session = vault.session(sign_in, **{"timeout": timedelta(seconds=2), **access})
    now, clock = SystemClock(), clock or SystemClock()
    root = VaultRoot(PkiMount(session, root_mount), root_id, TRUST_DOMAIN, now, issuing_ttl=HOUR * 24)
    state = await root.load()
    known = _authority(AuthorityKind.ROOT, state.roots, state.skid, state.skid)

    later = VaultRoot(PkiMount(session, root_mount), root_id, TRUST_DOMAIN, clock, issuing_ttl=HOUR * 24)
    where = IssuerReference(leaf_mount, leaf_id)
    brought = await VaultLeafIssuer(session, where, TRUST_DOMAIN, now).load(known, AuthorityState.ACTIVE)
    places = VaultKeys(session, clock, transit=transit_mount, role="citadel")
    made = await places.make(keys.KeyType.EC_P256)
    grant = await root.sign_issuing_ca(known, made.private)
    skid = keys.skid(made.private.public_key())
    ours = _authority(AuthorityKind.ISSUING, (grant.certificate,), skid, state.skid, made.reference)

    found = {
        "root": Mode(lambda: later.sign_issuing_ca(known, keys.generate())),
        "pki": _leaves(brought, await places.signer(brought), clock),
        "transit": _leaves(ours, await places.signer(ours), clock),
    }
    key = made.reference.removeprefix(f"transit:{transit_mount}/").partition(":")[0]
    yield Modes(
        vault, session, needs, policy, root_mount, root_id, leaf_mount, leaf_id, transit_mount, key, found
    )  # fmt: skip
    await session.close()


def _leaves(authority: Authority, signer: LeafSigner, clock: Clock) -> Mode:
    mode = Mode(lambda: issue())
    issuer = Issuer(CurrentAuthority(SigningAuthority(authority, signer)), mode.log, clock, IssuancePolicy())

    async def issue() -> None:
        svid = await issuer.issue(IssueRequest(WEB, "entry", make_csr(), "test"))
        leaf = x509.load_der_x509_certificate(svid.chain[0])
        leaf.verify_directly_issued_by(x509.load_der_x509_certificate(authority.certificate.der))
        assert mode.log.rows[leaf.serial_number].outcome is Outcome.ISSUED  # on record before it is handed out

    return mode


def _authority(kind: AuthorityKind, certificates: Any, skid: Any, root_skid: Any, key_ref: str = "") -> Authority:
    now = SystemClock().now()
    return Authority(
        skid, kind, AuthorityState.ACTIVE, TRUST_DOMAIN, KeySource.VAULT, certificates, root_skid, now, now,
        key_ref=key_ref,
    )  # fmt: skip
