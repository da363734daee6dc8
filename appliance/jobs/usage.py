"""What an organisation used: jobs, verdicts, time and money by the hour and the minute. Accounting, not a list of rows:
it stays when the jobs are deleted. The triggers of schema/005_history.sql write it; here it is only summed."""

from collections.abc import Sequence

import msgspec

from appliance import clock
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


class Bucket(msgspec.Struct, frozen=True):
    """What was submitted in a bucket, of one organisation or of all: jobs by kind, how they ended, time and money."""

    at: int
    prompt: int = 0
    image: int = 0
    video: int = 0
    passed: int = 0
    rejected: int = 0
    gpu_ms: int = 0
    tokens: int = 0
    prompt_micros: int = 0
    image_micros: int = 0
    video_micros: int = 0

    @property
    def jobs(self) -> int:
        return self.prompt + self.image + self.video

    @property
    def micros(self) -> int:
        return self.prompt_micros + self.image_micros + self.video_micros


YEAR = "year"
"""Twelve months, the present one included: of no one length, so none of PERIODS."""


def buckets(conn: Connection, org_id: str | None, period: str, now: int) -> list[Bucket]:
    """Every bucket of the period, one of PERIODS or the YEAR, ascending; of all organisations when none is named."""
    known = PERIODS.get(period)
    if known is not None:
        since, until = _window(known, now)
        starts = list(range(since, until, known.length))
        step, at = min(known.length, HOUR), "at - at % :length"
    else:
        starts = clock.months(now, 12)
        since, until, step = starts[0], now + 1, HOUR
        at = "CAST(strftime('%s', at / 1000, 'unixepoch', 'start of month') AS INTEGER) * 1000"
    rows = conn.execute(
        f"""
        SELECT {at} AS start, sum(prompt_jobs) AS prompt, sum(image_jobs) AS image, sum(video_jobs) AS video,
            sum(passed) AS passed, sum(rejected) AS rejected, sum(gpu_ms) AS gpu_ms, sum(tokens) AS tokens,
            sum(prompt_micros) AS prompt_micros, sum(image_micros) AS image_micros, sum(video_micros) AS video_micros
        FROM usage
        WHERE {"org_id = :org AND" if org_id is not None else ""} step = :step AND at >= :since AND at < :until
        GROUP BY 1
        """,  # noqa: S608  # our own words
        {"org": org_id, "since": since, "until": until, "step": step, "length": known.length if known else 0},
    )
    there = {row["start"]: msgspec.convert({**dict(row), "at": row["start"]}, Bucket) for row in rows}
    return [there.get(start) or Bucket(start) for start in starts]


def month_of(now: int) -> int:
    """The first millisecond of the month, UTC."""
    return clock.months(now, 1)[0]


def spent_since(conn: Connection, since: int) -> dict[str, int]:
    """What the jobs submitted from then on cost each organisation."""
    rows = conn.execute(
        """
        SELECT org_id, sum(prompt_micros + image_micros + video_micros) AS micros FROM usage
        WHERE step = :hour AND at >= :since GROUP BY org_id
        """,
        {"hour": HOUR, "since": since},
    )
    return {row["org_id"]: row["micros"] for row in rows}


def going(conn: Connection) -> dict[str, int]:
    """Jobs of each organisation that are under way."""
    rows = conn.execute(
        "SELECT org_id, count(*) AS jobs FROM job WHERE status IN ('queued', 'processing') GROUP BY org_id"
    )
    return {row["org_id"]: row["jobs"] for row in rows}


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
