"""Files that are there whole or not at all, also after the power went: synced, then renamed, then the folder synced."""

import contextlib
import hashlib
import os
from pathlib import Path
from typing import BinaryIO

_CHUNK = 1 << 20


def write(path: Path, data: bytes, mode: int = 0o600) -> None:
    """In place of what was there; the mode is this one whatever the umask says."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.partial")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(data)
            settle(file)
        os.replace(fresh, path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    settle_folder(path.parent)


def settle(file: BinaryIO) -> None:
    """What was written is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def settle_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def settle_folder(path: Path) -> None:
    """What was named, renamed or removed in it is so on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(path: Path) -> str:
    """sha256 of the file, as the disk has it: what was cached of it is let go first."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        with contextlib.suppress(OSError):  # a file system may not know how
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()
