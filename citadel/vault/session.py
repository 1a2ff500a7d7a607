"""Session: signed in to Vault, and kept so; every call bounded, retried and failed over, off the event loop."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import stamina
import structlog

from citadel.clock import Clock
from citadel.errors import (
    AnswerLost,
    CitadelError,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from citadel.vault.access import AppRoleSignIn, GivenToken, TokenSignIn, VaultAccess
from citadel.vault.failures import LATER, NO_NAMESPACE, TryAgain, garbage, shown
from citadel.vault.standing import Held, NoMeter, ServerState, SessionStatus, VaultMeter
from citadel.vault.transport import Reply, Transport
from citadel.vault.wrapping import Wrapping

_ATTEMPTS = 4
_BETWEEN_LOGINS = 5.0  # seconds: a 403 does not make a flood of logins
_SOONEST, _LONGEST_WAIT = 1.0, 60.0
_PAUSE = 2.0  # seconds: after a call that no address answered, the next ones do not wait for the same
_HEALTH = "sys/health?standbyok=true&perfstandbyok=true&sealedcode=200&uninitcode=200"
_TOKEN = re.compile(r"[!-~]{1,8192}")  # it goes into a header
_LONGEST_LIFE = 100 * 365 * 86400.0  # seconds
_MOST_POLICIES = 64
_IDLE = 300.0  # seconds: how often a token without an end is looked at
log = structlog.get_logger("citadel.vault")


class Session:
    """Safe to use from many tasks of one event loop. `run` keeps it signed in until cancelled; without it, whoever
    calls signs in when that is needed. `spread(low, high)` is the source of jitter."""

    def __init__(
        self,
        access: VaultAccess,
        clock: Clock,
        *,
        spread: Callable[[float, float], float] = random.uniform,
        meter: VaultMeter | None = None,
    ) -> None:
        self._access = access
        self._clock = clock
        self._spread = spread
        self._transport = Transport(access)
        self._wrapping = Wrapping(self._send)
        self._threads = ThreadPoolExecutor(access.threads, thread_name_prefix="vault")
        self._room = asyncio.Semaphore(access.threads)
        self._turn = asyncio.Lock()
        self._news = asyncio.Event()
        self._held: Held | None = None
        self._logged_in_at = float("-inf")
        self._active = 0
        self._away: CitadelError | None = None  # no address answered, a moment ago
        self._away_until = 0.0
        self._fault = ""
        self._since = clock.now()
        self._last_fault, self._last_fault_at = "", clock.now()
        self._server: ServerState | None = None
        self._meter: VaultMeter = meter or NoMeter()

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        repeat: bool = True,
        optional: bool = False,
    ) -> Reply:
        """One call of Vault's API. `repeat` False: what may have been carried out is not asked for again. `optional`:
        we do without it where the policy does not permit it, so that is no fault, and no reason to log in again.

        Raises Unavailable (AnswerLost: it may have been carried out); Unauthenticated if we cannot sign in;
        PermissionDenied, NotFound, FailedPrecondition.
        """
        held = await self._signed_in()
        try:
            return await self._send(method, path, body, held.token, repeat)
        except (PermissionDenied, Unauthenticated) as error:
            if optional and isinstance(error, PermissionDenied):
                raise
            again = await self._after_refusal(held)
            if again is None:
                self._note(error)
                raise
        return await self._send(method, path, body, again.token, repeat)

    async def run(self) -> None:
        """Stay signed in: renew at two thirds of the token's life, log in again when it does not grow any more."""
        failures = 0
        while True:
            self._news.clear()
            try:
                async with self._turn:
                    await self._keep()
                failures, wait = 0, self._until_due()
            except CitadelError as error:
                failures += 1
                wait = self._spread(0.5, 1.0) * min(_SOONEST * 2**failures, _LONGEST_WAIT)
                log.warning("Vault: not signed in", reason=error.sentence(), next_try_seconds=round(wait, 1))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), wait)

    async def watch(self, every: timedelta) -> None:
        """Ask Vault again and again who we are, until cancelled: so `status` tells early what is wrong, and when it is
        over."""
        while True:
            with suppress(CitadelError):  # noted
                await self.call("get", "auth/token/lookup-self")
            await self._look_at_server()
            self._show()
            await asyncio.sleep(every.total_seconds() * self._spread(0.9, 1.1))

    def status(self) -> SessionStatus:
        held = self._held
        return SessionStatus(
            self._access.addresses[self._active],
            held.name if held else "",
            held.policies if held else (),
            held.until if held else None,
            held.since if held else None,
            self._fault,
            self._since if self._fault else None,
            self._last_fault,
            self._last_fault_at if self._last_fault else None,
            self._server,
        )

    async def close(self) -> None:
        """Give the threads back; a call that hangs ends by its own timeout."""
        self._held = None
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._transport.close()

    def __repr__(self) -> str:
        return f"Session({', '.join(self._access.addresses)}; {self._access.sign_in})"

    async def _look_at_server(self) -> None:
        """What the address that answered last says of itself; nothing of it is a fault of the session."""
        address = self._access.addresses[self._active]
        try:
            async with self._room:
                reply = await asyncio.get_running_loop().run_in_executor(
                    self._threads, self._transport.send, address, "get", _HEALTH, None, ""
                )
        except (TryAgain, CitadelError):
            self._server = None
            return
        said = reply.data
        self._server = ServerState(
            shown(str(said.get("version") or "")),
            shown(str(said.get("cluster_name") or "")),
            said.get("initialized") is True,
            said.get("sealed") is True,
            said.get("standby") is True,
        )

    def _show(self) -> None:
        server, held = self._server, self._held
        self._meter.vault(
            up=not self._fault,
            sealed=server is not None and server.sealed,
            standby=server is not None and server.standby,
            token_ends=held.until if held else None,
        )

    # --- signing in; with the turn

    async def _signed_in(self) -> Held:
        held = self._held
        if held is not None and not self._over(held):
            return held
        async with self._turn:
            if self._held is None or self._over(self._held):
                await self._log_in()
            assert self._held is not None
            return self._held

    async def _after_refusal(self, refused: Held) -> Held | None:
        """Another token than the refused one, if there is any to be had now."""
        async with self._turn:
            if self._held is not None and self._held.token != refused.token:
                return self._held
            if self._clock.monotonic() - self._logged_in_at < _BETWEEN_LOGINS:
                return None
            self._held = None
            try:
                await self._log_in()
            except Unauthenticated:
                raise
            except CitadelError:
                self._held = refused
                return None
            self._news.set()
            return self._held

    async def _keep(self) -> None:
        if self._held is None or self._over(self._held):
            await self._log_in()
        elif self._held.ttl and self._until_due() <= 0:
            await self._renew(self._held)

    async def _renew(self, held: Held) -> None:
        if not held.renewable:
            await self._log_in()
            return
        try:
            reply = await self._send("post", "auth/token/renew-self", {}, held.token, True)
        except (PermissionDenied, Unauthenticated, FailedPrecondition, NotFound):
            await self._log_in()
            return
        renewed = self._read_auth(reply.auth, "auth/token/renew-self", held.full)
        if renewed.ttl and renewed.ttl < held.full / 2 and not isinstance(self._access.sign_in, TokenSignIn):
            await self._log_in()  # its greatest age is near: renewing adds less each time
        else:
            self._held = renewed

    async def _log_in(self) -> None:
        sign_in = self._access.sign_in
        self._logged_in_at = self._clock.monotonic()
        try:
            if isinstance(sign_in, TokenSignIn | GivenToken):
                token = await asyncio.to_thread(sign_in.token)
                if isinstance(sign_in, TokenSignIn) and sign_in.wrapped:
                    token = await self._wrapping.token(token)
                held = await self._look_up(token)
            else:
                login = await asyncio.to_thread(sign_in.login)
                body = dict(login.body)
                if isinstance(sign_in, AppRoleSignIn) and sign_in.wrapped:
                    body["secret_id"] = await self._wrapping.secret_id(body["secret_id"], sign_in.mount)
                reply = await self._send("post", login.path, body, "", True)
                held = self._read_auth(reply.auth, login.path, None)
        except (FailedPrecondition, PermissionDenied, NotFound) as error:
            mend = error.mend if NO_NAMESPACE in error.message else _mend(sign_in)
            refusal = Unauthenticated(f"cannot sign in to Vault with {sign_in}: {error.message}", mend=mend)
            self._note(refusal)
            raise refusal from None
        except CitadelError as error:
            self._note(error)
            raise
        self._held = held
        log.info("signed in to Vault", name=held.name, policies=held.policies, until=_iso(held.until))

    async def _look_up(self, token: str) -> Held:
        """Of a token from a file Vault says only here how long it lives."""
        data = (await self._send("get", "auth/token/lookup-self", None, token, True)).data
        ttl = self._life(data.get("ttl"), "auth/token/lookup-self")
        return Held(
            token,
            ttl,
            data.get("renewable") is True,
            self._clock.monotonic(),
            self._clock.now(),
            shown(str(data.get("display_name") or "token")),
            _policies(data.get("policies")),
            ttl,
        )

    def _read_auth(self, auth: Mapping[str, Any], path: str, full: float | None) -> Held:
        token = auth.get("client_token")
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise garbage(self._access.addresses[self._active], path, "there is no token in it").error
        ttl = self._life(auth.get("lease_duration"), path)
        metadata = auth.get("metadata")
        role = (
            next((str(metadata[k]) for k in ("role_name", "role", "cert_name") if k in metadata), "")
            if (isinstance(metadata, dict))
            else ""
        )
        return Held(
            token,
            ttl,
            auth.get("renewable") is True,
            self._clock.monotonic(),
            self._clock.now(),
            shown(role or str(self._access.sign_in)),
            _policies(auth.get("policies")),
            ttl if full is None else full,
        )

    def _life(self, value: object, path: str) -> float:
        try:
            return _seconds(value)
        except ValueError as error:
            raise garbage(self._access.addresses[self._active], path, str(error)).error from None

    def _until_due(self) -> float:
        """Seconds until the token is to be renewed: two thirds of its life, less up to a tenth of that."""
        held = self._held
        if held is None:
            return 0.0
        if not held.ttl:
            return _IDLE
        due = held.ticks + held.ttl * 2 / 3
        left = due - self._clock.monotonic()
        return left if left <= 0 else max(min(_SOONEST, left), left * self._spread(0.9, 1.0))

    def _over(self, held: Held) -> bool:
        return bool(held.ttl) and self._clock.monotonic() >= held.ticks + held.ttl

    # --- sending

    async def _send(self, method: str, path: str, body: Mapping[str, object] | None, token: str, repeat: bool) -> Reply:
        began = self._clock.monotonic()
        try:
            try:
                reply = await self._round(method, path, body, token, repeat)
            except TryAgain:  # what makes attempts costs more than the call, so it is got out only now
                await asyncio.sleep(self._spread(0.05, 0.1))
                reply = await self._more_rounds(method, path, body, token, repeat)
        except TryAgain as caught:
            self._note(caught.error)
            self._leave_alone(caught.error)
            self._meter.vault_call("unavailable", self._clock.monotonic() - began)
            raise caught.error from None
        except CitadelError as error:
            result = "unavailable" if isinstance(error, Unavailable) else "refused"
            self._meter.vault_call(result, self._clock.monotonic() - began)
            raise
        self._note(None)
        self._away = None
        self._meter.vault_call("ok", self._clock.monotonic() - began)
        return reply

    async def _more_rounds(
        self, method: str, path: str, body: Mapping[str, object] | None, token: str, repeat: bool
    ) -> Reply:
        longest = self._access.timeout * len(self._access.addresses)
        async for attempt in stamina.retry_context(
            on=TryAgain, attempts=_ATTEMPTS - 1, timeout=longest, wait_initial=0.2, wait_max=2.0
        ):
            with attempt:
                return await self._round(method, path, body, token, repeat)
        raise AssertionError("it ends with an answer, or an error")

    async def _round(
        self, method: str, path: str, body: Mapping[str, object] | None, token: str, repeat: bool
    ) -> Reply:
        """Each address once, from the one that answered last, as it is when there is room for the call."""
        first, last = None, None
        for step in range(len(self._access.addresses)):
            try:
                async with self._room:
                    self._refuse_if_left_alone()
                    first = self._active if first is None else first
                    index = (first + step) % len(self._access.addresses)
                    reply = await asyncio.get_running_loop().run_in_executor(
                        self._threads, self._transport.send, self._access.addresses[index], method, path, body, token
                    )
            except TryAgain as caught:
                if not caught.undone and not repeat:
                    self._note(caught.error)
                    if caught.hung:
                        self._turn_from(index, caught.error)
                    raise AnswerLost(caught.error.message, mend=caught.error.mend, retry_after=LATER) from None
                last = caught
                continue
            self._active = index
            return reply
        assert last is not None  # there is at least one address
        raise last

    def _turn_from(self, index: int, error: CitadelError) -> None:
        """This address takes calls and does not answer: who comes next does not wait for it as long."""
        if len(self._access.addresses) > 1:
            self._active = (index + 1) % len(self._access.addresses)
        else:
            self._leave_alone(error)

    def _leave_alone(self, error: CitadelError) -> None:
        self._away, self._away_until = error, self._clock.monotonic() + _PAUSE

    def _refuse_if_left_alone(self) -> None:
        if self._away is not None and self._clock.monotonic() < self._away_until:
            raise Unavailable(self._away.message, mend=self._away.mend, retry_after=LATER)

    def _note(self, error: CitadelError | None) -> None:
        fault = error.sentence() if error else ""
        if bool(fault) != bool(self._fault):
            self._since = self._clock.now()
            if fault:
                log.warning("Vault does not do what we ask", reason=fault)
            else:
                log.info("Vault does what we ask again")
        if fault or self._fault:
            self._last_fault, self._last_fault_at = fault or self._fault, self._clock.now()
        self._fault = fault


def _mend(sign_in: object) -> str:
    if isinstance(sign_in, TokenSignIn | GivenToken):
        return "it has expired, was revoked, or is another Vault's: put a new one into the file"
    return "check [vault.auth]: role, mount and secret, and whether a secret id is used up or expired"


def _seconds(value: object) -> float:
    """How long a token lives; 0: for ever. Raises ValueError: a life that cannot be read is none."""
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LONGEST_LIFE:
        raise ValueError(f"a token's life of {shown(str(value))[:40]}")
    return float(value)


def _policies(value: object) -> tuple[str, ...]:
    return tuple(shown(str(one)) for one in value[:_MOST_POLICIES]) if isinstance(value, list) else ()


def _iso(moment: datetime | None) -> str:
    return moment.isoformat() if moment else "no end"
