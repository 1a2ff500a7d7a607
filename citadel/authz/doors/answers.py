"""Rulings as Envoy understands them (envoy.service.auth.v3.CheckResponse): fail closed, whatever its settings are.

Measured on Envoy 1.40: an empty answer, and one with code 0 and a denial in it, allow. A gRPC error and an
`error_response` allow where the filter has `failure_mode_allow`. So the code is always set, a denial is in the body,
and only a fault of ours is an `error_response`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from envoy.config.core.v3 import base_pb2
from envoy.service.auth.v3 import external_auth_pb2
from envoy.type.v3 import http_status_pb2
from google.protobuf import struct_pb2

from citadel.authz.decision import Reason
from citadel.authz.decision_point import Changes, Ruling
from citadel.authz.doors.denials import DenialHeader, denial
from citadel.errors import Code

METADATA_NAMESPACE = "citadel"
_FAULT = "authorization is not available"
_CODE = {
    Reason.BAD_TOKEN: Code.UNAUTHENTICATED,
    Reason.BAD_PATH: Code.INVALID_ARGUMENT,
    Reason.BAD_REQUEST: Code.INVALID_ARGUMENT,
    Reason.NOT_LOADED: Code.UNAVAILABLE,
    Reason.INTERNAL_ERROR: Code.INTERNAL,
}
_REPLACE = base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD


def answer(ruling: Ruling, denial_headers: Sequence[DenialHeader] = ()) -> external_auth_pb2.CheckResponse:
    """The answer to a check. `denial_headers`: what the client is told of a denial."""
    response = external_auth_pb2.CheckResponse(dynamic_metadata=_metadata(ruling))
    decision = ruling.decision
    if decision.allowed:
        response.status.code = 0
        response.status.SetInParent()  # an empty answer allows too, and says nothing
        _allowed(response.ok_response, ruling.changes)
        return response
    response.status.code = int(_CODE.get(decision.reason, Code.PERMISSION_DENIED))
    response.status.message = decision.reason.value
    if decision.reason is Reason.INTERNAL_ERROR:
        response.error_response.status.code = http_status_pb2.StatusCode.ServiceUnavailable
        response.error_response.body = _FAULT
        return response
    told = denial(ruling, denial_headers)
    response.denied_response.status.code = told.status
    response.denied_response.body = told.body.decode("utf-8", "replace")
    _write(response.denied_response.headers, told.headers)
    return response


def _allowed(ok: external_auth_pb2.OkHttpResponse, changes: Changes) -> None:
    ok.SetInParent()
    _write(ok.headers, changes.set_headers)
    for name, value in changes.append_headers:
        _add(ok.headers, name, value).append.value = True
    ok.headers_to_remove.extend(changes.remove_headers)
    ok.query_parameters_to_remove.extend(changes.remove_params)
    _write(ok.response_headers_to_add, changes.response_headers)


def _write(options: Iterable[base_pb2.HeaderValueOption], headers: Iterable[tuple[str, str]]) -> None:
    """Instead of what is there; a name that comes again is one more value."""
    seen: set[str] = set()
    for name, value in headers:
        option = _add(options, name, value)
        if name in seen:
            option.append.value = True
        else:
            option.append_action = _REPLACE
        seen.add(name)


def _add(options: Iterable[base_pb2.HeaderValueOption], name: str, value: str) -> base_pb2.HeaderValueOption:
    option: base_pb2.HeaderValueOption = options.add()  # type: ignore[attr-defined]
    option.header.key = name
    # Envoy 1.40 does not look at raw_value
    option.header.value = value if value.isascii() else value.encode("utf-8", "replace").decode()
    return option


def _metadata(ruling: Ruling) -> struct_pb2.Struct:
    """Under the filter's own name: for access logs, `%DYNAMIC_METADATA(envoy.filters.http.ext_authz:policy)%`."""
    decision = ruling.decision
    struct = struct_pb2.Struct()
    fields = struct.fields
    fields["id"].string_value = ruling.id
    fields["outcome"].string_value = decision.outcome.value
    fields["reason"].string_value = decision.reason.value
    fields["version"].string_value = ruling.version
    if decision.policy is not None:
        fields["policy"].string_value = str(decision.policy)
        fields["rule"].number_value = decision.rule or 0
    if decision.action is not None:
        fields["action"].string_value = decision.action.value
    if decision.dry_run_outcome is not None:
        fields["dry_run_outcome"].string_value = decision.dry_run_outcome.value
    return struct
