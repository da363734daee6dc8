"""Amounts: what is read, what is refused, what is written."""

from decimal import Decimal
from typing import Any

import pytest

from appliance.billing import money
from appliance.errors import InvalidRequest


@pytest.mark.parametrize(
    ("given", "micros"),
    [
        (25, 25_000_000),
        (0.1, 100_000),
        (5000.000001, 5_000_000_001),
        (1e-06, 1),
        (Decimal("0.0008"), 800),
        ("25", 25_000_000),
        ("0.30", 300_000),
        ("4.35", 4_350_000),
        ("0.1000000000", 100_000),
        (0, 0),
        ("-0", 0),
    ],
)
def test_dollars_are_read_to_the_millionth(given: Any, micros: int) -> None:
    assert money.parse(given, "amount_usd") == micros


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (-1, "must not be negative"),
        ("-0.01", "must not be negative"),
        (float("nan"), "must be a number"),
        (float("inf"), "must be a number"),
        ("NaN", "must be a number"),
        ("1e3", "must be a number"),
        ("١٢", "must be a number"),
        (" 5", "must be a number"),
        ("5,00", "must be a number"),
        ("", "must be a number"),
        (None, "must be a number"),
        (True, "must be a number"),
        ([5], "must be a number"),
        ("0.0000001", "more than six decimals"),
        (1e-07, "more than six decimals"),
        (1e300, "above a billion"),
        ("9" * 15, "above a billion"),
        ("9" * 400, "must be a number"),
    ],
)
def test_what_is_no_amount_is_refused_with_the_field(given: Any, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why) as refused:
        money.parse(given, "amount_usd")
    assert refused.value.details is not None
    assert refused.value.details[0]["field"] == "amount_usd"


def test_a_correction_may_be_negative_where_that_is_asked_for() -> None:
    assert money.parse("-12.50", "amount", can_be_negative=True) == -12_500_000


def test_dollars_are_written_with_at_most_six_decimals() -> None:
    assert [money.usd(micros) for micros in (12_340_000, -800, 0, 1)] == [12.34, -0.0008, 0.0, 1e-06]
    assert [money.written(micros) for micros in (12_340_000, -800, 0, 1, 5_000_000_000, -1_500_000)] == [
        "$12.34", "-$0.0008", "$0.00", "$0.000001", "$5,000.00", "-$1.50",
    ]  # fmt: skip


def test_every_millionth_comes_back_as_it_was_written() -> None:
    for micros in (*range(0, 5_000_000, 997), 8_999_999_999_999_999, 123_456_789_012_345):
        if micros <= 10**15:
            assert money.parse(money.usd(micros), "x") == micros
