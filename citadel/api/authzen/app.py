"""The calls of AuthZEN's HTTPS binding (Authorization API 1.0, 10.1) as a FastAPI application, with its OpenAPI.

An error's body is a JSON string, as the specification wants it; a denial is no error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp

from citadel import __version__
from citadel.api.authzen.bearers import Bearers
from citadel.api.authzen.bodies import route_reading
from citadel.api.authzen.callers import NOBODY, SCOPE, CallerRules
from citadel.api.authzen.guard import Guard, defect
from citadel.authz.doors.authzen import (
    ActionSearch,
    ActionSearchAnswer,
    Answer,
    Answers,
    Asker,
    AuthzenDoor,
    Evaluation,
    Evaluations,
    ResourceSearch,
    SearchAnswer,
    SubjectSearch,
)
from citadel.authz.wording import findings_among, joined
from citadel.errors import CitadelError

EVALUATION, EVALUATIONS = "/access/v1/evaluation", "/access/v1/evaluations"
SEARCHES = {kind: f"/access/v1/search/{kind}" for kind in ("subject", "resource", "action")}
METADATA = "/.well-known/authzen-configuration"
_TEXT = {"application/json": {"schema": {"type": "string"}}}
_WRONG: dict[int | str, dict[str, Any]] = {
    400: {"description": "The request is wrong; the body says where.", "content": _TEXT},
    401: {"description": "The caller brings no access token, or a bad one.", "content": _TEXT},
    403: {"description": "The caller may not ask.", "content": _TEXT},
    413: {"description": "The body is too large.", "content": _TEXT},
    500: {"description": "A defect of ours.", "content": _TEXT},
}
_NOT_NOW: dict[int | str, dict[str, Any]] = {
    503: {"description": "There are no policies, or no entities, yet.", "content": _TEXT}
}


@dataclass(frozen=True, slots=True)
class AuthzenParts:
    """What is served."""

    door: AuthzenDoor
    callers: Callable[[], CallerRules]
    url: str
    """The identifier of this decision point: `https://host`, without a slash at the end."""
    searches: bool
    """There is a directory of entities."""
    most_bytes: int = 1 << 20
    """Of a body."""
    bearers: Bearers | None = None
    """Reads access tokens of callers; None: none are taken."""


def application(parts: AuthzenParts) -> ASGIApp:
    """The whole of it, guarded: a scope must name its Caller."""
    return Guard(framework(parts), parts.callers, lambda: parts.door.version, parts.bearers)


class _Api(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """Without FastAPI's own 422, which here is a 400."""
        if self.openapi_schema is None:
            document = super().openapi()
            for operations in document["paths"].values():
                for operation in operations.values():
                    operation["responses"].pop("422", None)
            for name in ("HTTPValidationError", "ValidationError"):
                document["components"]["schemas"].pop(name, None)
        return super().openapi()


def framework(parts: AuthzenParts) -> FastAPI:
    """The calls alone."""
    app = _Api(
        title="Citadel: AuthZEN Authorization API 1.0",
        version=__version__,
        openapi_url="/openapi.json",
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # the address that it would name is the caller's own Host
        separate_input_output_schemas=False,
    )
    app.router.route_class = route_reading(parts.most_bytes)
    app.add_exception_handler(CitadelError, _said_no)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(StarletteHTTPException, _as_text)
    app.add_exception_handler(Exception, _defect)
    _add_evaluations(app, parts)
    if parts.searches:
        _add_searches(app, parts)
    _add_metadata(app, parts)
    return app


def _add_evaluations(app: FastAPI, parts: AuthzenParts) -> None:
    door = parts.door

    @app.post(EVALUATION, responses=_WRONG, response_model_exclude_none=True)
    async def evaluation(body: Evaluation, request: Request) -> Answer:
        """Whether one request is allowed."""
        return await door.evaluate(body, _asker(parts, request))

    @app.post(EVALUATIONS, responses=_WRONG, response_model_exclude_none=True)
    async def evaluations(body: Evaluations, request: Request) -> Answers | Answer:
        """Whether each of several requests is allowed."""
        return await door.evaluate_all(body, _asker(parts, request))


def _add_searches(app: FastAPI, parts: AuthzenParts) -> None:
    door, responses = parts.door, _WRONG | _NOT_NOW

    @app.post(SEARCHES["subject"], responses=responses, response_model_exclude_none=True)
    async def search_subject(body: SubjectSearch, request: Request) -> SearchAnswer:
        """Who may do this."""
        return await door.subjects(body, _asker(parts, request))

    @app.post(SEARCHES["resource"], responses=responses, response_model_exclude_none=True)
    async def search_resource(body: ResourceSearch, request: Request) -> SearchAnswer:
        """To what this may be done."""
        return await door.resources(body, _asker(parts, request))

    @app.post(SEARCHES["action"], responses=responses, response_model_exclude_none=True)
    async def search_action(body: ActionSearch, request: Request) -> ActionSearchAnswer:
        """What may be done."""
        return await door.actions(body, _asker(parts, request))


def _add_metadata(app: FastAPI, parts: AuthzenParts) -> None:
    known = {
        "policy_decision_point": parts.url,
        "access_evaluation_endpoint": parts.url + EVALUATION,
        "access_evaluations_endpoint": parts.url + EVALUATIONS,
    }
    if parts.searches:
        known |= {f"search_{kind}_endpoint": parts.url + path for kind, path in SEARCHES.items()}

    @app.get(METADATA, responses={401: _WRONG[401], 403: _WRONG[403]})
    async def metadata() -> dict[str, str]:
        """Where each call is."""
        return known


def _asker(parts: AuthzenParts, request: Request) -> Asker:
    caller = request.scope.get(SCOPE, NOBODY)
    return Asker(caller.label, parts.callers().states_claims(caller), request.headers.get("x-request-id", ""))


async def _said_no(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, CitadelError)
    return JSONResponse(error.message, error.http)


async def _not_valid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = findings_among({**one, "loc": one["loc"][1:]} for one in error.errors())  # behind "body"
    return JSONResponse(joined(found), 400)


async def _as_text(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException)
    sentence = {404: "there is no such call", 405: "this call takes another method"}.get(
        error.status_code, error.detail
    )
    return JSONResponse(sentence, error.status_code, error.headers)


async def _defect(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse(defect(error), 500)


__all__ = ["METADATA", "AuthzenParts", "application", "framework"]
