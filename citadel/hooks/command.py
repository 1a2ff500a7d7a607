"""CommandHook: a program on this machine, run without a shell. Exit status 0 says yes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from citadel.ca.rotation.hooks import Question, Verdict
from citadel.hooks.document import document, said

_MOST_OUTPUT = 64 * 1024
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class CommandHook:
    """Contract: ca.rotation.hooks.Hook. The program gets the document on standard input, and in its environment nothing
    of ours but a PATH and what is asked; what it writes is shown if it says no. It and all that it started end with
    its time."""

    def __init__(self, command: Sequence[str], *, timeout: float) -> None:
        """`command`: the program's absolute path, then its arguments. `timeout` in seconds."""
        self._command = tuple(command)
        self._timeout = timeout

    async def ask(self, question: Question) -> Verdict:
        name = Path(self._command[0]).name
        environment = {
            "PATH": _PATH,
            "LANG": "C.UTF-8",
            "CITADEL_PHASE": str(question.step),
            "CITADEL_PLAN": question.plan,
            "CITADEL_INCOMING": question.incoming,
            "CITADEL_OUTGOING": question.outgoing,
        }
        told = _readable(document(question))
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=told,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=environment,
                cwd="/",
                start_new_session=True,  # so that what it starts ends with it
            )
        except OSError as error:
            return Verdict(False, f"{name} could not be run: {error.strerror or error}")
        finally:
            os.close(told)
        try:
            async with asyncio.timeout(self._timeout):
                output, whole = await _output(process)
                if not whole:
                    return Verdict(False, f"{name} wrote more than {_MOST_OUTPUT} bytes")
                status = await process.wait()
        except TimeoutError:
            return Verdict(False, f"{name} gave no answer within {self._timeout:g} s")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            process._transport.close()  # type: ignore[attr-defined]  # else its pipes stay open while a child holds them
        text = said(output)
        if status == 0:
            return Verdict(True, text)
        how = f"signal {-status}" if status < 0 else f"status {status}"
        return Verdict(False, f"{name} ended with {how}{f': {text}' if text else ''}")


def _readable(content: bytes) -> int:
    """A file in memory: unlike a pipe, it does not mind a program that does not read it."""
    handle = os.memfd_create("question", os.MFD_CLOEXEC)
    os.write(handle, content)
    os.lseek(handle, 0, os.SEEK_SET)
    return handle


async def _output(process: asyncio.subprocess.Process) -> tuple[bytes, bool]:
    """What it writes, and whether that is all."""
    assert process.stdout is not None
    output = b""
    while len(output) <= _MOST_OUTPUT:
        part = await process.stdout.read(_MOST_OUTPUT)
        if not part:
            return output, True
        output += part
    return output, False
