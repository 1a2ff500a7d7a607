"""Systemd attestor: the unit that a process runs in, as its service manager knows it."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

import structlog

from citadel.errors import Unavailable
from citadel.workload.attestors import cgroup
from citadel.workload.attestors.answers import Answers
from citadel.workload.peer import Peer
from citadel.workload.upstream import Selector

MAX_ANSWER_BYTES = 64 * 1024

_BOOTED = Path("/run/systemd/system")  # sd_booted(3)
_PROPERTIES = "Id,FragmentPath,ControlGroup"
_REMEMBERED_SECONDS = 3.0
log = structlog.get_logger("citadel.workload")


class SystemdAttestor:
    """Selectors `systemd:id` and `systemd:fragment_path` (SPIRE's names).

    The unit is the one that the process's control group names, and only if systemd says that the group is that
    unit's. `systemctl` is asked rather than D-Bus: it is there wherever systemd is, and speaks to it without a bus too.
    """

    name = "systemd"

    def __init__(
        self,
        systemctl: Path = Path("/usr/bin/systemctl"),
        *,
        booted: Path = _BOOTED,
        timeout: float = 5.0,
        proc: Path = cgroup.PROC,
    ) -> None:
        """`timeout` in seconds bounds the question to systemd; a machine without the folder `booted` runs none."""
        self._systemctl = systemctl
        self._booted = booted
        self._timeout = timeout
        self._proc = proc
        self._units: Answers[str, dict[str, str]] = Answers(
            self._ask, seconds=_REMEMBERED_SECONDS, most=1024, at_once=4
        )

    async def selectors(self, peer: Peer) -> list[Selector]:
        """None if the process runs in no unit. Raises Unavailable if systemd cannot be asked."""
        if not self._booted.is_dir():
            return []
        unit = cgroup.systemd_unit(cgroup.read(peer.pid, self._proc))
        if unit is None:
            return []
        told = await self._units.get(unit.name)
        if told.get("ControlGroup") != unit.path:
            log.info("systemd does not know this group as a unit's", peer=peer.name, group=unit.path)
            return []
        values = (("id", told.get("Id")), ("fragment_path", told.get("FragmentPath")))
        return [Selector.of(self.name, f"{what}:{value}") for what, value in values if value and value.isprintable()]

    async def _ask(self, unit: str) -> dict[str, str]:
        """systemctl(1): `show` writes one property a line, as NAME=VALUE."""
        try:
            process = await asyncio.create_subprocess_exec(
                str(self._systemctl),
                *("show", "--no-pager", f"--property={_PROPERTIES}", "--", unit),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={"LC_ALL": "C", "SYSTEMD_COLORS": "0"},
                start_new_session=True,
            )
        except OSError as error:
            raise Unavailable(f"{self._systemctl} cannot be run: {error.strerror}") from None
        try:
            async with asyncio.timeout(self._timeout):
                assert process.stdout is not None
                answer = await _read(process.stdout)
                status = await process.wait()
        except TimeoutError:
            raise Unavailable(f"systemd did not answer about {unit} within {self._timeout:g} s") from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.communicate()  # what is left in the pipe, so that it closes
        if status != 0:
            raise Unavailable(f"'systemctl show {unit}' ended with status {status}")
        lines = (line.partition("=") for line in answer.decode("utf-8", "replace").split("\n"))
        return {name: value for name, equals, value in lines if equals}


async def _read(stream: asyncio.StreamReader) -> bytes:
    answer = bytearray()
    while chunk := await stream.read(4096):
        answer += chunk
        if len(answer) > MAX_ANSWER_BYTES:
            raise Unavailable(f"systemctl's answer is longer than {MAX_ANSWER_BYTES} bytes")
    return bytes(answer)
