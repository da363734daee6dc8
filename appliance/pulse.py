"""What the house is doing, counted in rows: what waits, verdicts a minute, the last rejections, quotas near their end.

Each question is answered by an index or by the newest rows alone, so that it costs the same with a million jobs behind.
No answer holds content: ids, names, categories, numbers.
"""

import struct

import msgspec

from appliance.database import Connection, Row
from appliance.jobs.job import Finding, JobKind, Score

MINUTE_MS = 60_000
_NEWEST = 5_000
"""Rejections are looked for among so many rows: with none among them the look takes 8 ms."""


class Waiting(msgspec.Struct, frozen=True):
    """Open jobs of one kind."""

    kind: JobKind
    queued: int
    processing: int
    oldest_at: int | None


class Minute(msgspec.Struct, frozen=True):
    """What became of what was submitted in this minute, as far as it is decided."""

    at: int
    allowed: int = 0
    prohibited: int = 0
    failed: int = 0


class Rejection(msgspec.Struct, frozen=True):
    at: int
    id: str
    """Of the job, or of the event."""
    org_id: str
    org: str
    kind: str
    category: str
    score: float | None
    """None: a term of a blocklist."""
    origin: str


class Allowance(msgspec.Struct, frozen=True):
    org_id: str
    org: str
    used: int
    quota: int

    @property
    def share(self) -> float:
        return self.used / self.quota if self.quota else 1.0


def waiting(conn: Connection) -> list[Waiting]:
    """Each kind's open jobs, in the order of JobKind. One pass over an index of the open ones and their rows."""
    found = {
        (row["kind"], row["status"]): (row["jobs"], row["oldest"])
        for row in conn.execute(
            """
            SELECT kind, status, count(*) AS jobs, min(created_at) AS oldest FROM job
            WHERE status IN ('queued', 'processing') GROUP BY kind, status
            """
        )
    }
    answer: list[Waiting] = []
    for kind in JobKind:
        queued, processing = found.get((kind.value, "queued")), found.get((kind.value, "processing"))
        oldest = [one[1] for one in (queued, processing) if one is not None]
        answer.append(
            Waiting(
                kind, queued[0] if queued else 0, processing[0] if processing else 0, min(oldest) if oldest else None
            )
        )
    return answer


def minutes(conn: Connection, now: int, count: int = 60) -> list[Minute]:
    """The last `count` minutes, the oldest first; the present one is the last and not over."""
    last = now - now % MINUTE_MS
    first = last - (count - 1) * MINUTE_MS
    allowed, prohibited, failed = dict[int, int](), dict[int, int](), dict[int, int]()
    since = {"since": first}
    for row in conn.execute(
        """
        SELECT at, sum(passed) AS passed, sum(rejected) AS rejected FROM usage
        WHERE step = 60000 AND at >= :since GROUP BY at
        """,
        since,
    ):
        _add(allowed, row["at"], row["passed"])
        _add(prohibited, row["at"], row["rejected"])
    for row in conn.execute(
        # failed jobs, of any kind: three short ranges of an index an organisation
        """
        SELECT job.created_at / 60000 * 60000 AS at, count(*) AS jobs
        FROM organisation CROSS JOIN job INDEXED BY job_listed
        WHERE job.org_id = organisation.id AND facet IN (5, 11, 17) AND job.created_at >= :since GROUP BY 1
        """,
        since,
    ):
        _add(failed, row["at"], row["jobs"])
    for row in conn.execute(
        # decisions of the synchronous surfaces; a picture's is counted as the job that it was
        """
        SELECT moderation_event.created_at / 60000 * 60000 AS at, count(*) AS events
        FROM organisation CROSS JOIN moderation_event INDEXED BY moderation_event_created
        WHERE moderation_event.org_id = organisation.id AND moderation_event.created_at >= :since GROUP BY 1
        """,
        since,
    ):
        _add(allowed, row["at"], row["events"])
    for row in conn.execute(
        """
        SELECT moderation_event.created_at / 60000 * 60000 AS at, count(*) AS events
        FROM organisation CROSS JOIN moderation_event INDEXED BY moderation_event_decision
        WHERE moderation_event.org_id = organisation.id AND decision != 'allow' AND decision IN ('block', 'flag')
            AND moderation_event.created_at >= :since GROUP BY 1
        """,
        since,
    ):
        _add(allowed, row["at"], -row["events"])
        _add(prohibited, row["at"], row["events"])
    return [
        Minute(at, max(0, allowed.get(at, 0)), prohibited.get(at, 0), failed.get(at, 0))
        for at in range(first, last + 1, MINUTE_MS)
    ]


