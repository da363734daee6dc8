"""The list of an organisation's jobs, newest first: how many match, and one page of them.

Ten million rows cannot be counted while somebody waits, nor skipped one by one. job_count_* say how many closed jobs
each day and hour has of each facet, so that a total is a sum of few rows and a page is read where it begins. What is
scanned is an index, and of it only the edges of the range and the hour of the page; with a prefix of one or two
characters, the day. A longer prefix has few matches (one job in 4096), which are all looked at in an index by id.
"""

import re
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import msgspec

from appliance.database import Connection, Row
from appliance.jobs.job import JobKind, Status

KINDS = (JobKind.PROMPT, JobKind.IMAGE, JobKind.VIDEO)
STATES = (
    (Status.QUEUED, None),
    (Status.PROCESSING, None),
    (Status.COMPLETED, False),
    (Status.COMPLETED, True),
    (Status.COMPLETED, None),
    (Status.FAILED, None),
)
"""Status and verdict. A job's facet is the place of its kind × 6 + the place of its state: job.facet in SQL."""

_ALL = len(KINDS) * len(STATES)
_OPEN = 2  # the first two states; they are not counted ahead
_HOUR = 3_600_000
_DAY = 24 * _HOUR
_NEVER = 2**53 // _DAY * _DAY  # no time is later; whole days, so that nothing is left over to scan
_HEAD = 2  # characters of an id by which job_count_head counts
_ID = re.compile(r"[0-9a-f-]{0,36}")


class Wanted(msgspec.Struct, frozen=True):
    """Which jobs. None = whichever."""

    kinds: frozenset[JobKind] | None = None
    statuses: frozenset[Status] | None = None
    is_prohibited: bool | None = None
    """The verdict; a job that has none matches neither."""
    prefix: str = ""
    """How its id begins."""
    since: int | None = None
    until: int | None = None
    """Submitted at or after `since`, and before `until`."""


class Listed(msgspec.Struct, frozen=True):
    """A job as the list shows it."""

    id: str
    kind: JobKind
    status: Status
    is_prohibited: bool | None
    created_at: int
    completed_at: int | None
    key_id: str | None
    key_name: str | None
    batch_id: str | None
    batch_key: str | None


class Page(msgspec.Struct, frozen=True):
    jobs: list[Listed]
    total: int
    """Of all that match, on whatever page."""


class _Bucket(NamedTuple):
    since: int
    until: int
    jobs: int


class _Asked(NamedTuple):
    """One request to the list, in the database's words."""

    conn: Connection
    org_id: str
    facets: Sequence[int]
    prefix: str

    @property
    def values(self) -> dict[str, object]:
        # ids are made of 0-9, a-f and -, all of which sort before g
        return {"org": self.org_id, "prefix": self.prefix, "beyond": f"{self.prefix}g"}

    @property
    def among(self) -> str:
        return f"facet IN ({_listing(self.facets)})"

    @property
    def open_facets(self) -> list[int]:
        return [facet for facet in self.facets if facet % len(STATES) < _OPEN]

    @property
    def and_prefix(self) -> str:
        return "AND id >= :prefix AND id < :beyond" if self.prefix else ""

    def open_jobs(self, columns: str) -> str:
        """Those that match and are still open: few, so they are looked at one by one."""
        return f"""
            SELECT {columns} FROM job INDEXED BY job_listed
            WHERE org_id = :org AND facet IN ({_listing(self.open_facets)})
                AND created_at >= :since AND created_at < :until {self.and_prefix}
            """  # noqa: S608  # facets are our own numbers


def page(conn: Connection, org_id: str, wanted: Wanted, limit: int, offset: int) -> Page:
    """The jobs that match, newest first (of one millisecond: by id), from the `offset`th on; all read at one moment."""
    asked = _Asked(conn, org_id, facets(wanted), wanted.prefix.lower())
    since, until = wanted.since or 0, _NEVER if wanted.until is None else wanted.until
    if not asked.facets or since >= until or not _ID.fullmatch(asked.prefix):
        return Page([], 0)
    with _one_moment(conn):
        if len(asked.prefix) > _HEAD:
            return _by_id(asked, since, until, limit, offset)
        buckets = _buckets(asked, since, until, (_DAY,) if asked.prefix else (_DAY, _HOUR))
        total = sum(bucket.jobs for bucket in buckets)
        if offset >= total:
            return Page([], total)
        begin, skipped = _holding(buckets, offset)
        if not asked.prefix and begin.until - begin.since == _DAY:
            hours = _buckets(asked, begin.since, begin.until, (_HOUR,))
            begin, more = _holding(hours, offset - skipped)
            skipped += more
        end, _ = _holding(buckets, min(offset + limit, total) - 1)
        return Page(_read(asked, end.since, begin.until, limit, offset - skipped), total)


def facets(wanted: Wanted) -> list[int]:
    return [
        kind * len(STATES) + state
        for kind, of_kind in enumerate(KINDS)
        if wanted.kinds is None or of_kind in wanted.kinds
        for state, (status, is_prohibited) in enumerate(STATES)
        if (wanted.statuses is None or status in wanted.statuses)
        and (wanted.is_prohibited is None or is_prohibited is wanted.is_prohibited)
    ]


def _holding(buckets: Iterable[_Bucket], place: int) -> tuple[_Bucket, int]:
    """The bucket that holds the match of this number, from 0, and how many come before it."""
    before = 0
    for bucket in buckets:
        if place < before + bucket.jobs:
            return bucket, before
        before += bucket.jobs
    raise IndexError(place)


