"""What Vault and the way to it answer when it does not work, as our errors: what, where, and how to mend it.

Status codes as in Vault's and OpenBao's API documentation ("HTTP status codes", and `sys/health` for 472 and 473).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import requests

from citadel.errors import CitadelError, FailedPrecondition, NotFound, PermissionDenied, Unauthenticated, Unavailable

_LONGEST = 300
#: When it is worth asking again for what does not work now.
LATER = timedelta(seconds=5)


class TryAgain(Exception):
    """Another address, or the same one a moment later, may do it. `undone`: the call was surely not carried out."""

    def __init__(self, error: CitadelError, *, undone: bool) -> None:
        super().__init__(error.message)
        self.error = error
        self.undone = undone


def of_status(status: int, errors: Iterable[str], address: str, path: str) -> CitadelError | TryAgain:
    """What a status that is no success means. `errors` is what Vault says, already free of secrets."""
    said = shown("; ".join(errors))
    where = f"Vault at {address}"
    match status:
        case 400 | 405:
            return FailedPrecondition(f"{where} refused {path}: {said or f'status {status}'}")
        case 401:
            return Unauthenticated(f"{where} does not know our token ({path}): {said}")
        case 403:
            return PermissionDenied(
                f"{where} does not permit us {path}: {said or 'permission denied'}",
                mend="run citadel vault check: it names what is missing, and prints the policy that mends it",
            )
        case 404:
            return NotFound(
                f"{where} has nothing at {path}" + (f": {said}" if said else ""),
                mend="compare mount, issuer, key, role and namespace in the configuration with what Vault has",
            )
        case 307 | 308 | 429 | 472 | 473:
            what = "limits how often it is asked" if status == 429 else "is a standby that does not forward"
            return TryAgain(_unavailable(f"{where} {what} ({path})", "add the address of the active node"), undone=True)
        case 412:
            return TryAgain(_unavailable(f"{where} has not caught up with its own writes yet ({path})"), undone=True)
        case 501:
            return TryAgain(_unavailable(f"{where} is not initialised", "initialise and unseal it"), undone=True)
        case 503:
            sealed = "sealed" in said.lower()
            mend = "unseal it" if sealed else "see its own status"
            return TryAgain(
                _unavailable(f"{where} is {'sealed' if sealed else 'not ready'}: {said}", mend), undone=True
            )
        case _:
            return TryAgain(_unavailable(f"{where} answered {path} with status {status}: {said}"), undone=False)


def of_transport(error: requests.RequestException, address: str, path: str) -> TryAgain:
    """What kept the call from being answered at all. The library's own text is left out where it may show the body."""
    where = f"Vault at {address}"
    if isinstance(error, requests.exceptions.SSLError):
        why, mend = _tls(str(error))
        return TryAgain(_unavailable(f"{where}: {why}", mend), undone=True)
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return TryAgain(_unavailable(f"{where} does not let us connect in time"), undone=True)
    if isinstance(error, requests.exceptions.Timeout):
        return TryAgain(_unavailable(f"{where} did not answer {path} in time"), undone=False)
    if isinstance(error, requests.exceptions.ConnectionError):
        text = str(error)
        refused = "Failed to establish" in text or "NameResolution" in text or "NewConnection" in text
        what = "cannot be reached" if refused else f"cut the connection during {path}"
        return TryAgain(_unavailable(f"{where} {what}", "check vault.addresses, and whether it runs"), undone=refused)
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        return TryAgain(_unavailable(f"{address} is no address of a Vault", "correct vault.addresses"), undone=True)
    return TryAgain(_unavailable(f"{where} broke off {path}: {type(error).__name__}"), undone=False)


def garbage(address: str, path: str, why: str) -> TryAgain:
    """An answer that cannot be what Vault says."""
    mend = "check that this address is Vault's, and not a proxy's or another service's"
    return TryAgain(_unavailable(f"{address} gave an answer to {path} that is not Vault's: {why}", mend), undone=False)


def shown(text: str) -> str:
    """A stranger's text for one of our sentences: one line, printable, never long."""
    line = " ".join(text.split())
    line = "".join(c if c.isprintable() else "?" for c in line)
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def _tls(text: str) -> tuple[str, str]:
    if "CERTIFICATE_VERIFY_FAILED" not in text:
        return "there is no TLS with it", "check that it speaks https, and takes our client certificate"
    if "expired" in text:
        return "its TLS certificate has expired", "renew it there"
    if "mismatch" in text or "doesn't match" in text:
        return "its TLS certificate is not for this name", "use the name that is in it"
    return "its TLS certificate is not signed by a CA that we trust", "set vault.ca_file to the CA that signed it"


def _unavailable(message: str, mend: str = "") -> Unavailable:
    return Unavailable(message, mend=mend, retry_after=LATER)
