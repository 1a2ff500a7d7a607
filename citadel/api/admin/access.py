"""Who may use the admin socket: root, our own user, and those that the configuration names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from citadel.api.ports import Caller, PeerLookup
from citadel.errors import PermissionDenied
from citadel.process import credentials


@dataclass(frozen=True, slots=True)
class AccessRules:
    """Users and groups that are let in, besides root and the user that we run as."""

    uids: frozenset[int] = frozenset()
    gids: frozenset[int] = frozenset()


class Gate:
    """Names the actor of a call, or refuses it."""

    def __init__(self, lookup: PeerLookup, rules: AccessRules) -> None:
        self._lookup = lookup
        self.rules = rules

    def actor(self, context: Any) -> str:
        """`uid:<number>`. Raises PermissionDenied."""
        caller = self._lookup(context.peer())
        if caller.uid in {0, os.geteuid()} | self.rules.uids or self._groups(caller) & self.rules.gids:
            return f"uid:{caller.uid}"
        raise PermissionDenied(
            f"uid {caller.uid} may not administer this Citadel",
            mend="run it as root or as Citadel's user, or add the user to sockets.admin.allow_uids",
        )

    def _groups(self, caller: Caller) -> frozenset[int]:
        """Those of who connected: a process that ended has its own group only, and so has one that became another."""
        now = credentials(caller.pid)
        if now is None or not caller.same_process():
            return frozenset({caller.gid})
        return frozenset({caller.gid, *now.groups})
