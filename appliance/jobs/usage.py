"""What an organisation used: jobs, verdicts, time and money by the hour and the minute. Accounting, not a list of rows:
it stays when the jobs are deleted. The triggers of schema/005_history.sql write it; here it is only summed."""

from collections.abc import Sequence

import msgspec

from appliance.categories import BUILT_IN
from appliance.database import Connection, Row

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR

MINUTES_KEPT = 2 * DAY
"""How long the minutes are worth keeping; hours stay."""


class Period(msgspec.Struct, frozen=True):
    """The last so many buckets, the present one included."""

    bucket: str
    length: int
    count: int


PERIODS = {
    "month": Period("day", DAY, 30),
    "week": Period("day", DAY, 7),
    "day": Period("hour", HOUR, 24),
    "hour": Period("minute", MINUTE, 60),
}


class Day(msgspec.Struct, frozen=True):
    """What was submitted on a day. Money is charges less refunds; jobs that are open or failed neither passed nor were
    rejected."""

    at: int
    jobs: int = 0
    passed: int = 0
    rejected: int = 0
    tokens: int = 0
    gpu_ms: int = 0
    micros: int = 0


class ByKind(msgspec.Struct, frozen=True):
    """A bucket's jobs, or its millionths of a dollar."""

    at: int
    prompt: int = 0
    image: int = 0
    video: int = 0


def days(conn: Connection, org_id: str, since: int, until: int) -> list[Day]:
    """Every day of [since, until), which begin and end at midnight, ascending."""
    rows = conn.execute(
        """
        SELECT at - at % :day AS at, sum(prompt_jobs + image_jobs + video_jobs) AS jobs, sum(passed) AS passed,
            sum(rejected) AS rejected, sum(tokens) AS tokens, sum(gpu_ms) AS gpu_ms,
            sum(prompt_micros + image_micros + video_micros) AS micros
        FROM usage
        WHERE org_id = :org AND step = :hour AND at >= :since AND at < :until
        GROUP BY 1
        """,
        {"org": org_id, "since": since, "until": until, "hour": HOUR, "day": DAY},
    )
    there = {row["at"]: msgspec.convert(dict(row), Day) for row in rows}
    return [there.get(at) or Day(at) for at in range(since, until, DAY)]


def volume(conn: Connection, org_id: str, period: Period, now: int) -> list[ByKind]:
    """Jobs submitted in each bucket of the period, ascending."""
    return _series(conn, org_id, period, now, ("prompt_jobs", "image_jobs", "video_jobs"))


def cost(conn: Connection, org_id: str, period: Period, now: int) -> list[ByKind]:
    """What the jobs submitted in each bucket cost, ascending."""
    return _series(conn, org_id, period, now, ("prompt_micros", "image_micros", "video_micros"))


def rejections(conn: Connection, org_id: str, period: Period, now: int) -> tuple[dict[str, int], dict[str, int]]:
    """How many rejected jobs each category was true of: the built-in ones, and the custom ones by slug (every one that
    judged a job in the period)."""
    since, until = _window(period, now)
    values = {"org": org_id, "since": since, "until": until, "hour": HOUR}
    built_in = conn.execute(
        """
        SELECT ifnull(sum(ai_adult_general), 0) AS ai_adult_general, ifnull(sum(underage), 0) AS underage,
            ifnull(sum(nsfw), 0) AS nsfw
        FROM usage
        WHERE org_id = :org AND step = :hour AND at >= :since AND at < :until
        """,
        values,
    ).fetchone()
    custom = conn.execute(
        """
        SELECT slug, sum(rejected) AS rejected FROM usage_custom
        WHERE org_id = :org AND at >= :since AND at < :until
        GROUP BY slug HAVING sum(judged) > 0
        ORDER BY slug
        """,
        values,
    )
    return {slug: built_in[slug] for slug in BUILT_IN}, {row["slug"]: row["rejected"] for row in custom}


def purge_minutes(conn: Connection, before: int, most: int) -> int:
    """Remove up to `most` minutes that begin before `before`, oldest first; returns how many."""
    return conn.execute(
        """
        DELETE FROM usage WHERE (org_id, step, at) IN (
            SELECT org_id, step, at FROM usage INDEXED BY usage_minute
            WHERE step = 60000 AND at < :before
            ORDER BY at LIMIT :most)
        """,
        {"before": before, "most": most},
    ).rowcount


def _series(conn: Connection, org_id: str, period: Period, now: int, columns: Sequence[str]) -> list[ByKind]:
    since, until = _window(period, now)
    prompt, image, video = columns
    rows = conn.execute(
        f"""
        SELECT at - at % :length AS at, sum({prompt}) AS prompt, sum({image}) AS image, sum({video}) AS video
        FROM usage
        WHERE org_id = :org AND step = :step AND at >= :since AND at < :until
        GROUP BY 1
        """,  # noqa: S608  # our own columns
        {"org": org_id, "since": since, "until": until, "length": period.length, "step": min(period.length, HOUR)},
    )
    there = {row["at"]: _by_kind(row) for row in rows}
    return [there.get(at) or ByKind(at) for at in range(since, until, period.length)]


def _window(period: Period, now: int) -> tuple[int, int]:
    until = now - now % period.length + period.length
    return until - period.count * period.length, until


def _by_kind(row: Row) -> ByKind:
    return msgspec.convert(dict(row), ByKind)