def _buckets(asked: _Asked, since: int, until: int, steps: Sequence[int]) -> list[_Bucket]:
    """How many match, by stretches of time, newest first: whole buckets of the first step from its counts, what is left
    at both edges by the finer steps, and what is left of those by scanning."""
    if since >= until:
        return []
    if not steps:
        return [_Bucket(since, until, _scanned(asked, since, until))]
    step, finer = steps[0], steps[1:]
    first, last = -(-since // step) * step, until // step * step
    if first >= last:
        return _buckets(asked, since, until, finer)
    return [
        *_buckets(asked, last, until, finer),
        *(_Bucket(row["at"], row["at"] + step, row["jobs"]) for row in _counted(asked, first, last, step)),
        *_buckets(asked, since, first, finer),
    ]


def _counted(asked: _Asked, since: int, until: int, step: int) -> list[Row]:
    """The buckets of this length that begin in [since, until), newest first: closed jobs as they were counted, and the
    open ones."""
    table = "job_count_head" if asked.prefix else "job_count_day" if step == _DAY else "job_count_hour"
    counted = f"""
        SELECT at, sum(jobs) AS jobs FROM {table}
        WHERE org_id = :org {"AND head = :prefix" if asked.prefix else ""} AND at >= :since AND at < :until
            AND {asked.among}
        GROUP BY at
        """  # noqa: S608  # facets are our own numbers
    if asked.open_facets:
        counted += f"UNION ALL {asked.open_jobs('created_at - created_at % :step, 1')}"
    return asked.conn.execute(
        f"SELECT at, sum(jobs) AS jobs FROM ({counted}) GROUP BY at ORDER BY at DESC",  # noqa: S608  # as above
        {**asked.values, "since": since, "until": until, "step": step},
    ).fetchall()


def _scanned(asked: _Asked, since: int, until: int) -> int:
    row = asked.conn.execute(
        f"""
        SELECT count(*) FROM job INDEXED BY job_listed
        WHERE org_id = :org AND {asked.among} AND created_at >= :since AND created_at < :until {asked.and_prefix}
        """,  # noqa: S608  # facets are our own numbers
        {**asked.values, "since": since, "until": until},
    ).fetchone()
    return int(row[0])


def _read(asked: _Asked, since: int, until: int, limit: int, offset: int) -> list[Listed]:
    """A page, from the newest before `until`. Each facet lies in the order of the list, so several are merged: no more
    than the page and what is skipped of its hour is read, and nothing is sorted."""
    if len(asked.facets) == _ALL:
        each = ["INDEXED BY job_of_org WHERE org_id = :org"]
    else:
        each = [f"INDEXED BY job_listed WHERE org_id = :org AND facet = {facet}" for facet in asked.facets]
    rest = f"AND created_at >= :since AND created_at < :until {asked.and_prefix}"
    found = asked.conn.execute(
        f"""
        {" UNION ALL ".join(f"SELECT seq, created_at, id FROM job {where} {rest}" for where in each)}
        ORDER BY created_at DESC, id
        LIMIT :limit OFFSET :offset
        """,  # noqa: S608  # facets are our own numbers
        {**asked.values, "since": since, "until": until, "limit": limit, "offset": offset},
    )
    return _shown(asked.conn, [row["seq"] for row in found])


def _by_id(asked: _Asked, since: int, until: int, limit: int, offset: int) -> Page:
    """The same for a prefix with few matches: all of them."""
    sql = f"""
        SELECT seq, created_at, id FROM job INDEXED BY job_by_id
        WHERE org_id = :org AND {asked.among} AND facet % {len(STATES)} > {_OPEN - 1}
            AND created_at >= :since AND created_at < :until {asked.and_prefix}
        """  # noqa: S608  # facets are our own numbers
    if asked.open_facets:
        sql += f"UNION ALL {asked.open_jobs('seq, created_at, id')}"
    found = asked.conn.execute(sql, {**asked.values, "since": since, "until": until}).fetchall()
    found.sort(key=lambda row: (-row["created_at"], row["id"]))
    return Page(_shown(asked.conn, [row["seq"] for row in found[offset : offset + limit]]), len(found))


def _listing(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def _shown(conn: Connection, seqs: Sequence[int]) -> list[Listed]:
    """These jobs, in this order."""
    rows = conn.execute(
        """
        SELECT job.seq, job.id, kind, status, iif(status = 'completed', is_prohibited, NULL) AS is_prohibited,
            job.created_at, completed_at, key_id, api_key.name AS key_name, batch_id, batch_key
        FROM job LEFT JOIN api_key ON api_key.id = job.key_id
        WHERE job.seq IN (SELECT value FROM json_each(:seqs))
        """,
        {"seqs": msgspec.json.encode(seqs).decode()},
    )
    by_seq = {row["seq"]: _listed(row) for row in rows}
    return [by_seq[seq] for seq in seqs]


def _listed(row: Row) -> Listed:
    return Listed(
        id=row["id"],
        kind=JobKind(row["kind"]),
        status=Status(row["status"]),
        is_prohibited=None if row["is_prohibited"] is None else bool(row["is_prohibited"]),
        created_at=row["created_at"],
        completed_at=row["completed_at"],
        key_id=row["key_id"],
        key_name=row["key_name"],
        batch_id=row["batch_id"],
        batch_key=row["batch_key"],
    )


@contextmanager
def _one_moment(conn: Connection) -> Generator[None]:
    """All that is read within sees the same commit."""
    conn.execute("BEGIN")
    try:
        yield
    finally:
        conn.execute("COMMIT")
