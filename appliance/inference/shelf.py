"""The shelf that weights stand on: how a file gets its name, who may write, and which digests are known.

`folder` is <home>/weights throughout. A file is written beside its place, verified, synced and renamed, by one process
at a time; what a killed one left behind is cleared by the next.
"""

import contextlib
import datetime
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
import tomllib
from collections.abc import Callable, Generator, Iterable
from pathlib import Path

import msgspec

from appliance import durable
from appliance.errors import Misconfigured, WeightsError

CHUNK = 1 << 20
_SPARE = 64 << 20
_ASK_AGAIN_S = 0.1


class WrongDigest(Exception):
    """What was to be placed has this digest, not the one it should have."""

    def __init__(self, actual: str) -> None:
        super().__init__(actual)
        self.actual = actual


# --- files ------------------------------------------------------------------------------------------------------------


def place(target: Path, chunks: Iterable[bytes], sha256: str) -> None:
    """The bytes are under the target's name if they have this digest. Raises WrongDigest, and nothing has changed."""
    hashed = hashlib.sha256()
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=".new", dir=target.parent)
    new = Path(temporary)
    try:
        with os.fdopen(handle, "wb") as file:
            for chunk in chunks:
                hashed.update(chunk)
                file.write(chunk)
        if hashed.hexdigest() != sha256:
            raise WrongDigest(hashed.hexdigest())
        give_name(new, target)
    finally:
        new.unlink(missing_ok=True)


def write(target: Path, data: bytes) -> None:
    """The bytes are under the target's name, whole or not at all."""
    place(target, [data], hashlib.sha256(data).hexdigest())


def give_name(new: Path, target: Path) -> None:
    """On disk first, then under its name, then the name on disk."""
    _belong(new)
    durable.settle_file(new)
    new.replace(target)
    durable.settle_folder(target.parent)


def make_folder(folder: Path) -> None:
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    _belong(folder, 0o750)


def _belong(path: Path, mode: int = 0o640) -> None:
    """Readable by its folder's owner, also when root put it there: the services do not run as root."""
    path.chmod(mode)
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def room(folder: Path, size_bytes: int) -> None:
    """Raises WeightsError when this many bytes, and a little more, do not fit."""
    free = shutil.disk_usage(folder).free
    if free < size_bytes + _SPARE:
        raise WeightsError(
            f"{folder}: the disk is full: {size_bytes / 1e6:.0f} MB are needed and {free / 1e6:.0f} MB are free; "
            "make room and run it again"
        )


def scratch(folder: Path) -> Path:
    """A folder for archives, on the same disk as the weights, so that the check for room covers it."""
    return Path(tempfile.mkdtemp(prefix=".scratch-", dir=folder))


def file_digest(path: Path, heard: Callable[[int, int], None] | None = None) -> str:
    """`heard` is told the bytes that were read, and all; what it raises ends the reading."""
    with path.open("rb") as file:
        if heard is None:
            return hashlib.file_digest(file, "sha256").hexdigest()
        hashed, done, size = hashlib.sha256(), 0, path.stat().st_size
        while chunk := file.read(CHUNK):
            hashed.update(chunk)
            done += len(chunk)
            heard(done, size)
        return hashed.hexdigest()


def git_digest(path: Path) -> str:
    """What git, and so the hub, calls this file's content."""
    sha1 = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            sha1.update(chunk)
    return sha1.hexdigest()


