"""./demo: see examples/demo/__init__.py. Exit status 0: all went well; 1: something did not; 130: Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from examples.demo.show import say, write
from examples.demo.story import Stage, Wishes, staged, tell


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="./demo",
        description="Citadel with two real Envoys under load.",
        epilog="Exit status: 0 if every request succeeded, every certificate was renewed often enough and the intruder "
        "got nothing; 1 if not, or if something could not be started; 2 for a wrong command line; 130 if interrupted.",
    )
    parser.add_argument("--keep", action="store_true", help="leave everything running, to play with, until Ctrl-C")
    parser.add_argument("--ttl", type=int, default=10, metavar="SECONDS", help="life of a certificate (default 10)")
    parser.add_argument("--renewals", type=int, default=3, metavar="N", help="renewals of each to wait for (default 3)")
    parser.add_argument("--rate", type=float, default=50, metavar="N", help="requests a second (default 50)")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="citadel-demo-"))
    folder.chmod(0o755)
    wishes = Wishes(folder, max(4, given.ttl), max(1, given.renewals), max(1.0, given.rate))
    failed = True
    try:
        failed = not asyncio.run(_run(wishes, keep=given.keep))
    except (KeyboardInterrupt, asyncio.CancelledError):
        say("interrupted; everything was stopped")
        failed = False
        return 130
    except (RuntimeError, OSError) as error:
        say(f"FAILED: {error}", bold=True)
    finally:
        if failed:
            say(f"logs: {folder / 'logs'}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return int(failed)


async def _run(wishes: Wishes, *, keep: bool) -> bool:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    async with staged(wishes) as stage:
        faults = await tell(stage, wishes)
        handshakes = stage.server.sight.handshakes if stage.server.sight else 0
        say(
            f"requests: {stage.tally.ok} ok, {stage.tally.failed} failed; mTLS handshakes: {handshakes}; "
            f"renewals: server {stage.server.renewals}, client {stage.client.renewals}"
        )
        for fault in faults:
            say(f"FAILED: {fault}", bold=True)
        if not faults:
            say("PASSED: every request succeeded while every certificate was renewed", bold=True)
        if keep:
            _invite(stage, wishes)
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        return not faults


def _invite(stage: Stage, wishes: Wishes) -> None:
    say("it goes on running; in another terminal:", bold=True)
    write(f"""
  export CITADEL_CONFIG={stage.config} PATH={Path(sys.executable).parent}:$PATH
  citadel status --clients
  citadel entry list
  citadel svid list
  citadel ca list
  python3 -c "import urllib.request as u; print(u.urlopen('http://127.0.0.1:{stage.client_port}/').status)"

The Envoys' files and all logs: {wishes.folder}. Ctrl-C ends everything.
""")


if __name__ == "__main__":
    sys.exit(main())
