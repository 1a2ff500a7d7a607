"""A plugged-in CA in Istio's layout: ca-cert.pem, ca-key.pem, cert-chain.pem, root-cert.pem and, if there is one,
ca-crl.pem. Read as one, and verified whole before anything of it is used."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from citadel.ca import keys
from citadel.ca.certificates import describe, name_of, parse_pem, pem_blocks, skid_of
from citadel.ca.chain import ca_faults, dead_end, ends_soon, link_faults, order_chain, root_faults
from citadel.ca.crl import crl_faults, crl_warnings, parse_crls, to_pem, uncovered
from citadel.ca.files import read_public, read_secret
from citadel.ca.model import Authority, AuthorityCertificate, Skid
from citadel.ca.ports import IssuingGrant, PluggedCa, RootState
from citadel.clock import Clock
from citadel.errors import (
    BadFile,
    CitadelError,
    FailedPrecondition,
    InvalidInput,
    Mistake,
    NotFound,
    Unavailable,
    UnsafePermissions,
)
from citadel.spiffe import TrustDomain

CERTIFICATE, KEY, CHAIN, ROOTS, CRLS = "ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem", "ca-crl.pem"
_NAMES = (CERTIFICATE, KEY, CHAIN, ROOTS, CRLS)
_MOST_BETWEEN, _MOST_ROOTS = 16, 64
_ATTEMPTS = 3
_SIGNS_ITSELF = "should its key be stolen, every Envoy has to learn another root; an intermediate CA would spare that"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Plugged:
    """A plugged-in CA, verified whole. `chain` are the intermediates above it, without the root. `root` is the one that
    it chains to, `roots` are all that may be used, that one first. CRLs are PEM."""

    certificate: AuthorityCertificate
    skid: Skid
    private_key: keys.PrivateKey = field(repr=False)
    chain: tuple[bytes, ...]
    root: AuthorityCertificate
    root_skid: Skid
    roots: tuple[AuthorityCertificate, ...]
    crls: tuple[bytes, ...]
    warnings: tuple[str, ...]
    version: str  # SHA-256 over the files


class CacertsRoot:
    """RootAuthority over the user's files, which bring the issuing CA themselves."""

    def __init__(self, folder: Path, trust_domain: TrustDomain, clock: Clock) -> None:
        self._folder = folder
        self._trust_domain = trust_domain
        self._clock = clock

    async def load(self) -> RootState:
        """See ports.RootAuthority. Raises BadFile with every mistake, Unavailable while the files are being changed."""
        plugged = await asyncio.to_thread(read_cacerts, self._folder, self._trust_domain, self._clock.now())
        return RootState(
            roots=plugged.roots,
            skid=plugged.root_skid,
            crls=plugged.crls,
            issuing=PluggedCa(plugged.skid, plugged.certificate, plugged.chain, plugged.private_key),
            version=plugged.version,
            warnings=plugged.warnings,
        )

    async def sign_issuing_ca(self, root: Authority, key: keys.PrivateKey) -> IssuingGrant:  # noqa: ARG002  # the port
        """See ports.RootAuthority. Raises FailedPrecondition: the root's key is not here."""
        raise FailedPrecondition(
            f"the issuing CA under the root {root.skid} is plugged in, and is not ours to renew",
            mend=f"put a new {CERTIFICATE} and {KEY} into {self._folder}",
        )


def read_cacerts(folder: Path, trust_domain: TrustDomain, now: datetime) -> Plugged:
    """The CA in `folder`.

    Raises BadFile with everything that is wrong, each with its file; Unavailable if the files do not hold still.
    """
    files = _Files(folder, _snapshot(folder))
    certificates = files.parse(CERTIFICATE, lambda content: parse_pem(content, most=_MOST_BETWEEN)) or []
    key = files.parse(KEY, private_key)
    pool = files.parse(CHAIN, lambda content: parse_pem(content, most=_MOST_BETWEEN)) or []
    roots = files.parse(ROOTS, lambda content: parse_pem(content, most=_MOST_ROOTS)) or []
    crls = files.parse(CRLS, parse_crls) or []
    if CERTIFICATE in files.contents and len(certificates) != 1 and not files.complains_of(CERTIFICATE):
        files.wrong(CERTIFICATE, f"expected one certificate, found {len(certificates)}")
    if ROOTS in files.contents and not roots and not files.complains_of(ROOTS):
        files.wrong(ROOTS, "there is no certificate in it")
    if len(certificates) == 1 and key is not None and key.public_key() != certificates[0].public_key():
        files.wrong(KEY, f"it is not the key of {CERTIFICATE}; put the two that belong together here")
    usable = _check_roots(files, roots, now)
    line = _line(files, certificates[0], pool, roots, usable) if len(certificates) == 1 and usable else []
    _check_line(files, line, usable, trust_domain, now)
    _check_crls(files, crls, line, [*usable, *pool], now)
    if files.mistakes or key is None:
        raise BadFile(
            files.mistakes,
            mend="see docs/cacerts.md for what each file holds, and commands that make them",
            unsafe=files.mistakes == files.unsafe,
        )
    return _plugged(files, line, key, usable, crls, _warnings(line, roots, usable, crls, now))


