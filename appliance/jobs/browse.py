"""Jobs as the operator looks through them: of every organisation, newest first, narrowed down by anything.

A list of ten million cannot be counted or skipped through by SQL while somebody waits. So a Catalogue holds the numbers
(seq) of what matches, eight bytes each, and finds them a stretch of the table at a time, the newest first: the first
page is there at once, the rest comes in behind it, and from then on any place in the list is one look-up away.
"""

import bisect
import re
from array import array
from collections.abc import Sequence

import msgspec

from appliance.database import Connection, Row
from appliance.jobs.job import JobKind, Status

STRETCH = 25_000
"""Rows of the table that one step looks at: 10 to 30 ms."""
LOOKED_AGAIN = 5_000
"""So far below the newest, what is open is looked at again each time; what is further down, when all is asked anew."""
_FIRST = 500  # the first step is this short, so that the first page comes at once

_WHOLE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class Wanted(msgspec.Struct, frozen=True):
    """Which jobs; None and "" = whichever."""

    org_id: str | None = None
    kind: JobKind | None = None
    status: Status | None = None
    is_prohibited: bool | None = None
    category: str | None = None
    """A slug, built-in or the organisation's own, that was found true."""
    since: int | None = None
    until: int | None = None
    """Submitted at or after `since`, and before `until`."""
    search: str = ""
    """How its id begins; or its request id, batch or error code; or words of its reason or error."""


class Listed(msgspec.Struct, frozen=True):
    """A job as the operator's list shows it."""

    seq: int
    id: str
    org_id: str
    kind: JobKind
    status: Status
    is_prohibited: bool | None
    flagged: list[str]
    """The categories that were found true."""
    reason: str | None
    error_code: str | None
    total: int
    done: int
    created_at: int
    started_at: int | None
    completed_at: int | None

    @property
    def took_ms(self) -> int | None:
        return None if self.completed_at is None else self.completed_at - self.created_at


_COLUMNS = (
    "seq, id, org_id, kind, status, is_prohibited, categories, reason, error_code, total, done, created_at, "
    "started_at, completed_at"
)

_CLAUSES = {
    "org_id": "org_id = :org_id",
    "kind": "kind = :kind",
    "status": "status = :status",
    "is_prohibited": "status = 'completed' AND is_prohibited = :is_prohibited",
    "category": "(categories ->> :built_in IS 1 OR categories ->> :own IS 1)",
    "since": "created_at >= :since",
    "until": "created_at < :until",
    "search": """(id >= :search AND id < :beyond OR request_id = :search OR batch_id = :search
        OR error_code = upper(:search) OR instr(lower(reason), :search) OR instr(lower(error), :search))""",
}


class Catalogue:
    """What matches, as it was found so far. One thread at a time grows or renews it; any may read meanwhile."""

    def __init__(self, conn: Connection, wanted: Wanted) -> None:
        self.wanted = wanted
        self._bound = _bound(wanted)
        self._where = _where(wanted)
        self._is_one = bool(_WHOLE.fullmatch(str(self._bound["search"])))
        if self._is_one:  # found by its index, not by a walk
            self._where = self._where.replace(_CLAUSES["search"], "id = :search")
        self._found = array("q")  # upwards, so that what is new is put at its end
        self._newest = _one(conn, "SELECT max(seq) FROM job") or 0
        self._lowest = _one(conn, "SELECT min(seq) FROM job") or 0
        self._below = self._newest + 1
        """Everything from here up was looked at."""
        self._open_from = self._first_open(conn)
        self._under_way = self._states_of_open(conn)
        self._step = _FIRST

    def __len__(self) -> int:
        return len(self._found)

    @property
    def is_whole(self) -> bool:
        """The whole table was looked at."""
        return self._below <= self._lowest

    @property
    def looked_at(self) -> float:
        """How much of the table, from 0 to 1."""
        span = self._newest + 1 - self._lowest
        return 1.0 if self.is_whole or span <= 0 else (self._newest + 1 - self._below) / span

    def grow(self, conn: Connection) -> bool:
        """Look at the next stretch; False when there is none left."""
        if self.is_whole:
            return False
        first = self._lowest if self._is_one else max(self._below - self._step, self._lowest)
        older = self._ask(conn, first, self._below)
        older.extend(self._found)
        self._found = older
        self._below, self._step = first, STRETCH
        return not self.is_whole

    def renew(self, conn: Connection) -> bool:
        """Take in what came since, and look again at what was open; whether anything is different."""
        newest = _one(conn, "SELECT max(seq) FROM job") or 0
        first = max(min(self._open_from, self._newest + 1), self._newest - LOOKED_AGAIN, self._below)
        again = self._ask(conn, first, newest + 1)
        at = bisect.bisect_left(self._found, first)
        before = self._found[at:]
        self._newest = newest
        self._open_from = self._first_open(conn)
        under_way, self._under_way = self._under_way, self._states_of_open(conn)
        if before == again and under_way == self._under_way:
            return False
        self._found = self._found[:at] + again  # not in place: another thread may be reading it
        return True

    def seqs(self, first: int, count: int, *, oldest_first: bool = False) -> list[int]:
        if oldest_first:
            return self._found[first : first + count].tolist()
        last = len(self._found) - first
        return self._found[max(last - count, 0) : max(last, 0)][::-1].tolist()

    def place(self, seq: int, *, oldest_first: bool = False) -> int | None:
        """Where in the list this job stands."""
        at = bisect.bisect_left(self._found, seq)
        if at == len(self._found) or self._found[at] != seq:
            return None
        return at if oldest_first else len(self._found) - 1 - at

    def newer_than(self, seq: int) -> int:
        """How many of the list came after this one."""
        return len(self._found) - bisect.bisect_right(self._found, seq)

    def _ask(self, conn: Connection, first: int, beyond: int) -> "array[int]":
        cursor = conn.cursor()
        cursor.row_factory = None  # a row is a tuple: three times as quick
        # by its number alone: an index by organisation would be read whole for each stretch
        by = "" if self._is_one else "NOT INDEXED"
        found = cursor.execute(
            f"SELECT seq FROM job {by} WHERE seq >= :first AND seq < :beyond_seq AND {self._where} ORDER BY seq",  # noqa: S608  # from the table above
            {**self._bound, "first": first, "beyond_seq": beyond},
        )
        return array("q", (row[0] for row in found))

    def _states_of_open(self, conn: Connection) -> list[tuple[int, str, int]]:
        """Of the list, the newest that are not done, with how far each is: what may come out otherwise in its place."""
        cursor = conn.cursor()
        cursor.row_factory = None
        return cursor.execute(
            f"""
            SELECT seq, status, done
            FROM job INDEXED BY job_open
            WHERE status IN ('queued', 'processing') AND {self._where}
            ORDER BY seq DESC
            LIMIT {LOOKED_AGAIN}
            """,  # noqa: S608  # from the table above
            self._bound,
        ).fetchall()

    def _first_open(self, conn: Connection) -> int:
        found = _one(conn, "SELECT min(seq) FROM job INDEXED BY job_open WHERE status IN ('queued', 'processing')")
        return self._newest + 1 if found is None else found


