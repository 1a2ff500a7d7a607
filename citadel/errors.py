"""Every error that Citadel raises, each with its gRPC code, its HTTP code and what may be said of it in public."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from typing import ClassVar


class Code(IntEnum):
    """The gRPC status codes (grpc.github.io/grpc/core/md_doc_statuscodes.html), without importing grpc."""

    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class CitadelError(Exception):
    """Base of everything that Citadel raises on purpose.

    CitadelError
     ├── InvalidInput           the caller's data is wrong; nothing was changed      (400)
     │    ├── BadSpiffeId       not a SPIFFE ID or trust domain
     │    ├── BadSelector       not a selector
     │    ├── BadCsr            a certificate signing request that the gate refuses
     │    └── BadFile           a file with mistakes, all of them at once
     ├── NotFound               there is no such thing                               (404)
     ├── AlreadyExists          there is one already                                 (409)
     │    └── Conflicts         of many things several, all of them at once
     ├── Unauthenticated        we do not know who you are                           (401)
     ├── PermissionDenied       we know, and the answer is no                        (403)
     ├── ResourceExhausted      a quota is used up                                   (429)
     ├── FailedPrecondition     the data is fine, the state of things is not         (409)
     │    ├── UnsafePermissions others may read or write what only we should
     │    └── NewerDatabase     the database was written by a newer program
     ├── Aborted                somebody else changed it first; read again, retry    (409)
     ├── Unavailable            try again; `retry_after` says when                   (503)
     │    └── AnswerLost        it was asked for, and may have been done
     └── InternalFault          a defect or a broken invariant; the log has the rest (500)

    `message` is for the one who can mend it: what, where, what was expected. `mend`, when there is one, is a sentence
    that says what to do. `public` is what goes to a caller that is not trusted with the rest.
    """

    code: ClassVar[Code] = Code.INTERNAL
    http: ClassVar[int] = 500
    public: ClassVar[str] = "internal error"

    def __init__(self, message: str, *, mend: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.mend = mend

    def sentence(self) -> str:
        """One line: what is wrong, and how to mend it."""
        text = " ".join(self.message.split())
        return f"{text}; {self.mend}" if self.mend else text


class InvalidInput(CitadelError):
    code, http, public = Code.INVALID_ARGUMENT, 400, "invalid request"


class BadSpiffeId(InvalidInput):
    def __init__(self, text: str, why: str, *, what: str = "SPIFFE ID") -> None:
        shown = text if len(text) <= 120 else text[:117] + "..."
        super().__init__(f"{shown!r} is not a {what}: {why}")


class BadSelector(InvalidInput):
    def __init__(self, text: str, why: str) -> None:
        shown = text if len(text) <= 120 else text[:117] + "..."
        super().__init__(f"{shown!r} is not a selector: {why}")


class BadCsr(InvalidInput):
    public = "the certificate signing request was refused"


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake in a file that a user wrote. Lines and columns count from 1; 0 means not known.

    `document` names one of several things that a file holds: `AuthorizationPolicy shop/allow-web`.
    """

    file: str
    field: str
    message: str
    line: int = 0
    column: int = 0
    document: str = ""

    def __str__(self) -> str:
        place = self.file
        if self.line:
            place += f":{self.line}"
            if self.column:
                place += f":{self.column}"
        return ": ".join(filter(None, [place, self.document, self.field, self.message]))


class BadFile(InvalidInput):
    """A file, or several, with everything that is wrong with them. `unsafe`: that is, that others may touch it."""

    def __init__(self, mistakes: Sequence[Mistake], *, mend: str = "", unsafe: bool = False) -> None:
        self.mistakes = tuple(mistakes)
        self.unsafe = unsafe
        super().__init__("\n".join(str(m) for m in self.mistakes), mend=mend)

    def sentence(self) -> str:
        return "\n".join([*(str(m) for m in self.mistakes), *([self.mend] if self.mend else [])])


class NotFound(CitadelError):
    code, http, public = Code.NOT_FOUND, 404, "not found"


class AlreadyExists(CitadelError):
    code, http, public = Code.ALREADY_EXISTS, 409, "already exists"


class Conflicts(AlreadyExists):
    """`message` has a line for each."""

    def sentence(self) -> str:
        return self.message


class Unauthenticated(CitadelError):
    code, http, public = Code.UNAUTHENTICATED, 401, "unauthenticated"


class PermissionDenied(CitadelError):
    code, http, public = Code.PERMISSION_DENIED, 403, "permission denied"


class ResourceExhausted(CitadelError):
    code, http, public = Code.RESOURCE_EXHAUSTED, 429, "resource exhausted"


class FailedPrecondition(CitadelError):
    code, http, public = Code.FAILED_PRECONDITION, 409, "failed precondition"


class UnsafePermissions(FailedPrecondition): ...


class NewerDatabase(FailedPrecondition): ...


class Aborted(CitadelError):
    code, http, public = Code.ABORTED, 409, "changed by somebody else"


class Unavailable(CitadelError):
    code, http, public = Code.UNAVAILABLE, 503, "unavailable, try again"

    def __init__(self, message: str, *, mend: str = "", retry_after: timedelta = timedelta(seconds=1)) -> None:
        super().__init__(message, mend=mend)
        self.retry_after = retry_after


class AnswerLost(Unavailable): ...


class InternalFault(CitadelError): ...
