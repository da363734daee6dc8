"""Time and ids: the only place that asks the operating system for either."""

import os
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
