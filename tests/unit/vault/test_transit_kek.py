"""What Vault calls a ciphertext is opened once before a key depends on it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import pytest

from citadel.errors import FailedPrecondition
from citadel.vault import TransitKek
from citadel.vault.session import Session


@dataclass
class Reply:
    data: dict[str, Any]


class ForgetfulVault:
    """Gives for each key the same plausible ciphertext, and on opening whatever `opened` makes of the key."""

    def __init__(self, opened: Callable[[str], object]) -> None:
        self._opened = opened
        self._key = ""

    async def call(self, _verb: str, path: str, body: Any = None) -> Reply:
        if "/keys/" in path:
            return Reply({"type": "aes256-gcm96"})
        if "/encrypt/" in path:
            self._key = body["plaintext"]
            return Reply({"ciphertext": f"vault:v1:{base64.b64encode(bytes(60)).decode()}"})
        found = self._opened(self._key)
        if isinstance(found, Exception):
            raise found
        return Reply({"plaintext": found})


@pytest.mark.parametrize(
    "opened",
    [
        base64.b64encode(bytes(32)).decode(),
        "",
        None,
        17,
        "not base64!",
        FailedPrecondition("cipher: message authentication failed"),
    ],
)
async def test_what_does_not_open_again_is_never_relied_on(opened: object) -> None:
    kek = TransitKek(cast("Session", ForgetfulVault(lambda _: opened)), "transit", "citadel")
    with pytest.raises(FailedPrecondition, match="does not open what it sealed"):
        await kek.seal(b"private", b"place")


async def test_what_opens_again_is() -> None:
    kek = TransitKek(cast("Session", ForgetfulVault(lambda key: key)), "transit", "citadel")
    assert b"private" not in await kek.seal(b"private", b"place")
