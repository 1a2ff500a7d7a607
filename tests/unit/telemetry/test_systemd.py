from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from citadel.telemetry import Systemd


@pytest.fixture
def manager() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.settimeout(5)
        yield one


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told_where_it_listens(manager: socket.socket, tmp_path: Path, abstract: bool) -> None:
    name = f"@citadel-test-{tmp_path}"[:100] if abstract else str(tmp_path / "n")
    manager.bind("\0" + name[1:] if abstract else name)
    systemd = Systemd({"NOTIFY_SOCKET": name})
    systemd.ready("serving example.org")
    systemd.reloading()
    systemd.stopping()
    assert manager.recv(200) == b"READY=1\nSTATUS=serving example.org"
    assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=\d+", manager.recv(200))
    assert manager.recv(200) == b"STOPPING=1"


@pytest.mark.parametrize("env", [{}, {"NOTIFY_SOCKET": "/nowhere/at/all"}, {"NOTIFY_SOCKET": "/" + "x" * 300}])
def test_without_anybody_who_listens_nothing_happens(env: dict[str, str]) -> None:
    Systemd(env).ready("serving example.org")
