"""From every schema that there ever was to the newest, with rows in every table: sound, the tables of a new database,
and no row lost. And back again from what can be taken back."""

import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlite_utils

from appliance import database
from appliance.database import Connection
from appliance.errors import Misconfigured
from appliance.schema import FIRST_RELEASED, FOLDER, migrations, statements
from tests import releases, test_upgrade

NAMES = migrations.names

CHANGED = {
    "idempotency": "what was answered before there were work ids is not kept: it lives a day",
}
"""Tables whose rows a migration made anew, and why."""


def at(path: Path, last: str) -> Connection:
    """A database in use, of the time when that migration was the newest: rows in every table."""
    if last == NAMES[0]:
        test_upgrade.used(path, before=NAMES[1])
    else:
        test_upgrade.used(path)
    conn = database.connect(path)
    after = NAMES[NAMES.index(last) + 1 :]
    if last != NAMES[0]:
        migrations.apply(sqlite_utils.Database(conn), stop_before=after[0] if after else None)
    fill(conn)
    return conn


def tables(conn: Connection) -> list[str]:
    """Those with rows of ours, the ones that others name first."""
    every = [name for (name,) in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    left = {name: parents(conn, name) for name in every if not name.startswith(("sqlite_", "_")) and "_fts" not in name}
    found: list[str] = []
    while left:
        ready = [name for name, above in left.items() if not above & left.keys() - {name}]
        assert ready, left
        found += sorted(ready)
        for name in ready:
            del left[name]
    return found


def parents(conn: Connection, table: str) -> set[str]:
    return {row["table"] for row in conn.execute(f"PRAGMA foreign_key_list({table})")}


def fill(conn: Connection) -> None:
    """One row, at least, in every table that is empty: what its columns and checks ask for, no more."""
    for table in tables(conn):
        if conn.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone():
            continue
        sql = conn.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (table,)).fetchone()[0]
        above = {row["from"]: row for row in conn.execute(f"PRAGMA foreign_key_list({table})")}
        row: dict[str, Any] = {}
        for column in conn.execute(f"PRAGMA table_info({table})"):
            name = column["name"]
            if name in above:
                there = conn.execute(
                    f"SELECT {above[name]['to'] or 'id'} FROM {above[name]['table']} LIMIT 1"
                ).fetchone()
                row[name] = there[0]
            elif column["pk"] or (column["notnull"] and column["dflt_value"] is None):
                allowed = re.search(rf"\b{name}\b[^,]*? IN \('(\w+)'", sql)
                row[name] = (
                    allowed[1] if allowed else {"INTEGER": 1, "REAL": 0.5, "BLOB": b"\1"}.get(column["type"], "x")
                )
        words = ", ".join(row), ", ".join(f":{name}" for name in row)
        conn.execute(f"INSERT INTO {table} ({words[0]}) VALUES ({words[1]})", row)
    assert [name for name in tables(conn) if not conn.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone()] == []


def rows(conn: Connection, table: str, columns: list[str]) -> set[tuple[Any, ...]]:
    return {tuple(row) for row in conn.execute(f"SELECT {', '.join(columns)} FROM {table}")}


def columns(conn: Connection, table: str) -> list[str]:
    return [row["name"] for row in conn.execute(f"PRAGMA table_info({table})")]


def everything(conn: Connection) -> dict[str, tuple[list[str], set[tuple[Any, ...]]]]:
    return {name: (columns(conn, name), rows(conn, name, columns(conn, name))) for name in tables(conn)}


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    path = tmp_path_factory.mktemp("new") / "customhouse.db"
    database.migrate(path)
    return releases.tables(path)


@pytest.mark.parametrize("last", NAMES)
def test_from_every_schema_to_the_newest_nothing_is_lost(last: str, tmp_path: Path, new: list[tuple[Any, ...]]) -> None:
    path = tmp_path / "customhouse.db"
    conn = at(path, last)
    before = everything(conn)
    conn.close()
    database.migrate(path)
    assert releases.tables(path) == new
    assert releases.is_sound(path)
    conn = database.connect(path)
    there = set(tables(conn))
    for table, (had, kept) in before.items():
        if table in CHANGED and table not in there:
            continue
        both = [name for name in had if name in columns(conn, table)]
        places = [had.index(name) for name in both]
        lost = {tuple(row[place] for place in places) for row in kept} - rows(conn, table, both)
        assert not lost or table in CHANGED, (table, sorted(map(str, lost))[:3])
    conn.close()


