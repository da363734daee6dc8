"""The tables, as numbered migrations applied by sqlite-utils: SQL in files beside this one, one a version.

sqlite-utils is imported when there is something to apply: it takes 130 ms, and mostly there is nothing.

What was released is never edited. From m021 on a migration names the file that takes it back, `@migrations(undo=…)`:
`customhouse rollback` hands the database to the version before with all its rows, also those of meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.errors import Misconfigured

if TYPE_CHECKING:
    import sqlite_utils

FIRST_RELEASED = "m020_thresholds"
"""The last migration of the first release: nothing goes back behind it."""

_Step = Callable[["sqlite_utils.Database"], None]


class _Migrations:
    """In the order that they stand here."""

    def __init__(self) -> None:
        self._steps: list[_Step] = []
        self._undo: dict[str, str] = {}

    def __call__(self, *, undo: str = "") -> Callable[[_Step], _Step]:
        """`undo` is the file that takes it back."""

        def add(step: _Step) -> _Step:
            self._steps.append(step)
            if undo:
                self._undo[step.__name__] = undo
            return step

        return add

    @property
    def names(self) -> list[str]:
        return [step.__name__ for step in self._steps]

    @property
    def undone_by(self) -> dict[str, str]:
        """Migration → the file that takes it back."""
        return dict(self._undo)

    def to_undo(self, applied: Collection[str], back_to: str) -> list[str]:
        """Those of `applied` after `back_to`, the newest first. Raises Misconfigured when one of them cannot be taken
        back, or is not ours."""
        names = self.names
        if back_to not in names:
            raise Misconfigured(f"{back_to} is no migration of this version; the newest is {names[-1]}")
        if unknown := sorted(set(applied) - set(names)):
            raise Misconfigured(
                f"its tables are of a newer version ({unknown[-1]}); roll back with the customhouse they were made by"
            )
        found = [name for name in reversed(names[names.index(back_to) + 1 :]) if name in applied]
        for name in found:
            if name not in self._undo:
                raise Misconfigured(f"{name} cannot be taken back")
        return found

    def undo(self, conn: Any, name: str) -> None:
        """Take back one, with the record that it was there, in one transaction. Raises Misconfigured when rows would
        be left that name others which are gone; nothing has changed then."""
        conn.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements(FOLDER / self._undo[name]):
                conn.execute(statement)
            if conn.execute("PRAGMA foreign_key_check").fetchone():
                raise Misconfigured(f"{name}: what it takes back is still named by other rows")
            conn.execute("DELETE FROM _sqlite_migrations WHERE name = ?", (name,))
            conn.execute("COMMIT")
        except BaseException:
            if conn.in_transaction:
                conn.execute("ROLLBACK")
            raise

    def apply(self, db: sqlite_utils.Database, *, stop_before: str | None = None) -> None:
        """Those that are not in it yet, each in a transaction of its own."""
        from sqlite_utils.migrations import Migrations

        made = Migrations("customhouse")
        for step in self._steps:
            made(name=step.__name__)(step)
        made.apply(db, stop_before=stop_before)


migrations = _Migrations()


FOLDER = Path(__file__).parent


def statements(file: Path) -> list[str]:
    """What stands in one of the files; a statement ends where a line ends with a semicolon."""
    return [statement for statement in file.read_text().split(";\n") if statement.strip()]


def _run(db: sqlite_utils.Database, file: str) -> None:
    # statement by statement: executescript() would commit the transaction that the migration runs in
    for statement in statements(FOLDER / file):
        db.conn.execute(statement)


@migrations()
def m001_initial(db: sqlite_utils.Database) -> None:
    _run(db, "001_initial.sql")


@migrations()
def m002_keyword_version(db: sqlite_utils.Database) -> None:
    _run(db, "002_keyword_version.sql")


@migrations()
def m003_accounts(db: sqlite_utils.Database) -> None:
    _run(db, "003_accounts.sql")


@migrations()
def m004_limits(db: sqlite_utils.Database) -> None:
    _run(db, "004_limits.sql")


@migrations()
def m005_history(db: sqlite_utils.Database) -> None:
    _run(db, "005_history.sql")
    _run(db, "005_history_filled.sql")


@migrations()
def m006_retention(db: sqlite_utils.Database) -> None:
    _run(db, "006_retention.sql")


@migrations()
def m007_custom(db: sqlite_utils.Database) -> None:
    rebuilt = "tbl_name IN ('delivery', 'delivery_attempt') AND type IN ('index', 'trigger') AND sql IS NOT NULL"
    beside = [sql for (sql,) in db.conn.execute(f"SELECT sql FROM sqlite_master WHERE {rebuilt}").fetchall()]  # noqa: S608
    _run(db, "007_custom.sql")
    for sql in beside:  # what stood on the tables that it makes anew
        db.conn.execute(sql)


@migrations()
def m008_ledger(db: sqlite_utils.Database) -> None:
    _run(db, "008_ledger.sql")


@migrations()
def m009_stripe(db: sqlite_utils.Database) -> None:
    _run(db, "009_stripe.sql")


@migrations()
def m010_admin(db: sqlite_utils.Database) -> None:
    _run(db, "010_admin.sql")


@migrations()
def m011_cost(db: sqlite_utils.Database) -> None:
    _run(db, "011_cost.sql")


@migrations()
def m012_policies(db: sqlite_utils.Database) -> None:
    _run(db, "012_policies.sql")


@migrations()
def m013_events(db: sqlite_utils.Database) -> None:
    _run(db, "013_events.sql")


@migrations()
def m014_regex(db: sqlite_utils.Database) -> None:
    _run(db, "014_regex.sql")


@migrations()
def m015_moderations(db: sqlite_utils.Database) -> None:
    _run(db, "015_moderations.sql")


@migrations()
def m016_steps(db: sqlite_utils.Database) -> None:
    _run(db, "016_steps.sql")


@migrations()
def m017_sampling(db: sqlite_utils.Database) -> None:
    _run(db, "017_sampling.sql")


@migrations()
def m018_surfaces(db: sqlite_utils.Database) -> None:
    _run(db, "018_perspective.sql")
    _run(db, "018_azure.sql")


@migrations()
def m019_evaluations(db: sqlite_utils.Database) -> None:
    _run(db, "019_evaluations.sql")


@migrations()
def m020_thresholds(db: sqlite_utils.Database) -> None:
    _run(db, "020_thresholds.sql")
