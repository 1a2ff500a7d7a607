"""Which policy denied me? A record found by its id, and explained by the policies of then, if they are known."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from citadel.authz.decision_log.again import Again, decide_again
from citadel.authz.decision_log.files import LogFiles
from citadel.authz.policyset import PolicySet
from citadel.errors import FailedPrecondition, NotFound


class FormerSets(Protocol):
    """Sets of policies that are not in force any more. Implementation: authz.stored.policies.StoredPolicies."""

    async def compiled(self, set_version: str) -> tuple[str, PolicySet] | None:
        """What the stored version is called (`v12`), and its set; None: no version of the store is this set."""


@dataclass(frozen=True, slots=True)
class Found:
    """A record, explained."""

    record: dict[str, Any]
    again: Again
    version: str
    """Of the set by which it is explained."""
    stored_version: str
    """What the store calls it; empty: it is none of the store's, or the one in force."""


class Lookup:
    """Explains decisions by their ids."""

    def __init__(self, files: LogFiles | None, policies: Callable[[], PolicySet | None], former: FormerSets) -> None:
        self._files = files
        self._policies = policies
        self._former = former

    async def explain(self, log_id: str) -> Found:
        """Raises NotFound if it is not in the log, FailedPrecondition if there is none or no policies, InvalidInput."""
        if self._files is None:
            raise FailedPrecondition(
                "decisions are not logged to a file here", mend="set authorization.decision_log.path"
            )
        record = await asyncio.to_thread(self._files.find, log_id)
        if record is None:
            raise NotFound(
                f"the decision {log_id[:80]!r} is not in the log of this server",
                mend="it may be older than the log, be lost (citadel_decision_log_total), or, if it was allowed, not "
                "chosen (authorization.decision_log.allows); or another server decided it",
            )
        then = str(record.get("version", ""))
        policies, stored, note = await self._set(then)
        again = decide_again(record, policies)
        if note:
            again = Again(again.explanation, again.decision, (note, *again.notes))
        return Found(record, again, policies.version, stored)

    async def _set(self, then: str) -> tuple[PolicySet, str, str]:
        """The set to explain by, what the store calls it, and what has to be said of it."""
        now = self._policies()
        if now is not None and now.version == then:
            return now, "", ""
        former = await self._former.compiled(then) if then else None
        if former is not None:
            name, policies = former
            return policies, name, f"explained by the policies of then, {name}, which are not in force any more"
        if now is None:
            raise FailedPrecondition("there are no policies to explain it by")
        if not then:
            return now, "", ""
        return now, "", f"the policies of then ({then}) are not known any more; explained by those in force now"
