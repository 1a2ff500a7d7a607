"""`citadel vault setup`: what Vault must have for this configuration, printed or done."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import typer

from citadel.ca.files import read_secret
from citadel.cli.options import confirm
from citadel.cli.vault_sign_in import Told, sign_in_target
from citadel.clock import SystemClock
from citadel.config import Settings
from citadel.errors import FailedPrecondition, PermissionDenied
from citadel.vault import ISSUER, LEAF_ISSUER, GivenToken, Session, Setup, Target
from citadel.vault_parts import secret_id_file, setup_target, vault_session


class Cli(StrEnum):
    BAO = "bao"
    VAULT = "vault"


async def show_commands(settings: Settings, name: str, told: Told, cli: Cli, *, also: str = "") -> None:
    """The commands, as for a Vault in which nothing is there yet: a script for a shell."""
    target = setup_target(settings, name, sign_in_target(settings, name, told), also)
    setup = Setup(target, None)
    print(f"# What Vault needs for {settings.trust_domain}, by the {cli} command line. Sign in as an operator first.")
    print("set -eu")
    async for step in setup.steps():
        if not step.differs:
            print(f"\n# {step.title}: pinned, it is there")
            continue
        print(f"\n# {step.title}")
        for command in step.commands:
            print(command.replace("{cli}", cli, 1))
    if (path := secret_id_file(settings)) is not None:
        print("\n# The secret id, which is a password")
        print(f"install -m 600 /dev/null {shlex.quote(str(path))}")
        print(f"{setup.secret_id_command.replace('{cli}', cli, 1)} > {shlex.quote(str(path))}")
    token = settings.vault.auth.token_file
    if settings.vault.auth.method == "token" and token is not None and token.kind == "file":
        file = shlex.quote(token.where)
        print(f"\n# A token that Citadel renews\ninstall -m 600 /dev/null {file}")
        print(f"{cli} token create -policy={name} -orphan -period=24h -field=token > {file}")
    unknown = [("root", ISSUER)] if target.root_mount and not setup.issuer else []
    unknown += [("signer", LEAF_ISSUER)] if target.leaf and not setup.leaf_issuer else []
    for section, variable in unknown:
        print(f"\n# Pin it in the configuration, so that no other is ever used: [{section}]")
        print(f"echo \"[{section}] vault_issuer = '{variable}'\"")


async def apply(settings: Settings, name: str, told: Told, token: GivenToken, *, yes: bool, also: str = "") -> None:
    """Show what differs, ask, and change it. Raises what Session.call does, and FailedPrecondition."""
    target = setup_target(settings, name, sign_in_target(settings, name, told), also)
    session = vault_session(settings, os.environ, SystemClock(), sign_in=token)
    if session is None:
        raise FailedPrecondition("no Vault is configured", mend="set vault.addresses; see docs/vault.md")
    try:
        await _apply(settings, target, session, yes=yes)
    finally:
        await session.close()


def operators_token(file: Path | None, env: Mapping[str, str]) -> GivenToken:
    """From --token-file, or as Vault's own command line has it. Raises FailedPrecondition, and as files.read_secret."""
    if file is not None:
        text = read_secret(file, what="token file", links=True).decode("ascii", "replace").strip()
        return GivenToken(text, str(file))
    for variable in ("BAO_TOKEN", "VAULT_TOKEN"):
        if env.get(variable):
            return GivenToken(env[variable], variable)
    raise FailedPrecondition(
        "--apply needs an operator's token, which may make mounts, policies and roles",
        mend="name its file with --token-file, or set BAO_TOKEN or VAULT_TOKEN",
    )


async def _apply(settings: Settings, target: Target, session: Session, *, yes: bool) -> None:
    path = secret_id_file(settings)
    lacks_secret = path is not None and not path.exists()
    changes = 0
    async for step in Setup(target, session).steps():
        changes += bool(step.differs)
        print(f"{step.title}: {'differs' if step.differs else 'as it must be'}")
        for line in step.differs:
            print(f"    {line}")
    if lacks_secret:
        print(f"{path}: differs\n    + a new secret id")
    if not changes and not lacks_secret:
        print("nothing is to be done")
        _hints(await _looked(Setup(target, session)), settings)
        return
    confirm("Change Vault so?", yes=yes)
    setup = Setup(target, session)
    async for step in setup.steps():
        if step.differs and step.do is not None:
            await asyncio.shield(step.do())
            print(f"done: {step.title}")
    if lacks_secret and path is not None:
        _write_secret(path, await setup.secret_id())
        print(f"done: {path}")
    _hints(setup, settings)


async def _looked(setup: Setup) -> Setup:
    """With the issuers' ids that Vault has."""
    async for _ in setup.steps():
        pass
    return setup


def _write_secret(path: Path, text: str) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(text + "\n")
    except OSError as error:
        raise PermissionDenied(
            f"{path} cannot be written: {error.strerror}", mend="make its folder, and run this again"
        ) from error


def _hints(setup: Setup, settings: Settings) -> None:
    """What to put into the configuration."""
    root, signer = settings.root, settings.signer
    lines = []
    if root.kind == "vault" and not root.vault_issuer:
        lines.append(f'[root]    vault_issuer = "{setup.issuer}"')
    if signer.kind == "vault-pki" and not signer.vault_issuer:
        lines.append(f'[signer]  vault_issuer = "{setup.leaf_issuer}"')
    if lines:
        typer.echo("\nPin it in the configuration, so that no other is ever used:\n" + "\n".join(lines), err=True)
    if settings.vault.auth.method == "token":
        typer.echo("\nvault.auth.method is token: make one that has the policy, and can be renewed.", err=True)
