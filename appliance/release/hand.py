"""What a change of version does to the database, done in a process of its own as the user who owns the state directory:
the change itself may be root's, and a file of root's beside the database would lock its owner out.

`python -m appliance.release.hand PARENT` reads JSON lines {"do": …} and answers each with one, or with {"error": …}.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import msgspec

from appliance import audit, database, installed, settings
from appliance.errors import CustomhouseError, Misconfigured
from appliance.schema import migrations
from appliance.settings import Settings

_ROOM = 2.5
"""Times the database: its backup, the copy that is tried, and their logs."""
_ROOM_BYTES = 64 << 20
_PR_SET_PDEATHSIG = 1


class Tried(msgspec.Struct, frozen=True):
    """What the rehearsal came to."""

    migrations: list[str]
    seconds: float
    back_seconds: float | None
    """None: one of them cannot be taken back."""


class Hand:
    """That process, begun when it is first needed. It ends with us, in the middle of a transaction if need be: what
    takes over then finds the database as it was before, or after."""

    def __init__(self, loaded: Settings) -> None:
        self._settings = loaded
        self._process: subprocess.Popen[str] | None = None
        self._said: IO[str] | None = None

    def ask(self, do: str, **given: Any) -> dict[str, Any]:
        """Have it done, and the answer. Raises Misconfigured with what went wrong."""
        process = self._process or self._begin()
        assert process.stdin is not None  # both are pipes
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps({"do": do, **given}) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
            answer: dict[str, Any] = json.loads(line)
        except (BrokenPipeError, json.JSONDecodeError) as error:
            raise Misconfigured(f"{do}: {self._last_words()}") from error
        if "error" in answer:
            raise Misconfigured(f"{do}: {answer['error']}")
        return answer

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.communicate()  # its input ends, and so does it

    def _begin(self) -> "subprocess.Popen[str]":
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115  # as long as we are
        is_installed = installed.place() is not None
        self._process = subprocess.Popen(
            [sys.executable, *(["-P"] if is_installed else []), "-m", "appliance.release.hand", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env={**os.environ, "CUSTOMHOUSE_HOME": str(self._settings.home)},
            cwd=self._settings.home if is_installed else None,  # the caller may stand where its owner may not
            process_group=0,  # Ctrl+C is ours to understand
            **owner(self._settings.home),
        )
        return self._process

    def _last_words(self) -> str:
        """Of one that is gone."""
        process, self._process = self._process, None
        code = None if process is None else process.wait()
        if self._said is not None:
            self._said.seek(0)
            for line in reversed(self._said.read().strip().splitlines()):
                return line
        return f"it ended with {code}"


def owner(home: Path) -> dict[str, Any]:
    """As whom. Raises Misconfigured to who is neither root nor the owner."""
    try:
        stat = home.stat()
    except FileNotFoundError as error:
        raise Misconfigured(f"{home}: there is no state directory; is CUSTOMHOUSE_HOME right?") from error
    if os.geteuid() == stat.st_uid:
        return {}
    if os.geteuid() != 0:
        raise Misconfigured(f"{home} belongs to somebody else; change versions as root: sudo")
    return {"user": stat.st_uid, "group": stat.st_gid, "extra_groups": []}


# --- in the process of its own ----------------------------------------------------------------------------------------


def _look(loaded: Settings) -> dict[str, Any]:
    """What the file has had; nothing when there is none."""
    path = loaded.database
    if not path.exists():
        return {"is_there": False, "applied": [], "pending": migrations.names}
    had = database.applied(path)
    if unknown := [name for name in had if name not in migrations.names]:
        raise Misconfigured(f"{path}: its tables are of a newer version ({unknown[-1]}) than this one")
    return {"is_there": True, "applied": had, "pending": [name for name in migrations.names if name not in had]}


def _backup(loaded: Settings, why: str) -> dict[str, Any]:
    """A backup, made and looked at."""
    from appliance import backup

    needed = int(_size(loaded.database) * _ROOM) + _ROOM_BYTES
    free = shutil.disk_usage(loaded.home).free
    if free < needed:
        raise Misconfigured(
            f"{loaded.home}: {free // 1_000_000:,} MB are free; the backup and the rehearsal need "
            f"{needed // 1_000_000:,} MB"
        )
    made = backup.create(loaded, why=why)
    report = backup.verify(made.path)
    if report.faults:
        raise Misconfigured(f"{made.path}: the backup is not whole: {report.faults[0]}")
    return {"path": str(made.path), "bytes": made.bytes}


def _size(path: Path) -> int:
    return sum(one.stat().st_size for one in (path, path.with_name(f"{path.name}-wal")) if one.exists())


def _rehearse(loaded: Settings) -> dict[str, Any]:
    """Migrate a copy, look at it, and take it back again where that can be."""
    folder = loaded.home / "rehearsal"
    shutil.rmtree(folder, ignore_errors=True)  # of one that was cut off
    folder.mkdir(mode=0o700)
    try:
        copy = folder / "customhouse.db"
        source, target = database.connect(loaded.database), database.connect(copy)
        source.backup(target)
        source.close()
        target.close()
        was, had = _tables(copy), database.applied(copy)
        begun = time.perf_counter()
        database.migrate(copy, is_ours=True)
        took = time.perf_counter() - begun
        _sound(copy)
        new = [name for name in migrations.names if name not in had]
        back: float | None = None
        if had and all(name in migrations.undone_by for name in new):
            begun = time.perf_counter()
            database.undo(copy, had[-1])
            back = time.perf_counter() - begun
            _sound(copy)
            if _tables(copy) != was:
                raise Misconfigured(f"what takes back {new[-1]} does not leave the tables as they were")
        return msgspec.to_builtins(Tried(new, round(took, 3), None if back is None else round(back, 3)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _tables(path: Path) -> list[tuple[Any, ...]]:
    """Names, columns, indices, triggers, in no particular words: a column that was added and dropped leaves others."""
    conn = database.look(path)
    try:
        names = "SELECT type, name, tbl_name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY type, name"
        found = [tuple(row) for row in conn.execute(names)]
        tables = [name for kind, name, _ in found if kind == "table"]
        columns = 'SELECT name, type, "notnull", dflt_value, pk FROM pragma_table_xinfo(?)'
        return found + [(name, *(tuple(row) for row in conn.execute(columns, (name,)))) for name in tables]
    finally:
        conn.close()


def _sound(path: Path) -> None:
    conn = database.connect(path)
    try:
        said = conn.execute("PRAGMA integrity_check").fetchone()[0]
        if said != "ok":
            raise Misconfigured(f"after the migration the copy is not sound: {said}")
        if conn.execute("PRAGMA foreign_key_check").fetchone():
            raise Misconfigured("after the migration rows of the copy name others that are not there")
    finally:
        conn.close()


def _migrate(loaded: Settings) -> dict[str, Any]:
    begun = time.perf_counter()
    database.migrate(loaded.database, is_ours=True)
    return {"seconds": round(time.perf_counter() - begun, 3)}


def _undo(loaded: Settings, back_to: str) -> dict[str, Any]:
    """Whoever asks holds `database.alone`."""
    begun = time.perf_counter()
    undone = database.undo(loaded.database, back_to) if loaded.database.exists() else []
    return {"undone": undone, "seconds": round(time.perf_counter() - begun, 3)}


def _can_undo(loaded: Settings, back_to: str) -> dict[str, Any]:
    return {"undone": migrations.to_undo(database.applied(loaded.database), back_to)}


def _record(loaded: Settings, actor: str, action: str, subject: str, reason: str | None, detail: dict[str, Any]) -> Any:
    """A line in the audit log."""
    database.once(loaded.database, lambda conn: audit.record(conn, actor, action, subject, reason=reason, **detail))
    return {}


_DOES: dict[str, Callable[..., dict[str, Any]]] = {
    "look": _look,
    "backup": _backup,
    "rehearse": _rehearse,
    "migrate": _migrate,
    "undo": _undo,
    "can undo": _can_undo,
    "record": _record,
}


def main() -> int:
    """Answer line by line until there is no more."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        return 1  # already alone
    os.umask(0o027)
    loaded = settings.load()
    for line in sys.stdin:
        given: dict[str, Any] = json.loads(line)
        try:
            answer = _DOES[given.pop("do")](loaded, **given)
        except (CustomhouseError, database.Error, OSError) as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
