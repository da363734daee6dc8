"""OpenAI's errors, as its SDKs read them: the class by the status, then `code`, `param` and `type`. C.1."""

import msgspec

from appliance.api.fault import Fault, Said
from appliance.errors import PaymentRequired, PolicyNotFound, QuotaExceeded, RateLimited, SurfaceRefusal

_REQUEST = "invalid_request_error"

_CODES: dict[int, tuple[int, str, str | None]] = {
    401: (401, _REQUEST, "invalid_api_key"),
    403: (403, _REQUEST, "insufficient_permissions"),
    404: (404, _REQUEST, "unknown_url"),
    405: (405, _REQUEST, "method_not_supported"),
    413: (400, _REQUEST, "request_too_large"),
    415: (400, _REQUEST, "unsupported_content_type"),
    500: (500, "server_error", None),
    503: (503, "server_error", None),
}
"""Our status → theirs, its type and its code; another is a 400."""


class OpenAIFault(msgspec.Struct, frozen=True):
    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(msgspec.Struct, frozen=True):
    error: OpenAIFault


def say(fault: Fault) -> Said:
    """A used-up quota says that trying again is of no use; everything else is tried again by the SDKs' own rules, after
    the seconds of Retry-After."""
    match fault.refusal:
        case QuotaExceeded() | PaymentRequired():
            body = OpenAIFault(fault.message, "insufficient_quota", None, "insufficient_quota")
            return Said(429, OpenAIError(body), {"x-should-retry": "false"})
        case RateLimited():
            return Said(429, OpenAIError(OpenAIFault(fault.message, "requests", None, "rate_limit_exceeded")))
        case PolicyNotFound():
            message = "There is no such model here; GET /v1/models lists them"
            return Said(404, OpenAIError(OpenAIFault(message, _REQUEST, "model", "model_not_found")))
        case SurfaceRefusal() as refusal:
            return Said(400, OpenAIError(OpenAIFault(fault.message, _REQUEST, refusal.target or None, refusal.word)))
        case _:
            status, kind, code = _CODES.get(fault.status, (400, _REQUEST, None))
            param = fault.details[0]["field"] if fault.details else None
            return Said(status, OpenAIError(OpenAIFault(fault.message, kind, param, code)))
