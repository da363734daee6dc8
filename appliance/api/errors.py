"""The one translator of exceptions to the contract's envelope: `{"error", "message", "statusCode"}`.

`details` (which field, what is wrong) and `request_id` are added. Nothing of what was submitted is ever quoted.
"""

import logging
from typing import Any, cast

from litestar import Request, Response
from litestar.exceptions import (
    ClientException,
    HTTPException,
    InternalServerException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)
from litestar.exceptions.http_exceptions import RequestEntityTooLarge

from appliance import database
from appliance.api import admin, auth, dialects
from appliance.api.front import request_id
from appliance.errors import (
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    QuotaExceeded,
    RateLimited,
    Refusal,
    Unauthorized,
    Unavailable,
)

log = logging.getLogger(__name__)


def answer(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    """The answer for whatever a handler, a guard or the router raised."""
    if isinstance(error, MethodNotAllowedException) and admin.is_hidden(request):
        error = NotFound(admin.NOTHING)  # else another method would tell that the path is there
    refusal = _refusal(error)
    headers: dict[str, str] = {}
    if refusal is None:
        log.exception("request failed", exc_info=error, extra={"request_id": request_id(request.scope)})
        code, status = "INTERNAL_ERROR", 500
        message = "Something failed on this side; the operator finds it in the log under this request_id"
        details = None
    else:
        code, status, message, details = refusal.code, refusal.status, refusal.message, refusal.details
        if isinstance(refusal, Unauthorized):
            headers["WWW-Authenticate"] = "Bearer"
        if isinstance(refusal, (RateLimited, QuotaExceeded, Unavailable)):
            headers["Retry-After"] = str(refusal.retry_after_s)
        if isinstance(refusal, QuotaExceeded):
            auth.give_back(request)
        if isinstance(error, MethodNotAllowedException):
            headers["Allow"] = (error.headers or {}).get("allow", "")
    dialect = dialects.of(request)
    if dialect is not None:
        fault = dialects.Fault(code, message, status, request_id(request.scope), details, refusal)
        return dialects.answer(dialect, fault, headers)
    return Response(
        envelope(code, message, status, request_id(request.scope), details),
        status_code=status,
        headers=headers,
        media_type="application/json",
    )


def envelope(
    code: str, message: str, status: int, request_id: str, details: list[dict[str, str]] | None = None
) -> dict[str, Any]:
    body: dict[str, Any] = {"error": code, "message": message, "statusCode": status}
    if details:
        body["details"] = details
    body["request_id"] = request_id
    return body


def _refusal(error: Exception) -> Refusal | None:
    """Our word for it, or None when it is a fault of ours."""
    match error:
        case Refusal():
            return error
        case database.Error():
            log.error("database not readable", exc_info=error)
            return Unavailable("The database cannot be read; try again", retry_after_s=5)
        case NotFoundException():
            return NotFound(admin.NOTHING)
        case MethodNotAllowedException():
            return MethodNotAllowed("This path does not take this method")
        case RequestEntityTooLarge():
            return PayloadTooLarge("The request body is too large")
        case ValidationException():
            return InvalidRequest("A parameter is missing or not valid", details=_details(error))
        case InternalServerException() if "disconnected" in error.detail:
            return InvalidRequest("The connection was closed before the whole body arrived")
        case ClientException():
            return InvalidRequest("The request is malformed")
        case HTTPException() if error.status_code < 500:
            return InvalidRequest("The request cannot be answered")
        case _:
            return None


def _details(error: ValidationException) -> list[dict[str, str]] | None:
    """Which parameters; the framework's own message may quote the value, so only names are taken."""
    extra = cast("list[dict[str, Any]]", error.extra if isinstance(error.extra, list) else [])
    fields = [str(item["key"]) for item in extra if item.get("key")]
    return [{"field": field, "issue": "missing or not valid"} for field in fields] or None
