"""The log: not too much said, not too much kept."""

from __future__ import annotations

import re

from appliance.doctor.context import Context
from appliance.doctor.finding import Check, Outcome, ok, skipped, warning

_GB = 1_000_000_000


def _level(context: Context) -> Outcome:
    settings = context.known()
    if settings.log.level.lower() == "debug":
        return warning(
            "log.level is debug",
            cause="it fills the disk, and costs the API a tenth of what it can do",
            fix="CUSTOMHOUSE_LOG_LEVEL=info",
            level="debug",
        )
    return ok(f"log.level is {settings.log.level.lower()}", level=settings.log.level.lower())


def _journal(context: Context) -> Outcome:
    ran = context.run("journalctl", "--disk-usage")
    found = re.search(r"take up ([\d.]+)([KMGT]?)", ran.out + ran.err) if ran else None
    if found is None:
        return skipped("There is no journal of systemd on this machine")
    size = float(found[1]) * 1024 ** " KMGT".index(found[2] or " ")
    if size > 4 * _GB:
        return warning(
            f"The journal takes {size / _GB:.1f} GB",
            cause="its limit is a tenth of the disk unless it is set",
            fix="journalctl --vacuum-size=500M; and SystemMaxUse=500M in /etc/systemd/journald.conf",
            bytes=round(size),
        )
    return ok(f"The journal takes {size / _GB:.2f} GB", bytes=round(size))


def _files(context: Context) -> Outcome:
    found = [path for path in context.house().log_dir.glob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in found)
    if size > _GB:
        return warning(
            f"Log files take {size / _GB:.1f} GB",
            cause="log.file_mb times log.file_count is much, or something else writes there",
            fix="CUSTOMHOUSE_LOG_FILE_MB=10 CUSTOMHOUSE_LOG_FILE_COUNT=5, then restart; older files may be deleted",
            bytes=size,
            files=len(found),
        )
    return ok(f"{len(found)} log files, {size // 1_000_000} MB", bytes=size, files=len(found))


CHECKS = (
    Check("log.level", "Level", "debug is for looking for a fault, not for every day.", _level, is_early=True),
    Check("log.journal", "The journal", "What systemd's journal takes of the disk.", _journal, is_early=True),
    Check(
        "log.files",
        "Log files",
        "What the processes' own log files take, where no journal keeps what they say.",
        _files,
    ),
)
