"""The issuers of the root's mount, watched: what became of ours, and which others came. Nothing here is trusted by it.

The judgement is a pure function of what two looks saw; the asking around it does no more than that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from citadel.ca.model import Authority, KeySource, Skid
from citadel.ca.ports import RemoteRoot, RootState
from citadel.errors import AnswerLost, CitadelError, NotFound, PermissionDenied, Unavailable
from citadel.vault.findings import Finding, FindingKind
from citadel.vault.pki import IssuerEntry, IssuerReference, IssuerUse, PkiMount

_MOST_READ = 16  # of strangers whose certificates are read
K = FindingKind


@dataclass(frozen=True, slots=True)
class Ours:
    """The root in force, and the issuer that has its key. `fingerprints` of its certificates that clients may hold."""

    issuer: str  # its id, or as it is pinned
    skid: Skid
    fingerprints: frozenset[str]
    begins: datetime


@dataclass(frozen=True, slots=True)
class Seen:
    """One look. `entries` None: they may not be listed. `use` None: it may not be read. `gone`: ours is not there.
    `ours`: its state now, None if it could not be verified. `others`: the states of issuers that are not ours, or a
    sentence on what keeps them from being our root."""

    entries: Sequence[IssuerEntry] | None
    use: IssuerUse | None = None
    gone: bool = False
    ours: RootState | None = None
    others: Mapping[str, RootState | str] = field(default_factory=dict)


def judge(mount: str, ours: Ours, seen: Seen, known: Iterable[str], *, was_default: bool) -> list[Finding]:
    """What there is to tell. `known`: ids of issuers that were there at the first look, or that an operator approved;
    `was_default`: ours was the mount's default at an earlier look."""
    return [
        *_about_ours(mount, ours, seen),
        *_new(mount, ours, seen, frozenset(known)),
        *_default(mount, ours, seen, was_default=was_default),
    ]


def _about_ours(mount: str, ours: Ours, seen: Seen) -> Iterator[Finding]:
    name = f"the issuer {ours.issuer} of the PKI mount {mount}, whose root is in force,"
    rotate = f"rotate: citadel root rotate (to another issuer of this mount: --to vault ISSUER; root {ours.skid})"
    if seen.gone:
        yield Finding(K.ISSUER_GONE, ours.issuer, f"{name} is not there any more", rotate, stops=True)
        return
    if seen.use is not None and seen.use.revoked:
        stolen = f"{rotate}; if its key is stolen: citadel root taint {ours.skid}"
        yield Finding(K.ISSUER_REVOKED, ours.issuer, f"{name} was revoked in Vault", stolen, stops=True)
    elif seen.use is not None and not seen.use.signs:
        sentence = f"{name} was retired in Vault: it may sign no issuing CA any more (usage)"
        yield Finding(K.ISSUER_RETIRED, ours.issuer, sentence, rotate, stops=True)
    if seen.ours is None:
        return
    if seen.ours.skid != ours.skid:
        sentence = f"{name} stands for another key now: its root is {seen.ours.skid}, not {ours.skid}"
        yield Finding(
            K.ISSUER_REPLACED, ours.issuer, sentence, f"see who may write to that mount; {rotate}", stops=True
        )
    elif seen.ours.roots[0].fingerprint not in ours.fingerprints:
        yield _resigned(mount, ours.issuer, seen.ours)


def _resigned(mount: str, issuer: str, state: RootState) -> Finding:
    until = f"{state.roots[0].not_after:%Y-%m-%d}"
    sentence = (
        f"the issuer {issuer} of the PKI mount {mount} has another certificate of the root in force, valid until "
        f"{until}, that nobody has yet"
    )
    return Finding(K.ISSUER_RESIGNED, issuer, sentence, _approve("have it distributed", issuer))


def _new(mount: str, ours: Ours, seen: Seen, known: frozenset[str]) -> Iterator[Finding]:
    for one in seen.entries or ():
        if one.id in known or ours.issuer in (one.id, one.name):
            continue
        state = seen.others.get(one.id)
        if isinstance(state, RootState) and state.skid == ours.skid:
            if state.roots[0].fingerprint not in ours.fingerprints:
                yield _resigned(mount, one.id, state)
            continue
        about = f"the issuer {one} came into the PKI mount {mount}"
        if isinstance(state, RootState):
            root = state.roots[0]
            sentence = f"{about}: {root.subject}, root {state.skid}, until {root.not_after:%Y-%m-%d}; nobody trusts it"
            yield Finding(K.NEW_ISSUER, one.id, sentence, _approve("to rotate to it", one.id))
        else:
            why = f"; it could not be our root: {state}" if state else ""
            mend = "ask who made it: who may write there could sign for the mesh one day"
            yield Finding(K.NEW_ISSUER, one.id, f"{about}; nobody trusts it{why}", mend)


