"""Whose words an error is said in: every drop-in surface has the error bodies of the service that it stands in for.

A route names its dialect (Entry.dialect); a path that no route has is told by how it begins, and the one path that
two surfaces share by the key that was sent.
"""

from collections.abc import Callable
from typing import Any, cast

import msgspec
from litestar import Request, Response

from appliance.api import auth
from appliance.errors import QuotaExceeded, RateLimited, Refusal


class Fault(msgspec.Struct, frozen=True):
    """An error as ours, to be said in another's words."""

    code: str
    """Ours: INVALID_REQUEST …"""
    message: str
    status: int
    request_id: str
    details: list[dict[str, str]] | None = None
    refusal: Refusal | None = None
    """What was raised; None for a fault of this side."""


class Said(msgspec.Struct, frozen=True):
    status: int
    body: Any
    headers: dict[str, str] = {}


def of(request: Request[Any, Any, Any]) -> str | None:
    """The dialect of this request, or None for our own envelope."""
    named = request.scope["state"].get("dialect")  # what a handler found out from the body
    if named is None:
        handler = cast("dict[str, Any]", request.scope).get("route_handler")
        named = handler.opt.get("dialect") if handler is not None else None
    if named is None:
        path = request.scope["path"]
        named = next((dialect for start, dialect in _PATHS if path.startswith(start)), None)
    if named == SHARED:
        return "omnimod" if auth.presented(request).startswith("omad_") else "openai"
    return named


def answer(dialect: str, fault: Fault, headers: dict[str, str]) -> Response[Any]:
    said = DIALECTS[dialect](fault)
    return Response(
        said.body, status_code=said.status, headers={**headers, **said.headers}, media_type="application/json"
    )


SHARED = "shared"
"""POST /v1/moderations before its body is read: by the key, else OpenAI's (C.1)."""

_PATHS = (
    ("/openai/", "openai"),
    ("/omnimod/", "omnimod"),
    ("/contentsafety/", "azure"),
    ("/v1alpha1/", "perspective"),
    ("/v1/", SHARED),
)


def _omnimod(fault: Fault) -> Said:
    """Seed 004 and B.2.3."""
    match fault.refusal:
        case QuotaExceeded() as quota:
            detail: Any = {
                "code": "quota_exceeded",
                "message": quota.message,
                "plan_tier": quota.plan,
                "monthly_request_quota": quota.quota,
                "used": quota.used,
                "remaining": 0,
            }
        case RateLimited() as limited:
            detail = {
                "code": "rate_limited",
                "message": limited.message,
                "limit": limited.limit,
                "remaining": 0,
                "reset_seconds": limited.reset_s,
            }
        case _ if fault.status == 401:
            detail = "Invalid API key"
        case _ if fault.status == 403:
            detail = fault.message
        case _:
            detail = {"code": fault.code.lower(), "message": fault.message}
            if fault.details:
                detail["errors"] = fault.details
    return Said(fault.status, {"detail": detail})


def _openai(fault: Fault) -> Said:
    """C.1."""
    return Said(
        fault.status,
        {"error": {"message": fault.message, "type": "invalid_request_error", "param": None, "code": None}},
    )


def _azure(fault: Fault) -> Said:
    """C.3."""
    code = "InvalidRequestBody"
    return Said(fault.status, {"error": {"code": code, "message": fault.message}}, {"x-ms-error-code": code})


def _perspective(fault: Fault) -> Said:
    """C.2."""
    return Said(fault.status, {"error": {"code": fault.status, "message": fault.message, "status": "INVALID_ARGUMENT"}})


DIALECTS: dict[str, Callable[[Fault], Said]] = {
    "omnimod": _omnimod,
    "openai": _openai,
    "azure": _azure,
    "perspective": _perspective,
}
