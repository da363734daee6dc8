"""Query parameters, read strictly: a value that is not known is refused by its parameter's name; a parameter that is
not known is passed over."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

from litestar import Request

from appliance.errors import InvalidRequest

AnyRequest = Request[Any, Any, Any]
T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_LAST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MS
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def refused(field: str, issue: str) -> InvalidRequest:
    return InvalidRequest(f"{field} {issue}", details=[{"field": field, "issue": issue}])


def sent(request: AnyRequest, name: str) -> str | None:
    """The parameter as it was sent; None when it was not. Raises InvalidRequest when it was sent twice: one of the two
    would be passed over, whatever it says."""
    found = request.query_params.getall(name, [])
    if len(found) > 1:
        raise refused(name, "is given twice")
    return found[0] if found else None


def whole(request: AnyRequest, name: str, default: int, least: int, most: int) -> int:
    """A whole number within bounds. Raises InvalidRequest."""
    given = sent(request, name)
    if given is None:
        return default
    if not (given.isascii() and given.isdecimal() and len(given) <= 16 and least <= int(given) <= most):
        raise refused(name, f"must be a whole number from {least} to {most}")
    return int(given)


def one_of(request: AnyRequest, name: str, known: Mapping[str, T]) -> T | None:
    """What the word given stands for; None when none is given. Raises InvalidRequest."""
    given = sent(request, name)
    if given is None:
        return None
    if given not in known:
        raise refused(name, f"must be one of {', '.join(known)}")
    return known[given]


def some_of(request: AnyRequest, name: str, known: Mapping[str, T]) -> frozenset[T] | None:
    """The same of words with commas between."""
    given = sent(request, name)
    if given is None:
        return None
    words = given.split(",")
    if any(word not in known for word in words):
        raise refused(name, f"must be one or more of {', '.join(known)}, with commas between")
    return frozenset(known[word] for word in words)


def moment(request: AnyRequest, name: str) -> int | None:
    """A date or a date with time, ISO 8601; UTC where it says no zone. In milliseconds, rounded up: nothing lies
    between two of them. Raises InvalidRequest."""
    given = sent(request, name)
    if given is None:
        return None
    on, at, time = given.upper().partition("T")
    try:
        read = datetime.fromisoformat(on + at + time.replace(" ", "+"))  # a + that was not escaped comes as a space
        aware = read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    except (ValueError, OverflowError):
        raise refused(name, "must be a date or a time as ISO 8601, e.g. 2026-05-01 or 2026-05-01T12:00:00Z") from None
    return min(-((_EPOCH - aware) // _MS), _LAST)  # rounded up, the last one would be in the year 10000


def day(request: AnyRequest, name: str) -> date | None:
    """A date, YYYY-MM-DD. Raises InvalidRequest."""
    given = sent(request, name)
    if given is None:
        return None
    try:
        if _DATE.fullmatch(given):
            return date.fromisoformat(given)
    except ValueError:
        pass
    raise refused(name, "must be a date, YYYY-MM-DD")
