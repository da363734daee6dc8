"""Whose words an error is said in: every drop-in surface has the error bodies of the service that it stands in for.

A route names its dialect (Entry.dialect); a path that no route has is told by how it begins, and the one path that
two surfaces share by the key that was sent.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec
from litestar import Request, Response
from litestar.openapi.datastructures import ResponseSpec

from appliance.api import auth, azure_errors, openai_errors, perspective_errors, refusals
from appliance.api.fault import Fault, Said
from appliance.api.refusals import Shown
from appliance.errors import QuotaExceeded, RateLimited, Refusal


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
    told = {name: value for name, value in {**headers, **said.headers}.items() if value}
    return Response(said.body, status_code=said.status, headers=told, media_type="application/json")


def documented(
    dialect: str, codes: Sequence[str], scope: str | None = None, messages: dict[str, str] | None = None
) -> dict[int, ResponseSpec]:
    """What refusals.documented says of these codes, as this dialect says them: its statuses, its bodies."""
    found: dict[int, list[Shown]] = {}
    for name in ("omnimod", "openai") if dialect == SHARED else (dialect,):
        for code in dict.fromkeys(codes):
            status, message = refusals.ERRORS[code][0], refusals.message_of(code, scope, messages or {})
            said = DIALECTS[name](Fault(code, message, status, refusals.REQUEST_ID, refusal=_EXAMPLES.get(code)))
            title = f"{name} {code}" if dialect == SHARED else code
            found.setdefault(said.status, []).append(
                Shown(id=title, summary=title, value=msgspec.to_builtins(said.body))
            )
    return {
        status: ResponseSpec(
            data_container=BODIES[dialect],
            description=refusals.REASON[status],
            generate_examples=False,
            examples=[*examples],
        )
        for status, examples in sorted(found.items())
    }


SHARED = "shared"
"""POST /v1/moderations before its body is read: by the key, else OpenAI's (C.1)."""

_PATHS = (
    ("/openai/", "openai"),
    ("/omnimod/", "omnimod"),
    ("/contentsafety/", "azure"),
    ("/v1alpha1/", "perspective"),
    ("/v1/", SHARED),
)


_EXAMPLES: dict[str, Refusal] = {
    "QUOTA_EXCEEDED": QuotaExceeded("free", 100, 100, retry_after_s=864_000),
    "RATE_LIMITED": RateLimited(retry_after_s=18, limit=60, reset_s=18),
}
"""What an error of the document carries, where a dialect tells it."""


class OmniModError(msgspec.Struct, frozen=True):
    detail: str | dict[str, Any]


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


DIALECTS: dict[str, Callable[[Fault], Said]] = {
    "omnimod": _omnimod,
    "openai": openai_errors.say,
    "azure": azure_errors.say,
    "perspective": perspective_errors.say,
}

BODIES: dict[str, Any] = {
    SHARED: OmniModError | openai_errors.OpenAIError,
    "omnimod": OmniModError,
    "openai": openai_errors.OpenAIError,
    "azure": azure_errors.AzureError,
    "perspective": perspective_errors.PerspectiveError,
}
"""The type of each one's error body, for the document."""
