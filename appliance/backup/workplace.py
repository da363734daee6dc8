"""Where a backup is made and opened: room on the disk, a folder that only we enter, one process at a time."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

from appliance.errors import BackupError


def belong(path: Path, like: Path) -> None:
    """What root made belongs to whom `like` does: the service has to be able to read and remove it."""
    if os.geteuid() == 0:
        owner = like.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


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
