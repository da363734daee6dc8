"""What was asked of the synchronous surfaces, by day and by what came of it."""

import bisect
from datetime import UTC, date, datetime, timedelta

import msgspec

from appliance import clock
from appliance.database import Connection, Row

_HOUR_MS = 3_600_000


class Day(msgspec.Struct, frozen=True):
    date: str
    requests: int = 0
    allow: int = 0
    flag: int = 0
    block: int = 0
    cache_hits: int = 0
    text_llm_credits: int = 0


class Usage(msgspec.Struct, frozen=True):
    period: str
    """2026-11"""
    standard_requests: int
    text_llm_credits: int
    cache_hits: int
    by_decision: dict[str, int]
    daily: list[Day]
    """Every day of the month up to today, those without requests too."""


class Volume(msgspec.Struct, frozen=True):
    """The last 24 hours."""

    requests: int
    by_decision: dict[str, int]


def of(conn: Connection, org_id: str, period: str | None = None) -> Usage:
    """Of that month, YYYY-MM, or of this one, in UTC."""
    today = datetime.fromtimestamp(clock.now_ms() / 1000, UTC).date()
    first = today.replace(day=1) if period is None else date.fromisoformat(f"{period}-01")
    following = (first + timedelta(days=32)).replace(day=1)
    rows = conn.execute(
        """
        SELECT day, requests, allowed, flagged, blocked, cache_hits, text_llm_credits
        FROM moderation_use
        WHERE org_id = :org AND day >= :first AND day < :following
        """,
        {"org": org_id, "first": first.isoformat(), "following": following.isoformat()},
    )
    counted = {row["day"]: _day(row) for row in rows}
    length = max(0, (min(following, today + timedelta(days=1)) - first).days)
    days = [(first + timedelta(days=number)).isoformat() for number in range(length)]
    daily = [counted.get(one, Day(one)) for one in days]
    return Usage(
        period=first.isoformat()[:7],
        standard_requests=sum(one.requests for one in daily),
        text_llm_credits=sum(one.text_llm_credits for one in daily),
        cache_hits=sum(one.cache_hits for one in daily),
        by_decision={
            "allow": sum(one.allow for one in daily),
            "flag": sum(one.flag for one in daily),
            "block": sum(one.block for one in daily),
        },
        daily=daily,
    )


def days(conn: Connection, org_id: str | None, since: str, until: str) -> list[Day]:
    """The days of [since, until), YYYY-MM-DD, that had requests, ascending; of all organisations when none is named."""
    rows = conn.execute(
        f"""
        SELECT day, sum(requests) AS requests, sum(allowed) AS allowed, sum(flagged) AS flagged,
            sum(blocked) AS blocked, sum(cache_hits) AS cache_hits, sum(text_llm_credits) AS text_llm_credits
        FROM moderation_use
        WHERE {"org_id = :org AND" if org_id is not None else ""} day >= :since AND day < :until
        GROUP BY day ORDER BY day
        """,  # noqa: S608  # our own words
        {"org": org_id, "since": since, "until": until},
    )
    return [_day(row) for row in rows]


def by_bucket(conn: Connection, org_id: str | None, starts: list[int]) -> dict[int, int]:
    """Requests by the start of the bucket, days or longer, up to today: they are counted by the day."""
    if not starts:
        return {}
    counted = dict.fromkeys(starts, 0)
    for one in days(conn, org_id, _date(starts[0]), "9999"):
        at = int(datetime.fromisoformat(f"{one.date}T00:00:00+00:00").timestamp() * 1000)
        counted[starts[bisect.bisect_right(starts, at) - 1]] += one.requests
    return counted


def last_day(conn: Connection, org_id: str) -> Volume:
    """Counted from the events themselves: to the millisecond, whenever a day begins."""
    since = {"org": org_id, "since": clock.now_ms() - 24 * _HOUR_MS}
    (requests,) = conn.execute(
        "SELECT count(*) FROM moderation_event WHERE org_id = :org AND created_at >= :since", since
    ).fetchone()
    rows = conn.execute(
        """
        SELECT decision, count(*) AS events FROM moderation_event
        WHERE org_id = :org AND decision IN ('flag', 'block') AND decision != 'allow' AND created_at >= :since
        GROUP BY decision
        """,
        since,
    )
    counted: dict[str, int] = {row["decision"]: row["events"] for row in rows}
    flagged, blocked = counted.get("flag", 0), counted.get("block", 0)
    return Volume(requests, {"allow": requests - flagged - blocked, "flag": flagged, "block": blocked})


def _date(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).date().isoformat()


def _day(row: Row) -> Day:
    return Day(
        date=row["day"],
        requests=row["requests"],
        allow=row["allowed"],
        flag=row["flagged"],
        block=row["blocked"],
        cache_hits=row["cache_hits"],
        text_llm_credits=row["text_llm_credits"],
    )


def month_named(value: str) -> str | None:
    """YYYY-MM as it is, or None when it is no month."""
    try:
        return value if len(value) == 7 and date.fromisoformat(f"{value}-01") else None
    except ValueError:
        return None