def read(conn: Connection, seqs: Sequence[int]) -> list[Listed | None]:
    """These jobs, in this order; None for one that was removed meanwhile."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM job WHERE seq IN (SELECT value FROM json_each(:seqs))",  # noqa: S608  # ours
        {"seqs": msgspec.json.encode(seqs).decode()},
    )
    by_seq = {row["seq"]: _listed(row) for row in rows}
    return [by_seq.get(seq) for seq in seqs]


def seq_of(conn: Connection, job_id: str) -> int | None:
    row = conn.execute("SELECT seq FROM job WHERE id = :id", {"id": job_id}).fetchone()
    return None if row is None else int(row["seq"])


def newest(conn: Connection, wanted: Wanted, limit: int) -> list[Listed]:
    """The newest that match, newest first."""
    catalogue = Catalogue(conn, wanted)
    while len(catalogue) < limit and catalogue.grow(conn):
        pass
    return [job for job in read(conn, catalogue.seqs(0, limit)) if job is not None]


class Tail:
    """Jobs as they end, each told once. What was open when it began is told too."""

    def __init__(self, conn: Connection, wanted: Wanted) -> None:
        self.wanted = wanted
        self._after = _one(conn, "SELECT max(seq) FROM job") or 0
        self._open = {
            row["seq"]
            for row in conn.execute(
                "SELECT seq FROM job INDEXED BY job_open WHERE status IN ('queued', 'processing') LIMIT 100000"
            )
        }

    def ended(self, conn: Connection) -> list[Listed]:
        """Those that ended since the last call, in the order they were accepted."""
        rows = conn.execute("SELECT seq FROM job WHERE seq > :after", {"after": self._after}).fetchall()
        self._open.update(row["seq"] for row in rows)
        self._after = max((row["seq"] for row in rows), default=self._after)
        done = {
            row["seq"]
            for row in conn.execute(
                "SELECT seq FROM job WHERE seq IN (SELECT value FROM json_each(:seqs)) AND completed_at IS NOT NULL",
                {"seqs": msgspec.json.encode(sorted(self._open)).decode()},
            )
        }
        self._open -= done
        return [job for job in read(conn, _matching(conn, self.wanted, sorted(done))) if job is not None]


def _matching(conn: Connection, wanted: Wanted, seqs: Sequence[int]) -> list[int]:
    rows = conn.execute(
        f"SELECT seq FROM job WHERE seq IN (SELECT value FROM json_each(:seqs)) AND {_where(wanted)} ORDER BY seq",  # noqa: S608  # from the table above
        {**_bound(wanted), "seqs": msgspec.json.encode(seqs).decode()},
    )
    return [row["seq"] for row in rows]


def _where(wanted: Wanted) -> str:
    given = (clause for name, clause in _CLAUSES.items() if getattr(wanted, name) not in (None, ""))
    return " AND ".join(["1", *given])


def _bound(wanted: Wanted) -> dict[str, object]:
    category = (wanted.category or "").removeprefix("custom:").replace('"', "")
    search = wanted.search.strip().lower()
    return {
        **msgspec.structs.asdict(wanted),
        "search": search,
        "beyond": f"{search}g",  # ids are made of 0-9, a-f and -, all of which sort before g
        "built_in": f'$."{category}"',
        "own": f'$.custom."{category}"',
    }


def _one(conn: Connection, sql: str) -> int | None:
    return conn.execute(sql).fetchone()[0]


def _listed(row: Row) -> Listed:
    is_done = row["status"] == Status.COMPLETED and row["is_prohibited"] is not None
    return Listed(
        seq=row["seq"],
        id=row["id"],
        org_id=row["org_id"],
        kind=JobKind(row["kind"]),
        status=Status(row["status"]),
        is_prohibited=bool(row["is_prohibited"]) if is_done else None,
        flagged=_flagged(row["categories"]),
        reason=row["reason"],
        error_code=row["error_code"],
        total=row["total"],
        done=row["done"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
    )


def _flagged(categories: str | None) -> list[str]:
    if not categories or "true" not in categories:
        return []
    found = msgspec.json.decode(categories)
    own = found.pop("custom", {})
    return [slug for slug, is_true in found.items() if is_true] + [slug for slug, is_true in own.items() if is_true]
