"""InForce: the authority that signs leaves now, with its opened key, and from when until when it may."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from citadel.ca.certificates import read_certificate
from citadel.ca.model import IN_BUNDLE, Authority
from citadel.ca.ports import SigningAuthority
from citadel.ca.records import Book
from citadel.ca.roots.issuing import IssuingCas
from citadel.clock import Clock
from citadel.errors import CitadelError, Unavailable


class InForce:
    """SigningAuthorities, as the records said when they were loaded last."""

    def __init__(self, issuing: IssuingCas, clock: Clock) -> None:
        self._issuing = issuing
        self._clock = clock
        self._current: SigningAuthority | None = None
        self._why_not = "the authorities have not been loaded yet"

    def current(self) -> SigningAuthority:
        """Contract: ports.SigningAuthorities."""
        if self._current is None:
            raise Unavailable(f"nothing may sign now: {self._why_not}", mend="see: citadel ca list")
        current, now = self._current, self._clock.now()
        if current.ends <= now:
            raise Unavailable(
                f"the issuing CA {current.authority.skid}, or a CA above it, has expired at {current.ends.isoformat()}",
                mend="see: citadel status, citadel doctor",
            )
        if now < current.begins:
            raise Unavailable(
                f"it is {now.isoformat()}, and the issuing CA {current.authority.skid} is not valid before "
                f"{current.begins.isoformat()}",
                mend="check this machine's clock; if it is right now, and was ahead: citadel root rollback",
            )
        return current

    async def load(self, book: Book) -> None:
        """Find the authority that signs, and open its key. While the key cannot be read, the present one stays.

        Raises Unavailable, NotFound, FailedPrecondition, InternalFault; then `current` says why, too.
        """
        signer = book.signer
        if signer is None:
            self._current, self._why_not = None, "there is no active issuing CA"
            return
        try:
            self._current = await self._with_key(_crossed(signer, book, self._clock.now()), *_validity(signer, book))
        except Unavailable as error:
            if self._current is None:
                self._why_not = error.message
            raise
        except CitadelError as error:
            self._current, self._why_not = None, error.message
            raise

    async def _with_key(self, issuing: Authority, begins: datetime, ends: datetime) -> SigningAuthority:
        known = self._current
        if known is not None and (known.authority, known.begins, known.ends) == (issuing, begins, ends):
            return known
        return SigningAuthority(issuing, await self._issuing.signer(issuing), begins, ends)


def _crossed(issuing: Authority, book: Book, now: datetime) -> Authority:
    """Served with what another root of the bundle signed for the key of its own: who knows only that one verifies it
    all the same. It is no part of the chain that must hold: when it ends, or that root leaves the bundle, it is left
    out."""
    root = book.find(issuing.root_skid)
    if root is None or root.skid == issuing.skid:
        return issuing
    trusted = {one.skid for one in book.roots(*IN_BUNDLE)} - {root.skid}
    cross = [c.der for c in root.certificates if c.issuer_skid in trusted and c.not_before <= now < c.not_after]
    return replace(issuing, chain=(*issuing.chain, *cross)) if cross else issuing


def _validity(issuing: Authority, book: Book) -> tuple[datetime, datetime]:
    """When a leaf of this authority verifies: while every certificate from it up to the root is valid. Of a root's own
    certificates one is enough."""
    line = [issuing.certificate, *map(read_certificate, issuing.chain)]
    begins, ends = max(c.not_before for c in line), min(c.not_after for c in line)
    root = book.find(issuing.root_skid)
    if root is not None:
        begins = max(begins, min(c.not_before for c in root.own))
        ends = min(ends, max(c.not_after for c in root.own))
    return begins, ends
