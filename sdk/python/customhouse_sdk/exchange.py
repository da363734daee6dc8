"""One call through its attempts, without any socket: what is sent, what is tried again and when, what an answer means.

Both clients drive it. Tried again: a connection that failed, 429 and 503 by their `Retry-After`, and 502 and 504, which
a proxy says. A request that makes something carries one Idempotency-Key through all attempts, so that the server does
it once; one that cannot carry a key is not sent again once it may have arrived.
"""

import json
import random
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Generic, TypeVar, cast

import httpx
import msgspec

from customhouse_sdk import errors

T = TypeVar("T")

LONGEST_WAIT_S = 60.0
"""What is to be waited for longer is for the caller to decide: the error is raised at once."""

_FIRST_WAIT_S = 0.5
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True)
class Upload:
    """A file part, read from where it stands at each attempt."""

    part: str
    name: str
    content: bytes | IO[bytes]
    starts_at: int = 0
    is_ours: bool = False
    """It was opened here, and is closed here."""

    def rewound(self) -> tuple[str, bytes | IO[bytes]]:
        if not isinstance(self.content, bytes):
            self.content.seek(self.starts_at)
        return (self.name, self.content)

    def close(self) -> None:
        if self.is_ours and not isinstance(self.content, bytes):
            self.content.close()


@dataclass(frozen=True)
class Call(Generic[T]):
    """What is asked, and how its answer is read."""

    verb: str
    path: str
    read: Callable[[bytes], T]
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    json: Mapping[str, Any] | None = None
    form: Mapping[str, str] | None = None
    upload: Upload | None = None
    raw: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    also: tuple[int, ...] = ()
    """Statuses that are no success and answer the same."""
    is_repeatable: bool = True
    """Sent twice, it does no harm: it only reads, or says how things shall be, or carries an Idempotency-Key."""


class Trying(Generic[T]):
    def __init__(self, call: Call[T], retries: int) -> None:
        self._call = call
        self._left = retries
        self._made = 0

    def arguments(self) -> dict[str, Any]:
        """Of httpx's build_request, for the attempt that comes now."""
        call = self._call
        given: dict[str, Any] = {"method": call.verb, "url": call.path, "headers": dict(call.headers)}
        if call.query:
            given["params"] = dict(call.query)
        if call.json is not None:
            # Escaped, so that half a surrogate pair goes through: the server refuses it by name.
            given["content"] = json.dumps(call.json).encode()
            given["headers"]["Content-Type"] = "application/json"
        if call.raw is not None:
            given["content"] = call.raw
        if call.upload is not None:
            given["files"] = {call.upload.part: call.upload.rewound()}
            given["data"] = dict(call.form or {})
        return given

    def is_answer(self, response: httpx.Response) -> bool:
        return response.is_success or response.status_code in self._call.also

    def answered(self, response: httpx.Response) -> T:
        """What a success says. Raises UnexpectedAnswer."""
        try:
            return self._call.read(response.content)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise errors.UnexpectedAnswer(
                f"{self._call.verb} {self._call.path} answered {response.status_code} with what is not its answer: "
                f"{error}"
            ) from error

    def lost(self, error: httpx.TransportError) -> float:
        """No answer came: how long to wait before the next attempt. Raises ConnectionFailed when there is none."""
        if self._left <= 0 or not (self._call.is_repeatable or isinstance(error, _UNSENT)):
            said = str(error) or type(error).__name__
            raise errors.ConnectionFailed(
                f"{self._call.verb} {self._call.path}: {said}", self._call.headers.get("Idempotency-Key")
            ) from error
        return self._next(None)

    def refused(self, response: httpx.Response) -> float:
        """An error was answered: how long to wait before the next attempt. Raises it when there is none."""
        error = read_error(response)
        if self._left <= 0 or not self._passes(error) or (error.retry_after_s or 0) > LONGEST_WAIT_S:
            raise error
        return self._next(error.retry_after_s)

    def _passes(self, error: errors.APIError) -> bool:
        match error.status:
            case 429:
                return not isinstance(error, errors.QuotaExceeded)
            case 503:
                return True
            case 502 | 504:
                return self._call.is_repeatable
            case 409:  # our own first attempt is still at work on the server
                return self._made > 0 and "Idempotency-Key" in self._call.headers
            case _:
                return False

    def _next(self, said_s: float | None) -> float:
        self._left -= 1
        self._made += 1
        if said_s is not None:
            return said_s
        return _FIRST_WAIT_S * 2 ** min(self._made - 1, 4) * random.uniform(0.5, 1.0)  # noqa: S311  # no secret


def new_key() -> str:
    """An Idempotency-Key."""
    return str(uuid.uuid4())


def read_error(response: httpx.Response) -> errors.APIError:
    """The error that was answered, in whichever service's words: ours, OmniMod's or OpenAI's, by the route; or a
    proxy's."""
    status = response.status_code
    try:
        body: Any = response.json()
    except ValueError:
        body = None
    said = _said(body)
    code = str(said.get("code") or "").upper()
    code = code or _CODES.get(status) or ("INTERNAL_ERROR" if status >= 500 else "INVALID_REQUEST")
    by_status = errors.BY_STATUS.get(status, errors.ServerError if status >= 500 else errors.APIError)
    return errors.BY_CODE.get(code, by_status)(
        status,
        code,
        str(said.get("message") or response.reason_phrase or "refused"),
        details=said.get("details") or said.get("errors"),
        request_id=response.headers.get("x-request-id") or said.get("request_id"),
        retry_after_s=_seconds(response.headers.get("retry-after")),
        body=body,
        said=said,
    )


_CODES = {
    400: "INVALID_REQUEST",
    401: "UNAUTHORIZED",
    402: "PAYMENT_REQUIRED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    409: "CONFLICT",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA",
    429: "RATE_LIMITED",
    503: "SERVICE_UNAVAILABLE",
}


def _said(body: Any) -> dict[str, Any]:
    """Its members, under our names."""
    given = _members(body)
    if given is None:
        return {}
    if (detail := _members(given.get("detail"))) is not None:
        return detail
    if isinstance(given.get("detail"), str):
        return {"message": given["detail"]}
    if (error := _members(given.get("error"))) is not None:
        return {"message": error.get("message")}
    return {**given, "code": given.get("error")}


def _members(value: Any) -> dict[str, Any] | None:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _seconds(header: str | None) -> float | None:
    """Only seconds: a proxy's date is passed over."""
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:
        return None
