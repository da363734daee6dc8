"""The tables, as numbered migrations applied by sqlite-utils: SQL in files beside this one, one a version.

sqlite-utils is imported when there is something to apply: it takes 130 ms, and mostly there is nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite_utils

_Step = Callable[["sqlite_utils.Database"], None]


class _Migrations:
    """In the order that they stand here."""

    def __init__(self) -> None:
        self._steps: list[_Step] = []

    def __call__(self) -> Callable[[_Step], _Step]:
        def add(step: _Step) -> _Step:
            self._steps.append(step)
            return step

        return add

    @property
    def names(self) -> list[str]:
        return [step.__name__ for step in self._steps]

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
