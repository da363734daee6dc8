"""Every error that may leave the house, drawn as a tree.

CustomhouseError
├── Refusal                  the caller's answer: a status, a code of the contract, a sentence that says what to do
│   ├── InvalidRequest           400 INVALID_REQUEST
│   │   └── SurfaceRefusal           for which a drop-in surface has a word of its own (carries the word)
│   ├── BatchEmpty               400 BATCH_EMPTY
│   ├── BatchTooLarge            400 BATCH_TOO_LARGE
│   ├── DuplicateItemKey         400 DUPLICATE_ITEM_KEY
│   ├── TextTooLong              400 TEXT_TOO_LONG
│   ├── Unauthorized             401 UNAUTHORIZED
│   ├── PaymentRequired          402 PAYMENT_REQUIRED
│   ├── Forbidden                403 FORBIDDEN
│   ├── AccountTerminated        403 ACCOUNT_TERMINATED
│   ├── NotFound                 404 NOT_FOUND
│   ├── JobNotFound              404 JOB_NOT_FOUND
│   ├── BatchNotFound            404 BATCH_NOT_FOUND
│   ├── PolicyNotFound           404 POLICY_NOT_FOUND
│   ├── MethodNotAllowed         405 METHOD_NOT_ALLOWED
│   ├── Conflict                 409 CONFLICT
│   ├── PayloadTooLarge          413 PAYLOAD_TOO_LARGE
│   ├── UnsupportedMedia         415 UNSUPPORTED_MEDIA
│   ├── IdempotencyKeyReused     422 IDEMPOTENCY_KEY_REUSED
│   ├── ExampleUnreachable       422 MEDIA_UNREACHABLE: the address of an example that is tried while the caller waits
│   ├── RateLimited              429 RATE_LIMITED (carries the window)
│   ├── QuotaExceeded            429 QUOTA_EXCEEDED: the month's synchronous requests are used up (carries the plan)
│   └── Unavailable              503 SERVICE_UNAVAILABLE (carries retry_after_s)
│       ├── StripeOff                there is no key: manual credits are all there is
│       ├── StripeDown               Stripe cannot be reached, is slow or says busy: passing
│       └── StripeRefused            Stripe refused what we asked for (carries its code and the parameter)
├── Failure                  why a child job failed: an error_code of the contract, and whether trying again can help
│   ├── MediaUnreachable         the address did not give the media
│   │   └── AddressRefused           it is no address that we open: malformed, or on a private network
│   ├── MediaUnsupported         it is not media that we decode, or it is damaged
│   ├── MediaTooLarge            over a limit of bytes, pixels or length
│   ├── DecoderDown              no decoder process could be started: passing
│   ├── ModelUnavailable         the weights are missing or not loaded
│   ├── ModelRefused             the model gave no verdict that can be read
│   ├── InferenceDown            the model process is not there, or says busy: passing
│   └── InferenceTimeout         it did not answer in time: passing
├── CardDeclined             a saved card was not charged (carries Stripe's codes)
└── Misconfigured            found at start or in a command: settings, manifests, weights, schema
    ├── BackupError              a backup could not be made, is damaged, or cannot be restored here
    ├── BundleError              a bundle is damaged, not for this machine, not signed as it should be, or not writable
    └── WeightsError             a model's files could not be fetched, verified or written
        ├── LicenceUnaccepted        its publisher's terms are to be accepted first
        └── Cancelled                whoever began it had enough: each file is as it was before, or whole

Messages tell the reader what to do and never quote submitted content.
"""

from typing import Any, ClassVar


class CustomhouseError(Exception):
    """The root. `message` is written for the reader of an answer, a job or a terminal."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


# --- refusals: answers to a caller ---------------------------------------------------------------------------------


class Refusal(CustomhouseError):
    code: ClassVar[str] = "INTERNAL_ERROR"
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, details: list[dict[str, str]] | None = None) -> None:
        super().__init__(message)
        self.details = details
        """[{"field": …, "issue": …}] for the error envelope, or None."""


class InvalidRequest(Refusal):
    code = "INVALID_REQUEST"
    status = 400


class SurfaceRefusal(InvalidRequest):
    def __init__(self, message: str, *, word: str, target: str = "", about: dict[str, Any] | None = None) -> None:
        super().__init__(message, details=[{"field": target, "issue": message}] if target else None)
        self.word = word
        """Of the surface's list: COMMENT_EMPTY, InvalidResourceName, …"""
        self.target = target
        """The member that is meant."""
        self.about = about or {}
        """What the surface adds to its error."""


class BatchEmpty(Refusal):
    code = "BATCH_EMPTY"
    status = 400


class BatchTooLarge(Refusal):
    code = "BATCH_TOO_LARGE"
    status = 400


class DuplicateItemKey(Refusal):
    code = "DUPLICATE_ITEM_KEY"
    status = 400


class TextTooLong(Refusal):
    code = "TEXT_TOO_LONG"
    status = 400


class Unauthorized(Refusal):
    code = "UNAUTHORIZED"
    status = 401


class PaymentRequired(Refusal):
    code = "PAYMENT_REQUIRED"
    status = 402


class Forbidden(Refusal):
    code = "FORBIDDEN"
    status = 403


class AccountTerminated(Refusal):
    code = "ACCOUNT_TERMINATED"
    status = 403


class NotFound(Refusal):
    code = "NOT_FOUND"
    status = 404


class JobNotFound(Refusal):
    code = "JOB_NOT_FOUND"
    status = 404

    def __init__(self, job_id: str) -> None:
        super().__init__("Job not found")
        self.job_id = job_id