def rejections(conn: Connection, limit: int = 8) -> list[Rejection]:
    """The newest, of jobs and of synchronous decisions, among the newest rows of both."""
    jobs = conn.execute(
        """
        SELECT job.*, organisation.name AS org FROM (
            SELECT id, org_id, kind, origin, status, is_prohibited, categories, created_at, completed_at
            FROM job ORDER BY seq DESC LIMIT :newest
        ) AS job JOIN organisation ON organisation.id = job.org_id
        WHERE is_prohibited = 1 AND job.status = 'completed' LIMIT :limit
        """,
        {"newest": _NEWEST, "limit": limit},
    ).fetchall()
    events = conn.execute(
        """
        SELECT event.*, organisation.name AS org FROM (
            SELECT id, org_id, modality, origin, decision, scores, body, job_id, created_at
            FROM moderation_event ORDER BY seq DESC LIMIT :newest
        ) AS event JOIN organisation ON organisation.id = event.org_id
        WHERE decision = 'block' AND job_id IS NULL LIMIT :limit
        """,
        {"newest": _NEWEST, "limit": limit},
    ).fetchall()
    found = [_of_job(conn, row) for row in jobs] + [_of_event(row) for row in events]
    return sorted(found, key=lambda one: one.at, reverse=True)[:limit]


def allowances(conn: Connection, now: int, least: float = 0.8) -> list[Allowance]:
    """Organisations that have used so much of the month's quota, the nearest to its end first."""
    from appliance.moderations import quota  # brings what decides texts, 130 ms: not at the start of a screen

    first, following = quota.month(now)
    found = conn.execute(
        """
        SELECT organisation.id, organisation.name, plan.monthly_request_quota AS quota, sum(requests) AS used
        FROM organisation JOIN plan ON plan.slug = organisation.plan
        JOIN moderation_use AS spent ON spent.org_id = organisation.id AND day >= :first AND day < :following
        WHERE plan.monthly_request_quota IS NOT NULL
        GROUP BY organisation.id HAVING sum(requests) >= plan.monthly_request_quota * :least
        """,
        {"first": first.date().isoformat(), "following": following.date().isoformat(), "least": least},
    )
    near = [Allowance(row["id"], row["name"], row["used"], row["quota"]) for row in found]
    return sorted(near, key=lambda one: one.share, reverse=True)


def _add(counts: dict[int, int], at: int, more: int) -> None:
    counts[at] = counts.get(at, 0) + more


def _of_job(conn: Connection, row: Row) -> Rejection:
    """What stands highest above its threshold, of the checks that found something."""
    raw = conn.execute(
        "SELECT finding FROM child WHERE job_id = :job AND is_positive = 1 AND finding IS NOT NULL LIMIT 40",
        {"job": row["id"]},
    )
    findings = [msgspec.json.decode(one["finding"], type=Finding) for one in raw]
    scores = [score for one in findings for score in one.scores if score.is_over]
    has_term = any(one.term is not None for one in findings)
    best = None if has_term else max(scores, key=_pressure, default=None)
    return Rejection(
        at=row["completed_at"] or row["created_at"],
        id=row["id"],
        org_id=row["org_id"],
        org=row["org"],
        kind=JobKind(row["kind"]).wire,
        category="blocklist" if has_term else best.category if best else _first_true(row["categories"]),
        score=best.score if best else None,
        origin=row["origin"],
    )


def _pressure(score: Score) -> float:
    return (score.score - score.threshold) / max(1e-9, 1 - score.threshold)


def _first_true(categories: str | None) -> str:
    """Traces go sooner than the verdict: then the verdict's own categories say it."""
    found = msgspec.json.decode(categories or "{}", type=dict[str, object])
    custom = found.pop("custom", {})
    names = [name for name, value in found.items() if value is True]
    if isinstance(custom, dict):
        names += [
            f"custom:{name}" for name, value in msgspec.convert(custom, dict[str, object]).items() if value is True
        ]
    return names[0] if names else "text"


class _Body(msgspec.Struct):
    flagged: tuple[str, ...] = ()


def _of_event(row: Row) -> Rejection:
    from appliance.text.analysis import ANALYZERS  # brings numpy: not at the start of a screen

    flagged = msgspec.json.decode(row["body"], type=_Body).flagged
    raw: bytes = row["scores"]
    scores: dict[str, float] = dict(zip(ANALYZERS, struct.unpack(f"<{len(raw) // 4}f", raw), strict=False))
    best = max(flagged, key=lambda name: scores.get(name, 0.0), default=None)
    score = None if best is None else scores.get(best)
    return Rejection(
        at=row["created_at"],
        id=row["id"],
        org_id=row["org_id"],
        org=row["org"],
        kind=row["modality"],
        category=best or "policy",
        score=None if score is None or score != score else round(score, 6),  # NaN: it was not asked
        origin=row["origin"],
    )
