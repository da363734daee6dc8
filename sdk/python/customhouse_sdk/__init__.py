"""A client of Customhouse: content moderation on your own hardware.

from customhouse_sdk import Customhouse

with Customhouse(api_key="…", base_url="http://127.0.0.1:8000") as customhouse:
    job = customhouse.jobs.wait(customhouse.jobs.image("photo.jpg"))
    print(job.is_prohibited)
"""

from customhouse_sdk import answers, errors
from customhouse_sdk.answers import BatchNotice, Job, JobNotice, Moderation, Progress
from customhouse_sdk.asynchronous import AsyncCustomhouse
from customhouse_sdk.client import Customhouse
from customhouse_sdk.errors import (
    AccountTerminated,
    APIError,
    BatchNotFound,
    Conflict,
    ConnectionFailed,
    CustomhouseError,
    Forbidden,
    IdempotencyKeyReused,
    InvalidRequest,
    JobNotFound,
    MediaUnreachable,
    NotFound,
    PayloadTooLarge,
    PaymentRequired,
    PolicyNotFound,
    QuotaExceeded,
    RateLimited,
    ServerError,
    ServiceUnavailable,
    Unauthorized,
    UnexpectedAnswer,
    Unprocessable,
    UnsupportedMedia,
    WaitTimedOut,
    WebhookRefused,
)
from customhouse_sdk.options import VERSION as __version__
from customhouse_sdk.webhooks import verify_webhook

__all__ = [
    "APIError",
    "AccountTerminated",
    "AsyncCustomhouse",
    "BatchNotFound",
    "BatchNotice",
    "Conflict",
    "ConnectionFailed",
    "Customhouse",
    "CustomhouseError",
    "Forbidden",
    "IdempotencyKeyReused",
    "InvalidRequest",
    "Job",
    "JobNotFound",
    "JobNotice",
    "MediaUnreachable",
    "Moderation",
    "NotFound",
    "PayloadTooLarge",
    "PaymentRequired",
    "PolicyNotFound",
    "Progress",
    "QuotaExceeded",
    "RateLimited",
    "ServerError",
    "ServiceUnavailable",
    "Unauthorized",
    "UnexpectedAnswer",
    "Unprocessable",
    "UnsupportedMedia",
    "WaitTimedOut",
    "WebhookRefused",
    "__version__",
    "answers",
    "errors",
    "verify_webhook",
]
