"""Time and ids: the only place that asks the operating system for either."""

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
