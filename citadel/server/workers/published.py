"""What the server publishes for its workers: files in a folder that only its own user may enter, replaced whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from citadel.authz.doors import Registered, Registration, Trust
from citadel.config import Settings
from citadel.errors import Unavailable
from citadel.registry import Entry
from citadel.spiffe import SpiffeId, TrustDomain


@dataclass(frozen=True, slots=True)
class Published:
    """The folder."""

    folder: Path

    @property
    def settings(self) -> Path:
        return self.folder / "settings.json"

    @property
    def callers(self) -> Path:
        return self.folder / "callers.json"

    @property
    def certificate(self) -> Path:
        return self.folder / "certificate.json"

    @property
    def roots(self) -> Path:
        return self.folder / "roots.json"

    def write(self, path: Path, document: Any) -> int:
        """Replace a file whole, mode 0600; its edition. Blocks. Raises OSError."""
        new = path.with_name(f".{path.name}.new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "w") as file:
            json.dump(document, file)
            file.flush()
            edition = os.fstat(file.fileno()).st_mtime_ns
        new.replace(path)
        return edition

    def clear(self) -> None:
        """Take out what a server must say anew. Blocks."""
        for path in (self.callers, self.certificate, self.roots):
            path.unlink(missing_ok=True)

    def settings_state(self) -> int:
        """Another, when they were written anew."""
        return self.settings.stat().st_mtime_ns

    def read_settings(self) -> Settings:
        return Settings.model_validate(json.loads(self.settings.read_bytes()))


def written_settings(settings: Settings) -> dict[str, Any]:
    """Without the database's URL, which may hold a password, and which no worker needs."""
    return settings.model_dump(mode="json", exclude={"store": {"url"}})


def written_callers(trust_domain: TrustDomain, crls: Sequence[bytes], entries: Iterable[Entry]) -> dict[str, Any]:
    return {
        "trust_domain": trust_domain.name,
        "crls": [one.decode("ascii") for one in crls],
        "entries": [
            [one.spiffe_id.uri, dict(one.labels), [domain.name for domain in sorted(one.federates_with)]]
            for one in entries
        ],
    }


@dataclass(slots=True)
class KnownCallers:
    """Who is registered, and whom we trust, as the file said when it was last read. Contract: doors.Registrations."""

    path: Path
    trust: Trust | None = None
    _named: dict[SpiffeId, list[Registration]] = field(default_factory=dict)
    _state: tuple[int, int, int] | None = None

    @property
    def edition(self) -> int:
        """What `Published.write` said of it; 0: nothing is known yet."""
        return 0 if self._state is None else self._state[2]

    def look(self) -> None:
        """Read the file again if it is another one. Blocks. Raises nothing: what was known stays."""
        try:
            facts = self.path.stat()
            state = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
            if state == self._state:
                return
            document = json.loads(self.path.read_bytes())
        except (OSError, ValueError):  # it is replaced whole, so it is gone, or not there yet
            return
        named: dict[SpiffeId, list[Registration]] = {}
        for name, labels, federates in document["entries"]:
            registered = Registered(SpiffeId.parse(name), labels)
            named.setdefault(registered.spiffe_id, []).append(
                Registration(registered, frozenset(map(TrustDomain.parse, federates)))
            )
        self._named = named
        crls = tuple(one.encode("ascii") for one in document["crls"])
        self.trust = Trust(TrustDomain.parse(document["trust_domain"]), crls)
        self._state = state

    def of(self, spiffe_id: SpiffeId) -> Sequence[Registration]:
        if self.trust is None:
            raise Unavailable("the registration entries are not here yet")
        return self._named.get(spiffe_id, [])
