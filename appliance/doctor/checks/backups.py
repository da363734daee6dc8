"""Backups: how old, of what size, whole, with the pepper, practised, and whether the continuous copy keeps up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.doctor.context import Context
from appliance.doctor.finding import Check, Outcome, Skip, failed, ok, warning

if TYPE_CHECKING:
    from appliance.backup.shapes import Backup

_DAY_S = 86_400.0
_OLD_DAYS = 2
_DRILL_DAYS = 35
_LAG_S = 10.0
_CREATE = "customhouse backup create"


def _newest(context: Context) -> Backup:
    """Raises LookupError when there is none."""
    settings = context.house()
    if not settings.database.exists():
        raise Skip("There is nothing to back up yet")
    try:
        from appliance.backup import shelf
    except ImportError as error:
        raise Skip(f"A package is missing ({error.name}); see python.imports") from error
    try:
        found = shelf.newest(settings.backup_folder)
    except PermissionError as error:
        raise Skip("The folder of backups cannot be read by this user; run it as root, or as who owns it") from error
    if found is None:
        raise LookupError
    return found


def _some(context: Context) -> Backup:
    try:
        return _newest(context)
    except LookupError:
        raise Skip("There is no backup; see backups.age") from None


def _age(context: Context) -> Outcome:
    try:
        newest = _newest(context)
    except LookupError:
        return warning(
            "There is no backup",
            cause="nothing lies in backup.folder, which is <home>/backups where it is not set",
            fix=_CREATE,
            mendable=True,
            days=None,
        )
    days = (context.now() - newest.made_at_ms / 1000) / _DAY_S
    # as often as it is to be made, and a day more
    most = max(_OLD_DAYS, context.house().backup.every_hours / 24 + 1)
    if days > most:
        return warning(
            f"The newest backup is {days:.0f} days old",
            cause="what makes it does not run any more: neither the worker nor the timer",
            fix=_CREATE,
            mendable=True,
            days=round(days),
        )
    return ok(f"The newest backup is {days * 24:.0f} h old", days=round(days, 2))


def _make(context: Context) -> str:
    from appliance import backup

    made = backup.create(context.house(), why="doctor --fix")
    return f"made a backup of {made.bytes / 1e6:,.1f} MB"


def _size(context: Context) -> Outcome:
    """A file of another size than was noted is no backup any more."""
    newest = _some(context)
    have = newest.path.stat().st_size
    if have != newest.bytes:
        return failed(
            "The newest backup has another size than it was made with",
            cause="it was cut off as it was copied, or its disk is failing",
            fix=_CREATE,
            mendable=True,
            bytes=have,
            noted_bytes=newest.bytes,
        )
    return ok(f"The newest backup has {have / 1e6:.1f} MB", bytes=have)


def _whole(context: Context) -> Outcome:
    """Every byte of the file, against the digest that was noted as it was made."""
    from appliance import durable

    newest = _some(context)
    if not newest.sha256:
        return warning(
            "Of the newest backup it is not known what its sha256 was",
            cause="the file beside it, its name and .json, is lost",
            fix=_CREATE,
            mendable=True,
        )
    if durable.digest(newest.path) != newest.sha256:
        return failed(
            "The newest backup is damaged: its sha256 is not the one it was made with",
            cause="its disk is failing, or somebody changed it",
            fix=_CREATE,
            mendable=True,
            bytes=newest.bytes,
        )
    return ok("The newest backup is as it was written", bytes=newest.bytes)


def _pepper(context: Context) -> Outcome:
    """Without the pepper a restored database has no valid key."""
    newest = _some(context)
    if newest.is_encrypted:
        return ok("The newest backup is encrypted; that the pepper is in it, a drill says", has_pepper=None)
    from appliance.backup import archive
    from appliance.backup.shapes import PEPPER
    from appliance.errors import BackupError

    try:
        manifest = archive.manifest_of(newest.path)
    except BackupError as error:
        return failed(error.message, cause="it is damaged", fix=_CREATE, mendable=True, has_pepper=None)
    if any(member.name == PEPPER for member in manifest.members):
        return ok("The pepper is backed up", has_pepper=True)
    return warning(
        "The pepper is not in the backup",
        cause="there was none as it was made: restored from it, every key is invalid",
        fix=_CREATE,
        mendable=True,
        has_pepper=False,
    )


def _drill(context: Context) -> Outcome:
    from appliance.backup import shelf

    _some(context)
    last = shelf.last_drill(context.house().backup_folder)
    fix = "customhouse backup drill"
    if last is None:
        return warning(
            "No restore was ever practised here",
            cause="a backup that nobody restored is a hope",
            fix=fix,
            days=None,
        )
    days = (context.now() - last.at_ms / 1000) / _DAY_S
    if not last.is_good:
        return failed(
            "The last drill failed",
            cause=last.faults[0] if last.faults else "it did not say why",
            fix=fix,
            days=round(days),
        )
    if days > _DRILL_DAYS:
        return warning(
            f"The last drill was {days:.0f} days ago", cause="nobody ran one since", fix=fix, days=round(days)
        )
    return ok(f"A restore was practised {days:.0f} days ago, in {last.took_s:.0f} s", days=round(days))


def _follow(context: Context) -> Outcome:
    settings = context.house()
    if settings.backup.follow != "on":
        raise Skip("The continuous copy is not switched on (backup.follow)")
    from appliance.backup import follow

    fix = (
        "journalctl -u customhouse-worker -n 50; the folder in backup.follow_folder must be there, writable, with room"
    )
    state = follow.status(settings)
    if state is None:
        return failed("The continuous copy never ran", cause="the worker does not run, or cannot start it", fix=fix)
    lag_s = max(0.0, context.now() - (state.through_ms or state.at_ms) / 1000)
    silent_s = context.now() - state.at_ms / 1000
    if state.error or not state.through_ms:
        return warning(
            "The continuous copy has no whole copy to begin from" if not state.error else "The continuous copy fails",
            cause=state.error or "the first one is being made",
            fix=fix,
            lag_s=round(lag_s, 1),
        )
    if lag_s > _LAG_S:
        return failed(
            f"The continuous copy is {lag_s:,.0f} s behind",
            cause="it does not run" if silent_s > _LAG_S else "the other disk takes less than is written here",
            fix=fix,
            lag_s=round(lag_s, 1),
        )
    return ok(f"The continuous copy is {lag_s:.1f} s behind", lag_s=round(lag_s, 1))


def _swap(context: Context) -> Outcome:
    """What a restore writes before it moves the first file, and removes after the last."""
    if (context.house().home / "restore.json").exists():
        return failed(
            "A restore was killed while it moved files",
            cause="the machine or the process stopped in those milliseconds",
            fix="stop Customhouse, then run the restore again: it puts the old state back first",
            is_cut_off=True,
        )
    return ok("No restore was cut off", is_cut_off=False)


CHECKS = (
    Check(
        "backups.age",
        "Age of the backup",
        "The newest in backup.folder must be two days old at most, or a day more than backup.every_hours. --fix makes "
        "one.",
        _age,
        _make,
    ),
    Check(
        "backups.size",
        "Size of the backup",
        "The newest must have the size that was noted as it was made, or it was cut off.",
        _size,
        _make,
    ),
    Check(
        "backups.whole",
        "The backup is whole",
        "Every byte of the newest is read and its sha256 compared with the one that was noted as it was made.",
        _whole,
        _make,
        is_slow=True,
        deadline_s=300.0,
    ),
    Check(
        "backups.pepper",
        "The pepper is backed up",
        "Keys are hashed under the pepper; losing it makes all invalid.",
        _pepper,
        _make,
    ),
    Check(
        "backups.drill",
        "A restore was practised",
        "customhouse backup drill restores the newest into a scratch folder and reads it: monthly, say.",
        _drill,
    ),
    Check(
        "backups.follow",
        "The continuous copy keeps up",
        "With backup.follow on, what is committed must be on the other disk within seconds.",
        _follow,
    ),
    Check(
        "backups.restore",
        "No restore was cut off",
        "A restore that was killed as it moved files is put right by the next one.",
        _swap,
    ),
)
