"""Azure AI Content Safety's errors: a code in the body and in the header x-ms-error-code. C.3."""

import msgspec

from appliance.api.fault import Fault, Said
from appliance.errors import QuotaExceeded, SurfaceRefusal

_BAD_KEY = (
    "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an "
    "active subscription and use a correct regional API endpoint for your resource."
)

_CODES = {
    400: "InvalidRequestBody",
    401: "401",  # what stands before the service, and checks the key, says numbers
    402: "PaymentRequired",
    403: "403",
    404: "ResourceNotFound",
    405: "MethodNotAllowed",
    413: "InvalidRequestBody",
    415: "InvalidRequestBody",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServerBusy",
}
"""Our status → Azure's code: its list of response codes, and the gateway's numbers."""
_STATUSES = {413: 400}


class AzureFault(msgspec.Struct, frozen=True, omit_defaults=True):
    code: str
    message: str
    target: str | None = None
    details: list["AzureDetail"] = []


class AzureDetail(msgspec.Struct, frozen=True, omit_defaults=True):
    code: str
    message: str
    target: str | None = None


class AzureError(msgspec.Struct, frozen=True):
    error: AzureFault


def say(fault: Fault) -> Said:
    match fault.refusal:
        case SurfaceRefusal() as refusal:
            told = AzureFault(refusal.word, fault.message, refusal.target or None)
        case QuotaExceeded():
            # Azure's client waits as long as Retry-After says, which here is days, whatever the status: its gateway
            # answers a used-up quota with 403, and so do we, without the header
            told = AzureFault("403", f"Out of call volume quota. {fault.message}.")
            return Said(403, AzureError(told), {"x-ms-error-code": told.code, "Retry-After": ""})
        case _:
            message = _BAD_KEY if fault.status == 401 else fault.message
            told = AzureFault(_CODES.get(fault.status, "InvalidRequestBody"), message, details=_details(fault))
    return Said(_STATUSES.get(fault.status, fault.status), AzureError(told), {"x-ms-error-code": told.code})


def _details(fault: Fault) -> list[AzureDetail]:
    code = _CODES.get(fault.status, "InvalidRequestBody")
    return [AzureDetail(code, one.get("issue", ""), one.get("field") or None) for one in fault.details or []]
