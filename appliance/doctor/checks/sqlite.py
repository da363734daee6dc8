"""SQLite, and whether the file system under the state directory is one that it may trust."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from appliance.doctor.context import Context
from appliance.doctor.finding import Check, Outcome, Skip, failed, ok, warning

OLDEST = (3, 51, 3)
"""As in database.py, which cannot be imported where the package is missing."""

_NETWORKED = (
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "afs",
    "ceph",
    "glusterfs",
    "fuse.sshfs",
    "fuse.s3fs",
    "davfs",
)
_FORGETTING = ("tmpfs", "ramfs", "overlay")
_SLOW_MS, _TOO_SLOW_MS = 20.0, 200.0
_ROUNDS = 20


def _module() -> Any:
    try:
        from pysqlite3 import dbapi2  # pyright: ignore[reportMissingTypeStubs]  # it has none
    except ImportError as error:
        raise Skip("The package pysqlite3 is missing; see python.packages") from error
    return dbapi2


def _version(_: Context) -> Outcome:
    return version_is(_module().sqlite_version_info)


def version_is(version: tuple[int, ...]) -> Outcome:
    said = ".".join(map(str, version))
    if version < OLDEST:
        return failed(
            f"SQLite {said} can corrupt the database",
            cause="releases before 3.51.3 have the WAL-reset fault, which several writers at once can meet",
            fix="pip install --require-hashes -r config/requirements.txt (it pins pysqlite3)",
            version=said,
        )
    return ok(f"SQLite {said}", version=said)


def _folder(context: Context) -> Path:
    """Where something may be tried: the state directory, or what it will be made in."""
    folder = context.nearest(context.home)
    if not os.access(folder, os.W_OK):
        raise Skip(f"{folder} cannot be written by this user; run it as the owner of the state directory")
    return folder


def _wal(context: Context) -> Outcome:
    """Two connections to a file of its own: what one commits the other sees."""
    sqlite = _module()
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=_folder(context)) as folder:
        path = Path(folder) / "try.db"
        one, two = sqlite.connect(path, isolation_level=None), sqlite.connect(path, isolation_level=None)
        try:
            (mode,) = one.execute("PRAGMA journal_mode = WAL").fetchone()
            one.execute("CREATE TABLE seen (n)")
            one.execute("INSERT INTO seen VALUES (1)")
            (seen,) = two.execute("SELECT count(*) FROM seen").fetchone()
        except sqlite.Error as error:
            return no_wal(f"{type(error).__name__}", "")
        finally:
            one.close()
            two.close()
    return ok("The write-ahead log works here", mode=mode) if mode == "wal" and seen == 1 else no_wal("", mode)


def no_wal(raised: str, mode: str) -> Outcome:
    return failed(
        "SQLite's write-ahead log does not work on this file system",
        cause="the file system has no shared memory or no locks, as those over a network",
        fix="put CUSTOMHOUSE_HOME on a local ext4 or xfs",
        raised=raised,
        mode=mode,
    )


def _fsync(context: Context) -> Outcome:
    return fsync_is(_measured(_folder(context)))


def _measured(folder: Path) -> list[float]:
    """Milliseconds of writing 4 KB and having it on disk, sorted."""
    handle, name = tempfile.mkstemp(prefix=".doctor-", dir=folder)
    taken: list[float] = []
    try:
        for _ in range(_ROUNDS):
            begun = time.perf_counter()
            os.write(handle, b"\0" * 4096)
            os.fsync(handle)
            taken.append((time.perf_counter() - begun) * 1000)
    finally:
        os.close(handle)
        os.unlink(name)
    return sorted(taken)


def fsync_is(taken: list[float]) -> Outcome:
    median, worst = statistics.median(taken), taken[-1]
    evidence = {"median_ms": round(median, 2), "worst_ms": round(worst, 2), "rounds": len(taken)}
    if median > _SLOW_MS:
        say = failed if median > _TOO_SLOW_MS else warning
        return say(
            f"Having 4 KB on disk takes {median:.0f} ms",
            cause="each commit waits for one: that many milliseconds is what every group of submissions waits",
            fix="put CUSTOMHOUSE_HOME on an SSD, or one with a write cache that survives a power cut",
            evidence=evidence,
        )
    return ok(f"4 KB are on disk in {median:.2f} ms (worst {worst:.1f})", evidence=evidence)


def mounted(context: Context, path: Path) -> tuple[str, set[str]]:
    """The file system's kind and its options, by the longest mount point above the path."""
    wanted, found, best = path.resolve(), ("", set[str]()), -1
    for line in context.text("proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if len(fields) < 6 or not kinds:
            continue
        point = Path(fields[4].replace("\\040", " "))
        if (wanted == point or point in wanted.parents) and len(point.parts) > best:
            best = len(point.parts)
            found = kinds[0], {*fields[5].split(","), *(kinds[2].split(",") if len(kinds) > 2 else ())}
    return found


def _filesystem(context: Context) -> Outcome:
    folder = context.nearest(context.home)
    kind, _ = mounted(context, folder)
    if kind in _NETWORKED:
        return failed(
            f"The state directory is on {kind}",
            cause="SQLite's write-ahead log needs shared memory and true locks: over a network the file can be "
            "corrupted",
            fix="put CUSTOMHOUSE_HOME on a local ext4 or xfs",
            kind=kind,
        )
    if kind in _FORGETTING:
        return warning(
            f"The state directory is on {kind}",
            cause="what is there is gone when the machine or the container starts anew",
            fix="mount a volume there: docker run -v customhouse:/var/lib/customhouse …",
            kind=kind,
        )
    return ok(f"The state directory is on {kind or 'an unknown file system'}", kind=kind)


CHECKS = (
    Check(
        "sqlite.version",
        "SQLite",
        "The bundled SQLite, not the system's. Releases before 3.51.3 can corrupt a database that several connections "
        "write; Customhouse refuses to start on one.",
        _version,
        is_early=True,
    ),
    Check(
        "sqlite.wal",
        "Write-ahead log",
        "Makes a small database where the state directory is, switches it to WAL and has a second connection read what "
        "the first committed.",
        _wal,
        is_early=True,
    ),
    Check(
        "sqlite.fsync",
        "Speed of fsync",
        "Writes 4 KB twenty times and waits each time until it is on disk. A submission is answered when it is on "
        "disk, "
        "so this is a floor under every answer; a good SSD takes under a millisecond.",
        _fsync,
        is_early=True,
        deadline_s=30,
    ),
    Check(
        "sqlite.filesystem",
        "File system of the state directory",
        "Network file systems are refused: SQLite's locks and shared memory do not work there. One in memory is "
        "warned of.",
        _filesystem,
        is_early=True,
    ),
)