def _default(mount: str, ours: Ours, seen: Seen, *, was_default: bool) -> Iterator[Finding]:
    """A switch that we saw, or that a root which is younger than ours gives away: one that never was the default may
    have been pinned on purpose."""
    for one in seen.entries or ():
        if not one.default or ours.issuer in (one.id, one.name):
            continue
        state = seen.others.get(one.id)
        younger = isinstance(state, RootState) and state.roots[0].not_before > ours.begins and state.skid != ours.skid
        if was_default or younger:
            sentence = (
                f"the default issuer of the PKI mount {mount} is {one} now, not {ours.issuer}, whose root is in force "
                "and goes on"
            )
            yield Finding(K.DEFAULT_SWITCHED, one.id, sentence, _approve("to follow", one.id))


def _approve(why: str, issuer: str) -> str:
    return f"{why}: citadel root rotate --to vault {issuer}"


class RootWatch:
    """Looks, and remembers what it saw first. `pinned`: as configured, for roots of an older Citadel."""

    def __init__(self, mount: PkiMount, root: RemoteRoot, pinned: str) -> None:
        self._mount = mount
        self._root = root
        self._pinned = pinned
        self._first: frozenset[str] | None = None
        self._was_default: set[str] = set()
        self._read: dict[str, RootState | str] = {}

    async def look(self, authorities: Sequence[Authority], root: Authority) -> list[Finding]:
        """What there is to tell of the mount, `root` being in force. Raises Unavailable; nothing is known then."""
        ours = self._ours(root)
        if ours is None:
            return []
        approved = {where.issuer for one in authorities if (where := self._here(one))}
        seen = await self._seen(ours, approved)
        if seen.entries is not None and self._first is None:
            self._first = frozenset(one.id for one in seen.entries)
        was_default = ours.issuer in self._was_default
        self._was_default |= {one.id for one in seen.entries or () if one.default}
        return judge(self._mount.mount, ours, seen, (self._first or frozenset()) | approved, was_default=was_default)

    def _ours(self, root: Authority) -> Ours | None:
        if root.key_source is not KeySource.VAULT:
            return None
        where = self._here(root)
        issuer = where.issuer if where else self._pinned
        if not issuer or (root.key_ref and where is None):
            return None
        prints = frozenset(one.fingerprint for one in root.certificates)
        return Ours(issuer, root.skid, prints, root.certificate.not_before)

    def _here(self, authority: Authority) -> IssuerReference | None:
        if not authority.key_ref.startswith("pki:"):
            return None
        where = IssuerReference.parse(authority.key_ref)
        return where if where.mount == self._mount.mount else None

    async def _seen(self, ours: Ours, approved: set[str]) -> Seen:
        try:
            entries: list[IssuerEntry] | None = await self._mount.issuers(optional=True)
        except PermissionDenied:
            entries = None
        listed = entries is None or any(ours.issuer in (one.id, one.name) for one in entries)
        if not listed:
            return Seen(entries, gone=True, others=await self._others(ours, entries or (), approved))
        state = None
        try:
            state = await self._root.load_issuer(ours.issuer)
        except (Unavailable, AnswerLost):
            raise
        except NotFound:
            return Seen(entries, gone=True)
        except CitadelError:
            pass  # the look at the root itself tells that
        try:
            use: IssuerUse | None = await self._mount.use(ours.issuer)
        except PermissionDenied:
            use = None
        except NotFound:
            return Seen(entries, gone=True)
        return Seen(entries, use, ours=state, others=await self._others(ours, entries or (), approved))

    async def _others(
        self, ours: Ours, entries: Sequence[IssuerEntry], approved: set[str]
    ) -> dict[str, RootState | str]:
        """Of those that may have to be told of; each is read once."""
        told = [
            one.id
            for one in entries
            if ours.issuer not in (one.id, one.name)
            and one.id not in approved
            and (one.default or (self._first is not None and one.id not in self._first))
        ]
        self._read = {one: found for one, found in self._read.items() if one in told}
        for one in told[:_MOST_READ]:
            if one in self._read:
                continue
            try:
                self._read[one] = await self._root.load_issuer(one)
            except Unavailable:
                raise
            except PermissionDenied:
                self._read[one] = ""
            except CitadelError as error:
                self._read[one] = error.message
        return dict(self._read)


__all__ = ["Ours", "RootWatch", "Seen", "judge"]
