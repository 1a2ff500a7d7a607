"""One xDS subscription as a pure state machine: requests and changes in, responses and acknowledgements out.

Source: envoyproxy.io, "xDS REST and gRPC protocol". Both variants keep at most one unanswered response a stream, so a
slow client costs one response, and gets the newest content when it comes back. What a client rejected is not sent again
until the content changes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from citadel.errors import CitadelError, InvalidInput, ResourceExhausted

SECRET_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - a type's name
MAX_NAME_BYTES = 2048
_MAX_DETAIL = 1000


@dataclass(frozen=True, slots=True)
class Resource:
    """A secret, ready to be sent: `body` is its Any in bytes; `version` depends on nothing but `body`.

    The rest says what is in it, for the record of acknowledgements.
    """

    name: str
    version: str
    body: bytes
    spiffe_id: str = ""
    sequence: int = 0
    serial: str = ""
    authority: str = ""
    not_after: datetime | None = None


#: The resource of a name as it is now; None while there is none.
Catalog = Callable[[str], Resource | None]


@dataclass(frozen=True, slots=True)
class SotwRequest:
    """What matters of a DiscoveryRequest. `error` is None unless it rejects."""

    type_url: str
    names: tuple[str, ...]
    nonce: str = ""
    version: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class DeltaRequest:
    """What matters of a DeltaDiscoveryRequest."""

    type_url: str
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    known: Mapping[str, str] = field(default_factory=dict)  # initial_resource_versions
    nonce: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Send:
    nonce: str
    resources: tuple[Resource, ...]

    @property
    def version(self) -> str:
        """The response's version: that of its one resource, or of all of them together."""
        return "+".join(resource.version for resource in self.resources)


@dataclass(frozen=True, slots=True)
class Acked:
    resources: tuple[Resource, ...]


@dataclass(frozen=True, slots=True)
class Nacked:
    resources: tuple[Resource, ...]
    detail: str


@dataclass(frozen=True, slots=True)
class End:
    error: CitadelError


Action = Send | Acked | Nacked | End


class Subscription:
    """A stream's subscription to secrets, in either variant. Feed it `request`s and `changed`; do what it returns."""

    __slots__ = ("_count", "_has", "_max_names", "_names", "_rejected", "_unanswered")

    def __init__(self, *, max_names: int) -> None:
        self._max_names = max_names
        self._names: dict[str, None] = {}  # in order of subscription
        self._has: dict[str, str] = {}  # name: the version that the client was sent last, or said that it has
        self._rejected: dict[str, str] = {}  # name: the version that it would not take
        self._unanswered: Send | None = None
        self._count = 0

    @property
    def names(self) -> Collection[str]:
        """What is subscribed to."""
        return self._names.keys()

    def request(self, request: SotwRequest | DeltaRequest, catalog: Catalog) -> list[Action]:
        if fault := self._fault(request):
            return [End(fault)]
        if request.nonce and (self._unanswered is None or request.nonce != self._unanswered.nonce):
            if isinstance(request, SotwRequest):
                return []  # an answer to something older; the client says all of it again with the newest nonce
            self._subscribe(request)  # a delta request changes the subscription whatever its nonce is
            return self._push(catalog)
        actions = self._answered(request) if request.nonce else []
        self._subscribe(request)
        if len(self._names) > self._max_names:
            return [*actions, End(_too_many(self._max_names))]
        if isinstance(request, DeltaRequest) and request.known:
            actions += self._confirmed(request.known, catalog)
        return actions + self._push(catalog)

    def changed(self, catalog: Catalog) -> list[Action]:
        return self._push(catalog)

    def _fault(self, request: SotwRequest | DeltaRequest) -> CitadelError | None:
        if request.type_url not in ("", SECRET_TYPE):
            return InvalidInput(f"this service serves secrets, not {request.type_url[:200]!r}")
        names = request.names if isinstance(request, SotwRequest) else request.subscribe
        if len(names) > self._max_names:
            return _too_many(self._max_names)
        if any(len(name) > MAX_NAME_BYTES for name in names):
            return InvalidInput(f"a resource name is longer than {MAX_NAME_BYTES} bytes")
        return None

    def _answered(self, request: SotwRequest | DeltaRequest) -> list[Action]:
        sent, self._unanswered = self._unanswered, None
        if sent is None:
            return []
        if request.error is None:
            for resource in sent.resources:
                self._rejected.pop(resource.name, None)
            return [Acked(sent.resources)]
        for resource in sent.resources:
            self._rejected[resource.name] = resource.version
        return [Nacked(sent.resources, request.error[:_MAX_DETAIL])]

    def _confirmed(self, known: Mapping[str, str], catalog: Catalog) -> list[Action]:
        """Whoever comes back with what there is now has it in use. We may not know: we were killed before we had
        written its answer down, or our database went back."""
        found = [catalog(name) for name in known if name in self._names]
        held = tuple(one for one in found if one is not None and one.version == known[one.name])
        return [Acked(held)] if held else []

    def _subscribe(self, request: SotwRequest | DeltaRequest) -> None:
        if isinstance(request, SotwRequest):
            wanted = dict.fromkeys(request.names)
            self._drop(name for name in list(self._names) if name not in wanted)
            self._names = wanted
            return
        self._drop(request.unsubscribe)
        for name in request.subscribe:
            if name in self._names and name not in request.known:
                self._has.pop(name, None)  # subscribed again: the client wants it again
            self._names[name] = None
        for name, version in request.known.items():
            if name in self._names:
                self._has[name] = version

    def _drop(self, names: Iterable[str]) -> None:
        for name in names:
            self._names.pop(name, None)
            self._has.pop(name, None)
            self._rejected.pop(name, None)

    def _push(self, catalog: Catalog) -> list[Action]:
        """What the client lacks, unless it still owes an answer."""
        if self._unanswered is not None:
            return []
        news = []
        for name in self._names:
            resource = catalog(name)
            if resource is None:  # not there yet, or gone: a secret is never taken away from an Envoy
                continue
            if resource.version not in (self._has.get(name), self._rejected.get(name)):
                news.append(resource)
        if not news:
            return []
        self._count += 1
        self._unanswered = Send(str(self._count), tuple(news))
        for resource in news:
            self._has[resource.name] = resource.version
        return [self._unanswered]


def _too_many(most: int) -> ResourceExhausted:
    return ResourceExhausted(f"a stream may subscribe to {most} resources at the most")