def _plugged(
    files: _Files,
    line: Sequence[x509.Certificate],
    key: keys.PrivateKey,
    roots: Sequence[x509.Certificate],
    crls: Sequence[x509.CertificateRevocationList],
    warnings: tuple[str, ...],
) -> Plugged:
    certificate, between, root = line[0], line[1:-1], line[-1]  # a root that signs leaves itself stands alone
    first_ours = [root, *(other for other in roots if other != root)]
    return Plugged(
        certificate=describe(certificate),
        skid=skid_of(certificate),
        private_key=key,
        chain=tuple(one.public_bytes(serialization.Encoding.DER) for one in between),
        root=describe(root),
        root_skid=skid_of(root),
        roots=tuple(map(describe, first_ours)),
        crls=tuple(map(to_pem, crls)),
        warnings=warnings,
        version=files.version(),
    )


# --- reading them as one


def _snapshot(folder: Path) -> dict[str, bytes | CitadelError]:
    """What is in the files, all of one moment. Raises Unavailable if they do not hold still; BadFile without a folder.

    Kubernetes replaces a mounted secret by turning the link `..data`, so that folder is looked up once. Files that are
    replaced one by one show in their stamps; whether what was read fits together is for the checks to see.
    """
    for _ in range(_ATTEMPTS):
        real = _real_folder(folder)
        before = [_stamp(real / name) for name in _NAMES]
        found = {name: _content(folder, real, name) for name in _NAMES}
        if _real_folder(folder) == real and [_stamp(real / name) for name in _NAMES] == before:
            return found
    raise Unavailable(f"the files in {folder} change while they are read", retry_after=timedelta(seconds=10))


def _real_folder(folder: Path) -> Path:
    data = folder / "..data"
    try:
        real = (data if data.is_dir() else folder).resolve(strict=True)
    except (OSError, RuntimeError) as error:
        missing = isinstance(error, FileNotFoundError)
        why = "there is no such folder" if missing else f"it cannot be looked into: {_why(error)}"
        raise BadFile([Mistake(str(folder), "", why)]) from error
    if not real.is_dir():
        raise BadFile([Mistake(str(folder), "", "it is not a folder")])
    return real


def _why(error: OSError | RuntimeError) -> str:
    return (isinstance(error, OSError) and error.strerror) or "its symbolic links go round in circles"


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _content(folder: Path, real: Path, name: str) -> bytes | CitadelError:
    mounted = real != folder  # by Kubernetes, which lets a user that is not root read by a group (fsGroup) alone
    try:
        return read_secret(real / name, links=True, group_reads=mounted) if name == KEY else read_public(real / name)
    except UnsafePermissions as error:
        return UnsafePermissions(error.message, mend="give the volume defaultMode: 0400") if mounted else error
    except NotFound as error:
        return NotFound("there is no such file") if real == folder else error
    except CitadelError as error:
        return error


class _Files:
    """What was read, and what is wrong with it."""

    def __init__(self, folder: Path, found: dict[str, bytes | CitadelError]) -> None:
        self._folder = folder
        self.mistakes: list[Mistake] = []
        self.unsafe: list[Mistake] = []  # of these: others may read or write what only we should
        self.contents = {name: content for name, content in found.items() if isinstance(content, bytes)}
        for name, problem in found.items():
            if isinstance(problem, NotFound):
                if name != CRLS:
                    self.wrong(name, "there is no such file")
            elif isinstance(problem, BadFile):
                self.wrong(name, "; ".join(mistake.message for mistake in problem.mistakes))
            elif isinstance(problem, CitadelError):
                self.wrong(name, problem.sentence())
                if isinstance(problem, UnsafePermissions):
                    self.unsafe.append(self.mistakes[-1])

    def wrong(self, name: str, message: str) -> None:
        self.mistakes.append(Mistake(str(self._folder / name), "", message))

    def complains_of(self, name: str) -> bool:
        return any(mistake.file == str(self._folder / name) for mistake in self.mistakes)

    def parse(self, name: str, parser: Callable[[bytes], _T]) -> _T | None:
        if name not in self.contents:
            return None
        try:
            return parser(self.contents[name])
        except InvalidInput as error:
            self.wrong(name, error.message)
        return None

    def version(self) -> str:
        digest = hashlib.sha256()
        for name, content in sorted(self.contents.items()):
            digest.update(f"{name} {len(content)} ".encode() + content)
        return digest.hexdigest()


