"""When a delivery is tried again: the table, the jitter, Retry-After, and the end of it. Pure."""

import pytest

from appliance.webhooks import schedule
from appliance.webhooks.schedule import Outcome, State

NOW = 1_779_192_000_000  # 2026-05-19T12:00:00Z


def after(
    status: int | None, retry_after: str | None = None, *, attempts: int = 1, most: int = 12, jitter: float = 1.0
) -> Outcome:
    return schedule.after(status, retry_after, attempts=attempts, max_attempts=most, now=NOW, jitter=jitter)


def test_twelve_attempts_take_about_five_hours() -> None:
    waits = [after(500, attempts=n).next_at for n in range(1, 13)]
    assert waits.pop() is None  # the twelfth is the last
    hours = sum(at - NOW for at in waits if at is not None) / 3_600_000
    assert len(waits) == 11
    assert 4.5 <= hours <= 5.5
    assert list(schedule.WAITS_S) == sorted(schedule.WAITS_S)


def test_jitter_keeps_the_whole_within_an_hour_of_five() -> None:
    for jitter in schedule.JITTER:
        hours = sum(wait * jitter for wait in schedule.WAITS_S) / 3600
        assert 3.9 <= hours <= 6


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_delivered(status: int) -> None:
    assert after(status) == Outcome(State.DELIVERED)


@pytest.mark.parametrize("status", [None, 301, 302, 307, 400, 401, 404, 429, 500, 503])
def test_everything_else_is_tried_again_until_the_last_attempt(status: int | None) -> None:
    assert after(status) == Outcome(State.PENDING, next_at=NOW + 5_000)
    assert after(status, attempts=12) == Outcome(State.FAILED)


def test_with_one_attempt_a_failure_is_logged_and_not_tried_again() -> None:
    assert after(500, most=1) == Outcome(State.FAILED)
    assert after(503, "1", most=1) == Outcome(State.FAILED)


def test_more_attempts_than_the_table_go_on_at_its_longest_wait() -> None:
    assert after(500, attempts=15, most=20).next_at == NOW + schedule.WAITS_S[-1] * 1000


def test_410_ends_it_at_the_first_attempt() -> None:
    assert after(410) == Outcome(State.FAILED, is_gone=True)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        (" 120 ", 120),
        ("Tue, 19 May 2026 12:02:00 GMT", 120),
        ("1", 5),  # sooner than the table: the table holds, or twelve attempts would be gone in a moment
        ("Tue, 19 May 2026 11:00:00 GMT", 5),
        ("999999999999", 5 * 3600),
        ("Tue, 19 May 2099 12:00:00 GMT", 5 * 3600),
        ("soon", 5),
        ("-7", 5),
        ("٣", 5),
        ("", 5),
        ("9" * 400, 5 * 3600),
    ],
)
def test_retry_after_is_honoured_within_reason(status: int, header: str, seconds: int) -> None:
    assert after(status, header).next_at == NOW + seconds * 1000


def test_retry_after_says_nothing_beside_another_status() -> None:
    assert after(500, "120").next_at == NOW + 5_000