# --- who may write ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def writing(folder: Path, waiting: Callable[[], None] = lambda: None) -> Generator[None]:
    """One writer at a time, in any process; says `waiting` again and again while there is another, and what that raises
    ends the waiting. OSErrors inside become sentences."""
    try:
        make_folder(folder)
        with (folder / ".writing").open("w") as lock:
            _belong(folder / ".writing")
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break  # the kernel lets it go, however the other process ends
                except BlockingIOError:
                    waiting()
                    time.sleep(_ASK_AGAIN_S)
            for left in [*folder.glob(".scratch-*"), *folder.glob("*/.*.new"), *folder.glob(".*.new")]:
                shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
            yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise WeightsError(
                f"{folder}: the disk is full; nothing was installed. Make room and run it again"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise WeightsError(
                f"{error.filename or folder}: {error.strerror}; run this as the user whom the state directory belongs "
                "to, or set CUSTOMHOUSE_HOME"
            ) from error
        raise WeightsError(f"{error.filename or folder}: {error.strerror or error}") from error


# --- which digests are known ------------------------------------------------------------------------------------------


class Record(msgspec.Struct, frozen=True):
    """What the lock keeps of a source whose manifest gives no digest, once it was verified."""

    sha256: str
    size_bytes: int
    revision: str = ""
    """The hub's commit; later fetches ask for this one."""
    how: str = ""
    """On whose word: the hub's declared digest, or the operator who imported it."""
    recorded: str = ""


def lock_file(folder: Path) -> Path:
    return folder / "lock.toml"


def read_lock(folder: Path) -> dict[str, Record]:
    """Source → what was recorded of it. Raises WeightsError when the file cannot be read."""
    path = lock_file(folder)
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), dict[str, Record])
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise WeightsError(f"{path}: cannot be read ({error}); restore it from a backup, or delete it") from error


def record(folder: Path, source: str, found: Record) -> None:
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    _write_lock(folder, {**read_lock(folder), source: msgspec.structs.replace(found, recorded=today)})


def forget(folder: Path, sources: Iterable[str]) -> None:
    gone = set(sources)
    _write_lock(folder, {source: found for source, found in read_lock(folder).items() if source not in gone})


def _write_lock(folder: Path, lock: dict[str, Record]) -> None:
    lines = [
        "# Digests of weights whose manifest gives none. What stands here decides. Written by: customhouse models\n"
    ]
    for source, found in sorted(lock.items()):
        lines.append(f"\n[{json.dumps(source)}]\n")
        lines += [f"{key} = {json.dumps(value)}\n" for key, value in msgspec.structs.asdict(found).items()]
    write(lock_file(folder), "".join(lines).encode())


class Digests:
    """sha256 of files below the folder, remembered with size, time and inode in .digests.json.

    With `trust` off every byte is read. Who may not write there, as the model process, just does not remember. `heard`
    is told of what is read: the file's name, the bytes read, and all.
    """

    def __init__(
        self, folder: Path, *, trust: bool = True, heard: Callable[[str, int, int], None] | None = None
    ) -> None:
        self._folder = folder
        self._path = folder / ".digests.json"
        self._known: dict[str, tuple[int, int, int, str]] = {}
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            self._known = msgspec.json.decode(self._path.read_bytes(), type=dict[str, tuple[int, int, int, str]])
        self._trust = trust
        self._heard = heard
        self._changed = False

    def of(self, path: Path) -> str:
        """Raises Misconfigured when the file cannot be read."""
        name = path.relative_to(self._folder).as_posix()
        try:
            status = path.stat()
            mark = (status.st_size, status.st_mtime_ns, status.st_ino)
            known = self._known.get(name)
            if self._trust and known is not None and known[:3] == mark:
                return known[3]
            self._known[name] = (*mark, file_digest(path, self._hearing(path)))
        except OSError as error:
            raise Misconfigured(f"{path}: cannot be read ({error.strerror})") from error
        self._changed = True
        return self._known[name][3]

    def _hearing(self, path: Path) -> Callable[[int, int], None] | None:
        heard = self._heard
        if heard is None:
            return None

        def told(done: int, size: int) -> None:
            heard(f"reading {path.name}", done, size)

        return told

    def keep(self) -> None:
        if not self._changed:
            return
        with contextlib.suppress(OSError):
            handle, new = tempfile.mkstemp(prefix=".digests-", suffix=".new", dir=self._folder)
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.encode(self._known))
            _belong(Path(new))
            os.replace(new, self._path)
