"""`citadel init`: makes the folder in which a Citadel lives, whole or not at all."""

from __future__ import annotations

import base64
import os
import secrets
import shlex
import shutil
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated

import typer

from citadel import config
from citadel.cli.options import examples
from citadel.cli.output import Format, FormatOption, field, show_one
from citadel.config import FILE_NAME
from citadel.durable import sync_folder
from citadel.errors import AlreadyExists, BadFile, FailedPrecondition, InvalidInput, PermissionDenied
from citadel.spiffe import TrustDomain

EXAMPLES = examples(
    "citadel init --trust-domain example.org",
    "citadel init --trust-domain example.org --data-dir /srv/citadel",
)
_STAGING = ".citadel-init"
_FOLDERS = {"keys": 0o700, "db": 0o700, "run": 0o755}

_CONFIG = """\
# Citadel's configuration; every setting: docs/configuration.md. This file holds no secret and may be readable by all.
# Check it with: citadel config check
trust_domain = "{trust_domain}"
data_dir = "."  # relative paths start at the folder of this file
"""


def init(
    trust_domain: Annotated[str, typer.Option(help="Trust domain, such as example.org.", metavar="NAME")],
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder to make (default: /var/lib/citadel for root, else ~/.local/share/citadel).", metavar="DIR"
        ),
    ] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Make the folder in which a Citadel lives.

    It holds the configuration, the key that opens all other keys, and later the database and the sockets. Nothing that
    is there is overwritten, and if anything fails, nothing is left behind.
    """
    domain = TrustDomain.parse(trust_domain)
    folder = (data_dir or config.default_data_dir(os.environ)).expanduser().absolute()
    settings = _settings(domain, folder)
    lay_out(folder, domain)
    document = {
        "trust_domain": domain.name,
        "data_dir": str(folder),
        "config": str(folder / FILE_NAME),
        "admin_socket": str(settings.sockets.admin.path),
        "workload_socket": str(settings.sockets.workload.path),
    }
    if output is Format.TABLE:
        typer.echo(_next_steps(folder, domain))
    else:
        show_one(document, [field(name, name) for name in document], output)


def _settings(domain: TrustDomain, folder: Path) -> config.Settings:
    """What will be in force there. Raises InvalidInput if that cannot be: too long a path for the sockets, say."""
    try:
        return config.parse({"trust_domain": domain.name, "data_dir": str(folder)}, base=folder)
    except BadFile as error:
        raise InvalidInput(f"--data-dir: {error.mistakes[0].field}: {error.mistakes[0].message}") from None


def lay_out(folder: Path, trust_domain: TrustDomain) -> None:
    """Make `folder` with all that belongs into it, durable on return.

    Everything is made in a staging folder below it and moved into place at the end, the configuration last: it is what
    says that a Citadel lives here. If anything fails, what was made is gone again.
    Raises AlreadyExists, PermissionDenied, FailedPrecondition.
    """
    try:
        with ExitStack() as undo:
            _make_folder(folder, undo)
            _refuse_to_overwrite(folder)
            staging = _stage(folder, trust_domain, undo)
            for name in (*_FOLDERS, FILE_NAME):
                _move(staging / name, folder / name, undo)
            sync_folder(folder)
            undo.pop_all()  # it stands
            staging.rmdir()
    except PermissionError as error:
        raise PermissionDenied(
            f"uid {os.geteuid()} may not write to {error.filename or folder}", mend="choose another --data-dir"
        ) from error
    except OSError as error:
        raise FailedPrecondition(f"{folder} could not be made: {error.strerror} ({error.filename})") from error


def _make_folder(folder: Path, undo: ExitStack) -> None:
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o755)
        undo.callback(_remove_if_empty, path)
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is not a folder", mend="choose another --data-dir")
    if missing:
        folder.chmod(0o711)  # others reach the sockets in run/, and see nothing on the way
        sync_folder(folder.parent)
    elif folder.stat().st_uid not in (0, os.geteuid()):
        raise InvalidInput(
            f"{folder} belongs to uid {folder.stat().st_uid}, who could move away what is in it",
            mend="choose another --data-dir",
        )
    elif folder.stat().st_mode & 0o022:
        raise InvalidInput(f"others may write to {folder}", mend=f"run: chmod go-w {folder}")


def _refuse_to_overwrite(folder: Path) -> None:
    if (folder / FILE_NAME).exists():
        raise AlreadyExists(
            f"a Citadel lives in {folder} already", mend=f"start it with: citadel up --config {folder / FILE_NAME}"
        )
    for name in (*_FOLDERS, _STAGING):
        if (folder / name).exists():
            raise AlreadyExists(
                f"{folder / name} is there, but no {FILE_NAME}: another program's, or of an init that was cut off",
                mend="if nothing in it is needed, remove it; or choose another --data-dir",
            )


def _stage(folder: Path, trust_domain: TrustDomain, undo: ExitStack) -> Path:
    staging = folder / _STAGING
    staging.mkdir(mode=0o700)
    undo.callback(shutil.rmtree, staging, ignore_errors=True)
    for name, mode in _FOLDERS.items():
        (staging / name).mkdir()
        (staging / name).chmod(mode)  # whatever the umask is
    _new_key(staging / "keys" / "kek")
    sync_folder(staging / "keys")
    text = staging / FILE_NAME
    with text.open("x") as file:
        file.write(_CONFIG.format(trust_domain=trust_domain.name))
        file.flush()
        os.fsync(file.fileno())
    text.chmod(0o644)
    return staging


def _new_key(path: Path) -> None:
    """A key-encryption key as ca.kek.file_kek reads it."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(base64.b64encode(secrets.token_bytes(32)) + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _move(source: Path, target: Path, undo: ExitStack) -> None:
    if target.exists():  # made by somebody else since we looked
        raise AlreadyExists(f"{target} is there already", mend="is another 'citadel init' running?")
    source.rename(target)
    undo.callback(shutil.rmtree if target.is_dir() else os.unlink, target)


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # somebody else put something into it
        folder.rmdir()


def _next_steps(folder: Path, trust_domain: TrustDomain) -> str:
    path = folder / FILE_NAME
    usual = path in config.search_path(os.environ)
    where = "" if usual else f"  export CITADEL_CONFIG={shlex.quote(str(path))}\n"
    return f"""\
Made {folder} for the trust domain {trust_domain}. Keep a copy of {folder / "keys" / "kek"}: without it nobody
can open the private keys in the database. Next:

{where}  citadel up       # stays in the foreground; the rest in another terminal
  citadel entry create --spiffe-id spiffe://{trust_domain}/web --selector unix:uid:{os.getuid()}
  citadel status"""