def private_key(content: bytes) -> keys.PrivateKey:
    """The key in PEM. The messages of what cannot be read are left out: they might show it."""
    blocks = [
        (label, block)
        for label, block in pem_blocks(content, "private key", "openssl pkey -inform DER -in OLD -out NEW")
        if label != "EC PARAMETERS"  # openssl ecparam -genkey writes them in front of the key, which has them too
    ]
    if strange := next((label for label, _ in blocks if "PRIVATE KEY" not in label), None):
        raise InvalidInput(f"it holds a {strange}; only the private key belongs here")
    if len(blocks) != 1:
        raise InvalidInput(f"expected one private key, found {len(blocks)}")
    try:
        key = serialization.load_pem_private_key(blocks[0][1], None)
    except TypeError:
        raise InvalidInput(
            "it is encrypted; a plugged-in key must not be, its permissions protect it (openssl pkey -in … -out …)"
        ) from None
    except Exception:  # whatever a parser of keys raises: nothing of it may be shown
        raise InvalidInput("it is no private key in PEM that can be read") from None
    if not isinstance(key, keys.PrivateKey):
        raise InvalidInput("it is neither an EC nor an RSA key")
    return key


# --- holding them against each other


def _check_roots(files: _Files, roots: Sequence[x509.Certificate], now: datetime) -> list[x509.Certificate]:
    """The roots that are not over. An expired one may stand beside its successor for as long as its owner likes."""
    for root in roots:
        for fault in root_faults(root):
            files.wrong(ROOTS, f"{name_of(root)}: {fault}")
    by_skid: dict[Skid, x509.Certificate] = {}
    for root in roots:
        other = by_skid.setdefault(skid_of(root), root)
        if other.public_key() != root.public_key():
            files.wrong(ROOTS, f"{name_of(root)}: another root with another key has the same subject key identifier")
    unexpired = [root for root in roots if root.not_valid_after_utc >= now]
    return unexpired or list(roots)


def _line(
    files: _Files,
    certificate: x509.Certificate,
    pool: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    usable: Sequence[x509.Certificate],
) -> list[x509.Certificate]:
    """The CA, the intermediates above it, and its root, one that is `usable` if there is such; the root alone if it is
    the CA; empty if there is no way."""
    if certificate in roots:
        return [certificate]
    if same := next((root for root in roots if root.public_key() == certificate.public_key()), None):
        files.wrong(
            CERTIFICATE,
            f"it has the key of the root {name_of(same)}, and is another certificate; put that root's own certificate "
            "here, or a CA with a key of its own",
        )
        return []
    way = order_chain(certificate, pool, usable) or order_chain(certificate, pool, roots)
    if way is None:
        why = dead_end(certificate, pool, roots)
        files.wrong(CHAIN, f"no chain of signatures leads from {CERTIFICATE} to a root in {ROOTS}: {why}")
        return []
    return [certificate, *way[0], way[1]]


def _check_line(
    files: _Files,
    line: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    trust_domain: TrustDomain,
    now: datetime,
) -> None:
    """Each certificate may be where it stands. `below` counts the CAs under it, leaves not included."""
    for below, one in enumerate(line):
        name = CERTIFICATE if below == 0 else ROOTS if below == len(line) - 1 else CHAIN
        faults = ca_faults(one, below=below, trust_domain=trust_domain, now=now)
        if below + 1 < len(line):
            faults += link_faults(one, line[below + 1])
        for fault in faults:
            files.wrong(name, f"{name_of(one)}: {fault}")
    for other in roots:
        if other not in line:
            for fault in ca_faults(other, below=0, trust_domain=trust_domain, now=now):
                files.wrong(ROOTS, f"{name_of(other)}: {fault}")


def _check_crls(
    files: _Files,
    crls: Sequence[x509.CertificateRevocationList],
    line: Sequence[x509.Certificate],
    others: Sequence[x509.Certificate],
    now: datetime,
) -> None:
    """One of every CA in `line`, and at most of `others`: other roots, and a CA that is on its way out, for example."""
    if not line:
        return  # then nobody can say whose they are
    for fault in crl_faults(crls, [*line, *others], now):
        files.wrong(CRLS, fault)
    for missing in uncovered(crls, line):
        files.wrong(CRLS, f"there is no CRL of {name_of(missing)}; an Envoy that has one wants one of every CA")


def _warnings(
    line: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    usable: Sequence[x509.Certificate],
    crls: Sequence[x509.CertificateRevocationList],
    now: datetime,
) -> tuple[str, ...]:
    return (
        *([f"the root {name_of(line[0])} signs leaves itself: {_SIGNS_ITSELF}"] if len(line) == 1 else []),
        *(warning for one in line if (warning := ends_soon(one, now))),
        *(f"{name_of(root)} in {ROOTS} has expired and is not used" for root in roots if root not in usable),
        *crl_warnings(crls, now),
    )
