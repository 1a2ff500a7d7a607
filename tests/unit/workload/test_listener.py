"""Socket files: whose they may become, and what is said when they may not."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from citadel.errors import CitadelError, FailedPrecondition, InvalidInput, PermissionDenied, UnsafePermissions
from citadel.workload.listener import Listener, private_folder


def sentence(path: Path) -> str:
    with pytest.raises(CitadelError) as caught, Listener(path, mode=0o666):
        pass
    return caught.value.sentence()


def test_it_listens_with_its_mode_whatever_the_umask_is_and_leaves_nothing_behind(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with Listener(tmp_path / "run" / "a.sock", mode=0o666, group=os.getgid()):
            assert stat.S_IMODE((tmp_path / "run" / "a.sock").stat().st_mode) == 0o666
            assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o755
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(tmp_path / "run" / "a.sock"))
    finally:
        os.umask(before)
    assert not (tmp_path / "run" / "a.sock").exists()


def test_a_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 120)
    assert sentence(path) == f"the socket path {path} is longer than 107 bytes; choose a shorter one"
    with pytest.raises(InvalidInput), Listener(path, mode=0o600):
        pass


def test_a_path_of_107_bytes_is_not_too_long(tmp_path: Path) -> None:
    path = tmp_path / ("x" * (107 - len(os.fsencode(tmp_path)) - 1))
    with Listener(path, mode=0o600):
        assert path.is_socket()


def test_a_dead_owners_socket_is_cleaned_away(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "a.sock"))
    with Listener(tmp_path / "a.sock", mode=0o600), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "a.sock"))


def test_a_live_socket_of_another_citadel_is_not_stolen(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with Listener(path, mode=0o600) as first:
        assert sentence(path) == f"another program listens on {path} already; stop it, or choose another socket path"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            first.accept()[0].close()
    with Listener(path, mode=0o600):
        pass


def test_a_live_socket_of_some_other_program_is_not_stolen_even_if_it_is_too_busy_to_answer(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen(0)
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(str(path))
        assert "another program listens" in sentence(path)
        for client in waiting:
            client.close()


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_socket_is_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.sock"
    match kind:
        case "file":
            path.write_text("precious")
        case "folder":
            path.mkdir()
        case _:
            path.symlink_to(tmp_path / "elsewhere")
    assert sentence(path) == f"{path} is there, and is no socket; move it away"
    assert os.path.lexists(path)
    with pytest.raises(FailedPrecondition), Listener(path, mode=0o600):
        pass


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "a.sock"
    assert sentence(path) == f"the socket {path} cannot be made: Not a directory; check its folder and who owns it"
    with pytest.raises(PermissionDenied), Listener(path, mode=0o600):
        pass


def test_a_lock_that_is_a_link_or_somebody_elses_is_not_used(tmp_path: Path) -> None:
    lock = tmp_path / ".a.sock.lock"
    lock.symlink_to(tmp_path / "target")
    assert sentence(tmp_path / "a.sock") == f"{lock} is a symbolic link; remove it, and see who made it"
    assert not (tmp_path / "target").exists()
    lock.unlink()
    if os.geteuid() != 0:
        pytest.skip("only root can make a file that belongs to somebody else")
    lock.touch(0o666)
    os.chown(lock, 65534, 65534)
    assert sentence(tmp_path / "a.sock") == f"{lock} belongs to somebody else; remove it, and see who made it"


def test_the_private_folder_is_ours_alone(tmp_path: Path) -> None:
    made = private_folder(tmp_path / "a" / ".private")
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    made.chmod(0o777)
    assert stat.S_IMODE(private_folder(made).stat().st_mode) == 0o700


def test_a_private_folder_that_somebody_else_made_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").write_text("")
    for name in ("link", "file"):
        with pytest.raises(UnsafePermissions, match="must be a folder"):
            private_folder(tmp_path / name)
    if os.geteuid() == 0:
        (tmp_path / "others").mkdir()
        os.chown(tmp_path / "others", 65534, 65534)
        with pytest.raises(UnsafePermissions, match="must be a folder of uid 0"):
            private_folder(tmp_path / "others")
