"""Room: for the state, for media in work, for weights, for temporary files."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from appliance.doctor.checks.sqlite import mounted
from appliance.doctor.context import Context
from appliance.doctor.finding import Check, Outcome, Skip, failed, ok, skipped, warning

_MB = 1_000_000
_LEFT_BEHIND_S = 3600.0


def _home(context: Context) -> Outcome:
    reserve = context.settings.server.min_free_disk_mb if context.settings else 256
    return room(context.nearest(context.home), reserve)


def room(folder: Path, reserve_mb: int) -> Outcome:
    usage = shutil.disk_usage(folder)
    free_mb, share = usage.free // _MB, usage.free / usage.total
    if free_mb < reserve_mb:
        return failed(
            f"{free_mb:,} MB are free, less than the reserve of {reserve_mb:,}",
            cause="below server.min_free_disk_mb nothing new is accepted",
            fix=f"make room: du -xh --max-depth=2 {folder} | sort -h | tail; journalctl --vacuum-size=200M",
            free_mb=free_mb,
            reserve_mb=reserve_mb,
        )
    if free_mb < 10 * reserve_mb or share < 0.05:
        return warning(
            f"{free_mb:,} MB are free ({share:.0%})",
            cause=f"at {reserve_mb:,} MB (server.min_free_disk_mb) nothing new is accepted",
            fix=f"make room: du -xh --max-depth=2 {folder} | sort -h | tail; or keep less: customhouse retention show",
            free_mb=free_mb,
            reserve_mb=reserve_mb,
        )
    return ok(f"{free_mb:,} MB are free ({share:.0%})", free_mb=free_mb, reserve_mb=reserve_mb)


def _inodes(context: Context) -> Outcome:
    found = os.statvfs(context.nearest(context.home))
    return inodes(found.f_files, found.f_favail)


def inodes(total: int, free: int) -> Outcome:
    if not total:
        return skipped("This file system does not count inodes")
    if free / total < 0.05:
        return warning(
            f"{free:,} of {total:,} inodes are free",
            cause="many small files: no further one can be made though there is room",
            fix="find them: du --inodes -x --max-depth=3 / | sort -n | tail",
            free=free,
            total=total,
        )
    return ok(f"{free / total:.0%} of the inodes are free", free=free, total=total)


def _media(context: Context) -> Outcome:
    settings = context.house()
    if not settings.media_dir.is_dir():
        return warning(
            "The folder for media is missing",
            cause="it was removed, or Customhouse has not started yet",
            fix=f"mkdir -m 750 {settings.media_dir}",
            mendable=True,
        )
    free_mb = shutil.disk_usage(settings.media_dir).free // _MB
    wanted = settings.media.max_video_mb * 2 + settings.server.min_free_disk_mb
    if free_mb < wanted:
        return warning(
            f"{free_mb:,} MB for media in work",
            cause=f"a video takes up to {settings.media.max_video_mb} MB and its frames about as much",
            fix="make room, or lower media.max_video_mb",
            free_mb=free_mb,
            wanted_mb=wanted,
        )
    return ok(f"{free_mb:,} MB for media in work", free_mb=free_mb, wanted_mb=wanted)


def _make_media(context: Context) -> str:
    settings = context.house()
    settings.media_dir.mkdir(mode=0o750)
    if os.geteuid() == 0:  # the services do not run as root
        owner = settings.home.stat()
        os.chown(settings.media_dir, owner.st_uid, owner.st_gid)
    return "made the folder for media"


def _leftovers(context: Context) -> Outcome:
    """Scratch of fetches and half-written files that no living process holds."""
    found = left_behind(context)
    if found:
        size = sum(_size(path) for path in found)
        return warning(
            f"{len(found)} leftovers of processes that ended, {size // _MB:,} MB",
            cause="a fetch or a check was killed in mid-work",
            fix="customhouse doctor disk --fix",
            mendable=True,
            count=len(found),
            bytes=size,
        )
    return ok("Nothing was left behind", count=0)


def left_behind(context: Context) -> list[Path]:
    """Only our own temporary names, and only what nobody has touched for an hour."""
    settings = context.house()
    weights = settings.weights_dir
    patterns = [(weights, ".scratch-*"), (weights, "*/.*.new"), (weights, ".*.new"), (settings.home, ".doctor-*")]
    before = context.now() - _LEFT_BEHIND_S
    return [path for folder, pattern in patterns for path in sorted(folder.glob(pattern)) if _touched(path) < before]


def _touched(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return time.time()


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if file.is_file())


def _clear(context: Context) -> str:
    found = left_behind(context)
    for path in found:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return f"removed {len(found)} leftovers"


def _weights(context: Context) -> Outcome:
    """Room for what has to be fetched yet."""
    try:
        manifests = context.manifests()
    except ImportError as error:
        raise Skip(f"A package is missing ({error.name}); see python.packages") from error
    folder = context.nearest(context.known().weights_dir)
    needed = sum(
        file.download_bytes + file.size_bytes
        for each in manifests.values()
        if each.set == "starter"
        for file in each.files
        if not (context.known().weights_dir / each.name / file.name).is_file()
    )
    free = shutil.disk_usage(folder).free
    if free < needed + 64 * _MB:
        return failed(
            f"{free // _MB:,} MB are free; what is missing of the starter set needs {needed // _MB:,}",
            cause="archives and weights do not fit",
            fix=f"make room where {folder} is, or fetch single models: customhouse models fetch NAME",
            free_mb=free // _MB,
            needed_mb=needed // _MB,
        )
    return ok(f"{needed // _MB:,} MB are to be fetched yet", free_mb=free // _MB, needed_mb=needed // _MB)


def _temporary(_: Context) -> Outcome:
    return temporary(Path(tempfile.gettempdir()))


def temporary(folder: Path) -> Outcome:
    try:
        free_mb = shutil.disk_usage(folder).free // _MB
        with tempfile.NamedTemporaryFile(prefix=".doctor-", dir=folder) as file:
            file.write(b"\0" * 4096)
    except OSError as error:
        return failed(
            f"Temporary files cannot be written ({error.strerror})",
            cause="the folder for temporary files is full or closed",
            fix=f"chmod 1777 {folder}, or export TMPDIR=…",
            is_writable=False,
        )
    if free_mb < 512:
        return warning(
            f"{free_mb:,} MB for temporary files",
            cause="an upload is kept there until its size is known",
            fix=f"empty {folder}, or export TMPDIR=…",
            free_mb=free_mb,
        )
    return ok(f"{free_mb:,} MB for temporary files", free_mb=free_mb)


def _writable(context: Context) -> Outcome:
    folder = context.nearest(context.home)
    kind, options = mounted(context, folder)
    if "ro" in options:
        return failed(
            "The file system of the state directory is mounted read-only",
            cause="it was mounted so, or the kernel did that after an error of the disk",
            fix="look at: dmesg | grep -i 'remount\\|I/O error'; then: mount -o remount,rw …",
            kind=kind,
        )
    return ok("The file system can be written", kind=kind)


CHECKS = (
    Check(
        "disk.home",
        "Room for the state",
        "Free space where the state directory is, against server.min_free_disk_mb, below which nothing new is "
        "accepted.",
        _home,
        is_early=True,
    ),
    Check(
        "disk.inodes",
        "Inodes",
        "A file system may have room and still be unable to make one more file.",
        _inodes,
        is_early=True,
    ),
    Check(
        "disk.media",
        "Room for media in work",
        "Two of the longest allowed videos with their frames should fit. A missing folder is made by --fix.",
        _media,
        mend=_make_media,
    ),
    Check(
        "disk.weights",
        "Room for weights",
        "What is missing of the starter set, archives and files together, against the free space.",
        _weights,
        is_early=True,
    ),
    Check(
        "disk.temporary",
        "Temporary files",
        "Whether a temporary file can be written, and how much room there is.",
        _temporary,
        is_early=True,
    ),
    Check(
        "disk.writable",
        "Mounted for writing",
        "The kernel mounts a file system read-only when its disk fails.",
        _writable,
        is_early=True,
    ),
    Check(
        "disk.leftovers",
        "Leftovers",
        "Scratch folders and half-written files of fetches that were killed, over an hour old. --fix removes them: "
        "they "
        "have our temporary names, and nothing refers to them.",
        _leftovers,
        mend=_clear,
    ),
)
