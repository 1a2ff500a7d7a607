"""`citadel vault`: whether Vault is as it must be. Needs no running Citadel."""

from __future__ import annotations

import asyncio
import os

import typer

from citadel.cli.exits import Exit
from citadel.cli.options import ConfigOption, examples, load_config
from citadel.cli.output import Document, Format, FormatOption, field, show_list
from citadel.clock import SystemClock
from citadel.config import Settings, TransitKey
from citadel.errors import CitadelError, FailedPrecondition
from citadel.telemetry import logging
from citadel.vault import Need, Permission, PkiMount, Session, beyond, checked_kek, examine, hcl, session_needs
from citadel.vault_parts import vault_needs, vault_root, vault_session

app = typer.Typer(help="Vault or OpenBao: check what it permits us.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def vault() -> None:
    """Vault or OpenBao: check what it permits us."""


@app.command(epilog=examples("citadel vault check", "citadel vault check -o json"))
def check(config: ConfigOption = None, output: FormatOption = Format.TABLE) -> None:
    """Sign in to Vault and check all that is needed of it.

    The issuer is verified, each permission is looked up, and those that are missing or too wide are named, with the
    policy that mends it. Nothing is changed. Ends with 1 if something is wrong.
    """
    settings = load_config(config).settings
    logging.configure("error", "auto")
    session = vault_session(settings, os.environ, SystemClock())
    if session is None:
        raise FailedPrecondition("no Vault is configured", mend="set vault.addresses; see docs/vault.md")
    documents, needs = asyncio.run(_examined(settings, session))
    columns = [field("", "result"), field("what", "what"), field("found", "found")]
    show_list(documents, columns, output, empty="nothing is needed of Vault")
    wrong = [one for one in documents if one["result"] != "ok"]
    if wrong and output is Format.TABLE and needs:
        typer.echo("\nThe least policy for this configuration:\n\n" + hcl(needs), err=True)
    if any(one["result"] == "fail" for one in documents):
        raise typer.Exit(Exit.FAILED)


async def _examined(settings: Settings, session: Session) -> tuple[list[Document], list[Need]]:
    clock = SystemClock()
    try:
        await session.call("get", "auth/token/lookup-self")
        found = [_signed_in(session)]
        issuer, line = await _issuer(settings, session)
        found += line
        needs = [*session_needs(), *vault_needs(settings, issuer)]
        mounts = [settings.root.vault_mount] if settings.root.kind == "vault" else []
        transit = [settings.signer.vault_mount] if settings.signer.kind == "vault-transit" else []
        permissions = await examine(session, [*needs, *beyond(mounts, issuer or "default", transit)])
        found += [_shown(one) for one in permissions if one.path not in _forbidden(needs, permissions) or not one.ok]
        if isinstance(kek := settings.keys.kek, TransitKey):
            found.append(await _kek(session, kek))
        if settings.root.kind == "vault":
            found.append(await _root(settings, session, clock))
        return found, needs
    finally:
        await session.close()


def _forbidden(needs: list[Need], permissions: list[Permission]) -> set[str]:
    return {one.path for one in permissions} - {need.path for need in needs}


def _signed_in(session: Session) -> Document:
    standing = session.status()
    until = standing.until.isoformat() if standing.until else "for ever"
    text = f"as {standing.signed_in_as}, policies {', '.join(standing.policies)}, until {until}"
    root = "root" in standing.policies
    return _finding("warn" if root else "ok", f"signed in at {standing.address}", text)


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


async def _kek(session: Session, kek: TransitKey) -> Document:
    try:
        await checked_kek(session, kek.mount, kek.name)
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
