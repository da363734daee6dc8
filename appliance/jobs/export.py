"""An organisation's jobs as CSV, piece by piece: SQLite writes the lines, so that a piece costs Python one string.

Each piece is a read of its own that goes on after the last line of the one before: no read stays open while a client
takes its time, so the log of the database can be checkpointed meanwhile, and memory does not grow with the range. A job
that changes in between is written as it is when its piece is read.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import msgspec

from appliance.categories import BUILT_IN
from appliance.database import Connection
from appliance.jobs.usage import HOUR

COLUMNS = (
    "job_id",
    "type",
    "status",
    "is_prohibited",
    "created_at",
    "completed_at",
    "prompt",
    "reason",
    *(f"category_{slug}" for slug in BUILT_IN),
)

_ROWS = 5000  # a piece: 15 ms, and short enough that what a client who hung up wasted is nothing
_BYTES = 4_000_000  # of prompts in one piece: 5000 of the longest would be 400 MB

_ARGUMENTS = 100  # that one function is given; SQLite takes 1000
_MAPPED = 2**46  # more than a file may have


class Span(msgspec.Struct, frozen=True):
    """Neighbouring jobs, few enough to be written at once."""

    words: dict[str, object]
    """From where to where, as the statements name it."""


class Place(msgspec.Struct, frozen=True):
    """Where the next piece begins: after this job, oldest first (of one millisecond: by id, descending)."""

    created_at: int
    id: str


def beginning(since: int) -> Place:
    return Place(since, "g")  # after every id, so before the first of its millisecond


def slugs(conn: Connection, org_id: str, since: int, until: int) -> list[str]:
    """The custom categories that judged a job in the hours of [since, until), removed ones too, in order."""
    rows = conn.execute(
        """
        SELECT slug FROM usage_custom
        WHERE org_id = :org AND at >= :since - :since % :hour AND at < :until
        GROUP BY slug HAVING sum(judged) > 0
        ORDER BY slug
        """,
        {"org": org_id, "since": since, "until": until, "hour": HOUR},
    )
    return [row["slug"] for row in rows]


def header(custom: Sequence[str]) -> bytes:
    """A byte order mark, which makes spreadsheets read UTF-8, and the names of the columns."""
    return "\ufeff".encode() + (",".join([*COLUMNS, *(f"category_custom_{slug}" for slug in custom)]) + "\r\n").encode()


def piece(
    conn: Connection, org_id: str, custom: Sequence[str], place: Place, until: int, *, expose_reasons: bool
) -> tuple[bytes, Place | None]:
    """The next lines, and where the piece after them begins; None = there is none."""
    span, last = reach(conn, org_id, place, until)
    return lines(conn, custom, span, expose_reasons=expose_reasons), last


def reach(conn: Connection, org_id: str, place: Place, until: int) -> tuple[Span, Place | None]:
    """The same, but not written yet: so another may look for the piece after it meanwhile."""
    with _mapped(conn):
        return _measured(conn, {"org": org_id, "at": place.created_at, "id": place.id}, until)


def lines(conn: Connection, custom: Sequence[str], span: Span, *, expose_reasons: bool) -> bytes:
    """One line a job."""
    named = {f"path{n}": f'$.custom."{slug}"' for n, slug in enumerate(custom)}
    with _mapped(conn):
        row = conn.execute(
            f"""
            SELECT CAST(group_concat(line, '') AS BLOB) AS lines FROM (
                SELECT {_line(custom)} AS line
                FROM job INDEXED BY job_of_org
                LEFT JOIN job_input ON job_input.seq = job.seq AND kind = 'PROMPT_MODERATION'
                WHERE {_SPAN}
                ORDER BY created_at, id DESC)
            """,  # noqa: S608  # our own columns; slugs are handed over as values
            {**span.words, "expose": expose_reasons, **named},
        ).fetchone()
    return row["lines"] or b""


@contextmanager
def _mapped(conn: Connection) -> Generator[None]:
    """Read the file through a mapping, so that the system reads ahead: 256,000 rows/s of a file that is not in memory,
    where 113,000 were read page by page. For this piece only: a mapping that stays would hold every page ever read."""
    conn.execute(f"PRAGMA mmap_size = {_MAPPED}").fetchall()
    try:
        yield
    finally:
        conn.execute("PRAGMA mmap_size = 0").fetchall()


# --- how far a piece reaches ------------------------------------------------------------------------------------------

_AFTER = "org_id = :org AND created_at >= :at AND (created_at > :at OR id < :id)"
# one upper bound in each: of two, SQLite would take the first to search by, and read on to the end of the range
_AHEAD = f"{_AFTER} AND created_at < :until"
_SPAN = f"{_AFTER} AND created_at <= :last_at AND (created_at < :last_at OR id >= :last_id)"


def _measured(conn: Connection, span: dict[str, object], until: int) -> tuple[Span, Place | None]:
    """So many rows that their prompts stay within bounds, and the last of them; None when they reach the end."""
    rows = _ROWS
    while True:
        row = conn.execute(
            f"""
            SELECT created_at, id FROM job INDEXED BY job_of_org
            WHERE {_AHEAD}
            ORDER BY created_at, id DESC
            LIMIT 1 OFFSET :rows - 1
            """,  # noqa: S608  # a constant
            {**span, "until": until, "rows": rows},
        ).fetchone()
        last = Place(row["created_at"], row["id"]) if row else None
        ended = {**span, "last_at": last.created_at if last else until - 1, "last_id": last.id if last else ""}
        size = conn.execute(
            f"""
            SELECT ifnull(sum(octet_length(text)), 0)
            FROM job INDEXED BY job_of_org JOIN job_input ON job_input.seq = job.seq
            WHERE {_SPAN}
            """,  # noqa: S608  # a constant
            ended,
        ).fetchone()[0]
        if size <= _BYTES or rows == 1:
            return Span(ended), last
        rows = max(1, rows * _BYTES // size)


# --- a line -----------------------------------------------------------------------------------------------------------


def _line(custom: Sequence[str]) -> str:
    judged = [_verdict(f"categories ->> '{slug}'") for slug in BUILT_IN]
    judged += [_verdict(f"categories ->> :path{n}") for n in range(len(custom))]
    cells = (
        "job.id",
        "CASE kind WHEN 'PROMPT_MODERATION' THEN 'prompt' WHEN 'IMAGE_MODERATION' THEN 'image' ELSE 'video' END",
        "status",
        f"CASE status WHEN 'completed' THEN {_verdict('is_prohibited')} ELSE '' END",
        _moment("created_at"),
        f"ifnull({_moment('completed_at')}, '')",
        _given("text"),
        f"""CASE WHEN status = 'completed' AND is_prohibited AND (kind = 'PROMPT_MODERATION' OR :expose)
            THEN {_given("reason")} ELSE '' END""",
        # most prompts were asked no category: reading their JSON too would cost a fifth of the whole
        f"""CASE WHEN status <> 'completed' OR categories IS NULL OR categories = '{{"custom":{{}}}}'
            THEN '{"," * (len(judged) - 1)}' ELSE {_joined(judged)} END""",
    )
    return f"{_joined(cells)} || char(13, 10)"


def _joined(cells: Sequence[str]) -> str:
    """With commas between. None of the cells may be NULL: it would go, and its comma with it. (|| copies the line once
    a cell: 261,000 rows a CPU second; so, 302,000.)"""
    if len(cells) > _ARGUMENTS:  # the custom categories of a year, removed ones too
        cells = [_joined(cells[at : at + _ARGUMENTS]) for at in range(0, len(cells), _ARGUMENTS)]
    return f"concat_ws(',', {', '.join(cells)})"


def _verdict(value: str) -> str:
    return f"CASE {value} WHEN 1 THEN 'true' WHEN 0 THEN 'false' ELSE '' END"


def _moment(column: str) -> str:
    """As clock.rfc3339 writes it."""
    return f"strftime('%Y-%m-%dT%H:%M:%fZ', {column} / 1000.0, 'unixepoch')"


def _given(column: str) -> str:
    """What somebody else wrote, in quotes; empty when there is none. What begins with one of = + - @ TAB CR would be a
    formula to a spreadsheet, so an apostrophe goes before it."""
    quoted = f"""replace({column}, '"', '""') || '"'"""
    return f"""CASE WHEN {column} IS NULL THEN ''
        WHEN substr({column}, 1, 1) IN ('=', '+', '-', '@', char(9), char(13)) THEN '"''' || {quoted}
        ELSE '"' || {quoted} END"""
