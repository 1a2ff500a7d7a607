"""Errors on the wire: the one place where CitadelErrors become gRPC statuses."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import structlog
from google.rpc import error_details_pb2, status_pb2

from citadel.errors import CitadelError, Unavailable

_LONGEST = 1000  # headers are bounded; the whole sentence is in grpc-message
log = structlog.get_logger("citadel.api")
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def code_of(error: CitadelError) -> grpc.StatusCode:
    return _CODES[int(error.code)]


def _details(error: Unavailable) -> tuple[tuple[str, bytes], ...]:
    """When it is worth asking again, as google.rpc.RetryInfo (AIP-193): a hint; no library acts upon it by itself."""
    status = status_pb2.Status(code=int(error.code), message=error.sentence()[:_LONGEST])
    hint = error_details_pb2.RetryInfo()
    hint.retry_delay.FromTimedelta(error.retry_after)
    status.details.add().Pack(hint)
    return (("grpc-status-details-bin", status.SerializeToString()),)


@asynccontextmanager
async def answering(context: Any) -> AsyncIterator[None]:
    """Inside, errors end the call with their status. The admin caller is trusted with the whole sentence; a defect of
    ours becomes INTERNAL with an incident id that the log has too."""
    try:
        yield
    except Unavailable as error:
        await context.abort(code_of(error), error.sentence(), _details(error))
    except CitadelError as error:
        await context.abort(code_of(error), error.sentence())
    except (grpc.aio.AbortError, grpc.aio.UsageError):
        raise
    except Exception as error:  # the last line of defence: a caller gets a sentence, the log the rest
        incident = secrets.token_hex(4)
        log.exception("a call failed", incident=incident)
        await context.abort(
            grpc.StatusCode.INTERNAL,
            f"a defect of ours ({type(error).__name__}); the log has it as incident {incident}",
        )
