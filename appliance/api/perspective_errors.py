"""Perspective's errors: Google's envelope, with the errorType that its clients look for. C.2."""

from typing import Any

import msgspec

from appliance.api.fault import Fault, Said
from appliance.errors import QuotaExceeded, SurfaceRefusal

_ERROR = "type.googleapis.com/google.commentanalyzer.v1alpha1.Error"
_INFO = "type.googleapis.com/google.rpc.ErrorInfo"

BAD_KEY = "API key not valid. Please pass a valid API key."

_CODES = {
    400: (400, "INVALID_ARGUMENT"),
    401: (400, "INVALID_ARGUMENT"),  # what Google answers to a wrong key
    402: (402, "FAILED_PRECONDITION"),
    403: (403, "PERMISSION_DENIED"),
    404: (404, "NOT_FOUND"),
    405: (405, "UNIMPLEMENTED"),
    409: (409, "ABORTED"),
    413: (400, "INVALID_ARGUMENT"),
    415: (400, "INVALID_ARGUMENT"),
    422: (400, "INVALID_ARGUMENT"),
    429: (429, "RESOURCE_EXHAUSTED"),
    500: (500, "INTERNAL"),
    503: (503, "UNAVAILABLE"),
}
"""Our status → Google's, and its word."""


class PerspectiveStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    code: int
    message: str
    status: str
    details: list[dict[str, Any]] = []


class PerspectiveError(msgspec.Struct, frozen=True):
    error: PerspectiveStatus


def say(fault: Fault) -> Said:
    status, word = _CODES[fault.status]
    message = BAD_KEY if fault.status == 401 else fault.message
    return Said(status, PerspectiveError(PerspectiveStatus(status, message, word, _details(fault))))


def _details(fault: Fault) -> list[dict[str, Any]]:
    """Of what is wrong with the request, its errorType; of a key or a limit, Google's reason."""
    match fault.refusal:
        case SurfaceRefusal() as refusal:
            return [{"@type": _ERROR, "errorType": refusal.word, **refusal.about}]
        case QuotaExceeded():
            return [_reason("RATE_LIMIT_EXCEEDED", quota_limit="per month")]
        case _:
            pass
    match fault.status:
        case 401:
            return [_reason("API_KEY_INVALID")]
        case 400:
            return [{"@type": _ERROR, "errorType": "INVALID_REQUEST"}]
        case 429:
            return [_reason("RATE_LIMIT_EXCEEDED")]
        case _:
            return []


def _reason(reason: str, **metadata: str) -> dict[str, Any]:
    about = {"service": "commentanalyzer.googleapis.com", **metadata}
    return {"@type": _INFO, "reason": reason, "domain": "googleapis.com", "metadata": about}
