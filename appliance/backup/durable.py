"""Files that are there whole or not at all, also after the power went: synced, then renamed, then the folder synced."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

from appliance.errors import BackupError

_CHUNK = 1 << 20


def write(path: Path, data: bytes, mode: int = 0o600) -> None:
    """In place of what was there."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.partial")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            settle(file)
        os.replace(fresh, path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    settle_folder(path.parent)


def belong(path: Path, like: Path) -> None:
    """What root made belongs to whom `like` does: the service has to be able to read and remove it."""
    if os.geteuid() == 0:
        owner = like.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def settle(file: BinaryIO) -> None:
    """What was written is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def settle_folder(path: Path) -> None:
    """What was named, renamed or removed in it is so on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def settle_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def digest(path: Path) -> str:
    """sha256 of the file, as the disk has it: what was cached of it is let go first."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        with contextlib.suppress(OSError):  # a file system may not know how
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()


def room(folder: Path, wanted: int, what: str) -> None:
    """Raises BackupError when there is not so much left on its disk."""
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise BackupError(
            f"{folder}: {what} needs {wanted / 1e6:,.0f} MB and {free / 1e6:,.0f} MB are free; make room there"
        )


@contextlib.contextmanager
def scratch(parent: Path, prefix: str) -> Generator[Path]:
    """A folder that only we enter, gone afterwards."""
    made = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextlib.contextmanager
def alone(lock: Path, what: str) -> Generator[None]:
    """One process at a time. Raises BackupError with what runs already."""
    lock.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    with open(lock, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BackupError(f"{what} is running already; wait until it has ended") from error
        yield
