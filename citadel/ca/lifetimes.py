"""How long authorities live: against one another, and until when they are renewed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from citadel.ca.model import Authority, KeySource
from citadel.quiet_hours import QuietHours

_BETWEEN_MENDS = 600.0  # seconds


def endings(
    root: Authority | None, signer: Authority | None, *, issuing_ttl: timedelta, now: datetime
) -> Iterator[str]:
    """What of that which is in force ends so soon that somebody must act, as sentences for the operator."""
    if root is not None:
        end = root.certificate.not_after
        life = end - root.certificate.not_before
        if end <= now:
            yield f"the root {root.skid} has expired at {end.isoformat()}: nothing verifies any more; replace it now"
        elif end - now < max(life / 5, 2 * issuing_ttl):
            yield (
                f"the root {root.skid} ends at {end.isoformat()}, and everything under it ends with it; "
                "everybody must know another root before"
            )
    offline = root is not None and signer is not None and root.key_source is KeySource.NONE
    if signer is not None and signer.key_source is not KeySource.FILES and offline:
        end = signer.certificate.not_after
        if end - now < (end - signer.certificate.not_before) / 2:
            yield (
                f"the CA {signer.skid}, which signs, ends at {end.isoformat()}, and its root is offline; have another "
                "one signed: citadel root prepare --csr-out FILE"
            )
    if signer is not None and signer.key_source is KeySource.FILES and signer != root:
        end = signer.certificate.not_after
        if end - now < (end - signer.certificate.not_before) / 4:
            yield f"the plugged-in CA {signer.skid}, which signs, ends at {end.isoformat()}; plug in another one before"


def check_lifetimes(*, leaf: timedelta, issuing: timedelta, root: timedelta | None = None) -> list[str]:
    """What is wrong with lifetimes that are to go together, as sentences. `leaf` is the longest; `root` None: not ours.

    Each signer must live at least twice as long as what it signs: it is renewed at half of its life, and what it signs
    a moment before must not be cut short.
    """
    faults = [
        f"the lifetime of {what} is {life}; it must be longer than nothing"
        for what, life in (("leaves", leaf), ("issuing CAs", issuing), ("roots", root))
        if life is not None and life <= timedelta(0)
    ]
    if issuing < 2 * leaf:
        faults.append(f"an issuing CA of {issuing} would cut leaves of {leaf} short; it must live twice as long")
    if root is not None and root < 2 * issuing:
        faults.append(f"a root of {root} would cut issuing CAs of {issuing} short; it must live twice as long")
    return faults


class Renewal:
    """When an issuing CA is due.

    At a part of its life, half of it as a rule, but not in quiet hours; or when less than twice the longest leaf's life
    is left; never at once after it was made,
    however the two are set. A clock that was wrong when it was made may leave an issuing CA that is not valid yet: that
    one is replaced too, but at most every ten minutes by the clock that cannot jump, so that a clock that goes to and
    fro does not make a flood of CAs.
    """

    def __init__(
        self,
        issuing_ttl: timedelta,
        longest_leaf: timedelta,
        renew_at: float = 0.5,
        quiet: QuietHours | None = None,
    ) -> None:
        self._issuing_ttl = issuing_ttl
        self._longest_leaf = longest_leaf
        self._renew_at = renew_at
        self._quiet = quiet or QuietHours()
        self._mended_at: float | None = None

    def is_due(self, issuing: Authority, root: Authority, now: datetime, ticks: float) -> bool:
        """`now` by the wall clock, `ticks` in seconds by the one that never goes back."""
        certificate, above = issuing.certificate, root.certificate
        if now < above.not_before:
            return False  # the clock is wrong beyond what another issuing CA could mend
        if now < certificate.not_before:
            return self._may_mend(ticks)
        life = certificate.not_after - max(issuing.created_at, certificate.not_before)
        left = certificate.not_after - now
        gain = min(now + self._issuing_ttl, above.not_after) - certificate.not_after
        if gain < self._issuing_ttl / 20:
            return False  # the root ends: another one would hardly outlive this one
        urgent = min(2 * self._longest_leaf, life * 0.9)
        return left < urgent or (left < life * (1 - self._renew_at) and self._quiet.until(now) is None)

    def _may_mend(self, ticks: float) -> bool:
        return self._mended_at is None or ticks - self._mended_at >= _BETWEEN_MENDS

    def made(self, old: Authority | None, now: datetime, ticks: float) -> None:
        """One was made just now, in the place of `old`."""
        if old is not None and now < old.certificate.not_before:
            self._mended_at = ticks
