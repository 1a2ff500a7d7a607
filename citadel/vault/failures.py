"""What Vault and the way to it answer when it does not work, as our errors: what, where, and how to mend it.

Status codes as in Vault's and OpenBao's API documentation ("HTTP status codes", and `sys/health` for 472 and 473).
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from datetime import timedelta
from http.client import HTTPException, IncompleteRead

from citadel.errors import CitadelError, FailedPrecondition, NotFound, PermissionDenied, Unauthenticated, Unavailable
from citadel.vault.connections import NotConnected

_LONGEST = 300
_NO_USE = "but only had usage"
#: When it is worth asking again for what does not work now.
LATER = timedelta(seconds=5)
#: What it says when it has no such namespace.
NO_NAMESPACE = "namespace not found"


class TryAgain(Exception):
    """Another address, or the same one a moment later, may do it. `undone`: the call was surely not carried out.
    `hung`: it took the call, and all the time that there was."""

    def __init__(self, error: CitadelError, *, undone: bool, hung: bool = False) -> None:
        super().__init__(error.message)
        self.error = error
        self.undone = undone
        self.hung = hung


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
        case 404 if NO_NAMESPACE in said:
            return NotFound(f"{where} has no such namespace ({path}): {said}", mend="correct vault.namespace")
        case 404:
            return NotFound(
                f"{where} has nothing at {path}" + (f": {said}" if said else ""),
                mend="compare mount, issuer, key, role and namespace in the configuration with what Vault has",
            )
        case 500 if _NO_USE in said:  # it was retired or revoked
            return FailedPrecondition(
                f"{where} refused {path}: {said}", mend="see what became of the issuer: citadel vault status"
            )
        case 500 if "unable to find PKI issuer" in said:
            return NotFound(f"{where} has no such issuer ({path}): {said}", mend="pin one that is there")
        case 500 if "active cluster node not found" in said:
            return TryAgain(
                _unavailable(f"{where} stands by, and its cluster has no active node ({path})"), undone=True
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


def of_transport(error: NotConnected | OSError | HTTPException, address: str, path: str) -> TryAgain:
    """What kept the call from being answered. Once there was a connection, it may have been carried out, unless TLS
    itself was refused (in TLS 1.3 a client learns that from its first read)."""
    where = f"Vault at {address}"
    match error:
        case NotConnected(error=TimeoutError()):
            return TryAgain(_unavailable(f"{where} does not let us connect in time"), undone=True)
        case NotConnected(error=ssl.SSLError() as why) if not isinstance(why, ssl.SSLEOFError):
            return TryAgain(_unavailable(f"{where}: {_tls(str(why))[0]}", _tls(str(why))[1]), undone=True)
        case NotConnected(error=why):
            mend = "check vault.addresses, and whether it runs"
            return TryAgain(
                _unavailable(f"{where} cannot be reached: {shown(why.strerror or str(why))}", mend), undone=True
            )
        case TimeoutError():
            return TryAgain(_unavailable(f"{where} did not answer {path} in time"), undone=False, hung=True)
        case ssl.SSLError() if "ALERT" in str(error):
            return TryAgain(_unavailable(f"{where}: {_tls(str(error))[0]}", _tls(str(error))[1]), undone=True)
        case OSError() | IncompleteRead():
            mend = "see whether it was restarted, and what is between it and us"
            return TryAgain(_unavailable(f"{where} cut the connection during {path}", mend), undone=False)
        case _:
            return garbage(address, path, f"it is not HTTP ({type(error).__name__})")


def of_files(error: OSError, address: str) -> TryAgain:
    """The files of TLS cannot be used, so nothing was sent."""
    said = shown(str((error.reason if isinstance(error, ssl.SSLError) else error.strerror) or error))
    mend = "correct vault.ca_file, vault.client_cert and vault.client_key"
    return TryAgain(
        _unavailable(f"Vault at {address} is not asked, for the files of TLS cannot be used: {said}", mend), undone=True
    )


def of_address(address: str) -> TryAgain:
    return TryAgain(_unavailable(f"{shown(address)} is no address of a Vault", "correct vault.addresses"), undone=True)


def unsendable(address: str, path: str) -> TryAgain:
    why = "the token or the namespace has characters that no header may have"
    return TryAgain(_unavailable(f"Vault at {address} is not asked for {path}: {why}", "correct it"), undone=True)


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
