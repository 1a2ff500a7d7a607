"""Wrapped secrets: what the file holds opens the secret once, so that whoever read it on its way is found out.

Opened, the secret is kept in memory for later logins; a restart needs another wrapping (API docs, "Response wrapping").
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping

from citadel.errors import FailedPrecondition, NotFound, PermissionDenied, Unauthenticated
from citadel.vault.transport import Reply

#: Sends one call: method, path, body, token, whether it may be repeated.
Send = Callable[[str, str, Mapping[str, object] | None, str, bool], Awaitable[Reply]]
_SECRET = re.compile(r"[!-~]{1,8192}")
_TOKENS = re.compile(r"auth/token/create(-orphan|/[^/]+)?")


class Wrapping:
    """Opens wrappings, each once. `send` as Session does it."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._opened = ""
        self._secret = ""

    async def token(self, wrapping: str) -> str:
        """The token in it. Raises Unauthenticated if it was opened before, or holds something else."""
        return await self._open(wrapping, _TOKENS, "token")

    async def secret_id(self, wrapping: str, mount: str) -> str:
        """The AppRole's secret id in it. Raises as `token`."""
        return await self._open(wrapping, re.compile(rf"auth/{re.escape(mount)}/role/[^/]+/secret-id"), "secret id")

    async def _open(self, wrapping: str, made_at: re.Pattern[str], what: str) -> str:
        if wrapping == self._opened:
            return self._secret
        try:
            found = (await self._send("post", "sys/wrapping/lookup", {"token": wrapping}, "", True)).data
            path = str(found.get("creation_path"))
            if not made_at.fullmatch(path):  # else anybody could hand us a wrapping of a secret of his own
                raise Unauthenticated(f"the wrapping in the file was made at {path[:100]}: it holds no {what}")
            reply = await self._send("post", "sys/wrapping/unwrap", {}, wrapping, False)
        except (FailedPrecondition, NotFound, PermissionDenied) as error:
            raise Unauthenticated(
                f"the wrapped {what} cannot be opened: {error.message}",
                mend="wrap a new one into the file. If Citadel did not open this one itself, at an earlier start, "
                "somebody else did, and has the secret: revoke it",
            ) from None
        secret = reply.auth.get("client_token") if what == "token" else reply.data.get("secret_id")
        if not isinstance(secret, str) or not _SECRET.fullmatch(secret):
            raise Unauthenticated(f"the wrapping in the file holds no {what}", mend="wrap a new one into the file")
        self._opened, self._secret = wrapping, secret
        return secret
