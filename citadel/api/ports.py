"""What the admin services need from the composition root."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


class Caller(Protocol):
    """The process at the other end, as the kernel names it."""

    @property
    def pid(self) -> int: ...
    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...

    def same_process(self) -> bool:
        """Whether `pid` still is the process that connected, as the user that connected."""


#: Who calls, from context.peer(). Raises PermissionDenied.
PeerLookup = Callable[[str], Caller]


@dataclass(frozen=True, slots=True)
class JobView:
    name: str
    started_at: datetime | None
    finished_at: datetime | None
    ok: bool
    detail: str
    next_run: datetime | None


@dataclass(frozen=True, slots=True)
class CheckView:
    name: str
    ok: bool
    reason: str
    since: datetime


@dataclass(frozen=True, slots=True)
class HeldView:
    entry_id: str
    spiffe_id: str
    not_after: datetime | None
    renew_at: datetime | None
    last_error: str


@dataclass(frozen=True, slots=True)
class PolicyView:
    """The policies that are followed: what is in force (version empty: nothing yet), and what waits to be confirmed."""

    source: str
    version: str
    documents: int
    since: datetime | None
    restored: bool
    fault: str
    held_version: str
    held_documents: int
    held_why: str
    stored_version: str
    """Of the set in force, where it comes from the store: `v12`."""


@dataclass(frozen=True, slots=True)
class VaultFindingView:
    """What changed in Vault behind our back. `stops`: something that is needed does not work any more, or will not."""

    kind: str
    subject: str
    sentence: str
    mend: str
    stops: bool
    since: datetime


@dataclass(frozen=True, slots=True)
class VaultView:
    """How the session with Vault stands. `server_version` empty: Vault did not answer. `lasts`: how long what is held
    will last without it, as a sentence."""

    address: str
    signed_in_as: str
    policies: Sequence[str]
    token_until: datetime | None
    token_renewed_at: datetime | None
    fault: str
    fault_since: datetime | None
    last_fault: str
    last_fault_at: datetime | None
    server_version: str
    cluster: str
    initialised: bool
    sealed: bool
    standby: bool
    lasts: str
    findings: Sequence[VaultFindingView] = ()


class Situation(Protocol):
    """What `status` tells beyond what the stores know."""

    @property
    def started_at(self) -> datetime: ...

    def streams(self) -> int: ...

    async def jobs(self) -> Sequence[JobView]: ...

    async def checks(self) -> Sequence[CheckView]: ...

    def held(self) -> Sequence[HeldView]: ...

    def waiting(self) -> Sequence[str]: ...

    def vault(self) -> VaultView | None:
        """None: none is configured."""

    def policies(self) -> PolicyView | None:
        """None: none are configured."""

    async def confirm_policies(self, version: str, actor: str) -> PolicyView:
        """Apply what is held back, on record. Raises NotFound, FailedPrecondition, PermissionDenied, Unavailable."""


class FollowedPolicies(Protocol):
    """What decides on this server, seen by who changes the policies in the store."""

    @property
    def fault(self) -> str:
        """Why the newest policies are not in force here; empty: they are, or are on their way."""

    def must_be_the_store(self) -> None:
        """Raises FailedPrecondition if this server takes its policies from elsewhere, until a restart or for good."""

    async def reached(self, version: str, timeout: float) -> bool:
        """Wait until the set of this version decides here, at most `timeout` seconds; whether it does."""
