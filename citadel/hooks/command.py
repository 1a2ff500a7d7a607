"""CommandHook: a program on this machine, run without a shell. Exit status 0 says yes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from io import FileIO
from pathlib import Path

from citadel.ca.rotation.hooks import Question, Verdict
from citadel.folders import weaknesses
from citadel.hooks.document import document, said

_MOST_OUTPUT = 64 * 1024
_REST_SECONDS = 1.0  # for what it wrote last to be read, and for it to be gone, once it was ended
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class CommandHook:
    """Contract: ca.rotation.hooks.Hook. The program gets the document on standard input, and in its environment nothing
    of ours but a PATH and what is asked; what it writes is shown if it says no. It and what it started end with its
    time. It runs as we do: one that others could replace is not run."""

    def __init__(self, command: Sequence[str], *, timeout: float) -> None:
        """`command`: the program's absolute path, then its arguments. `timeout` in seconds."""
        self._command = tuple(command)
        self._timeout = timeout

    async def ask(self, question: Question) -> Verdict:
        name = Path(self._command[0]).name
        if weak := weaknesses(Path(self._command[0]), os.geteuid()):
            return Verdict(False, f"{name} was not run: {weak[0].path} {weak[0].why}; {weak[0].mend}")
        try:
            async with _output() as (reader, writes):
                return await self._run(name, question, reader, writes)
        except OSError as error:
            return Verdict(False, f"{name} could not be run: {error.strerror or error}")

    async def _run(self, name: str, question: Question, reader: asyncio.StreamReader, writes: FileIO) -> Verdict:
        """Raises OSError if it cannot be started."""
        process = await self._started(question, writes)
        reading, ending = asyncio.create_task(_read(reader)), asyncio.create_task(process.wait())
        try:
            async with asyncio.timeout(self._timeout):
                await asyncio.wait({reading, ending}, return_when=asyncio.FIRST_COMPLETED)
                if reading.done() and not reading.result()[1]:
                    return Verdict(False, f"{name} wrote more than {_MOST_OUTPUT} bytes")
                status = await ending  # its own end counts, not that of what it started and left behind
        except TimeoutError:
            return Verdict(False, f"{name} gave no answer within {self._timeout:g} s")
        finally:
            await _end(process, reader, reading, ending)
        text = said(reading.result()[0])
        if status == 0:
            return Verdict(True, text)
        how = f"signal {-status}" if status < 0 else f"status {status}"
        return Verdict(False, f"{name} ended with {how}{f': {text}' if text else ''}")

    async def _started(self, question: Question, writes: FileIO) -> asyncio.subprocess.Process:
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
            return await asyncio.create_subprocess_exec(
                *self._command,
                stdin=told,
                stdout=writes,
                stderr=writes,
                env=environment,
                cwd="/",
                start_new_session=True,  # so that what it starts ends with it
            )
        finally:
            os.close(told)
            writes.close()


async def _end(
    process: asyncio.subprocess.Process,
    reader: asyncio.StreamReader,
    reading: asyncio.Task[tuple[bytes, bool]],
    ending: asyncio.Task[int],
) -> None:
    """It and what it started are gone, and what was written is read. A program that we may not kill (it became another
    user), or a child that left the session and holds the pipe, holds up nobody."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(ProcessLookupError, PermissionError):
        process.kill()
    await asyncio.wait({reading, ending}, timeout=_REST_SECONDS)
    reader.feed_eof()
    ending.cancel()
    await asyncio.gather(reading, ending, return_exceptions=True)


@asynccontextmanager
async def _output() -> AsyncIterator[tuple[asyncio.StreamReader, FileIO]]:
    """What a program writes, and where to. (Not a pipe of asyncio's own: a process with one of those ends, for it, when
    the last of its children closes that.) Raises OSError."""
    reads, writes = os.pipe()
    reader = asyncio.StreamReader()
    with os.fdopen(writes, "wb", buffering=0) as end:
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reads, "rb", buffering=0)
        )
        try:
            yield reader, end
        finally:
            transport.close()


def _readable(content: bytes) -> int:
    """A file in memory: unlike a pipe, it does not mind a program that does not read it."""
    handle = os.memfd_create("question", os.MFD_CLOEXEC)
    os.write(handle, content)
    os.lseek(handle, 0, os.SEEK_SET)
    return handle


async def _read(reader: asyncio.StreamReader) -> tuple[bytes, bool]:
    """What was written until it ended, or nobody waits any more, and whether it is little enough."""
    output = b""
    while len(output) <= _MOST_OUTPUT:
        part = await reader.read(_MOST_OUTPUT)
        if not part:
            return output, True
        output += part
    return output, False
