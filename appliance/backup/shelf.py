"""The folder of backups: what lies in it, what is said beside each, and which are kept for how long."""

import contextlib
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from appliance import durable
from appliance.backup import archive
from appliance.backup.shapes import Backup
from appliance.errors import BackupError
from appliance.settings import Backups

_DAY_MS = 86_400_000
_NAME = re.compile(r"customhouse-(\d{8}T\d{6})Z-[0-9a-f]{4}\.tar\.gz(\.age)?")


class Drill(msgspec.Struct, frozen=True):
    """How the last restore for practice went."""

    at_ms: int
    backup: str
    """The file's name."""
    took_s: float
    is_good: bool
    faults: list[str]


def name(made_at_ms: int, salt: str, *, is_encrypted: bool) -> str:
    at = datetime.fromtimestamp(made_at_ms / 1000, UTC)
    return f"customhouse-{at:%Y%m%dT%H%M%SZ}-{salt}.tar.gz{'.age' if is_encrypted else ''}"


def beside(path: Path) -> Path:
    """Where it is said what the file is."""
    return path.with_name(f"{path.name}.json")


def note(backup: Backup) -> None:
    """Say beside it what it is."""
    told = msgspec.to_builtins(backup, enc_hook=str)
    told["path"] = backup.path.name  # the folder may be mounted elsewhere
    durable.write(beside(backup.path), msgspec.json.format(msgspec.json.encode(told)) + b"\n")


def read(path: Path) -> Backup:
    """What is said beside it; if that is lost, what it says itself. Raises BackupError."""
    try:
        said = msgspec.json.decode(beside(path).read_bytes(), type=Backup, dec_hook=_path)
        return msgspec.structs.replace(said, path=path)
    except FileNotFoundError:
        return _without_note(path)
    except (OSError, msgspec.MsgspecError) as error:
        raise BackupError(f"{beside(path)}: cannot be read; remove it and verify the backup by itself") from error


def every(folder: Path) -> list[Backup]:
    """The newest first. What is half made, or no backup, is not among them."""
    found: list[Backup] = []
    for path in folder.iterdir() if folder.is_dir() else ():
        if _NAME.fullmatch(path.name):
            try:
                found.append(read(path))
            except BackupError:  # that it is there is worth knowing; verify says what is wrong
                found.append(_from_name(path))
    return sorted(found, key=lambda one: (one.made_at_ms, one.path.name), reverse=True)


def newest(folder: Path) -> Backup | None:
    return next(iter(every(folder)), None)


def kept(made_at_ms: Iterable[int], now_ms: int, keep: Backups) -> set[int]:
    """Which of these stay: all of the last 24 hours, then the newest of each of so many days, weeks and months that
    have one. The newest of all always does."""
    times = sorted(set(made_at_ms), reverse=True)
    stays = {at for at in times if at > now_ms - _DAY_MS} | set(times[:1])
    for number, bucket in ((keep.keep_daily, "%Y-%m-%d"), (keep.keep_weekly, "%G-%V"), (keep.keep_monthly, "%Y-%m")):
        first: dict[str, int] = {}
        for at in times:
            first.setdefault(datetime.fromtimestamp(at / 1000, UTC).strftime(bucket), at)
        stays |= set(list(first.values())[:number])
    return stays


def prune(
    folder: Path, now_ms: int, keep: Backups, *, before_ms: int | None = None, dry_run: bool = False
) -> list[Path]:
    """Remove what is not kept, or all that is older than `before_ms`; which they were. The newest stays."""
    found = every(folder)
    if before_ms is None:
        stays = kept((one.made_at_ms for one in found), now_ms, keep)
    else:
        stays = {one.made_at_ms for one in found if one.made_at_ms >= before_ms} | {one.made_at_ms for one in found[:1]}
    gone = [one.path for one in found if one.made_at_ms not in stays]
    if not dry_run:
        for path in gone:
            path.unlink(missing_ok=True)
            beside(path).unlink(missing_ok=True)
        for path in folder.glob("customhouse-*.json"):  # of a file that somebody took away
            if not path.with_suffix("").exists():
                path.unlink(missing_ok=True)
        if gone:
            durable.settle_folder(folder)
    return gone


def last_drill(folder: Path) -> Drill | None:
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode((folder / "drill.json").read_bytes(), type=Drill)
    return None


def note_drill(folder: Path, drill: Drill) -> None:
    durable.write(folder / "drill.json", msgspec.json.encode(drill) + b"\n")


def _without_note(path: Path) -> Backup:
    if path.suffix == ".age":
        return _from_name(path)
    said = archive.manifest_of(path)
    return Backup(
        path=path,
        made_at_ms=said.made_at_ms,
        bytes=path.stat().st_size,
        schema=said.schema,
        version=said.version,
        sha256="",
        is_encrypted=False,
        why=said.why,
        counts=said.counts,
        ledger_faults=said.ledger_faults,
    )


def _from_name(path: Path) -> Backup:
    named = _NAME.fullmatch(path.name)
    at = path.stat().st_mtime
    if named:
        at = datetime.strptime(named[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC).timestamp()
    return Backup(path, int(at * 1000), path.stat().st_size, 0, "", "", path.suffix == ".age")


def _path(kind: type, value: object) -> object:
    return Path(str(value)) if kind is Path else value
