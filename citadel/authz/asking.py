"""Requests as JSON and decisions as JSON: one line each, in a schema with a version. Pure.

`docs/schema/` has both as JSON Schema files; they are made from what is here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from ipaddress import ip_address
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from citadel.authz.decision import Decision, Outcome, Reason
from citadel.authz.evaluate import Answer, decide
from citadel.authz.policyset import PolicySet
from citadel.authz.request import HttpRequest, IpAddress, Request, Workload, WorkloadKind
from citadel.authz.wording import in_one_line
from citadel.errors import CitadelError, InvalidInput
from citadel.spiffe import SpiffeId

REQUEST_SCHEMA = "citadel.dev/authorization-request/v1"
DECISION_SCHEMA = "citadel.dev/authorization-decision/v1"
MAX_LINE = 1 << 20  # bytes
TWO_PEERS = "peer and unknown_peer: a request has one of them"
_REMEMBERED = 4096
T = TypeVar("T")


def _cached(read: Callable[[str], T]) -> Callable[[Any], T]:
    """What `read` makes of text; the same texts come again and again. Our errors become pydantic's."""
    remembered = lru_cache(_REMEMBERED)(read)

    def validate(value: Any) -> T:
        if not isinstance(value, str):
            raise ValueError("expected text")
        try:
            return remembered(value)
        except CitadelError as error:
            raise ValueError(error.message) from None

    return validate


def _header_names(headers: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name, value in headers.items():
        lower = name.lower()
        if lower in found:
            raise ValueError(f"{lower!r} is there twice; list its values")
        if lower == "host" or (lower.startswith(":") and lower != ":scheme"):
            raise ValueError(f"{lower!r} is not given as a header, but as method, path or authority")
        found[lower] = (value,) if isinstance(value, str) else tuple(value)
    return found


_AS_TEXT = PlainSerializer(str, return_type=str, when_used="json")
_IP = Annotated[IpAddress, PlainValidator(_cached(ip_address)), _AS_TEXT, WithJsonSchema({"type": "string"})]
_ID = Annotated[
    SpiffeId,
    PlainValidator(_cached(SpiffeId.parse)),
    _AS_TEXT,
    WithJsonSchema({"type": "string", "pattern": "^spiffe://"}),
]
_Headers = Annotated[
    dict[str, str | list[str]],
    AfterValidator(_header_names),
    PlainSerializer(lambda headers: {name: list(values) for name, values in headers.items()}, when_used="json"),
]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class AskedHttp(_Asked):
    """The HTTP half of a request; without it, the request is a TCP connection."""

    method: str = Field("GET", description="`:method`, as sent.", min_length=1)
    path: str = Field("/", description="`:path`, as sent: with query, not normalised.")
    path_normalized: bool = Field(False, description="A listener has normalised the path before.")
    authority: str | None = Field(None, description="`:authority` or Host, port included.")
    headers: _Headers = Field(default_factory=dict, description="By name; a header that is repeated is a list.")
    claims: dict[str, Any] | None = Field(None, description="Payload of the verified token; null: there is none.")

    def value(self) -> HttpRequest:
        return HttpRequest(
            self.method,
            self.path,
            self.authority,
            self.headers,  # type: ignore[arg-type]  # validated, its values are tuples
            self.claims,
            self.path_normalized,
        )


class AskedWorkload(_Asked):
    """Whose policies are asked."""

    namespace: str = Field("default", description="Its namespace.")
    labels: dict[str, str] = Field(default_factory=dict, description="Its labels.")
    kind: Literal["workload", "gateway", "waypoint"] = Field("workload", description="What its proxy stands before.")
    gateway: str = Field("", description="Name of the Gateway, for gateways and waypoints.")
    gateway_class: str = Field("", description="Its class.")

    def value(self) -> Workload:
        return Workload(self.namespace, self.labels, WorkloadKind(self.kind), self.gateway, self.gateway_class)


class AskedAttributes(_Asked):
    """What a request has, besides whose policies are asked."""

    peer: _ID | None = Field(None, description="SPIFFE ID that the peer proved by mTLS; null: plaintext.")
    unknown_peer: _ID | None = Field(
        None,
        description="Instead of `peer`: a SPIFFE ID that the peer proved, of a trust domain that the workload does not "
        "know. No ALLOW matches by it; DENY does.",
    )
    source_ip: _IP | None = Field(None, description="Address of the direct peer.")
    remote_ip: _IP | None = Field(None, description="Address of the original client (default: that of the peer).")
    destination_ip: _IP | None = Field(None, description="Address that was connected to.")
    port: int | None = Field(None, ge=0, le=65535, description="Port of the workload.")
    sni: str = Field("", description="Server name of the TLS hello.")
    http: AskedHttp | None = Field(None, description="Null: a TCP connection.")
    metadata: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Dynamic metadata by filter, for experimental.envoy.filters.*."
    )
    providers: dict[str, Literal["allow", "deny", "failed"]] = Field(
        default_factory=dict, description="What extension providers say, for CUSTOM policies; one left out fails."
    )

    @model_validator(mode="after")
    def _one_peer(self) -> Self:
        if self.peer is not None and self.unknown_peer is not None:
            raise ValueError(TWO_PEERS)
        return self

    def request(self) -> Request:
        return Request(
            self.port,
            self.peer,
            self.source_ip,
            self.source_ip if self.remote_ip is None else self.remote_ip,
            self.destination_ip,
            self.sni.lower(),
            None if self.http is None else self.http.value(),
            self.metadata,
            self.unknown_peer,
        )

    def answers(self) -> dict[str, Answer]:
        return {name: Answer(said) for name, said in self.providers.items()}


