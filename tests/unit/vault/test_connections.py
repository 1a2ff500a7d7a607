"""How one call comes back over connections that are kept: what a server and what is between may do to it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from citadel.vault import GivenToken, VaultAccess, connections
from citadel.vault.failures import TryAgain
from citadel.vault.transport import Transport

WHOLE = b'HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{"data":{"a":"b"}}'
CHUNKED = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{"data":\r\n9\r\n{"a":"b"}\r\n1\r\n}\r\n0\r\n\r\n'


class Listener:
    """Answers each call with what comes next: bytes at once, or a function that writes them."""

    def __init__(self) -> None:
        self.answers: list[bytes | Callable[[socket.socket], None]] = []
        self.accepted = 0
        self.closes_after = False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # else the thread that waits keeps it open
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while connection.recv(65536):
                answer = self.answers.pop(0)
                if callable(answer):
                    answer(connection)
                    return
                connection.sendall(answer)
                if self.closes_after:
                    return


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


@pytest.fixture
def transport(listener: Listener) -> Iterator[Transport]:
    made = Transport(VaultAccess((listener.address,), GivenToken("t", "here"), timeout=timedelta(seconds=0.5)))
    yield made
    made.close()


def asked(transport: Transport, listener: Listener) -> object:
    return transport.send(listener.address, "get", "sys/x", None, "a-token").data


def test_one_connection_serves_call_after_call_whole_or_in_chunks(listener: Listener, transport: Transport) -> None:
    listener.answers = [WHOLE, CHUNKED, WHOLE]
    assert [asked(transport, listener) for _ in range(3)] == [{"a": "b"}] * 3
    assert listener.accepted == 1


def test_one_that_was_closed_while_idle_is_not_used(
    listener: Listener, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_FRESH", 0.0)
    listener.closes_after = True
    for _ in range(3):
        listener.answers = [WHOLE]
        assert asked(transport, listener) == {"a": "b"}
        time.sleep(0.05)  # a server's end is not told by anything but the connection
    assert listener.accepted == 3


def drips(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
    for _ in range(100):
        time.sleep(0.05)
        connection.sendall(b" ")


def pours(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b" " * 65536)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (drips, "did not answer sys/x in time"),
        (pours, "it is larger than"),
        (WHOLE[:-3], "cut the connection during sys/x|did not answer"),
        (CHUNKED[:-12], "cut the connection during sys/x|did not answer"),
        (b"", "did not answer sys/x in time"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "it is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n[{}]", "it is not an object of JSON"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + b"[" * 50000, "it is not an object of JSON"),
    ],
)
def test_what_is_no_whole_answer_in_time_is_told_as_what_it_is(
    listener: Listener, transport: Transport, answer: bytes | Callable[[socket.socket], None], why: str
) -> None:
    listener.answers = [answer]
    began = time.monotonic()
    with pytest.raises(TryAgain, match=why) as caught:
        asked(transport, listener)
    assert time.monotonic() - began < 3  # a drip would go on for five seconds
    assert not caught.value.undone  # it may have been carried out
    listener.answers = [WHOLE]
    assert asked(transport, listener) == {"a": "b"}  # nothing of it is left in the next answer


def test_where_nobody_listens_nothing_was_carried_out(listener: Listener, transport: Transport) -> None:
    listener.close()
    with pytest.raises(TryAgain, match="cannot be reached: Connection refused") as caught:
        asked(transport, listener)
    assert caught.value.undone


def test_files_of_tls_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    nowhere, empty = tmp_path / "nowhere.pem", tmp_path / "empty.pem"
    empty.write_text("no certificate\n")
    for path in (nowhere, empty):
        access = VaultAccess(("https://127.0.0.1:9",), GivenToken("t", "here"), ca_file=path)
        with pytest.raises(TryAgain, match="the files of TLS cannot be used") as caught:
            Transport(access).send(access.addresses[0], "get", "sys/x", None, "a-token")
        assert "vault.ca_file" in caught.value.error.sentence()


def test_a_token_that_no_header_may_hold_is_not_sent_and_not_shown(listener: Listener, transport: Transport) -> None:
    with pytest.raises(TryAgain, match="characters that no header may have") as caught:
        transport.send(listener.address, "get", "sys/x", None, "s.secret\nX-Other: 1")
    assert "s.secret" not in caught.value.error.sentence()
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
