"""systemd: selectors: the unit that a process belongs to, by its cgroup and systemd's own word."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path

from citadel.workload.peer import Peer
from citadel.workload.upstream import Selector

_UNIT = re.compile(r"/([A-Za-z0-9:_.\\@-]+\.(?:service|scope))(?:/|\Z)")
_RUNNING = Path("/run/systemd/system")  # sd_booted(3)


class SystemdAttestor:
    name = "systemd"

    async def selectors(self, peer: Peer) -> list[Selector]:
        if not _booted() or (systemctl := shutil.which("systemctl")) is None:
            return []
        unit = unit_of(_cgroups(peer))
        if unit is None:
            return []
        found = [Selector.of(self.name, f"id:{unit}")]
        path = await _ask(systemctl, "show", "--value", "--property=FragmentPath", "--", unit)
        return [*found, Selector.of(self.name, f"fragment_path:{path}")] if path else found


def _booted() -> bool:
    return _RUNNING.is_dir()


def _cgroups(peer: Peer) -> str:
    return Path(f"/proc/{peer.pid}/cgroup").read_text()


def unit_of(cgroups: str) -> str | None:
    """The outermost unit in the text of /proc/<pid>/cgroup, if there is one.

    Not the innermost: below its own `user@1000.service` a user makes units of any name."""
    for line in cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "name=systemd") and (units := _UNIT.findall(path)):
            return str(units[0])
    return None


async def _ask(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return out.decode(errors="replace").strip() if process.returncode == 0 else ""
