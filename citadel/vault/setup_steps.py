"""What all steps of a setup share: a step itself, and ways to look at one thing in Vault and to write it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from citadel.errors import FailedPrecondition, NotFound
from citadel.vault.session import Session


@dataclass(frozen=True, slots=True)
class Step:
    """`differs`: lines of a diff; none if all is as it must be. `commands`: the same by Vault's command line, `{cli}`
    in the place of its name, for a shell. `do` changes it."""

    title: str
    differs: tuple[str, ...]
    commands: tuple[str, ...]
    do: Callable[[], Awaitable[None]] | None = field(default=None, repr=False)


class Bench:
    """Where steps are made. `session` None: nothing is looked at, as if nothing was there."""

    def __init__(self, session: Session | None) -> None:
        self.session = session

    async def written(self, title: str, path: str, body: Mapping[str, object], flag: str = "") -> Step:
        """Something that is written as it is, and read back."""
        found = await self.read(path)
        differs = []
        for name, value in sorted(body.items()):
            if found is None or not _same(found.get(name), value):
                before = "" if found is None else f"{shown(found.get(name))} -> "
                differs.append(f"{'+' if found is None else '~'} {name} = {before}{shown(value)}")
        nested = any(isinstance(value, list) or "\n" in str(value) for value in body.values())
        text = f"- <<'JSON'\n{json.dumps(body, indent=1)}\nJSON" if nested else words(body)
        command = " ".join(filter(None, ["{cli} write", flag, path, text]))
        return Step(title, tuple(differs), (command,), lambda: self.write(path, body))

    async def mounted(self, kind: str, mount: str, *, sign_in: bool, lease: str = "") -> Step:
        """An engine, or a way of signing in, of this kind at that mount. Raises FailedPrecondition if another is
        there."""
        path, what = (f"sys/auth/{mount}", f"auth/{mount}") if sign_in else (f"sys/mounts/{mount}", mount)
        found = await self.read(path)
        if found is not None and found.get("type") != kind:
            raise FailedPrecondition(
                f"at {what} Vault has something of type {found.get('type')}, not {kind}",
                mend=f"name another mount in the configuration{' (vault.auth.mount)' if sign_in else ''}",
            )
        tune = f" -max-lease-ttl={lease}" if lease else ""
        body: dict[str, object] = {"type": kind, **({"config": {"max_lease_ttl": lease}} if lease else {})}
        more = f", max_lease_ttl {lease}" if lease else ""
        return Step(
            f"{'sign-in' if sign_in else 'engine'} of type {kind} at {what}",
            () if found is not None else (f"+ {kind} at {what}{more}",),
            (f"{{cli}} {'auth' if sign_in else 'secrets'} enable -path={mount}{tune} {kind}",),
            lambda: self.write(path, body),
        )

    async def read(self, path: str) -> Mapping[str, object] | None:
        """None if there is nothing: for a mount that is not there Vault says 400."""
        if self.session is None:
            return None
        try:
            return (await self.session.call("get", path)).data
        except NotFound:
            return None
        except FailedPrecondition as error:
            if "engine" in error.message and ("No secret" in error.message or "No auth" in error.message):
                return None
            raise

    async def write(self, path: str, body: Mapping[str, object]) -> None:
        await self.call("post", path, body)

    async def call(self, method: str, path: str, body: Mapping[str, object]) -> Mapping[str, object]:
        assert self.session is not None
        return (await self.session.call(method, path, body, repeat=False)).data


def words(body: Mapping[str, object]) -> str:
    return " ".join(f"{name}={shlex.quote(shown(value))}" for name, value in body.items())


def shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _same(found: object, wanted: object) -> bool:
    """Vault gives durations back in seconds, lists that are empty as null, and PEM with or without a last line end."""
    if isinstance(wanted, str) and isinstance(found, int) and not isinstance(found, bool):
        units = {"s": 1, "m": 60, "h": 3600}
        return wanted[-1:] in units and found == float(wanted[:-1]) * units[wanted[-1]]
    if isinstance(wanted, str) and isinstance(found, str):
        return found.strip() == wanted.strip()
    if isinstance(wanted, list) and isinstance(found, list):
        return [str(one).strip() for one in found] == [str(one).strip() for one in wanted]
    return found == wanted or (found is None and wanted == [])


__all__ = ["Bench", "Step", "shown", "words"]
