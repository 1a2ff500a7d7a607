"""`citadel backup`: one encrypted file of the store; made while Citadel runs, verified, restored."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from citadel import config as configuration
from citadel.backup import Manifest, Passphrase, making, read_identity, read_public_key, restoring
from citadel.backup.recipients import Opener, Recipient
from citadel.ca.files import read_secret
from citadel.cli.backup_key import OriginKey
from citadel.cli.documents import Document
from citadel.cli.exits import Exit
from citadel.cli.options import ConfigOption, YesOption, confirm, examples, load_config
from citadel.cli.output import Column, Format, FormatOption, as_cell, field, show_one
from citadel.cli.run import printable, say
from citadel.clock import SystemClock
from citadel.errors import FailedPrecondition, InvalidInput, NotFound

app = typer.Typer(help="Backups of the store.", no_args_is_help=True, rich_markup_mode=None)

FileArgument = Annotated[str, typer.Argument(help="The backup.", metavar="FILE", show_default=False)]
PassphraseFileOption = Annotated[
    Path | None, typer.Option("--passphrase-file", help="File with the passphrase, mode 0600.", metavar="FILE")
]
CredentialOption = Annotated[
    str, typer.Option("--passphrase-credential", help="Credential of systemd with the passphrase.", metavar="NAME")
]
IdentityOption = Annotated[
    Path | None, typer.Option("--identity", help="X25519 private key in PEM, instead of a passphrase.", metavar="FILE")
]


@app.command(
    epilog=examples(
        "citadel backup create /backup/citadel-monday --recipient backup.pub",
        "citadel backup create /backup/citadel-monday --passphrase-file /etc/citadel/passphrase",
    )
)
def create(
    file: FileArgument,
    recipient: Annotated[
        list[Path] | None,
        typer.Option("--recipient", help="X25519 public key in PEM, instead of a passphrase; any.", metavar="FILE"),
    ] = None,
    passphrase_file: PassphraseFileOption = None,
    passphrase_credential: CredentialOption = "",
    config: ConfigOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Make a backup, whether Citadel runs or not.

    One encrypted file of the database as it is at one moment. The key-encryption key is not in it: keep that apart.

    Without --recipient, it is sealed to a passphrase, which is asked for. Run this as Citadel's user. SQLite only: for
    PostgreSQL, use pg_dump.
    """
    settings = load_config(config).settings
    database = _database(settings)
    recipients: list[Recipient] = [read_public_key(path) for path in recipient or ()]
    given = passphrase_file is not None or passphrase_credential
    if recipients and given:
        raise InvalidInput("a backup is sealed to public keys or to a passphrase, not to both", mend="give one of them")
    if not recipients:
        recipients = [_passphrase(passphrase_file, passphrase_credential, twice=True)]
    key = OriginKey(settings, os.environ)
    timeout, seal = settings.store.timeout.total_seconds(), key.seal()
    made = making.create(database, Path(file).absolute(), recipients, datetime.now(UTC), timeout=timeout, seal=seal)
    show_one(_document(made), _ROWS, output)
    if seal is None and recipient:
        say(printable(f"nothing in it proves who made it (docs/backup.md): {key.why}"))


@app.command(epilog=examples("citadel backup verify /backup/citadel-monday --identity backup.key"))
def verify(
    file: FileArgument,
    identity: IdentityOption = None,
    passphrase_file: PassphraseFileOption = None,
    passphrase_credential: CredentialOption = "",
    output: FormatOption = Format.TABLE,
) -> None:
    """Verify a backup, and show what is in it.

    Every byte is authenticated, the database is looked through, and every chain of the audit log is walked. Needs no
    configuration. Ends with 1 if the audit log is not intact.
    """
    found = making.verify(Path(file), _opener(identity, passphrase_file, passphrase_credential))
    show_one(_document(found.manifest) | {"audit_intact": not found.faults}, [*_ROWS, _INTACT], output)
    for fault in found.faults:
        say(fault)
    if found.faults:
        raise typer.Exit(Exit.FAILED)


