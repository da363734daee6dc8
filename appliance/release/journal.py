"""PREFIX/activation.json: how far a change of version has come. On disk before each step, gone when all is done.

Consistency does not hang on it: at every step the version that `current` names can read the database, or bring it to
where it can. It says what was left undone: services that were stopped, a version that nobody found healthy yet.
"""

import contextlib
import fcntl
import os
from collections.abc import Generator
from pathlib import Path

import msgspec

from appliance import clock, durable
from appliance.errors import Misconfigured
from appliance.release import release

FILE = "activation.json"


class Journal(msgspec.Struct, frozen=True):
    act: str
    """activate, or back."""
    to: str
    before: str = ""
    """The version that was current; empty at the first."""
    schema_before: str = ""
    step: str = "check"
    at: str = ""
    actor: str = ""
    backup: str = ""
    meant: tuple[str, ...] = ()
    """The services that ran, and shall again."""
    was_up: bool = False
    """Everything answered before."""
    why: str = ""
    """Of going back: what the newer version was found to lack, or who asked."""
    restores: bool = False
    """Going back puts the backup in the place of the database."""
    identity: str = ""
    """The file that opens the backup, where it is encrypted."""


def write(prefix: Path, journal: Journal) -> Journal:
    stamped = msgspec.structs.replace(journal, at=clock.rfc3339(clock.now_ms()))
    durable.write(prefix / FILE, msgspec.json.encode(stamped), release.READABLE)
    return stamped


def read(prefix: Path) -> Journal | None:
    """None when nothing was left undone. Raises Misconfigured when it is no journal."""
    try:
        return msgspec.json.decode((prefix / FILE).read_bytes(), type=Journal)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise Misconfigured(f"{prefix / FILE}: cannot be read ({error}); delete it once you have looked") from error


def clear(prefix: Path) -> None:
    (prefix / FILE).unlink(missing_ok=True)
    durable.settle_folder(prefix)


@contextlib.contextmanager
def held(prefix: Path) -> Generator[None]:
    """One change at a time. Raises Misconfigured while somebody else's is under way, and to who may not write there."""
    try:
        lock = open(prefix / ".activation.lock", "a+")  # noqa: SIM115  # closed below
    except OSError as error:
        raise Misconfigured(f"{prefix}: {error.strerror}; whoever installed it may change versions (sudo)") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise Misconfigured(
                f"{prefix}: another change of version is under way (process {lock.read().strip() or 'unknown'})"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def is_held(prefix: Path) -> bool:
    """Whether a change is under way this moment."""
    try:
        with open(prefix / ".activation.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
