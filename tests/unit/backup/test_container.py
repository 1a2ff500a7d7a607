"""The file of a backup: who opens it, and that no byte of it can change, be missing or be added."""

from __future__ import annotations

import io
import os

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from citadel.backup import Identity, Passphrase, PublicKey, open_container, seal_container
from citadel.backup.container import CHUNK, MAGIC
from citadel.backup.recipients import Opener, Recipient
from citadel.errors import CitadelError, FailedPrecondition, InvalidInput, PermissionDenied

KEY = X25519PrivateKey.generate()


def sealed(content: bytes, *recipients: Recipient) -> bytes:
    file = io.BytesIO()
    seal_container(file, [content[:7], content[7:]], recipients or (PublicKey(KEY.public_key()),))
    return file.getvalue()


def opened(file: bytes, opener: Opener | None = None) -> bytes:
    return b"".join(open_container(io.BytesIO(file), lambda: opener or Identity(KEY)))


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 5])
def test_what_was_sealed_is_what_is_opened(size: int) -> None:
    content = os.urandom(size)
    file = sealed(content)
    assert opened(file) == content
    assert size < 16 or content[:16] not in file


def test_a_passphrase_opens_it_and_another_one_does_not() -> None:
    file = sealed(b"content", Passphrase("correct horse battery"))
    assert opened(file, Passphrase("correct horse battery")) == b"content"
    with pytest.raises(PermissionDenied, match="scrypt"):
        opened(file, Passphrase("correct horse batterz"))


def test_each_of_several_recipients_opens_it_and_nobody_else() -> None:
    other, stranger = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    file = sealed(b"content", PublicKey(KEY.public_key()), PublicKey(other.public_key()))
    assert opened(file) == opened(file, Identity(other)) == b"content"
    with pytest.raises(PermissionDenied, match="x25519"):
        opened(file, Identity(stranger))
    with pytest.raises(PermissionDenied):
        opened(file, Passphrase("correct horse battery"))


def test_no_byte_of_it_can_change() -> None:
    file = sealed(os.urandom(40))
    for at in range(len(file)):
        with pytest.raises(CitadelError):
            opened(file[:at] + bytes([file[at] ^ 1]) + file[at + 1 :])


def test_no_piece_of_it_can_be_missing_swapped_or_added() -> None:
    file = sealed(os.urandom(3 * CHUNK))
    start, step = file.index(b"\n", len(MAGIC)) + 1, CHUNK + 16
    chunks = [file[at : at + step] for at in range(start, len(file), step)]
    assert len(chunks) == 3
    first, second, third = chunks
    wrong = [[first, second], [first], [], [second, first, third], [first, third], [*chunks, third], [*chunks, b"x"]]
    for pieces in wrong:
        with pytest.raises(FailedPrecondition, match="damaged"):
            opened(file[:start] + b"".join(pieces))
    for cut in range(0, len(file), 997):
        with pytest.raises(CitadelError):
            opened(file[:cut])


@pytest.mark.parametrize("n", [1 << 30, 3, 0, -1, "1024", None])
def test_a_file_cannot_ask_for_boundless_work(n: object) -> None:
    stanza = {"type": "scrypt", "salt": "AAAA", "wrapped": "AAAA", "n": n}
    with pytest.raises(InvalidInput, match="more work"):
        Passphrase("correct horse battery").unwrap(stanza)  # type: ignore[arg-type]  # as it could be in a file


@pytest.mark.parametrize(
    "header",
    [b"", b"{}", b"[]", b"nonsense", b'{"recipients": []}', b'{"recipients": [1]}', b'{"recipients": {}}',
     b"[" * 9000, b'{"recipients": [{"type": "scrypt"}, {"type": "scrypt"}]}', b" " * 20_000],
)  # fmt: skip
def test_a_header_that_is_none_is_refused(header: bytes) -> None:
    with pytest.raises(FailedPrecondition, match="header"):
        opened(MAGIC + header + b"\n")


def test_a_short_passphrase_and_no_recipient_are_refused() -> None:
    with pytest.raises(InvalidInput, match="3 characters"):
        Passphrase("abc")
    with pytest.raises(InvalidInput, match="recipients"):
        seal_container(io.BytesIO(), [b"x"], [])
    assert "correct" not in repr(Passphrase("correct horse battery"))
