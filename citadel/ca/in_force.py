"""InForce: the issuing CA that signs now, with its opened key, and from when until when it may."""

from __future__ import annotations

from datetime import datetime

from citadel.ca.certificates import parse, read_certificate
from citadel.ca.keyring import Keyring
from citadel.ca.model import Authority, AuthorityKind
from citadel.ca.ports import SigningAuthority
from citadel.ca.records import Book
from citadel.ca.signers import SoftwareSigner
from citadel.clock import Clock
from citadel.errors import CitadelError, InternalFault, Unavailable


class InForce:
    """SigningAuthorities, as the records said when they were loaded last."""

    def __init__(self, keyring: Keyring, clock: Clock) -> None:
        self._keyring = keyring
        self._clock = clock
        self._current: SigningAuthority | None = None
        self._begins = self._ends = clock.now()
        self._why_not = "the authorities have not been loaded yet"

    def current(self) -> SigningAuthority:
        """Contract: ports.SigningAuthorities."""
        if self._current is None:
            raise Unavailable(f"nothing may sign now: {self._why_not}", mend="see: citadel ca list")
        now, skid = self._clock.now(), self._current.authority.skid
        if self._ends <= now:
            raise Unavailable(
                f"the issuing CA {skid}, or a CA above it, has expired at {self._ends.isoformat()}",
                mend="see: citadel status, citadel doctor",
            )
        if now < self._begins:
            raise Unavailable(
                f"it is {now.isoformat()}, and the issuing CA {skid} is not valid before {self._begins.isoformat()}",
                mend="check this machine's clock",
            )
        return self._current

    async def load(self, book: Book) -> None:
        """Find the authority that signs, and open its key. While the key cannot be read, the present one stays.

        Raises Unavailable, NotFound, FailedPrecondition, InternalFault; then `current` says why, too.
        """
        issuing = book.active(AuthorityKind.ISSUING)
        if issuing is None:
            self._current, self._why_not = None, "there is no active issuing CA"
            return
        try:
            current = await self._with_key(issuing)
        except Unavailable:
            raise
        except CitadelError as error:
            self._current, self._why_not = None, error.message
            raise
        self._begins, self._ends = _validity(issuing, book)
        self._current = current

    async def _with_key(self, issuing: Authority) -> SigningAuthority:
        if self._current is not None and self._current.authority == issuing:
            return self._current
        key = await self._keyring.open(issuing.skid)
        if key.public_key() != parse(issuing.certificate.der).public_key():
            raise InternalFault(f"the sealed key of authority {issuing.skid} is not the key of its certificate")
        return SigningAuthority(issuing, SoftwareSigner(key))


def _validity(issuing: Authority, book: Book) -> tuple[datetime, datetime]:
    """When a leaf of this authority verifies: while every certificate from it up to the root is valid. Of a root's own
    certificates one is enough."""
    line = [issuing.certificate, *map(read_certificate, issuing.chain)]
    begins, ends = max(c.not_before for c in line), min(c.not_after for c in line)
    root = book.find(issuing.root_skid)
    if root is not None:
        begins = max(begins, min(c.not_before for c in root.certificates))
        ends = min(ends, max(c.not_after for c in root.certificates))
    return begins, ends
