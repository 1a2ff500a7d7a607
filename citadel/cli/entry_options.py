"""What the entry commands take on the command line, and how it becomes a draft."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer

from citadel.cli.completion import entry_ids
from citadel.config import EntryDraft, parse_duration
from citadel.config.entry_files import parse_moment
from citadel.errors import BadFile, CitadelError, Mistake
from citadel.registry.selectors import Selector
from citadel.spiffe import SpiffeId, TrustDomain

_T = TypeVar("_T")

IdArgument = Annotated[
    str, typer.Argument(help="Id of the entry.", metavar="ID", show_default=False, autocompletion=entry_ids)
]
SpiffeIdOption = Annotated[
    str | None, typer.Option("--spiffe-id", help="SPIFFE ID that the workload gets.", metavar="ID")
]
ParentOption = Annotated[
    str | None,
    typer.Option("--parent", help="SPIFFE ID of the node; a new entry's: the local one.", metavar="ID"),
]
SelectorOption = Annotated[
    list[str] | None,
    typer.Option(
        "--selector", help="What the process must be, as unix:uid:1000; all of those given.", metavar="TYPE:VALUE"
    ),
]
TtlOption = Annotated[
    str | None, typer.Option("--ttl", help="Lifetime of certificates, such as 30m; 0: the default.", metavar="TIME")
]
JwtTtlOption = Annotated[
    str | None,
    typer.Option("--jwt-ttl", help="Lifetime of JWT-SVIDs; none are issued yet.", metavar="TIME"),
]
DnsOption = Annotated[
    list[str] | None, typer.Option("--dns", help="DNS name in the certificate; the first one leads.", metavar="NAME")
]
HintOption = Annotated[
    str | None, typer.Option("--hint", help="What the workload tells its identities apart by.", metavar="TEXT")
]
ExpiresOption = Annotated[
    str | None, typer.Option("--expires", help="When it ends: 30d from now, or 2027-01-31T12:00:00Z.", metavar="TIME")
]
LabelOption = Annotated[
    list[str] | None, typer.Option("--label", help="Label that policies select by.", metavar="KEY=VALUE")
]
FederatesOption = Annotated[
    list[str] | None, typer.Option("--federates-with", help="Trust domain whose bundle it gets too.", metavar="NAME")
]
AdminOption = Annotated[
    bool | None, typer.Option("--admin/--no-admin", help="May administer servers, as in SPIRE.", show_default=False)
]
DownstreamOption = Annotated[
    bool | None,
    typer.Option("--downstream/--no-downstream", help="Is a downstream server, as in SPIRE.", show_default=False),
]
StoreSvidOption = Annotated[
    bool | None,
    typer.Option("--store-svid/--no-store-svid", help="Is kept in a secret store, as in SPIRE.", show_default=False),
]


class Given:
    """Reads what was given, option by option, and keeps every mistake until all of it was looked at."""

    def __init__(self) -> None:
        self._mistakes: list[Mistake] = []

    def one(self, option: str, text: str | None, parse: Callable[[str], _T]) -> _T | None:
        """The option's value; None if it was not given, or is wrong."""
        if text is None:
            return None
        try:
            return parse(text)
        except CitadelError as error:
            self.wrong(option, error.message)
        except ValueError as error:
            self.wrong(option, str(error))
        return None

    def many(self, option: str, texts: Iterable[str] | None, parse: Callable[[str], _T]) -> list[_T]:
        read = (self.one(option, text, parse) for text in texts or ())
        return [value for value in read if value is not None]

    def wrong(self, option: str, message: str) -> None:
        self._mistakes.append(Mistake(option, "", message))

    def check(self) -> None:
        """Raises BadFile with all mistakes, if there are any."""
        if self._mistakes:
            raise BadFile(self._mistakes)


def draft(
    *,
    spiffe_id: str | None,
    parent: str | None,
    selector: Sequence[str],
    ttl: str | None,
    jwt_ttl: str | None,
    dns: Sequence[str],
    hint: str,
    expires: str | None,
    label: Sequence[str],
    federates_with: Sequence[str],
    admin: bool,
    downstream: bool,
    store_svid: bool,
    entry_id: str,
) -> EntryDraft:
    """The entry that the options describe. Raises BadFile with every mistake in them."""
    given = Given()
    if spiffe_id is None:
        given.wrong("--spiffe-id", "it must be given")
    if not selector:
        given.wrong("--selector", "at least one must be given, as in unix:uid:1000")
    identity = given.one("--spiffe-id", spiffe_id, SpiffeId.parse)
    parent_id = given.one("--parent", parent, SpiffeId.parse)
    selectors = given.many("--selector", selector, Selector.parse)
    x509_ttl = given.one("--ttl", ttl, parse_duration)
    jwt = given.one("--jwt-ttl", jwt_ttl, parse_duration)
    expires_at = given.one("--expires", expires, lambda text: expiry(text, now()))
    labels = given.many("--label", label, read_label)
    domains = given.many("--federates-with", federates_with, TrustDomain.parse)
    given.check()
    assert identity is not None
    return EntryDraft(
        spiffe_id=identity,
        selectors=frozenset(selectors),
        id=entry_id,
        parent_id=parent_id,
        x509_ttl=x509_ttl,
        jwt_ttl=jwt,
        dns_names=tuple(dns),
        federates_with=frozenset(domains),
        hint=hint,
        admin=admin,
        downstream=downstream,
        store_svid=store_svid,
        expires_at=expires_at,
        labels=tuple(sorted(dict(labels).items())),
    )


def expiry(text: str, now: datetime) -> datetime:
    """A moment, or a length of time from now. Raises ValueError."""
    if text[:1].isdigit() and "-" not in text:
        return now + parse_duration(text)
    if text[:1] in "Pp":
        return now + parse_duration(text)
    return parse_moment(text)


def read_label(text: str) -> tuple[str, str]:
    """KEY=VALUE. Raises ValueError."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"{text!r} is not KEY=VALUE")
    return key, value


def now() -> datetime:
    return datetime.now(UTC)
