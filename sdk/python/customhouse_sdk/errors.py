"""Everything that this package raises.

CustomhouseError
├── ConnectionFailed             no answer came, after all attempts
├── UnexpectedAnswer             an answer came that is none of Customhouse's: a proxy's page, perhaps
├── WaitTimedOut                 the job is still open; it goes on, and can be waited for again
├── WebhookRefused               not signed with this secret, or too old
└── APIError                     the server refused; code, status, message, details, request_id
    ├── InvalidRequest           400
    ├── Unauthorized             401
    ├── PaymentRequired          402
    ├── Forbidden                403
    │   └── AccountTerminated
    ├── NotFound                 404
    │   ├── JobNotFound
    │   ├── BatchNotFound
    │   └── PolicyNotFound
    ├── Conflict                 409
    ├── PayloadTooLarge          413
    ├── UnsupportedMedia         415
    ├── Unprocessable            422
    │   ├── IdempotencyKeyReused
    │   └── MediaUnreachable
    ├── RateLimited              429
    ├── QuotaExceeded            429, until the next month
    └── ServerError              5xx
        └── ServiceUnavailable   503
"""

from typing import Any


class CustomhouseError(Exception):
    """Anything that this package raises."""


class ConnectionFailed(CustomhouseError):
    """No answer came, after all attempts. A request that makes something was sent under one Idempotency-Key: made
    again with that `idempotency_key`, it is done once."""

    def __init__(self, message: str, idempotency_key: str | None = None) -> None:
        super().__init__(message)
        self.idempotency_key = idempotency_key


class UnexpectedAnswer(CustomhouseError):
    """The answer cannot be read as what was asked for."""


class WaitTimedOut(CustomhouseError):
    """It was still open when the time was over."""

    def __init__(self, what: str, timeout_s: float) -> None:
        super().__init__(f"{what} was still open after {timeout_s:g} s")


class WebhookRefused(CustomhouseError):
    """Do not trust this body: answer 400."""


class APIError(CustomhouseError):
    """The server refused."""

    def __init__(self, status: int, code: str, message: str, **more: Any) -> None:
        self.status = status
        self.code = code
        """INVALID_REQUEST …, also where the server said it in another service's words."""
        self.message = message
        self.details: list[dict[str, str]] = more.get("details") or []
        """Which fields, where fields are meant: {"field": …, "issue": …}."""
        self.request_id: str | None = more.get("request_id")
        """What the operator finds this request by."""
        self.retry_after_s: float | None = more.get("retry_after_s")
        """When to try again, where the server says so."""
        self.body: Any = more.get("body")
        """What was answered, as it came."""
        super().__init__(f"{status} {code}: {message}" + (f" ({self.request_id})" if self.request_id else ""))


class InvalidRequest(APIError): ...


class Unauthorized(APIError): ...


class PaymentRequired(APIError): ...


class Forbidden(APIError): ...


class AccountTerminated(Forbidden): ...


class NotFound(APIError): ...


class JobNotFound(NotFound): ...


class BatchNotFound(NotFound): ...


class PolicyNotFound(NotFound): ...


class Conflict(APIError): ...


class PayloadTooLarge(APIError): ...


class UnsupportedMedia(APIError): ...


class Unprocessable(APIError): ...


class IdempotencyKeyReused(Unprocessable): ...


class MediaUnreachable(Unprocessable): ...


class RateLimited(APIError): ...


class QuotaExceeded(APIError):
    """The month's moderations are used up."""

    def __init__(self, status: int, code: str, message: str, **more: Any) -> None:
        super().__init__(status, code, message, **more)
        said: dict[str, Any] = more.get("said") or {}
        self.plan_tier: str | None = said.get("plan_tier")
        self.monthly_request_quota: int | None = said.get("monthly_request_quota")
        self.used: int | None = said.get("used")


class ServerError(APIError): ...


class ServiceUnavailable(ServerError): ...


BY_CODE: dict[str, type[APIError]] = {
    "ACCOUNT_TERMINATED": AccountTerminated,
    "JOB_NOT_FOUND": JobNotFound,
    "BATCH_NOT_FOUND": BatchNotFound,
    "POLICY_NOT_FOUND": PolicyNotFound,
    "IDEMPOTENCY_KEY_REUSED": IdempotencyKeyReused,
    "MEDIA_UNREACHABLE": MediaUnreachable,
    "QUOTA_EXCEEDED": QuotaExceeded,
}
"""Codes with a class of their own beside their status's."""

BY_STATUS: dict[int, type[APIError]] = {
    400: InvalidRequest,
    401: Unauthorized,
    402: PaymentRequired,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: PayloadTooLarge,
    415: UnsupportedMedia,
    422: Unprocessable,
    429: RateLimited,
    503: ServiceUnavailable,
}
