"""The doctor looks at folders and key files: who owns them, and who else may touch them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from citadel.ca.kek import credential_kek, file_kek
from citadel.ca.kek_place import CredentialPlace, FilePlace, KekPlace
from citadel.ca.model import AuthorityCertificate
from citadel.ca.roots.cacerts import read_cacerts
from citadel.cli.doctor.database import sealed_under
from citadel.cli.doctor.findings import Finding, expiry, fail, ok, skip, warn
from citadel.config import Settings, TransitKey, guarded_folders, secret_path, trusted_files
from citadel.errors import BadFile, CitadelError
from citadel.folders import open_to_everybody, user_name, weaknesses

_LOW_DISK_BYTES = 200 << 20
_TOLD = 10  # weaknesses of one folder


def folders(settings: Settings) -> Iterator[Finding]:
    """The data folder, and those in it that must be ours alone."""
    home = settings.data_dir
    if not home.is_dir():
        yield fail("files.data_dir", f"{home} is not there", "make it with: citadel init")
        return
    yield from _nobody_else_writes(settings)
    yield from _nobody_changes_what_is_believed(settings)
    yield from _hook(settings)
    for name in ("keys", "db"):
        path = home / name
        if path.is_dir():
            yield from _ours_alone(f"files.{name}", path)
    yield from _workloads_can_pass(home)
    yield from _space(home)


def key_encryption_key(settings: Settings, env: Mapping[str, str]) -> Iterator[Finding]:
    """The key file: there, safe, and of the right form."""
    source = settings.keys.kek
    if isinstance(source, TransitKey):
        yield skip("keys.kek", f"{source} is in Vault; citadel vault check looks at it")
        return
    if source.kind == "credential" and not env.get("CREDENTIALS_DIRECTORY"):
        yield skip("keys.kek", f"{source} exists only inside the systemd service")
        return
    path = secret_path(source, env)
    if source.kind == "credential":
        credential_kek(source.where, env["CREDENTIALS_DIRECTORY"])
    else:
        file_kek(path)
    yield ok("keys.kek", f"{path} is well formed and private")


def sealed_keys(settings: Settings, env: Mapping[str, str]) -> Iterator[Finding]:
    """Whether the key file belongs to the database. Of what cannot be read other checks tell."""
    source = settings.keys.kek
    if isinstance(source, TransitKey) or not (sealed := sealed_under(settings, env)):
        return
    place: KekPlace = FilePlace(secret_path(source, env))
    if source.kind == "credential":
        place = CredentialPlace(source.where, env.get("CREDENTIALS_DIRECTORY"))
    try:
        ring = place.load()
    except CitadelError:
        return
    if strangers := [what for kek_id, what in sealed if not ring.holds(kek_id)]:
        yield fail(
            "store.keys",
            f"{source} is not the key under which the keys of {' and '.join(strangers)} in the database are sealed",
            "put back the key file that belongs to this database",
        )
    else:
        yield ok("store.keys", f"{source} is the key under which the keys in the database are sealed")


def plugged_root(settings: Settings, now: datetime) -> Iterator[Finding]:
    """The user's own CA files, if the root is plugged in: verified as Citadel does before it uses them."""
    folder = settings.root.cacerts_dir
    if settings.root.kind != "cacerts" or folder is None:
        return
    try:
        plugged = read_cacerts(folder, settings.trust_domain, now)
    except BadFile as error:
        for mistake in error.mistakes:
            yield fail("keys.cacerts", str(mistake), "put valid files there; docs/cacerts.md says what each holds")
        return
    for what, certificate in (("CA", plugged.certificate), ("root", plugged.root)):
        yield expiry("keys.cacerts", f"the plugged-in {what} {certificate.subject}", _validity(certificate), now)
    for warning in plugged.warnings:
        yield warn("keys.cacerts", warning, "see docs/cacerts.md")


def _validity(certificate: AuthorityCertificate) -> tuple[datetime, datetime]:
    return certificate.not_before, certificate.not_after


def _nobody_else_writes(settings: Settings) -> Iterator[Finding]:
    """What `citadel up` refuses to start with: see citadel.folders. Citadel is taken to run as the folder's owner."""
    home = settings.data_dir
    owner = home.stat().st_uid
    found = set()
    for check, folder in guarded_folders(settings).items():
        for weakness in weaknesses(folder, owner):
            if weakness.path not in found:
                here = check if weakness.path == folder else "files.above"
                yield fail(here, f"{weakness.path} {weakness.why}", weakness.mend)
            found.add(weakness.path)
    if os.geteuid() not in (0, owner):
        yield warn(
            "files.data_dir",
            f"{home} belongs to {user_name(owner)}, and you are {user_name(os.geteuid())}",
            "run the doctor, and Citadel, as the user to whom it belongs",
        )
    elif not found:
        yield ok("files.data_dir", f"{home} belongs to {user_name(owner)}, and nobody else can put anything there")


def _nobody_changes_what_is_believed(settings: Settings) -> Iterator[Finding]:
    """What `status` warns of as well: see folders.open_to_everybody."""
    for setting, path in trusted_files(settings).items():
        weak = open_to_everybody(path)
        for weakness in weak[:_TOLD]:
            yield warn("files.trusted", f"{weakness.path} ({setting}) {weakness.why}", weakness.mend)
        if not weak and path.exists():
            yield ok("files.trusted", f"not everybody can change {path} ({setting})")


def _hook(settings: Settings) -> Iterator[Finding]:
    """It runs as Citadel does, and what others could replace it does not run."""
    command = settings.rotation.hooks.command
    if not command:
        return
    program, owner = Path(command[0]), settings.data_dir.stat().st_uid
    weak = weaknesses(program, owner)
    for weakness in weak:
        yield fail("files.hook", f"{weakness.path} {weakness.why}: the hook {program} is not run", weakness.mend)
    if not program.is_file():
        yield fail("files.hook", f"there is no program {program}", "correct rotation.hooks.command")
    elif not weak:
        yield ok("files.hook", f"{program} can be replaced by nobody else")


def _ours_alone(check: str, path: Path) -> Iterator[Finding]:
    status = path.stat()
    if status.st_mode & 0o077:
        yield fail(check, f"others may look into {path} ({_mode(status)})", f"run: chmod 700 {path}")
    else:
        yield ok(check, f"{path} is private")


def _workloads_can_pass(home: Path) -> Iterator[Finding]:
    for path in home.parents:
        status = path.stat()
        if not status.st_mode & 0o001:
            yield warn(
                "files.above",
                f"other users cannot pass {path} ({_mode(status)}): their workloads do not reach the workload socket",
                f"run: chmod o+x {path}, or set sockets.workload.path elsewhere",
            )


def _space(home: Path) -> Iterator[Finding]:
    disk = os.statvfs(home)
    free = disk.f_bavail * disk.f_frsize
    text = f"{free >> 20} MiB are free below {home}"
    if free < _LOW_DISK_BYTES:
        yield warn("files.space", text, "make room: without any, nothing can be issued")
    else:
        yield ok("files.space", text)


def _mode(status: os.stat_result) -> str:
    return f"{stat.S_IMODE(status.st_mode):04o}"
