"""Files of roots from outside: which go together, and that nothing is overwritten that is not a request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from citadel.cli.root_brought import Files, _refuse_other, _write
from citadel.errors import AlreadyExists, InvalidInput

REQUEST = b"-----BEGIN CERTIFICATE REQUEST-----\nMA==\n-----END CERTIFICATE REQUEST-----\n"


def test_a_request_takes_the_place_of_an_older_one_or_of_nothing(tmp_path: Path) -> None:
    file = tmp_path / "ca.csr"
    for _ in range(2):
        _refuse_other(file)
        _write(file, REQUEST)
    assert file.read_bytes() == REQUEST


def test_nothing_else_is_overwritten(tmp_path: Path) -> None:
    key, link, huge = tmp_path / "root.key", tmp_path / "ca.csr", tmp_path / "huge"
    key.write_bytes(b"-----BEGIN PRIVATE KEY-----\n")
    link.symlink_to(key)
    huge.write_bytes(bytes(2_000_000))
    for file in (key, link, huge, tmp_path):
        with pytest.raises(AlreadyExists, match="is no request"):
            _refuse_other(file)
    with pytest.raises(OSError, match="symbolic"):
        _write(link, REQUEST)  # that came there meanwhile
    assert key.read_bytes() == b"-----BEGIN PRIVATE KEY-----\n"


_A = Path("a.pem")


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"cert_in": _A, "cert": _A, "key": _A}, "take one"),
        ({"cert_in": _A, "to": "disk"}, "leave --to out"),
        ({"cert": _A, "key": _A, "to": "cacerts"}, "leave --to out"),
        ({"csr_out": _A, "to": "vault"}, "leave --to out"),
        ({"folder": _A, "to": "disk"}, "a folder goes with --to cacerts"),
        ({"key": _A}, "go together"),
        ({"csr_out": _A, "cross_sign": True}, "--cross-sign goes with --cert-in"),
    ],
)
def test_what_does_not_go_together_is_refused(files: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        Files(**files)
