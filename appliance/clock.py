"""Time and ids: the only place that asks the operating system for either."""

import os
import re
import uuid
from datetime import UTC, datetime


def now() -> datetime:
    """The present moment, aware, in UTC."""
    return datetime.now(UTC)


def now_ms() -> int:
    """Milliseconds since the epoch: what the database keeps, so that SQL can compare and add."""
    return int(now().timestamp() * 1000)


def rfc3339(ms: int) -> str:
    """`2026-05-19T12:00:01.500Z`: the seeds' form of a time, always milliseconds, always Z."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_AGO = re.compile(r"(\d{1,6})\s*(s|min|m|h|d|w)")
_UNITS_MS = {"s": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def moment(given: str, now: int) -> int:
    """What a person calls a moment: `2026-05-19`, `2026-05-19T12:00Z`, `today`, or so long ago: `90min`, `7d`. UTC
    where it names no zone. Raises ValueError."""
    words = given.strip().lower()
    if words == "now":
        return now
    if words == "today":
        return now - now % 86_400_000
    if ago := _AGO.fullmatch(words):
        return now - int(ago[1]) * _UNITS_MS[ago[2]]
    try:
        found = datetime.fromisoformat(given.strip())
        return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise ValueError(f"{given!r} is no moment such as 2026-05-19T12:00:00Z, 2h or 7d") from None


def months(now: int, count: int) -> list[int]:
    """The first milliseconds of the last so many months, UTC, the present one last."""
    today = datetime.fromtimestamp(now / 1000, UTC)
    last = today.year * 12 + today.month - 1
    return [
        int(datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC).timestamp() * 1000)
        for number in range(last - count + 1, last + 1)
    ]


def new_id() -> str:
    """A random UUID, lower case, as the seeds show `job_id`."""
    return str(uuid.uuid4())


_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_ulid() -> str:
    """26 characters of Crockford's base 32: the millisecond, then 80 random bits, so that ids sort by time."""
    value = (now_ms() << 80) | int.from_bytes(os.urandom(10))
    return "".join(_CROCKFORD[(value >> shift) & 31] for shift in range(125, -1, -5))


def of_ulid(ulid: str) -> int:
    """The millisecond that a ULID begins with. Raises ValueError."""
    if len(ulid) != 26 or not set(ulid) <= set(_CROCKFORD):
        raise ValueError("not a ULID")
    return sum(_CROCKFORD.index(letter) << 5 * place for place, letter in enumerate(reversed(ulid))) >> 80
