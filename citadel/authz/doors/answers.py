"""Decisions as Envoy understands them (envoy.service.auth.v3.CheckResponse): fail closed, whatever its settings are.

Measured on Envoy 1.40: an empty answer, and one with code 0 and a denial in it, allow. A gRPC error and an
`error_response` allow where the filter has `failure_mode_allow`. So the code is always set, a denial is in the body,
and only a fault of ours is an `error_response`.
"""

from __future__ import annotations

from envoy.config.core.v3 import base_pb2
from envoy.service.auth.v3 import external_auth_pb2
from envoy.type.v3 import http_status_pb2
from google.protobuf import struct_pb2

from citadel.authz.decision import Decision, Outcome, Reason
from citadel.errors import Code

METADATA_NAMESPACE = "citadel"
DENIED = "RBAC: access denied"
_FAULT = "authorization is not available"
_STATUS = {Reason.BAD_TOKEN: 401, Reason.BAD_PATH: 400, Reason.NOT_LOADED: 503}
_CODE = {
    Reason.BAD_TOKEN: Code.UNAUTHENTICATED,
    Reason.BAD_PATH: Code.INVALID_ARGUMENT,
    Reason.BAD_REQUEST: Code.INVALID_ARGUMENT,
    Reason.NOT_LOADED: Code.UNAVAILABLE,
    Reason.INTERNAL_ERROR: Code.INTERNAL,
}


def answer(decision: Decision, version: str) -> external_auth_pb2.CheckResponse:
    """The answer to a check that was decided under the policy set of this version (empty: there is none)."""
    response = external_auth_pb2.CheckResponse(dynamic_metadata=_metadata(decision, version))
    if decision.outcome is Outcome.ALLOW:
        response.status.code = 0
        response.status.SetInParent()  # an empty answer allows too, and says nothing
        response.ok_response.SetInParent()
        return response
    code = _CODE.get(decision.reason, Code.PERMISSION_DENIED)
    response.status.code = int(code)
    response.status.message = decision.reason.value
    if decision.reason is Reason.INTERNAL_ERROR:
        response.error_response.CopyFrom(_body(503, _FAULT, decision))
    else:
        response.denied_response.CopyFrom(_body(_STATUS.get(decision.reason, 403), DENIED, decision))
    return response


def _body(status: int, text: str, decision: Decision) -> external_auth_pb2.DeniedHttpResponse:
    body = external_auth_pb2.DeniedHttpResponse(status=http_status_pb2.HttpStatus(code=status), body=text)
    if decision.reason is Reason.BAD_TOKEN:
        challenge = base_pb2.HeaderValue(key="www-authenticate", value='Bearer error="invalid_token"')
        body.headers.add(header=challenge)
    return body


def _metadata(decision: Decision, version: str) -> struct_pb2.Struct:
    """Under the filter's own name: for access logs, `%DYNAMIC_METADATA(envoy.filters.http.ext_authz:policy)%`."""
    fields = {
        "outcome": struct_pb2.Value(string_value=decision.outcome.value),
        "reason": struct_pb2.Value(string_value=decision.reason.value),
        "version": struct_pb2.Value(string_value=version),
    }
    if decision.policy is not None:
        fields["policy"] = struct_pb2.Value(string_value=str(decision.policy))
        fields["rule"] = struct_pb2.Value(number_value=decision.rule or 0)
    if decision.action is not None:
        fields["action"] = struct_pb2.Value(string_value=decision.action.value)
    if decision.dry_run_outcome is not None:
        fields["dry_run_outcome"] = struct_pb2.Value(string_value=decision.dry_run_outcome.value)
    return struct_pb2.Struct(fields=fields)