class Asked(AskedAttributes):
    """A line: one request, and whose policies are asked."""

    schema_: Literal["citadel.dev/authorization-request/v1"] = Field(
        "citadel.dev/authorization-request/v1", alias="schema", description="Version of this schema; may be left out."
    )
    id: str | int | None = Field(None, description="Comes back in the answer.")
    workload: AskedWorkload = Field(default_factory=lambda: AskedWorkload(), description="Whose policies are asked.")

    @classmethod
    def parse(cls, line: bytes | str) -> Asked:
        """Read a line of JSON. Raises InvalidInput with everything that is wrong with it."""
        try:
            return cls.model_validate_json(line)
        except ValidationError as error:
            raise InvalidInput(in_one_line(error, cls)) from None

    @classmethod
    def of(cls, document: dict[str, Any]) -> Asked:
        """Read a document that was JSON. Raises InvalidInput with everything that is wrong with it."""
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise InvalidInput(in_one_line(error, cls)) from None


def said_of(asked: Asked) -> str:
    """A request for people: `GET /cart/7 of shop (app=cart) by spiffe://example.org/web`."""
    http = asked.http
    what = "a connection" if http is None else f"{http.method} {http.path}"
    labels = ",".join(f"{name}={value}" for name, value in asked.workload.labels.items())
    whose = asked.workload.namespace + (f" ({labels})" if labels else "")
    return f"{what} of {whose} by {asked.peer or asked.unknown_peer or 'nobody that is known'}"


class Lines:
    """Answers lines of JSON under one set of policies."""

    def __init__(self, policies: PolicySet) -> None:
        self._policies = policies
        self._known: dict[int, tuple[Decision, str]] = {}  # decisions that many requests share, by what they are
        self.asked = 0
        self.bad = 0

    def answer(self, line: bytes) -> str:
        """The decision as a line of JSON, with a line feed. A line that is no request is denied, and counted as bad."""
        self.asked += 1
        try:
            asked = Asked.parse(line)
        except InvalidInput as error:
            self.bad += 1
            decision = Decision(Outcome.DENY, Reason.BAD_REQUEST, detail=f"line {self.asked}: {error.message}")
            return f"{{{_body(decision)}}}\n"
        return self.decided(asked)

    def decided(self, asked: Asked) -> str:
        """The decision of a request as a line of JSON, with a line feed."""
        decision = decide(self._policies, asked.workload.value(), asked.request(), asked.answers())
        name = "" if asked.id is None else f'"id": {json.dumps(asked.id)}, '
        return f"{{{name}{self._shared(decision)}}}\n"

    def _shared(self, decision: Decision) -> str:
        """The body of a decision; that of a rule is one object for all requests that it decides."""
        known = self._known.get(id(decision))
        if known is not None and known[0] is decision:
            return known[1]
        body = _body(decision)
        if len(self._known) < _REMEMBERED:
            self._known[id(decision)] = decision, body
        return body

    def answers(self, chunks: Iterable[bytes]) -> Iterator[str]:
        """What has been read is answered before more is read: who waits for an answer gets it."""
        for lines in whole_lines(chunks):
            yield "".join(map(self.answer, lines))


def whole_lines(chunks: Iterable[bytes]) -> Iterator[list[bytes]]:
    """The lines that each chunk completes, without those that are blank. Raises InvalidInput for one that is too long,
    after those before it."""
    rest, count = b"", 0
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        whole = [line for line in lines if line.strip()]
        count += len(whole)
        yield whole
        if len(rest) > MAX_LINE:
            raise InvalidInput(f"line {count + 1} is longer than {MAX_LINE} bytes; reading stopped there")
    if rest.strip():
        yield [rest]


def _body(decision: Decision) -> str:
    document = {"schema": DECISION_SCHEMA, **decision.to_json(), "detail": decision.detail}
    return json.dumps(document)[1:-1]


def request_schema() -> dict[str, Any]:
    """The JSON Schema of a request."""
    return {"$id": REQUEST_SCHEMA, **Asked.model_json_schema(by_alias=True)}


def decision_schema() -> dict[str, Any]:
    """The JSON Schema of a decision."""
    text, maybe = {"type": "string"}, {"type": ["string", "null"]}
    match = {
        "type": "object",
        "properties": {"policy": text, "rule": {"type": "integer"}, "action": text},
        "required": ["policy", "rule", "action"],
    }
    properties = {
        "schema": {"const": DECISION_SCHEMA},
        "id": {"type": ["string", "integer"], "description": "Of the request."},
        "outcome": {"enum": [one.value for one in Outcome]},
        "reason": {"enum": [one.value for one in Reason], "description": "Codes are only added to."},
        "action": {**maybe, "description": "The kind of policy that decided."},
        "policy": {**maybe, "description": "namespace/name of the policy that decided."},
        "rule": {"type": ["integer", "null"], "description": "Which of its rules, from 0."},
        "audited": {"type": "array", "items": match},
        "dry_run": {"type": "array", "items": match},
        "dry_run_outcome": {"enum": [*(one.value for one in Outcome), None]},
        "detail": {**text, "description": "One more sentence for people."},
    }
    live = {
        "version": {**text, "description": "Of the policies in force; empty: there are none yet."},
        "http_status": {
            "type": "integer",
            "description": "What the client would get; 200 stands for the application's.",
        },
        "log_id": {**text, "description": "Names the decision in the decision log."},
    }
    return {
        "$id": DECISION_SCHEMA,
        "title": "Decision",
        "type": "object",
        "properties": {**properties, **{name: _of_running(told) for name, told in live.items()}},
        "required": [name for name in properties if name != "id"],
    }


def _of_running(told: dict[str, str]) -> dict[str, str]:
    return {**told, "description": f"{told['description']} Only of a running Citadel."}
