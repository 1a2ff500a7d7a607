"""`citadel vault`: whether Vault is as it must be, and how a running Citadel stands with it."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from citadel.api.proto.citadel.v1 import admin_pb2 as admin
from citadel.ca.model import Authority, AuthorityKind, AuthorityState
from citadel.cli import documents
from citadel.cli.client import connect
from citadel.cli.documents import when
from citadel.cli.exits import Exit
from citadel.cli.options import ConfigOption, SocketOption, YesOption, examples, load_config
from citadel.cli.output import Column, Document, Format, FormatOption, field, show_list, show_one
from citadel.cli.run import printable
from citadel.cli.vault_setup import Cli, operators_token, show_commands
from citadel.cli.vault_setup import apply as apply_setup
from citadel.cli.vault_sign_in import Told
from citadel.clock import SystemClock
from citadel.config import Settings, TransitKey
from citadel.errors import CitadelError, FailedPrecondition, InvalidInput, PermissionDenied
from citadel.telemetry import logging
from citadel.vault import (
    IssuerReference,
    Need,
    Permission,
    PkiMount,
    Session,
    TransitKek,
    beyond,
    examine,
    hcl,
    role_differences,
    session_needs,
)
from citadel.vault_parts import leaf_profile, vault_leaf_issuer, vault_needs, vault_root, vault_session

AlsoOption = Annotated[
    str,
    typer.Option("--issuer", help="With this issuer of the root's mount, too: a rotation leads there.", metavar="ID"),
]
app = typer.Typer(help="Vault or OpenBao: setup, check, status.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def vault() -> None:
    """Vault or OpenBao: setup, check, status."""


@app.command(epilog=examples("citadel vault check", "citadel vault check -o json"))
def check(issuer: AlsoOption = "", config: ConfigOption = None, output: FormatOption = Format.TABLE) -> None:
    """Sign in to Vault and check all that is needed of it.

    The issuer is verified, each permission is looked up, and those that are missing or too wide are named, with the
    policy that mends it. Nothing is changed. Ends with 1 if something is wrong.
    """
    settings = load_config(config).settings
    logging.configure("error", "auto")
    session = vault_session(settings, os.environ, SystemClock())
    if session is None:
        raise FailedPrecondition("no Vault is configured", mend="set vault.addresses; see docs/vault.md")
    documents, needs = asyncio.run(_examined(settings, session, issuer))
    columns = [field("", "result"), field("what", "what"), field("found", "found")]
    show_list(documents, columns, output, empty="nothing is needed of Vault")
    if output is Format.TABLE and needs:
        typer.echo("\nThe least policy for this configuration:\n\n" + hcl(needs), err=True)
    if any(one["result"] == "fail" for one in documents):
        raise typer.Exit(Exit.FAILED)


@app.command(epilog=examples("citadel vault status", "citadel vault status -o json"))
def status(config: ConfigOption = None, socket: SocketOption = None, output: FormatOption = Format.TABLE) -> None:
    """Show how the running Citadel stands with Vault.

    As whom it is signed in and until when, Vault's seal, how long what is held will last, and the last error.
    """
    with connect(config, socket) as client:
        answer = client.call(client.admin.GetStatus, admin.GetStatusRequest())
    if not answer.HasField("vault"):
        raise FailedPrecondition("no Vault is configured", mend="set vault.addresses; see docs/vault.md")
    document, now = documents.vault(answer.vault), datetime.now(UTC)
    show_one(document, _standing(now), output)
    if output is Format.TABLE and document["findings"]:
        print("\nchanged in Vault behind our back:")
        for one in document["findings"]:
            stops = "this stops something: " if one["stops"] else ""
            since = documents.shown(one["since"], now)
            print(printable(f"  {one['kind']}, since {since}: {stops}{one['finding']} ({one['mend']})"))


def _standing(now: datetime) -> list[Column]:
    return [
        field("address", "address"),
        Column("vault", _server),
        field("signed in as", "signed_in_as", none="nobody"),
        Column("policies", lambda d: ", ".join(d["policies"]) or "-"),
        when("token renewed", "token_renewed_at", now, none="never"),
        when("token ends", "token_until", now, none="never"),
        field("fault", "fault", none="none"),
        when("since", "fault_since", now),
        field("without it", "lasts"),
        field("last error", "last_fault", none="none"),
        when("last seen", "last_fault_at", now),
    ]


def _server(one: Document) -> str:
    if not one["server_version"]:
        return "does not answer"
    states = [
        *([] if one["initialised"] else ["not initialised"]),
        "sealed" if one["sealed"] else "unsealed",
        "standby" if one["standby"] else "active",
    ]
    return f"{one['server_version']}, {', '.join(states)}" + (f", {one['cluster']}" if one["cluster"] else "")


@app.command(epilog=examples("citadel vault setup --print", "citadel vault setup --apply --token-file admin-token"))
def setup(
    print_it: Annotated[bool, typer.Option("--print", help="Print policy and commands; Vault is not asked.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Show what differs, ask, and change it.")] = False,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help="An operator's token (default: BAO_TOKEN, VAULT_TOKEN).", metavar="FILE"),
    ] = None,
    issuer: AlsoOption = "",
    name: Annotated[str, typer.Option("--name", help="Name of the policy and the role.", metavar="NAME")] = "citadel",
    service_account: Annotated[
        str,
        typer.Option("--service-account", help="For kubernetes: of Citadel's pod.", metavar="NAMESPACE/NAME"),
    ] = "",
    audience: Annotated[
        str, typer.Option("--audience", help="For kubernetes and jwt: of Citadel's token.", metavar="TEXT")
    ] = "",
    subject: Annotated[str, typer.Option("--subject", help="For jwt: of Citadel's token.", metavar="TEXT")] = "",
    token_issuer: Annotated[
        str,
        typer.Option(
            "--token-issuer", help="For jwt: its https URL (OIDC), or a file of public keys.", metavar="URL|FILE"
        ),
    ] = "",
    kubernetes_host: Annotated[
        str, typer.Option("--kubernetes-host", help="For kubernetes: where Vault asks it.", metavar="URL")
    ] = "",
    ca: Annotated[
        Path | None,
        typer.Option("--ca", help="For cert: who signed vault.client_cert; for kubernetes: its CA.", metavar="FILE"),
    ] = None,
    cli: Annotated[Cli, typer.Option("--cli", help="Whose commands to print.")] = Cli.BAO,
    yes: YesOption = False,
    config: ConfigOption = None,
) -> None:
    """Print or make what Vault must have for this configuration.

    Engines, root, issuing CA, role, the least policy, and how Citadel signs in (AppRole, Kubernetes, JWT, certificate):
    a role for this Citadel alone. What an option does not say is read from Citadel's own token or certificate, if that
    is here. Run again, it changes only what differs. It deletes nothing.

    What --print shows is a script: citadel vault setup --print | sh
    """
    settings = load_config(config).settings
    logging.configure("error", "auto")
    if print_it is apply:
        raise InvalidInput("say either --print or --apply", mend="see: citadel vault setup --help")
    if not settings.vault.addresses:
        raise FailedPrecondition("no Vault is configured", mend="set vault.addresses; see docs/vault.md")
    told = Told(service_account, audience, subject, token_issuer, kubernetes_host, ca)
    if print_it:
        asyncio.run(show_commands(settings, name, told, cli, also=issuer))
    else:
        asyncio.run(apply_setup(settings, name, told, operators_token(token_file, os.environ), yes=yes, also=issuer))


async def _examined(settings: Settings, session: Session, also: str) -> tuple[list[Document], list[Need]]:
    """What was found, and what is to be permitted, if that differs from what is."""
    clock = SystemClock()
    try:
        await session.call("get", "auth/token/lookup-self")
        found = [_signed_in(session)]
        issuer, line = await _issuer(settings, session)
        found += line
        mounts = [settings.root.vault_mount] if settings.root.kind == "vault" else []
        leaf_issuer = ""
        if settings.signer.kind == "vault-pki":
            mounts.append(settings.signer.vault_mount)
            leaf_issuer, line = await _leaf_issuer(settings, session, clock)
            found += line
        needs = [*session_needs(), *vault_needs(settings, issuer, leaf_issuer, also)]
        if "root" not in session.status().policies:
            permitted = await _permitted(settings, session, needs, mounts)
            found += permitted
            mends = any(one["result"] != "ok" for one in permitted)
        else:
            mends = True
        if isinstance(kek := settings.keys.kek, TransitKey):
            found.append(await _kek(session, kek))
        if settings.root.kind == "vault":
            found.append(await _root(settings, session, clock))
        return found, needs if mends else []
    finally:
        await session.close()


async def _permitted(settings: Settings, session: Session, needs: list[Need], mounts: list[str]) -> list[Document]:
    transit = [settings.signer.vault_mount] if settings.signer.kind == "vault-transit" else []
    kek = settings.keys.kek
    keks = [(kek.mount, kek.name)] if isinstance(kek, TransitKey) else []
    permissions = await examine(session, [*needs, *beyond(mounts, transit, keks)])
    return [_shown(one) for one in permissions if one.path not in _forbidden(needs, permissions) or not one.ok]


def _forbidden(needs: list[Need], permissions: list[Permission]) -> set[str]:
    return {one.path for one in permissions} - {need.path for need in needs}


def _signed_in(session: Session) -> Document:
    standing = session.status()
    until = standing.until.isoformat() if standing.until else "for ever"
    text = f"as {standing.signed_in_as}, policies {', '.join(standing.policies)}, until {until}"
    if "root" in standing.policies:
        text += "; that token may do everything in Vault, so no permission was checked: use one with the policy below"
        return _finding("warn", f"signed in at {standing.address}", text)
    return _finding("ok", f"signed in at {standing.address}", text)


async def _issuer(settings: Settings, session: Session) -> tuple[str, list[Document]]:
    """The issuer that is meant, and what there is to say of the choice."""
    if settings.root.kind != "vault" or settings.root.vault_issuer:
        return settings.root.vault_issuer, []
    try:
        issuers = await PkiMount(session, settings.root.vault_mount).issuers()
    except CitadelError as error:
        return "", [_finding("fail", "issuer", error.sentence())]
    if len(issuers) != 1:
        return "", []
    return issuers[0].id, [_finding("warn", "issuer", f"not pinned; set root.vault_issuer to {issuers[0].id}")]


async def _root(settings: Settings, session: Session, clock: SystemClock) -> Document:
    try:
        state = await vault_root(settings, session, clock).load()
    except CitadelError as error:
        return _finding("fail", "root", error.sentence())
    root = state.roots[0]
    until = f"{root.subject}, SKID {state.skid}, ends {root.not_after:%Y-%m-%d}"
    return _finding("warn" if state.warnings else "ok", "root", "; ".join([until, *state.warnings]))


async def _leaf_issuer(settings: Settings, session: Session, clock: SystemClock) -> tuple[str, list[Document]]:
    """The issuing CA that makes leaves: its id, and what there is to say of it and of its role."""
    leaf = vault_leaf_issuer(settings, session, clock)
    assert leaf is not None  # whoever calls has looked
    try:
        state = await vault_root(settings, session, clock).load()
        now = clock.now()
        root = Authority(
            state.skid,
            AuthorityKind.ROOT,
            AuthorityState.ACTIVE,
            settings.trust_domain,
            state.key_source,
            state.roots,
            state.skid,
            now,
            now,
        )
        issuing = await leaf.load(root, AuthorityState.ACTIVE)
    except CitadelError as error:
        return "", [_finding("fail", "issuing CA", error.sentence())]
    issuer = IssuerReference.parse(issuing.key_ref).issuer
    pinned = "" if settings.signer.vault_issuer else f"; not pinned, set signer.vault_issuer to {issuer}"
    text = f"{issuing.certificate.subject}, SKID {issuing.skid}, ends {issuing.certificate.not_after:%Y-%m-%d}{pinned}"
    found = [_finding("warn" if pinned else "ok", "issuing CA", text)]
    return issuer, [*found, *await _role(settings, session)]


async def _role(settings: Settings, session: Session) -> list[Document]:
    """Whether the role allows more, or less, than Citadel asks for."""
    signer = settings.signer
    what = f"role {signer.vault_role}"
    try:
        facts = (await session.call("get", f"{signer.vault_mount}/roles/{signer.vault_role}")).data
    except PermissionDenied:
        return [_finding("warn", what, "it may not be read, so it was not compared")]
    except CitadelError as error:
        return [_finding("fail", what, error.sentence())]
    differences = role_differences(facts, leaf_profile(settings))
    if not differences:
        return [_finding("ok", what, "it allows what is asked of it, and nothing else")]
    return [
        _finding("fail" if one.harmful else "warn", what, f"allows {'more' if one.more else 'less'}: {one.sentence}")
        for one in differences
    ]


async def _kek(session: Session, kek: TransitKey) -> Document:
    try:
        await TransitKek(session, kek.mount, kek.name).look()
    except CitadelError as error:
        return _finding("fail", "key-encryption key", error.sentence())
    return _finding("ok", "key-encryption key", f"{kek} fits, and cannot leave Vault")


def _shown(one: Permission) -> Document:
    parts = []
    if one.missing:
        parts.append(f"{'without' if one.optional else 'missing'}: {', '.join(one.missing)} (to {one.why})")
    if one.too_wide:
        parts.append(f"too wide: {', '.join(one.too_wide)}")
    result = "ok" if one.ok and not one.missing else "fail" if one.missing and not one.optional else "warn"
    return _finding(result, one.path, "; ".join(parts) or "permitted")


def _finding(result: str, what: str, found: str) -> Document:
    return {"result": result, "what": what, "found": found}


__all__ = ["app"]