def test_the_first_released_schema_is_the_twentieth() -> None:
    assert NAMES.index(FIRST_RELEASED) == 19
    assert [int(name[1:4]) for name in NAMES] == list(range(1, len(NAMES) + 1))


def test_every_migration_since_the_first_release_can_be_taken_back() -> None:
    later = NAMES[NAMES.index(FIRST_RELEASED) + 1 :]
    assert [name for name in later if name not in migrations.undone_by] == []
    for file in migrations.undone_by.values():
        assert statements(FOLDER / file)


@pytest.mark.parametrize("last", NAMES[NAMES.index(FIRST_RELEASED) :])
def test_down_to_every_released_schema_and_up_again(last: str, tmp_path: Path, new: list[tuple[Any, ...]]) -> None:
    path, old = tmp_path / "customhouse.db", tmp_path / "old" / "customhouse.db"
    at(path, NAMES[-1]).close()
    conn = at(old, last)
    kept = {name: set(columns(conn, name)) for name in tables(conn)}
    conn.close()
    conn = database.connect(path)
    before = everything(conn)
    conn.close()
    with database.alone(path):
        undone = database.undo(path, last)
    assert undone == NAMES[: NAMES.index(last) : -1]
    assert database.applied(path)[-1] == last
    assert releases.is_sound(path)
    conn = database.connect(path)
    assert {name: set(columns(conn, name)) for name in tables(conn)} == kept
    for table, names in kept.items():
        both = [name for name in before[table][0] if name in names]
        places = [before[table][0].index(name) for name in both]
        assert {tuple(row[place] for place in places) for row in before[table][1]} == rows(conn, table, both), table
    conn.close()
    database.migrate(path)
    assert {row[:3] for row in releases.tables(path)} == {row[:3] for row in new}
    assert releases.is_sound(path)


def test_what_is_older_than_the_first_release_is_not_gone_back_to(tmp_path: Path) -> None:
    path = tmp_path / "customhouse.db"
    database.migrate(path)
    with database.alone(path), pytest.raises(Misconfigured, match="cannot be taken back"):
        database.undo(path, NAMES[NAMES.index(FIRST_RELEASED) - 1])
    assert database.applied(path) == NAMES


def test_tables_of_a_newer_version_are_neither_used_nor_migrated_nor_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "customhouse.db"
    database.migrate(path)
    conn = database.connect(path)
    conn.execute(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('customhouse', 'm999_later', 'x')"
    )
    conn.close()
    for act in (lambda: database.migrate(path), lambda: database.check_readable(path), lambda: undo(path)):
        with pytest.raises(Misconfigured, match="newer version"):
            act()


def undo(path: Path) -> list[str]:
    with database.alone(path):
        return database.undo(path, FIRST_RELEASED)


def test_taking_back_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement that fails in the middle leaves the tables, and the record, as they were."""
    path = tmp_path / "customhouse.db"
    database.migrate(path)
    before = releases.tables(path)
    half = tmp_path / "half.sql"
    half.write_text("DROP TABLE threshold_now;\nDROP TABLE not_there;\n")
    monkeypatch.setitem(migrations._undo, NAMES[-1], str(half))  # as a file of the next release would stand there
    with database.alone(path), pytest.raises(database.Error):
        database.undo(path, NAMES[-2])
    assert releases.tables(path) == before
    assert database.applied(path) == NAMES


def test_rows_that_would_be_left_without_what_they_name_are_found(tmp_path: Path) -> None:
    path = tmp_path / "customhouse.db"
    at(path, NAMES[-1]).close()
    conn = database.connect(path)
    conn.execute("PRAGMA foreign_keys = OFF")
    (tmp_path / "torn.sql").write_text("DELETE FROM organisation;\n")
    migrations._undo["torn"] = str(tmp_path / "torn.sql")
    try:
        with pytest.raises((Misconfigured, sqlite3.Error, database.Error)):
            migrations.undo(conn, "torn")
    finally:
        del migrations._undo["torn"]
    assert conn.execute("SELECT count(*) FROM organisation").fetchone()[0] == 2
    conn.close()
