"""Numbers as a person reads them. Pure; knows no widget."""

from datetime import UTC, datetime

_STEPS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def ago(at_ms: int | None, now_ms: int) -> str:
    """`3 min`, `2 d`; `now` below a second, `—` for never, `in 5 min` for the future."""
    if at_ms is None:
        return "—"
    seconds = (now_ms - at_ms) / 1000
    if abs(seconds) < 1:
        return "now"
    for step, unit in _STEPS:
        if abs(seconds) >= step:
            count = int(abs(seconds) // step)
            return f"{count} {unit}" if seconds > 0 else f"in {count} {unit}"
    return "now"


def moment(at_ms: int | None) -> str:
    """`2026-05-19 12:00:01` in UTC; `—` for never."""
    if at_ms is None:
        return "—"
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def size(count: float) -> str:
    """`842 B`, `3.1 MB`: powers of a thousand, as disks are sold."""
    for unit in ("B", "KB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def money(micros: int) -> str:
    """Micro-dollars as `$12.34`, with more places where they say something."""
    dollars = micros / 1_000_000
    sign = "-" if dollars < 0 else ""
    places = 2 if micros % 10_000 == 0 else 6
    return f"{sign}${abs(dollars):,.{places}f}"
