"""What changes in Vault behind our back is told by name, once, and is over when it is mended or approved."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from citadel.audit import AuditEvent
from citadel.ca import keys
from citadel.ca.certificates import parse_pem
from citadel.ca.model import Authority, AuthorityKind, AuthorityState
from citadel.ca.ports import RootState
from citadel.clock import SystemClock
from citadel.errors import CitadelError, FailedPrecondition, Unavailable
from citadel.vault import (
    FindingKind,
    IssuerReference,
    PkiCertifier,
    PkiMount,
    RootWatch,
    Session,
    TransitKek,
    TransitKeys,
    TransitSigner,
    VaultRoot,
    VaultWatch,
    Watched,
    hcl,
    pki_needs,
    session_needs,
)
from citadel.vault.transit_keys import TransitKey
from tests.support.issuance import TRUST_DOMAIN
from tests.support.vault import KINDS, Vault, running

K = FindingKind


@dataclass
class Meter:
    counts: Mapping[str, int] = field(default_factory=dict)

    def vault(self, **_: object) -> None: ...

    def vault_call(self, result: str, seconds: float) -> None: ...

    def vault_findings(self, counts: Mapping[str, int]) -> None:
        self.counts = counts


@dataclass
class World:
    vault: Vault
    session: Session
    meter: Meter = field(default_factory=Meter)
    told: list[AuditEvent] = field(default_factory=list)
    known: list[Authority] = field(default_factory=list)
    signer: Watched | None = None

    def watch(self, root: RootWatch | None = None, kek: TransitKek | None = None) -> VaultWatch:
        async def authorities() -> list[Authority]:
            return self.known

        async def record(event: AuditEvent) -> None:
            self.told.append(event)

        return VaultWatch(
            SystemClock(),
            root=root,
            kek=kek,
            authorities=authorities,
            signer=lambda: self.signer,
            record=record,
            meter=self.meter,
        )

    def root(self, mount: str, issuer: str, session: Session | None = None) -> tuple[VaultRoot, RootWatch]:
        place = PkiMount(session or self.session, mount)
        root = VaultRoot(place, issuer, TRUST_DOMAIN, SystemClock(), issuing_ttl=timedelta(days=1))
        return root, RootWatch(place, root, issuer)


@pytest.fixture(params=KINDS)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    with running(request.param, tmp_path) as vault:
        session = vault.session()
        yield World(vault, session)
        await session.close()


def written_down(state: RootState, at: AuthorityState = AuthorityState.ACTIVE) -> Authority:
    now = SystemClock().now()
    return Authority(
        state.skid,
        AuthorityKind.ROOT,
        at,
        TRUST_DOMAIN,
        state.key_source,
        state.roots,
        state.skid,
        now,
        now,
        key_ref=state.key_ref,
    )


async def kinds(watch: VaultWatch) -> set[tuple[str, str]]:
    await watch.look()
    return {(one.finding.kind, one.finding.subject) for one in watch.findings()}


async def test_another_issuer_and_the_default_switched_to_it_are_told_until_it_was_approved(world: World) -> None:
    mount = world.vault.mount("pki")
    issuer, older = world.vault.new_root(mount), world.vault.new_root(mount, "older")
    root, looks = world.root(mount, issuer)
    watch = world.watch(looks)
    world.known = [written_down(await root.load())]
    assert world.known[0].key_ref == f"pki:{mount}/{issuer}"
    assert await kinds(watch) == set()  # whatever was there before is nobody's news
    new = world.vault.new_root(mount, "next")
    assert await kinds(watch) == {(K.NEW_ISSUER, new)}
    (standing,) = watch.findings()
    assert f"citadel root rotate --to vault {new}" in standing.finding.mend
    assert "nobody trusts it" in standing.finding.sentence
    world.vault.call("POST", f"{mount}/config/issuers", {"default": new})
    assert await kinds(watch) == {(K.NEW_ISSUER, new), (K.DEFAULT_SWITCHED, new)}
    assert world.meter.counts == {K.NEW_ISSUER: 1, K.DEFAULT_SWITCHED: 1}
    assert watch.findings()[0].since <= standing.since
    await watch.look()
    assert [(event.action, event.detail["kind"]) for event in world.told] == [
        ("vault.finding", K.NEW_ISSUER),
        ("vault.finding", K.DEFAULT_SWITCHED),
    ]
    world.known.append(written_down(await root.load_issuer(new), AuthorityState.DISTRIBUTING))  # it was approved
    assert await kinds(watch) == {(K.DEFAULT_SWITCHED, new)}
    world.known = [
        replace(world.known[0], state=AuthorityState.RETIRING),
        replace(world.known[1], state=AuthorityState.ACTIVE),
    ]
    assert await kinds(watch) == set()
    assert [event.action for event in world.told].count("vault.finding-over") == 2
    world.vault.call("DELETE", f"{mount}/issuer/{issuer}")  # the pinned one is the former one, and may go
    assert await kinds(watch) == set()
    assert older != new


@pytest.mark.parametrize(
    ("method", "path", "body", "kind"),
    [
        ("PATCH", "", {"usage": "read-only,crl-signing"}, K.ISSUER_RETIRED),
        ("POST", "/revoke", {}, K.ISSUER_REVOKED),
        ("DELETE", "", None, K.ISSUER_GONE),
    ],
)
async def test_the_issuer_in_force_retired_revoked_or_deleted_is_told_and_signs_nothing(
    world: World, method: str, path: str, body: dict[str, object] | None, kind: FindingKind
) -> None:
    mount = world.vault.mount("pki")
    issuer = world.vault.new_root(mount)
    root, looks = world.root(mount, issuer)
    world.known = [written_down(await root.load())]
    watch = world.watch(looks)
    assert await kinds(watch) == set()
    world.vault.call(method, f"{mount}/issuer/{issuer}{path}", body)
    assert await kinds(watch) == {(kind, issuer)}
    assert watch.findings()[0].finding.stops
    with pytest.raises(CitadelError) as caught:
        await root.sign_issuing_ca(world.known[0], keys.generate())
    assert not isinstance(caught.value, Unavailable)
    if kind is K.ISSUER_RETIRED:
        world.vault.call(method, f"{mount}/issuer/{issuer}", {"usage": "read-only,issuing-certificates,crl-signing"})
        assert await kinds(watch) == set()


async def test_another_certificate_of_the_roots_key_is_told_and_nothing_is_signed_that_would_need_it(
    world: World,
) -> None:
    mount = world.vault.mount("pki")
    made = world.vault.call("POST", f"{mount}/root/generate/internal", {
        "common_name": "mesh root", "issuer_name": "mesh", "key_type": "ec", "ttl": "48h",
    })["data"]  # fmt: skip
    issuer = made["issuer_id"]
    root, looks = world.root(mount, issuer)
    world.known = [written_down(await root.load())]
    watch = world.watch(looks)
    assert await kinds(watch) == set()
    key = world.vault.call("GET", f"{mount}/issuer/{issuer}")["data"]["key_id"]
    again = world.vault.call("POST", f"{mount}/root/generate/existing", {
        "key_ref": key, "common_name": "mesh root", "issuer_name": "again", "ttl": "8760h",
    })["data"]["issuer_id"]  # fmt: skip
    assert await kinds(watch) == {(K.ISSUER_RESIGNED, again)}
    state = await root.load_issuer(again)
    assert state.skid == world.known[0].skid
    under_it = replace(world.known[0], key_ref=state.key_ref)  # clients hold the old certificate only
    long = VaultRoot(
        PkiMount(world.session, mount), issuer, TRUST_DOMAIN, SystemClock(), issuing_ttl=timedelta(days=10)
    )
    grant = await long.sign_issuing_ca(under_it, keys.generate())
    assert grant.certificate.not_after <= world.known[0].certificate.not_after
    world.known = [replace(world.known[0], certificates=(*state.roots, *world.known[0].certificates))]
    assert await kinds(watch) == set()


async def test_with_the_least_policy_all_of_it_is_seen_and_without_the_optional_part_what_can_be(world: World) -> None:
    mount = world.vault.mount("pki")
    issuer = world.vault.new_root(mount)
    for optional in (True, False):
        needs = [*session_needs(), *pki_needs(mount, issuer)]
        needs = [one for one in needs if optional or not one.optional]
        session = world.vault.session(world.vault.approle(hcl(needs), token_ttl="1h"))
        root, looks = world.root(mount, issuer, session)
        world.known = [written_down(await root.load())]
        watch = world.watch(looks)
        assert await kinds(watch) == set()
        stranger = world.vault.new_root(mount, f"stranger-{optional}")
        assert await kinds(watch) == {(K.NEW_ISSUER, stranger)}  # who they are, Vault tells anybody
        world.vault.call("PATCH", f"{mount}/issuer/{issuer}", {"usage": "read-only"})
        told = {(K.ISSUER_RETIRED, issuer)} if optional else set()
        assert await kinds(watch) == {(K.NEW_ISSUER, stranger), *told}
        assert session.status().fault == ""
        world.vault.call("PATCH", f"{mount}/issuer/{issuer}", {"usage": "read-only,issuing-certificates,crl-signing"})
        await session.close()


async def test_the_issuer_that_makes_leaves_retired_revoked_or_deleted_is_told(world: World) -> None:
    mount = world.vault.mount("pki")
    issuer = world.vault.new_root(mount)  # what it is under is of no matter here
    own = parse_pem(str(world.vault.call("GET", f"{mount}/issuer/{issuer}")["data"]["certificate"]).encode(), most=1)[0]
    world.signer = PkiCertifier(world.session, IssuerReference(mount, issuer), "citadel", own, SystemClock())
    watch = world.watch()
    assert await kinds(watch) == set()
    world.vault.call("PATCH", f"{mount}/issuer/{issuer}", {"usage": "read-only"})
    assert await kinds(watch) == {(K.ISSUER_RETIRED, issuer)}
    world.vault.call("POST", f"{mount}/issuer/{issuer}/revoke", {})
    assert await kinds(watch) == {(K.ISSUER_REVOKED, issuer)}
    world.vault.call("DELETE", f"{mount}/issuer/{issuer}")
    assert await kinds(watch) == {(K.ISSUER_GONE, issuer)}
    assert watch.findings()[0].finding.stops


# --- keys of transit


Change = Callable[[Vault, str], None]


def _rotate(vault: Vault, key: str) -> None:
    vault.call("POST", f"{key}/rotate")


def _archive(vault: Vault, key: str) -> None:
    vault.call("POST", f"{key}/rotate")
    vault.call("POST", f"{key}/config", {"min_decryption_version": 2})


def _forbid(vault: Vault, key: str) -> None:
    vault.call("POST", f"{key}/rotate")
    vault.call("POST", f"{key}/config", {"min_encryption_version": 2})


def _deletable(vault: Vault, key: str) -> None:
    vault.call("POST", f"{key}/config", {"deletion_allowed": True})


def _exportable(vault: Vault, key: str) -> None:
    vault.call("POST", f"{key}/config", {"exportable": True})


def _delete(vault: Vault, key: str) -> None:
    _deletable(vault, key)
    vault.call("DELETE", key)


def _replace(vault: Vault, key: str) -> None:
    _delete(vault, key)
    vault.call("POST", key, {"type": "ecdsa-p256"})


@pytest.mark.parametrize(
    ("change", "kind", "signs"),
    [
        (_rotate, K.KEY_ROTATED, True),
        (_archive, K.KEY_ARCHIVED, False),
        (_forbid, K.KEY_ARCHIVED, False),
        (_deletable, K.KEY_UNFIT, False),
        (_exportable, K.KEY_UNFIT, False),
        (_delete, K.KEY_GONE, False),
        (_replace, K.KEY_REPLACED, False),
    ],
)
async def test_what_becomes_of_the_signing_key_is_told_and_it_signs_on_or_refuses(
    world: World, change: Change, kind: FindingKind, signs: bool
) -> None:
    mount = world.vault.mount("transit")
    made = await TransitKeys(world.session, mount).make(keys.KeyType.EC_P256)
    key = TransitKey.parse(made.reference)
    world.signer = signer = TransitSigner(world.session, key, made.private.public_key())
    watch = world.watch()
    assert await kinds(watch) == set()
    digest = bytes(32)
    await signer.sign_digest(digest)
    change(world.vault, f"{mount}/keys/{key.name}")
    assert await kinds(watch) == {(kind, key.name)}
    assert watch.findings()[0].finding.stops is not signs
    if signs:
        await signer.sign_digest(digest)
        return
    with pytest.raises(CitadelError) as caught:
        await signer.sign_digest(digest)
    assert isinstance(caught.value, FailedPrecondition) or kind is K.KEY_GONE


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (_rotate, None),
        (_archive, K.KEY_ARCHIVED),
        (_deletable, K.KEY_UNFIT),
        (_exportable, K.KEY_UNFIT),
        (_delete, K.KEY_GONE),
    ],
)
async def test_what_becomes_of_the_key_encryption_key_is_told_and_its_rotation_is_nobodys_worry(
    world: World, change: Change, kind: FindingKind | None
) -> None:
    mount = world.vault.mount("transit")
    world.vault.call("POST", f"{mount}/keys/citadel", {})
    kek = TransitKek(world.session, mount, "citadel")
    watch = world.watch(kek=kek)
    sealed = await kek.seal(b"private", b"x")
    assert await kinds(watch) == set()
    change(world.vault, f"{mount}/keys/citadel")
    assert await kinds(watch) == ({(kind, "citadel")} if kind else set())
    if kind is None:
        assert await kek.open(sealed, b"x") == b"private"


async def test_what_cannot_be_seen_now_stays_as_it_was_seen_last(world: World) -> None:
    mount = world.vault.mount("pki")
    issuer = world.vault.new_root(mount)
    session = world.vault.session(timeout=timedelta(seconds=0.3))
    root, looks = world.root(mount, issuer, session)
    world.known = [written_down(await root.load())]
    watch = world.watch(looks)
    await watch.look()
    new = world.vault.new_root(mount, "next")
    assert await kinds(watch) == {(K.NEW_ISSUER, new)}
    world.vault.pause()
    try:
        with pytest.raises(Unavailable):
            await watch.look()
    finally:
        world.vault.resume()
    assert [one.finding.subject for one in watch.findings()] == [new]
    await session.close()
