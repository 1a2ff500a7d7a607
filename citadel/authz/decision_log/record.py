"""A ruling as a record: enough of the request to decide it again, who decided, and never a secret. Pure.

Of a request there is always who asked, what, of whom: peer, direct address, port, method, host, the path without its
query, and of a token its issuer and user. Other headers, claims, addresses and metadata are there if a policy of the
workload looks at them; of claims and metadata only the texts that it compares. Headers, parameters, claims and metadata
that hold secrets by their name are masked even then. `altered` names
what is not as it was; without it, the record decides as the request did.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from citadel.authz.decision import Reason
from citadel.authz.decision_log.referred import ClaimPath, Referred
from citadel.authz.evaluate import Answer
from citadel.authz.policyset import MOST_WORKLOADS, PolicySet, WorkloadPolicies
from citadel.authz.request import HttpRequest, Request, Workload

if TYPE_CHECKING:  # the command line reads records, and needs not all that rulings are made of
    from citadel.authz.decision_point import Ruling

SCHEMA = "citadel.dev/decision-log/v1"
HIDDEN = "***"
MOST_TEXT = 2048  # characters of one value
MOST_VALUES = 64  # of one header or claim
_SECRET = re.compile(r"authorization|cookie|token|secret|passw|credential|session|api[-_]?key|signature|jwt|assertion")
_Path = tuple[str, ...]


class Recorder:
    """Makes records. Remembers, for the set in force, what the policies of each workload look at."""

    def __init__(self, masked: Iterable[str] = (), masked_claims: Iterable[str] = ()) -> None:
        """`masked`: headers, parameters and metadata that hold secrets, besides those that are told by their name;
        `masked_claims`: claims that do, or that say too much of somebody, inner ones with dots."""
        self._masked = frozenset(name.lower() for name in masked)
        self._masked_claims = frozenset(masked_claims)
        self._policies: PolicySet | None = None
        self._referred: dict[WorkloadPolicies, Referred] = {}

    def record(self, ruling: Ruling) -> dict[str, Any]:
        """What `json.dumps` takes, in the schema SCHEMA."""
        decision, question = ruling.decision, ruling.question
        altered: list[str] = []
        request: dict[str, Any] | None = None
        if question is not None and ruling.request is not None and ruling.policies is not None:
            applying = ruling.policies.for_workload(question.workload)
            making = _Making(self._of(ruling.policies, applying), self._masked, self._masked_claims, altered)
            request = making.request(ruling.request, question.workload)
            request["providers"] = _answers(ruling, applying)
            if decision.reason is Reason.BAD_PATH and "?" in (ruling.request.http or _NO_HTTP).path:
                altered.append("http.path")
        return {
            "schema": SCHEMA,
            "id": ruling.id,
            "at": ruling.at.isoformat(timespec="microseconds"),
            "door": ruling.door,
            "caller": ruling.caller,
            "request_id": "" if question is None else question.request_id[:128],
            "microseconds": round(ruling.seconds * 1_000_000),
            "version": ruling.version,
            **decision.to_json(),
            "detail": decision.detail[:MOST_TEXT],
            "status": ruling.status,
            "jwt_fault": None if ruling.token is None else str(ruling.token),
            "request": request,
            "altered": altered,
        }

    def _of(self, policies: PolicySet, applying: WorkloadPolicies) -> Referred:
        if policies is not self._policies or len(self._referred) >= MOST_WORKLOADS:
            self._policies, self._referred = policies, {}
        found = self._referred.get(applying)
        if found is None:
            found = self._referred[applying] = Referred.of(one.policy for one in applying.policies)
        return found


_NO_HTTP = HttpRequest("", "")


def _answers(ruling: Ruling, applying: WorkloadPolicies) -> dict[str, str]:
    """What the providers said: all allowed, but for the one that decided."""
    said = dict.fromkeys(applying.providers, Answer.ALLOW.value)
    decision = ruling.decision
    if decision.reason in (Reason.DENIED_BY_PROVIDER, Reason.PROVIDER_FAILED):
        for one in applying.policies:
            if one.policy.name == decision.policy and one.policy.provider is not None:
                failed = decision.reason is Reason.PROVIDER_FAILED
                said[one.policy.provider] = (Answer.FAILED if failed else Answer.DENY).value
    return said


class _Making:
    """A request becoming an `Asked` (citadel.dev/authorization-request/v1); `altered` is filled on the way."""

    def __init__(
        self, referred: Referred, masked: frozenset[str], masked_claims: frozenset[str], altered: list[str]
    ) -> None:
        self._referred = referred
        self._masked = masked
        self._masked_claims = masked_claims
        self._altered = altered

    def request(self, request: Request, workload: Workload) -> dict[str, Any]:
        referred = self._referred
        if workload.services:
            self._altered.append("workload.services")
        if referred.remote_ip and request.remote_ip is None and request.source_ip is not None:
            self._altered.append("remote_ip")  # where it is left out, it is taken to be the direct peer's
        return {
            "workload": {
                "namespace": workload.namespace,
                "labels": dict(workload.labels),
                "kind": workload.kind.value,
                "gateway": workload.gateway,
                "gateway_class": workload.gateway_class,
            },
            "peer": None if request.peer is None else request.peer.uri,
            "unknown_peer": None if request.unknown_peer is None else request.unknown_peer.uri,
            "source_ip": _text(request.source_ip),
            "remote_ip": _text(request.remote_ip) if referred.remote_ip else None,
            "destination_ip": _text(request.destination_ip) if referred.destination_ip else None,
            "port": request.port,
            "sni": self._whole(request.sni, "sni") if referred.sni else "",
            "http": None if request.http is None else self._http(request.http),
            "metadata": self._metadata(request.metadata),
        }

    def _http(self, http: HttpRequest) -> dict[str, Any]:
        authority = http.authority
        return {
            "method": self._whole(http.method, "http.method"),
            "path": self._path(http.path),
            "path_normalized": http.path_normalized,
            "authority": None if authority is None else self._whole(authority, "http.authority"),
            "headers": {
                name: self._values(http.headers[name], f"http.headers.{name}", secret=self._secret(name))
                for name in sorted(self._referred.headers)
                if name in http.headers
            },
            "claims": None if http.jwt is None else self._claims(http.jwt),
        }

    def _path(self, path: str) -> str:
        before, sign, query = path.partition("?")
        if sign and self._referred.query:
            kept = []
            for parameter in query.split("&"):
                name, equals, _ = parameter.partition("=")
                if equals and self._secret(name):
                    self._altered.append(f"http.path?{name[:60]}")
                    parameter = f"{name}={HIDDEN}"
                kept.append(parameter)
            before = f"{before}?{'&'.join(kept)}"
        return self._whole(before, "http.path")

    def _claims(self, claims: Mapping[str, Any]) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for path in sorted(self._referred.claims):
            found: Any = claims
            for name in path:
                found = found.get(name, _ABSENT) if isinstance(found, Mapping) else _ABSENT
            if found is not _ABSENT:
                self._keep(kept, path, self._compared(found, f"http.claims.{'.'.join(path)}", secret=self._hides(path)))
        return kept

    def _hides(self, path: ClaimPath) -> bool:
        """Whether a claim, or one that it is in, is masked."""
        return any(
            ".".join(path[:length]) in self._masked_claims or _SECRET.search(path[length - 1].lower()) is not None
            for length in range(1, len(path) + 1)
        )

    def _compared(self, value: Any, where: str, *, secret: bool) -> Any:
        """What a policy compares: text, or a list of such. Of all else only that it is none of these counts."""
        if isinstance(value, str | list):
            texts = [value] if isinstance(value, str) else [one for one in value if isinstance(one, str)]
            kept = self._values(texts, where, secret=secret)
            return kept[0] if isinstance(value, str) else kept
        if value is None or isinstance(value, bool):
            return value
        return value if isinstance(value, int | float) and not secret else {}

    def _keep(self, kept: dict[str, Any], path: ClaimPath, value: Any) -> None:
        *outer, last = path
        for name in outer:
            inner = kept.setdefault(name, {})
            if not isinstance(inner, dict):  # it is compared itself, too, and is kept as it is
                return
            kept = inner
        if not (isinstance(kept.get(last), dict) and value == {}):
            kept[last] = value

    def _metadata(self, metadata: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        kept: dict[str, dict[str, Any]] = {}
        for name, key in sorted(self._referred.metadata):
            if key in metadata.get(name, {}):
                where = f"metadata.{name}.{key}"
                value = self._compared(metadata[name][key], where, secret=self._secret(key))
                kept.setdefault(name, {})[key] = value
        return kept

    def _secret(self, name: str) -> bool:
        return name.lower() in self._masked or _SECRET.search(name.lower()) is not None

    def _values(self, values: Iterable[str], where: str, *, secret: bool = False) -> list[str]:
        given = list(values)
        if secret and given:
            self._altered.append(where)
            return [HIDDEN] * min(len(given), MOST_VALUES)
        if len(given) > MOST_VALUES:
            self._altered.append(where)
        return [self._whole(one, where) for one in given[:MOST_VALUES]]

    def _whole(self, text: str, where: str) -> str:
        """The text; cut if it is very long, and as UTF-8: what was not, is named."""
        if len(text) <= MOST_TEXT and (text.isascii() or _is_utf8(text)):
            return text
        if where not in self._altered:
            self._altered.append(where)
        return text[:MOST_TEXT].encode("utf-8", "backslashreplace").decode()


_ABSENT = object()


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(value: object | None) -> str | None:
    return None if value is None else str(value)
