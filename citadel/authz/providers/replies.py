"""What providers answer, as our values; and what of it is not taken. Pure.

A header that would turn the request into another one is a fault of the provider: `Host`, what starts with a colon, and
what frames a message. So is an answer that contradicts itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from envoy.service.auth.v3 import external_auth_pb2

from citadel.authz.decision_point import Changes, ProviderReply, Refusal
from citadel.authz.decision_point.changes import Headers
from citadel.authz.evaluate import Answer
from citadel.authz.patterns import Patterns

MAX_HEADERS = 100
MAX_BODY = 64 * 1024  # bytes
_NAME = re.compile(r"[a-z0-9!#$%&'*+\-.^_`|~]{1,256}")
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]{0,16384}")
_UNTOUCHABLE = frozenset(["host", "connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer"])
_REMOVE = "x-envoy-auth-headers-to-remove"


class BadReply(Exception):
    """It is no answer. The message is for the log."""


def failed(why: str) -> ProviderReply:
    return ProviderReply(Answer.FAILED, why=why)


def of_grpc(response: external_auth_pb2.CheckResponse) -> ProviderReply:
    """What a CheckResponse says. Raises BadReply."""
    kind = response.WhichOneof("http_response")
    if kind == "error_response":
        raise BadReply("it answered with an error")
    if response.status.code != 0:
        denied = response.denied_response
        status = denied.status.code or 403
        headers = _headers((one.header.key, one.header.value) for one in denied.headers)
        return ProviderReply(Answer.DENY, refusal=_refusal(status, headers, denied.body.encode()))
    if not response.HasField("status") and kind is None:
        raise BadReply("it answered with an empty message")
    if kind == "denied_response":
        raise BadReply("it answered with status OK and a denial")
    return ProviderReply(Answer.ALLOW, _changes(response.ok_response))


def _changes(ok: external_auth_pb2.OkHttpResponse) -> Changes:
    if ok.query_parameters_to_set or ok.query_parameters_to_remove:
        raise BadReply("it wants to change the query, which is not done here")
    replace: list[tuple[str, str]] = []
    append: list[tuple[str, str]] = []
    for option in ok.headers:
        # as Envoy 1.40 does it, measured: it looks neither at raw_value nor at append_action
        (append if option.append.value else replace).append((option.header.key, option.header.value))
    removed = _headers((name, "") for name in ok.headers_to_remove)
    return Changes(
        _headers(replace),
        _headers(append),
        tuple(name for name, _ in removed),
        (),
        _headers((one.header.key, one.header.value) for one in ok.response_headers_to_add),
    )


def of_http(
    status: int,
    headers: Iterable[tuple[str, str]],
    body: bytes,
    *,
    upstream: Patterns,
    success: Patterns,
    denial: Patterns,
) -> ProviderReply:
    """What an HTTP answer says: 200 allows, 5xx is a failure, all else denies. Raises BadReply."""
    if status >= 500:
        raise BadReply(f"it answered {status}")
    given = [(name.lower(), value) for name, value in headers if name.lower() not in _UNTOUCHABLE]  # of its own message
    if status == 200:
        return ProviderReply(
            Answer.ALLOW,
            Changes(
                _headers(one for one in given if upstream.match(one[0]) and one[0] != _REMOVE),
                remove_headers=tuple(name for name, _ in _headers(_removed(given))),
                response_headers=_headers(one for one in given if success.match(one[0])),
            ),
        )
    wanted = [one for one in given if denial.match(one[0]) or one[0] in ("www-authenticate", "location")]
    return ProviderReply(Answer.DENY, refusal=_refusal(status, _headers(wanted), body))


def _removed(given: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    """Headers that are to be taken out of the request, as Envoy reads them off an HTTP answer."""
    for name, value in given:
        if name == _REMOVE:
            yield from ((one.strip(), "") for one in value.split(",") if one.strip())


def _refusal(status: int, headers: Headers, body: bytes) -> Refusal:
    if not 300 <= status <= 599 or status == 304:
        status = 403  # a denial does not look like a success
    return Refusal(status, headers, body[:MAX_BODY])


def _headers(pairs: Iterable[tuple[str, str]]) -> Headers:
    """Raises BadReply for what no proxy should write."""
    found = tuple((name.lower(), value) for name, value in pairs)
    if len(found) > MAX_HEADERS:
        raise BadReply(f"it answered with more than {MAX_HEADERS} headers")
    for name, value in found:
        if not _NAME.fullmatch(name) or name in _UNTOUCHABLE or not _VALUE.fullmatch(value):
            raise BadReply(f"it wants to change {name[:60]!r}, which is not done here")
    return found
