"""A caller that could not be named is denied: for which reason, in every door alike."""

from __future__ import annotations

import structlog

from citadel.authz.decision import Reason
from citadel.errors import CitadelError, PermissionDenied, Unavailable

log = structlog.get_logger("citadel.authz")


def unnamed(error: Exception) -> tuple[Reason, str]:
    """Why ports.Callers raised `error`, and a sentence for the log."""
    match error:
        case PermissionDenied():
            return Reason.UNKNOWN_WORKLOAD, error.message
        case Unavailable():
            return Reason.NOT_LOADED, error.message
        case CitadelError():  # it may be over in a moment
            return Reason.INTERNAL_ERROR, error.message
        case _:
            log.error("a caller could not be looked up", exc_info=error)
            return Reason.INTERNAL_ERROR, type(error).__name__
