"""How many synchronous requests an organisation has in a month, in UTC, and how many of them are used."""

import functools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from appliance import clock
from appliance.database import Connection
from appliance.errors import NotFound, QuotaExceeded
from appliance.moderations.verdict import Verdict

_DAY_MS = 86_400_000


class Quota(msgspec.Struct, frozen=True):
    plan_tier: str
    monthly_request_quota: int | None
    """None = as many as are sent."""
    used: int
    """This month, cache hits too."""
    resets_at: int

    @property
    def remaining(self) -> int | None:
        return None if self.monthly_request_quota is None else max(0, self.monthly_request_quota - self.used)


def of(conn: Connection, org_id: str, now: int | None = None) -> Quota:
    """As of now. Raises NotFound when there is no such organisation."""
    first, following = month(clock.now_ms() if now is None else now)
    # at most 31 rows of a primary key: 12 µs
    row = conn.execute(
        """
        SELECT organisation.plan, plan.monthly_request_quota,
            (SELECT ifnull(sum(requests), 0) FROM moderation_use
             WHERE org_id = organisation.id AND day >= :first AND day < :following) AS used
        FROM organisation LEFT JOIN plan ON plan.slug = organisation.plan
        WHERE organisation.id = :org
        """,
        {"org": org_id, "first": first.date().isoformat(), "following": following.date().isoformat()},
    ).fetchone()
    if row is None:
        raise NotFound("There is no such organisation")
    return Quota(row["plan"], row["monthly_request_quota"], row["used"], int(following.timestamp() * 1000))


def check(conn: Connection, org_id: str, requests: int = 1, now: int | None = None) -> None:
    """So many more fit in the month: asked before the work is done, and again as it is counted. Raises QuotaExceeded,
    and then nothing is used up."""
    now = clock.now_ms() if now is None else now
    found = of(conn, org_id, now)
    if found.remaining is None or requests <= found.remaining:
        return
    wait_s = -(-(found.resets_at - now) // 1000)
    raise QuotaExceeded(found.plan_tier, found.monthly_request_quota or 0, found.used, retry_after_s=max(1, wait_s))


def spend(conn: Connection, org_id: str, made: Sequence[Verdict]) -> None:
    """Count these, all or none, in the transaction of their events. Raises QuotaExceeded."""
    if not made:
        return
    check(conn, org_id, len(made), made[-1].created_at)
    _count(
        conn,
        [
            {
                "org": org_id,
                "day": day(one.created_at),
                "allowed": int(one.decision == "allow"),
                "flagged": int(one.decision == "flag"),
                "blocked": int(one.decision == "block"),
                "cached": int(one.is_cached),
                "credits": one.text_llm_credits,
            }
            for one in made
        ],
    )


def spend_picture(conn: Connection, org_id: str, *, is_prohibited: bool, now: int) -> None:
    """Count one picture of a surface that leaves no event. Raises QuotaExceeded."""
    check(conn, org_id, 1, now)
    decided = {"allowed": int(not is_prohibited), "flagged": 0, "blocked": int(is_prohibited)}
    _count(conn, [{"org": org_id, "day": day(now), **decided, "cached": 0, "credits": 0}])


def _count(conn: Connection, rows: Sequence[dict[str, Any]]) -> None:
    conn.executemany(
        """
        INSERT INTO moderation_use (org_id, day, requests, allowed, flagged, blocked, cache_hits, text_llm_credits)
        VALUES (:org, :day, 1, :allowed, :flagged, :blocked, :cached, :credits)
        ON CONFLICT DO UPDATE SET requests = requests + 1, allowed = allowed + :allowed, flagged = flagged + :flagged,
            blocked = blocked + :blocked, cache_hits = cache_hits + :cached,
            text_llm_credits = text_llm_credits + :credits
        """,
        rows,
    )


def day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).date().isoformat()


def month(ms: int) -> tuple[datetime, datetime]:
    """The first moment of the month that this lies in, and of the one after it."""
    return _month_of(ms // _DAY_MS)


@functools.lru_cache(maxsize=64)  # asked twice a decision
def _month_of(days: int) -> tuple[datetime, datetime]:
    first = datetime.fromtimestamp(days * _DAY_MS / 1000, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return first, (first + timedelta(days=32)).replace(day=1)