class BatchNotFound(Refusal):
    code = "BATCH_NOT_FOUND"
    status = 404

    def __init__(self) -> None:
        super().__init__("Batch not found")


class PolicyNotFound(Refusal):
    code = "POLICY_NOT_FOUND"
    status = 404

    def __init__(self) -> None:
        super().__init__("There is no such policy; see GET /v1/policies")


class MethodNotAllowed(Refusal):
    code = "METHOD_NOT_ALLOWED"
    status = 405


class Conflict(Refusal):
    code = "CONFLICT"
    status = 409


class PayloadTooLarge(Refusal):
    code = "PAYLOAD_TOO_LARGE"
    status = 413


class UnsupportedMedia(Refusal):
    code = "UNSUPPORTED_MEDIA"
    status = 415


class IdempotencyKeyReused(Refusal):
    code = "IDEMPOTENCY_KEY_REUSED"
    status = 422

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used for another request; send a new key with a new request")


class ExampleUnreachable(Refusal):
    code = "MEDIA_UNREACHABLE"
    status = 422


class RateLimited(Refusal):
    code = "RATE_LIMITED"
    status = 429

    def __init__(
        self, message: str = "Rate limit exceeded", *, retry_after_s: int = 1, limit: int = 0, reset_s: int = 1
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.limit = limit
        """Requests a minute."""
        self.reset_s = reset_s


class QuotaExceeded(Refusal):
    code = "QUOTA_EXCEEDED"
    status = 429

    def __init__(self, plan: str, quota: int, used: int, *, retry_after_s: int) -> None:
        super().__init__("Monthly moderation quota exceeded")
        self.plan = plan
        self.quota = quota
        self.used = used
        self.retry_after_s = retry_after_s
        """Until the month ends, in UTC."""


class Unavailable(Refusal):
    code = "SERVICE_UNAVAILABLE"
    status = 503

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StripeOff(Unavailable):
    def __init__(self) -> None:
        super().__init__(
            "Payments by Stripe are not set up here (billing.stripe_key_file); ask the operator of this service for "
            "credit",
            retry_after_s=3600,
        )


class StripeDown(Unavailable):
    def __init__(self, message: str) -> None:
        super().__init__(message, retry_after_s=30)


class StripeRefused(Unavailable):
    """Asking the same again cannot help. Mostly the operator's: a permission, a setting in Stripe's dashboard."""

    def __init__(self, message: str, *, stripe_code: str = "", param: str = "") -> None:
        super().__init__(message, retry_after_s=300)
        self.stripe_code = stripe_code
        self.param = param


# --- failures: why a child job failed --------------------------------------------------------------------------------


class Failure(CustomhouseError):
    """A child job could not be done. `permanent` says that trying again cannot help."""

    error_code: ClassVar[str] = "INTERNAL_ERROR"

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


class MediaUnreachable(Failure):
    error_code = "MEDIA_UNREACHABLE"


class AddressRefused(MediaUnreachable):
    """The message continues a sentence that began with the field's name: "leads to a private …"."""

    def __init__(self, message: str) -> None:
        super().__init__(message, permanent=True)


class MediaUnsupported(Failure):
    error_code = "UNSUPPORTED_MEDIA"

    def __init__(self, message: str) -> None:
        super().__init__(message, permanent=True)


class MediaTooLarge(Failure):
    error_code = "MEDIA_TOO_LARGE"

    def __init__(self, message: str) -> None:
        super().__init__(message, permanent=True)


class DecoderDown(Failure):
    error_code = "PROVIDER_UNAVAILABLE"

    def __init__(self, message: str) -> None:
        super().__init__(message, permanent=False)


class ModelUnavailable(Failure):
    error_code = "MODEL_UNAVAILABLE"


class ModelRefused(Failure):
    error_code = "MODEL_REFUSED"


class InferenceDown(Failure):
    error_code = "PROVIDER_UNAVAILABLE"

    def __init__(self, message: str) -> None:
        super().__init__(message, permanent=False)


class InferenceTimeout(Failure):
    error_code = "PROVIDER_TIMEOUT"

    def __init__(self, message: str) -> None:
        super().__init__(message, permanent=False)


# --- money -----------------------------------------------------------------------------------------------------------


class CardDeclined(CustomhouseError):
    def __init__(
        self, message: str, *, code: str, decline_code: str = "", advice: str = "", payment_intent: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        """card_declined, expired_card, authentication_required, …"""
        self.decline_code = decline_code
        self.advice = advice
        """What the issuer says of trying again, e.g. do_not_try_again; mostly empty."""
        self.payment_intent = payment_intent


# --- misconfiguration ---------------------------------------------------------------------------------------------


class Misconfigured(CustomhouseError):
    """Settings, a manifest, weights or the schema are not usable; said at start, loudly."""


class BundleError(Misconfigured):
    """Nothing was installed, and no half file is left."""


class BackupError(Misconfigured):
    """A backup could not be made, is damaged, or cannot be restored here. What was there before is as it was."""


class WeightsError(Misconfigured):
    """A model's files could not be fetched, verified or written. Nothing half-installed is left in their place."""


class LicenceUnaccepted(WeightsError):
    def __init__(self, name: str, licence: str, terms: str) -> None:
        super().__init__(
            f"{name}: its licence ({licence}) has terms of its own, which fetching it accepts. Read {terms}, then run: "
            f"customhouse models fetch {name} --accept-licence"
        )


class Cancelled(WeightsError):
    """What a Progress raises to end the work that it is told of."""

    def __init__(self) -> None:
        super().__init__("it was cancelled; run again, it goes on where it can")
