"""Backups: is there one, how old, and not on the same disk."""

from __future__ import annotations

from pathlib import Path

from appliance.doctor.context import Context
from appliance.doctor.finding import Check, Outcome, Skip, ok, warning

_DAY_S = 86_400.0
_OLD_DAYS = 2


def command(context: Context) -> str:
    home = context.home
    return (
        f'mkdir -p -m 700 {home}/backups; sqlite3 {home}/customhouse.db ".backup '
        f"'{home}/backups/customhouse-$(date +%F).db'\"; "
        f"cp -p {home}/pepper {home}/backups/; then copy that folder to another machine"
    )


def _newest(context: Context) -> Path:
    settings = context.house()
    if not settings.database.exists():
        raise Skip("There is nothing to back up yet")
    found = [path for path in (settings.home / "backups").rglob("*") if path.is_file() and path.name != "pepper"]
    if not found:
        raise LookupError
    return max(found, key=lambda path: path.stat().st_mtime)


def _age(context: Context) -> Outcome:
    try:
        newest = _newest(context)
    except LookupError:
        return warning(
            "There is no backup",
            cause="nothing lies in <home>/backups",
            fix=command(context),
            days=None,
        )
    days = (context.now() - newest.stat().st_mtime) / _DAY_S
    if days > _OLD_DAYS:
        return warning(
            f"The newest backup is {days:.0f} days old",
            cause="what makes it does not run any more",
            fix=command(context),
            days=round(days),
        )
    return ok(f"The newest backup is {days * 24:.0f} h old", days=round(days, 2))


def _size(context: Context) -> Outcome:
    """A backup that is much smaller than the database is none."""
    try:
        newest = _newest(context)
    except LookupError:
        raise Skip("There is no backup; see backups.age") from None
    have, original = newest.stat().st_size, context.house().database.stat().st_size
    if have < 0.02 * original:
        return warning(
            "The newest backup is much smaller than the database",
            cause="it was cut off, or is of something else",
            fix=command(context),
            bytes=have,
            database_bytes=original,
        )
    return ok(f"The newest backup has {have / 1e6:.1f} MB", bytes=have, database_bytes=original)


def _pepper(context: Context) -> Outcome:
    """Without the pepper a restored database has no valid key."""
    settings = context.house()
    folder = settings.home / "backups"
    if not folder.is_dir():
        raise Skip("There is no backup; see backups.age")
    if not settings.pepper_file.exists():
        raise Skip("There is no pepper yet")
    ours = settings.pepper_file.read_bytes()
    archives = [
        path for path in folder.rglob("*") if path.suffix in (".tar", ".gz", ".zst", ".tgz", ".zip", ".age", ".gpg")
    ]
    if any(path.read_bytes() == ours for path in folder.rglob("pepper") if path.is_file()):
        return ok("The pepper is backed up", has_pepper=True)
    if archives:
        return ok("Archives are there; whether the pepper is in them is not looked at", has_pepper=None)
    return warning(
        "The pepper is not in the backup",
        cause="only the database was copied: restored without the pepper, every key is invalid",
        fix=f"cp -p {settings.pepper_file} {folder}/",
        has_pepper=False,
    )


CHECKS = (
    Check(
        "backups.age", "Age of the backup", "The newest file below <home>/backups must be two days old at most.", _age
    ),
    Check("backups.size", "Size of the backup", "A backup of less than a fiftieth of the database was cut off.", _size),
    Check(
        "backups.pepper",
        "The pepper is backed up",
        "Keys are hashed under the pepper; losing it makes all invalid.",
        _pepper,
    ),
)
