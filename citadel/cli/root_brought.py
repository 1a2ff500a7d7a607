"""`citadel root prepare` with files: a root that is handed in, and the two steps of one that is offline."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from citadel.api.proto.citadel.v1 import rotation_pb2 as pb
from citadel.ca.files import read_public, read_secret
from citadel.ca.roots.cacerts import CERTIFICATE, CHAIN, CRLS, KEY, ROOTS
from citadel.cli.client import Client
from citadel.cli.documents import Document, shown, time
from citadel.cli.output import Format, show_one
from citadel.cli.run import printable, say
from citadel.errors import AlreadyExists, CitadelError, InvalidInput, Unavailable

_REQUEST = b"-----BEGIN CERTIFICATE REQUEST-----"


@dataclass(frozen=True, slots=True)
class Files:
    """What was named on the command line. Raises InvalidInput for what does not go together."""

    csr_out: Path | None = None
    cert_in: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    cross_sign: bool = False
    folder: Path | None = None
    to: str = ""

    def __post_init__(self) -> None:
        named = self.cert is not None or self.key is not None
        ways = [self.csr_out is not None, self.cert_in is not None, named, self.folder is not None]
        if sum(ways) > 1:
            raise InvalidInput("--csr-out, --cert-in, --cert with --key, and a folder are four ways: take one")
        if self.folder is not None and self.to != "cacerts":
            raise InvalidInput("a folder goes with --to cacerts, and an issuer's id with --to vault")
        if self.to and any(ways[:3]):
            raise InvalidInput("--csr-out, --cert-in and --cert bring the root themselves: leave --to out")
        if (self.cert is None) != (self.key is None):
            raise InvalidInput("--cert and --key go together: the root, and its private key")
        if self.cross_sign and self.csr_out is not None:
            raise InvalidInput("--cross-sign goes with --cert-in, when the new root is known")

    def certificates(self) -> bytes:
        """What of them is public. Raises NotFound, PermissionDenied, BadFile."""
        if self.folder is not None:
            chain = read_public(self.folder / CHAIN) if (self.folder / CHAIN).exists() else b""
            return b"\n".join([read_public(self.folder / CERTIFICATE), chain, read_public(self.folder / ROOTS)])
        file = self.cert_in or self.cert
        return read_public(file, what="file of certificates") if file is not None else b""

    def private_key(self) -> bytes:
        """Raises NotFound, PermissionDenied, BadFile; UnsafePermissions unless it is ours alone."""
        return read_secret(self.key, what="private key") if self.key is not None else b""

    def issuing_key(self) -> bytes:
        """Of a folder. Raises as private_key."""
        if self.folder is None:
            return b""
        if (self.folder / CRLS).exists():
            say(f"{self.folder / CRLS} is not used: CRLs are those of the configured folder (root.cacerts_dir)")
        return read_secret(self.folder / KEY, what="private key", links=True)


def request(client: Client, file: Path, *, reason: str, replace: bool, dry_run: bool, output: Format) -> None:
    """Have a request made, or get the one that waits, and write it to `file` (`-`: standard output)."""
    if not dry_run and str(file) != "-":
        _refuse_other(file)
    asked = pb.RequestSigningRequest(reason=reason, dry_run=dry_run, replace=replace)
    found = client.call(client.rotation.RequestSigning, asked)
    if dry_run:
        say(printable(f"would: {found.sentence}"))
        return
    if str(file) == "-":
        sys.stdout.write(found.pem.decode())
        return
    try:
        _write(file, found.pem)
    except OSError as error:
        raise Unavailable(
            f"the request could not be written to {file}: {error.strerror}",
            mend="it waits: run the same command again with another path",
        ) from error
    told = {"skid": found.skid, "file": str(file), "sentence": found.sentence}
    if output is Format.TABLE:
        print(printable(f"{found.sentence}; its request is in {file}"))
        print(f"who signs it compares first: it asks for the subject key identifier {found.skid}")
        print("have it signed, put its chain and the root behind it, and: citadel root rotate --cert-in FILE")
        print("(or step by step: citadel root prepare --cert-in FILE)")
    else:
        show_one(told, [], output)


def _refuse_other(file: Path) -> None:
    """Nothing but an older request is overwritten: a key, or what was signed, may lie there. Raises AlreadyExists."""
    try:
        is_request = file.is_file() and not file.is_symlink() and _REQUEST in read_public(file)
    except CitadelError:  # larger than any request, say
        is_request = False
    if file.is_symlink() or (file.exists() and not is_request):
        raise AlreadyExists(f"{file} is there already, and is no request", mend="give another path")


def _write(file: Path, pem: bytes) -> None:
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(handle, "wb") as opened:
        opened.write(pem)


def document(one: pb.SigningRequest) -> Document:
    return {"skid": one.skid, "created_at": time(one.created_at)}


def line(one: Document, now: datetime) -> str:
    since = shown(one["created_at"], now)
    return f"issuing CA {one['skid']} waits for its certificate from an offline root, since {since}"
