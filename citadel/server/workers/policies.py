"""The policies of a worker: what its server has put into force, which it has kept before."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from citadel.authz import MeshFacts, PolicyDocuments, PolicySet, load
from citadel.authz.policyset import compile_documents
from citadel.authz.sources import KeptPolicies, kept_in
from citadel.config import Settings
from citadel.errors import CitadelError

_LOOK_SECONDS = 0.2
_State = tuple[int, int, int] | None
log = structlog.get_logger("citadel.worker")


def published_policies(settings: Settings) -> Path | None:
    """What the server keeps as last good. None: it follows no policies, whatever still lies there of former ones."""
    told = settings.authorization
    followed = told.source == "store" or told.policies is not None
    return kept_in(settings.data_dir) if followed else None


class PublishedPolicies:
    """Follows what the server keeps. Whether a change is to be believed the server has asked, and its word holds."""

    def __init__(self, path: Path | None, facts: MeshFacts, default_namespace: str) -> None:
        self.path = path
        self.policies: PolicySet | None = None
        self._facts = facts
        self._default_namespace = default_namespace
        self._documents: PolicyDocuments | None = None
        self._read: _State = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_LOOK_SECONDS)

    async def look(self) -> None:
        """Take what is kept now, if it is something else. Raises nothing: what cannot be read, changes nothing."""
        if self.path is None:
            return
        state = await asyncio.to_thread(_look, self.path)
        if state is None or state == self._read:
            return
        try:
            loaded = await asyncio.to_thread(self._loaded, KeptPolicies(self.path))
        except CitadelError as error:
            log.error("the policies of the server cannot be read", why=error.message[:500])
        else:
            if loaded is not None:
                self._documents, self.policies = loaded
                log.info("policies are in force", version=self.policies.version, documents=len(self._documents))
        self._read = state

    def _loaded(self, source: KeptPolicies) -> tuple[PolicyDocuments, PolicySet] | None:
        """Blocks."""
        kept = source.load()
        if kept is None:
            return None
        documents = load(kept.texts, default_namespace=self._default_namespace, previous=self._documents)
        return documents, compile_documents(documents, self._facts, self.policies)


def _look(path: Path) -> _State:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns
