"""Amounts of money: read from what a caller wrote, kept as integer millionths of a dollar, written again."""

import re
from decimal import Decimal

from appliance.errors import InvalidRequest

MICROS = 1_000_000
"""Millionths in a dollar."""

_WRITTEN = re.compile(r"[+-]?[0-9]{1,15}(?:\.[0-9]{1,15})?")
_HIGHEST = Decimal(1_000_000_000)  # a billion dollars: far below where a JSON number loses millionths


def parse(value: object, field: str, *, can_be_negative: bool = False) -> int:
    """Dollars, as a JSON number or a numeric string of at most six decimals, in millionths. Raises InvalidRequest."""
    dollars = _dollars(value)
    if dollars is None:
        raise _refused(field, "must be a number of US dollars, e.g. 25 or 0.0008")
    if dollars < 0 and not can_be_negative:
        raise _refused(field, "must not be negative")
    if abs(dollars) > _HIGHEST:
        raise _refused(field, "is above a billion dollars")
    micros = dollars * MICROS
    if micros != micros.to_integral_value():
        raise _refused(field, "has more than six decimals; a millionth of a dollar is the least there is")
    return int(micros)


def usd(micros: int) -> float:
    """As a JSON number of dollars. The one division rounds to the nearest double, whose shortest form has our six
    decimals at most."""
    return micros / MICROS


def written(micros: int) -> str:
    """For people: `$12.34`, `-$0.0008`; at least two decimals, at most six."""
    whole, rest = divmod(abs(micros), MICROS)
    return f"{'-' if micros < 0 else ''}${whole:,}.{f'{rest:06d}'.rstrip('0').ljust(2, '0')}"


def _dollars(value: object) -> Decimal | None:
    """None when it is no finite number. A JSON number comes as a float, whose shortest form is what was written."""
    match value:
        case bool():
            return None
        case int() | float():
            number = Decimal(repr(value))
            return number if number.is_finite() else None
        case Decimal():
            return value if value.is_finite() else None
        case str() if _WRITTEN.fullmatch(value):
            return Decimal(value)
        case _:
            return None


def _refused(field: str, issue: str) -> InvalidRequest:
    return InvalidRequest(f"{field} {issue}", details=[{"field": field, "issue": issue}])