@app.command(epilog=examples("citadel backup restore /backup/citadel-monday --identity backup.key"))
def restore(
    file: FileArgument,
    accept_older: Annotated[
        bool,
        typer.Option("--accept-older", help="Restore it although it is older than what clients have seen; asks."),
    ] = False,
    accept_unproved: Annotated[
        bool,
        typer.Option("--accept-unproved", help="Restore it although nothing proves who made it; asks."),
    ] = False,
    identity: IdentityOption = None,
    passphrase_file: PassphraseFileOption = None,
    passphrase_credential: CredentialOption = "",
    yes: YesOption = False,
    config: ConfigOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Restore a backup into a data directory that has no database.

    Nothing is overwritten. Run this as Citadel's user, while Citadel is stopped.
    """
    settings = load_config(config).settings
    place = restoring.Place(settings.data_dir, _database(settings), settings.trust_domain, settings.audit.writer)
    if accept_older:
        confirm("Certificates issued and steps of rotations since the backup are forgotten. Go on?", yes=yes)
    if accept_unproved:
        confirm("Whoever made the backup decides whom the whole mesh trusts. Go on?", yes=yes)
    opener, key = _opener(identity, passphrase_file, passphrase_credential), OriginKey(settings, os.environ)
    found, behind = asyncio.run(
        restoring.restore(
            Path(file),
            place,
            opener,
            SystemClock(),
            f"uid:{os.getuid()}",
            accept_older=accept_older,
            opened=key.open(),
            accept_unproved=accept_unproved,
        )
    )
    show_one(_document(found.manifest) | {"audit_intact": True}, [*_ROWS, _INTACT], output)
    if behind:
        say(f"accepted: {behind}")
    _warn_of_key(settings, found.manifest, key)


@app.command("accept-older", epilog=examples("citadel backup accept-older --yes"))
def accept_older(yes: YesOption = False, config: ConfigOption = None) -> None:
    """Accept an older database.

    One that came there by other means, such as pg_restore. Citadel does not start on one
    that is behind what its clients have seen. This raises the
    bundle's sequence past that, and records it. Run it as Citadel's user, while no server runs on that database.
    """
    settings = load_config(config).settings
    place = restoring.Place(settings.data_dir, Path("/"), settings.trust_domain, settings.audit.writer)
    confirm("Certificates issued and steps of rotations since that copy are forgotten. Go on?", yes=yes)
    url = configuration.database_url(settings, os.environ).get_secret_value()
    behind = asyncio.run(restoring.accept_present(url, place, SystemClock(), f"uid:{os.getuid()}"))
    typer.echo(f"accepted: {behind}")


def _database(settings: configuration.Settings) -> Path:
    """Raises FailedPrecondition for PostgreSQL."""
    url = urlsplit(configuration.database_url(settings, os.environ).get_secret_value())
    if url.scheme != "sqlite":
        raise FailedPrecondition(
            "the store is a PostgreSQL, which has means of its own: pg_dump, pg_restore, a continuous archive",
            mend="see docs/backup.md",
        )
    return Path(url.path.removeprefix("/") if url.path.startswith("//") else url.path)


def _opener(identity: Path | None, file: Path | None, credential: str) -> Callable[[], Opener]:
    if identity is not None and (file is not None or credential):
        raise InvalidInput("a private key and a passphrase were given", mend="give one of them")
    if identity is not None:
        key = read_identity(identity)
        return lambda: key
    return lambda: _passphrase(file, credential, twice=False)


def _passphrase(file: Path | None, credential: str, *, twice: bool) -> Passphrase:
    """From a file, from a credential, or asked for. Never from an argument, which others can see."""
    if file is not None and credential:
        raise InvalidInput("a file and a credential with the passphrase were given", mend="give one of them")
    if credential:
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if not folder or "/" in credential or credential in (".", ".."):
            raise NotFound(f"there is no credential {credential!r}", mend="see systemd.exec, LoadCredential=")
        return _read(Path(folder) / credential, group_reads=True)
    if file is not None:
        return _read(file, group_reads=False)
    if not sys.stdin.isatty():
        raise InvalidInput(
            "nobody is there to be asked for the passphrase", mend="give --passphrase-file, --recipient or --identity"
        )
    return Passphrase(typer.prompt("Passphrase", hide_input=True, confirmation_prompt=twice, err=True))


def _read(path: Path, *, group_reads: bool) -> Passphrase:
    content = read_secret(path, what="passphrase file", group_reads=group_reads)
    try:
        return Passphrase(content.decode().rstrip("\r\n"))
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} is not text in UTF-8", mend="write the passphrase into it") from None


def _warn_of_key(settings: configuration.Settings, manifest: Manifest, key: OriginKey) -> None:
    if not all(map(key.holds, manifest.keks)):
        needed = ", ".join(manifest.keks)
        say(f"its private keys need the key-encryption key {needed}: put it at {settings.keys.kek} before you start")


def _document(manifest: Manifest) -> Document:
    return {
        "trust_domain": manifest.trust_domain,
        "made_at": manifest.made_at,
        "version": manifest.version,
        "database_id": manifest.database_id,
        "bundle_sequence": manifest.bundle_sequence,
        "serials": manifest.serials,
        "entries": manifest.entries,
        "audit": dict(manifest.audit),
        "keks": list(manifest.keks),
        "proof_of_origin": bool(manifest.proof),
        "size": manifest.size,
    }


_ROWS = [
    field("trust domain", "trust_domain"),
    field("made", "made_at"),
    field("by version", "version"),
    field("database", "database_id"),
    field("bundle sequence", "bundle_sequence"),
    field("serials", "serials"),
    field("entries", "entries"),
    Column("audit records", lambda d: as_cell([f"{writer}: {last}" for writer, last in d["audit"].items()])),
    Column("needs key", lambda d: as_cell(d["keks"])),
    Column("proof of origin", lambda d: "yes, restore checks it" if d["proof_of_origin"] else "no"),
    field("bytes", "size"),
]
_INTACT = field("audit intact", "audit_intact")
