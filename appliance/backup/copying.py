"""The database, copied while others write, and what is looked at in a copy before it is relied upon."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import msgspec

from appliance import database
from appliance.billing import reconcile
from appliance.database import Connection, sqlite3
from appliance.durable import settle_file
from appliance.errors import BackupError
from appliance.schema import migrations

_PAGES = 1024
"""A step. Between two of them nothing is locked but the log, which only grows for as long as this takes."""
_CHUNK = 1 << 20


class Checked(msgspec.Struct, frozen=True):
    """What a copy is."""

    migrations: list[str]
    counts: dict[str, int]
    faults: list[str]
    """Of SQLite: pages, indexes, keys that point nowhere. Empty = sound."""
    ledger_faults: dict[str, int]

    @property
    def schema(self) -> int:
        return number(self.migrations)


def number(names: list[str]) -> int:
    """`m020_thresholds` is 20; 0 when there are none."""
    return max((int(name[1:4]) for name in names if name[1:4].isdigit()), default=0)


def online(source: Path, target: Path, step: Callable[[], object] = lambda: None) -> None:
    """A copy as of the moment of the call, whole and without a log of its own, by SQLite's backup API.

    The whole time one reading is held: without it, each commit of another process makes SQLite begin anew. In a
    database with a log a reading stands in no writer's way. `step` is called between two steps.
    """

    def told(_status: int, _left: int, _all: int) -> None:
        step()

    origin = database.connect(source)
    try:
        origin.execute("PRAGMA query_only = ON")
        origin.execute("BEGIN")
        origin.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        copy = sqlite3.connect(str(target), isolation_level=None)
        try:
            copy.execute("PRAGMA synchronous = OFF")  # it is synced once, below
            origin.backup(copy, pages=_PAGES, progress=told)
            copy.execute("PRAGMA journal_mode = DELETE").fetchone()
        finally:
            copy.close()
        origin.execute("ROLLBACK")
    finally:
        origin.close()
    settle_file(target)


def check(path: Path) -> Checked:
    """Look at a copy that nobody else has open. Raises BackupError when it is no database."""
    try:
        conn = sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True, isolation_level=None)
        conn.row_factory = sqlite3.Row
        conn.execute("PRAGMA cache_size = -65536")
        try:
            return _check(conn)
        finally:
            conn.close()
    except sqlite3.DatabaseError as error:
        raise BackupError(f"the database in it cannot be read ({error})") from error


def _check(conn: Connection) -> Checked:
    faults = [str(row[0]) for row in conn.execute("PRAGMA integrity_check(20)") if row[0] != "ok"]
    pointing = conn.execute("PRAGMA foreign_key_check").fetchmany(20)
    faults += [f"a row of {row['table']} refers to one of {row['parent']} that is not there" for row in pointing]
    has = conn.execute("SELECT 1 FROM sqlite_schema WHERE name = '_sqlite_migrations'").fetchone()
    names = [row["name"] for row in conn.execute("SELECT name FROM _sqlite_migrations ORDER BY name")] if has else []
    # of another version's tables the questions may not be those that we ask; a restore brings them up to date and asks
    ledger_faults = reconcile.check(conn).faults if set(names) == set(migrations.names) and not faults else {}
    return Checked(names, counts(conn), faults, ledger_faults)


def counts(conn: Connection) -> dict[str, int]:
    """Table → rows, of all tables."""
    tables = [
        row[0]
        for row in conn.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name"
        )
    ]
    return {name: int(conn.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]) for name in tables}  # noqa: S608  # from the schema


def digest(path: Path) -> tuple[int, str]:
    """(bytes, sha256), from what is cached."""
    found = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            size += len(chunk)
            found.update(chunk)
    return size, found.hexdigest()
