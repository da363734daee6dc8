"""The database: whole, of this version's schema, and its books in order."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from appliance.doctor.context import Context
from appliance.doctor.finding import Check, Outcome, Skip, failed, ok, warning

if TYPE_CHECKING:
    from appliance.database import Connection

_MB = 1_000_000
_WAL_MB = 256


def _there(context: Context) -> Path:
    path = context.house().database
    if not path.exists():
        raise Skip("There is no database yet; customhouse makes it as it first starts")
    return path


def _integrity(context: Context) -> Outcome:
    """quick_check with --quick: it does not compare indices with their tables."""
    how = "quick_check" if context.is_quick else "integrity_check"
    wrong: list[str] = []
    try:
        with context.database() as conn:
            wrong = [row[0] for row in conn.execute(f"PRAGMA {how}(100)") if row[0] != "ok"]
    except Exception as error:
        if (
            type(error).__name__ != "DatabaseError"
        ):  # so damaged that it cannot be looked through; all else is said as is
            raise
        wrong = [str(error)]
    if wrong:
        return failed(
            f"The database is damaged in {len(wrong)}{' or more' if len(wrong) >= 100 else ''} places",
            cause="the disk lost or changed bytes, or the file was copied while it was written",
            fix="stop everything, keep a copy of the file, and restore a backup; what can be read: "
            f"sqlite3 {context.known().database} .recover",
            how=how,
            wrong=len(wrong),
        )
    return ok(f"{how}: ok", how=how, wrong=0)


def _foreign_keys(context: Context) -> Outcome:
    with context.database() as conn:
        found = conn.execute('SELECT "table", count(*) FROM pragma_foreign_key_check GROUP BY 1').fetchall()
    if found:
        count = sum(row[1] for row in found)
        return failed(
            f"{count} row{'s refer' if count > 1 else ' refers'} to what is not there",
            cause="the file was changed by hand, by a connection without foreign_keys",
            fix=f"sqlite3 {context.known().database} 'PRAGMA foreign_key_check'; restore those rows from a backup",
            orphans=count,
            tables=[row[0] for row in found],
        )
    return ok("Every row's references are there", orphans=0)


def applied(conn: Connection) -> list[str]:
    """The names of the migrations that were applied."""
    try:
        return [row[0] for row in conn.execute("SELECT name FROM _sqlite_migrations ORDER BY name")]
    except Exception as error:
        if "no such table" in str(error):
            return []
        raise


def _schema(context: Context) -> Outcome:
    from appliance.schema import migrations

    known = set(migrations.names)
    with context.database() as conn:
        have = set(applied(conn))
    newer, pending = have - known, known - have
    if newer:
        return failed(
            f"The database is of a later version of Customhouse ({len(newer)} steps ahead)",
            cause="it was upgraded, and the program was put back",
            fix="install the later version again, or restore a backup from before the upgrade",
            applied=len(have),
            known=len(known),
        )
    if pending:
        return warning(
            f"{len(pending)} step{'s' if len(pending) > 1 else ''} of the schema are not applied yet",
            cause="the program was upgraded and has not started since",
            fix="restart Customhouse: each process brings the file up to date as it starts",
            applied=len(have),
            known=len(known),
        )
    return ok(f"Schema {len(have)}, as this version has it", applied=len(have), known=len(known))


def fresh() -> dict[tuple[str, str], str]:
    """(type, name) → SQL of everything that a new database has."""
    import contextlib

    import sqlite_utils

    from appliance.database import sqlite3
    from appliance.schema import migrations

    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        migrations.apply(sqlite_utils.Database(conn))
        return _objects(conn)


def _objects(conn: Connection) -> dict[tuple[str, str], str]:
    found = conn.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'")
    return {(row[0], row[1]): row[2] for row in found}


def _lacking(context: Context) -> dict[tuple[str, str], str]:
    with context.database() as conn:
        have = _objects(conn)
    return {key: sql for key, sql in fresh().items() if key not in have}


def _triggers(context: Context) -> Outcome:
    """What keeps audit and ledger from being changed, and the counters right."""
    lacking = sorted(name for kind, name in _lacking(context) if kind in ("trigger", "table", "view"))
    if lacking:
        return failed(
            f"{lacking[0]}{f' and {len(lacking) - 1} more' if len(lacking) > 1 else ''} is missing from the database",
            cause="it was dropped by hand; what audit and ledger promise no longer holds",
            fix="restore a backup, or have the schema made again from appliance/schema by somebody who knows why it "
            "went",
            lacking=lacking,
        )
    return ok("Tables, views and triggers are all there", lacking=[])


def _indices(context: Context) -> Outcome:
    lacking = sorted(name for kind, name in _lacking(context) if kind == "index")
    if lacking:
        return warning(
            f"The index {lacking[0]}{f' and {len(lacking) - 1} more' if len(lacking) > 1 else ''} is missing",
            cause="it was dropped by hand: lists and purges read whole tables",
            fix="customhouse doctor database --fix",
            mendable=True,
            lacking=lacking,
        )
    return ok("All indices are there", lacking=[])


def _make_indices(context: Context) -> str:
    from appliance import database

    lacking = {name: sql for (kind, name), sql in _lacking(context).items() if kind == "index"}
    conn = database.connect(context.known().database)
    try:
        for sql in lacking.values():
            conn.execute(sql)
    finally:
        conn.close()
    return f"made {len(lacking)} indices"


def _log(context: Context) -> Outcome:
    path = _there(context)
    log = path.with_name(path.name + "-wal")
    return log_is(path, log.stat().st_size // _MB if log.exists() else 0)


def log_is(path: Path, size_mb: int) -> Outcome:
    if size_mb > _WAL_MB:
        return warning(
            f"The write-ahead log is {size_mb:,} MB",
            cause="somebody has been reading for long, so it could not be emptied; removed rows stand in it until then",
            fix="customhouse doctor database --fix; if it stays: see who has the file open: fuser -v " + str(path),
            mendable=True,
            log_mb=size_mb,
        )
    return ok(f"The write-ahead log is {size_mb:,} MB", log_mb=size_mb)


def _empty_log(context: Context) -> str:
    from appliance import database

    is_empty = database.empty_log(context.house().database, 10.0)
    return "emptied the write-ahead log" if is_empty else "could not empty the write-ahead log: somebody reads"


def _ledger(context: Context) -> Outcome:
    from appliance.billing import reconcile

    with context.database() as conn:
        report = reconcile.check(conn)
    evidence = {"entries": report.entries, "faults": sum(report.faults.values()), "sorts": sorted(report.faults)}
    if not report.is_whole:
        sort, count = next(iter(report.faults.items()))
        return failed(
            f"The ledger is not whole: {sort} ({count})",
            cause="rows were changed or removed by hand, or a fault of ours",
            fix="customhouse billing reconcile lists each; correct by customhouse billing credit, with the reason",
            evidence=evidence,
        )
    return ok(f"{report.entries:,} entries add up", evidence=evidence)


_RECOUNT = "UPDATE backlog SET open_jobs = (SELECT count(*) FROM job WHERE status IN ('queued', 'processing'))"


def _counters(context: Context) -> Outcome:
    with context.database() as conn:
        (said,) = conn.execute("SELECT open_jobs FROM backlog").fetchone()
        (true,) = conn.execute("SELECT count(*) FROM job WHERE status IN ('queued', 'processing')").fetchone()
    if said != true:
        return failed(
            f"The counter says {said:,} open jobs; there are {true:,}",
            cause="rows were changed while the triggers were gone",
            fix=f'stop everything; sqlite3 {context.known().database} "{_RECOUNT}"',
            counted=said,
            there=true,
        )
    return ok(f"{true:,} open jobs, as counted", counted=said, there=true)


def _space(context: Context) -> Outcome:
    with context.database() as conn:
        (pages,), (free,), (size,) = (
            conn.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "freelist_count", "page_size")
        )
    return space(pages, free, size, context.known().database)


def space(pages: int, free: int, size: int, path: Path) -> Outcome:
    total_mb, free_mb = pages * size // _MB, free * size // _MB
    if free_mb > 1000 and free > pages / 2:
        return warning(
            f"{free_mb:,} of {total_mb:,} MB of the database are empty",
            cause="much was removed; SQLite keeps the room for what comes",
            fix=f"if the disk needs it, stop everything and run: sqlite3 {path} VACUUM",
            total_mb=total_mb,
            free_mb=free_mb,
        )
    return ok(f"{total_mb:,} MB, {free_mb:,} of them empty", total_mb=total_mb, free_mb=free_mb)


def _writable(context: Context) -> Outcome:
    """The write lock can be had in a moment, and is given back at once. Nothing is written."""
    import time

    from appliance.database import connect, sqlite3

    path = _there(context)
    begun = time.perf_counter()
    conn = connect(path, timeout_s=5)
    try:
        conn.execute("BEGIN IMMEDIATE")
        conn.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        return failed(
            f"The database cannot be written ({error})",
            cause="another process has held the write lock for over 5 s, or the file belongs to somebody else",
            fix=f"see who: fuser -v {path}; a process that hangs can be ended, nothing is lost by that",
            waited_ms=round((time.perf_counter() - begun) * 1000),
        )
    finally:
        conn.close()
    waited = round((time.perf_counter() - begun) * 1000)
    return ok(f"The write lock was had in {waited} ms", waited_ms=waited)


CHECKS = (
    Check(
        "database.integrity",
        "Integrity",
        "PRAGMA integrity_check reads the whole file; with --quick, quick_check.",
        _integrity,
        deadline_s=300,
    ),
    Check(
        "database.foreign_keys",
        "References",
        "PRAGMA foreign_key_check: no row refers to what is not there.",
        _foreign_keys,
        deadline_s=120,
    ),
    Check(
        "database.schema", "Schema version", "The migrations that were applied against those of this version.", _schema
    ),
    Check(
        "database.triggers",
        "Tables and triggers",
        "Everything that a new database has is here, above all the triggers that keep audit log and ledger from being "
        "changed, and the counters right.",
        _triggers,
    ),
    Check(
        "database.indices",
        "Indices",
        "Those that a new database has. --fix makes a missing one.",
        _indices,
        mend=_make_indices,
    ),
    Check(
        "database.log",
        "Write-ahead log",
        "Its size. It holds what was removed until it is emptied; --fix does that, and writers wait 100 ms at most.",
        _log,
        mend=_empty_log,
    ),
    Check(
        "database.ledger",
        "Ledger",
        "Every balance is the sum of its entries, every job was paid for as it ended: customhouse billing reconcile.",
        _ledger,
        is_slow=True,
        deadline_s=300,
    ),
    Check("database.counters", "Counters", "The counter of open jobs against the jobs themselves.", _counters),
    Check("database.space", "Size", "The file's size, and how much of it is empty.", _space),
    Check("database.lock", "Write lock", "Whether the write lock can be had within 5 seconds.", _writable),
)
