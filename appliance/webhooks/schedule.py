"""When a delivery is tried again, and when no more. Pure: facts of one attempt in, what follows out."""

from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum

import msgspec

WAITS_S = (5, 15, 45, 2 * 60, 5 * 60, 10 * 60, 20 * 60, 30 * 60, 45 * 60, 60 * 60, 120 * 60)
"""After the first attempt, the second, … the eleventh: twelve attempts over 4 h 53 min, before jitter. Quick at first,
for a receiver that restarts; hours at the end, for one that somebody has to repair."""

JITTER = (0.8, 1.2)
"""Each wait is multiplied by a number between these, so that a receiver that comes back does not meet all at once."""

LONGEST_RETRY_AFTER_S = 5 * 3600
"""As long as the whole table. A receiver that asks for years would otherwise keep its deliveries for years."""


class State(StrEnum):
    """The state of a delivery."""

    PENDING = "pending"
    SENDING = "sending"
    DELIVERED = "delivered"
    FAILED = "failed"


class Outcome(msgspec.Struct, frozen=True):
    """What follows from an attempt. `next_at` is when the next one is due, exactly when the state is pending."""

    state: State
    next_at: int | None = None
    is_gone: bool = False
    """The receiver said 410: it wants nothing more at this address."""


def after(
    http_status: int | None, retry_after: str | None, *, attempts: int, max_attempts: int, now: int, jitter: float
) -> Outcome:
    """`attempts` counts this one too. `http_status` is None when no answer came."""
    if http_status is not None and 200 <= http_status < 300:
        return Outcome(State.DELIVERED)
    if http_status == 410:
        return Outcome(State.FAILED, is_gone=True)
    if attempts >= max_attempts:
        return Outcome(State.FAILED)
    wait_ms = int(WAITS_S[min(attempts, len(WAITS_S)) - 1] * 1000 * jitter)
    if http_status in (429, 503):
        wait_ms = max(wait_ms, retry_after_ms(retry_after, now))
    return Outcome(State.PENDING, next_at=now + wait_ms)


def retry_after_ms(value: str | None, now: int) -> int:
    """A Retry-After header, seconds or a date, as milliseconds from now; 0 when there is none that can be read."""
    if value is None:
        return 0
    value = value.strip()
    if value.isascii() and value.isdigit():
        seconds = float(value)
    else:
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return 0
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now / 1000
    return int(min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S) * 1000)
