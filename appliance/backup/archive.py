"""The file itself: a tar of the manifest first and then the members, gzipped, and sealed by age if it is to be."""

import gzip
import hashlib
import os
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, cast

import msgspec

from appliance.backup import sealing
from appliance.backup.sealing import Identity
from appliance.backup.shapes import FORMAT, MANIFEST, Manifest, Member
from appliance.durable import settle
from appliance.errors import BackupError

_LEVEL = 1  # of a database, level 6 saves a tenth more and takes three times as long
_CHUNK = 1 << 20
_LONGEST_MANIFEST = 64_000_000


class _Hashing:
    """What goes through is counted and hashed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.size_bytes += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def pack(
    target: Path,
    manifest: Manifest,
    files: Mapping[str, Path],
    keys: Sequence[Any] = (),
    step: Callable[[], object] = lambda: None,
) -> tuple[int, str]:
    """Write it, synced: (bytes, sha256) of the file. Raises OSError, and BackupError when a file changed meanwhile."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        hashing = _Hashing(file)
        with (
            sealing.writing(cast(BinaryIO, hashing), keys) as sealed,
            gzip.GzipFile(filename="", fileobj=sealed, mode="wb", compresslevel=_LEVEL, mtime=0) as zipped,
            tarfile.open(fileobj=zipped, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_CHUNK) as tar,
        ):
            _add(tar, MANIFEST, msgspec.json.encode(manifest), manifest.made_at_ms)
            for member in manifest.members:
                with files[member.name].open("rb") as source:
                    about = _about(member.name, member.size_bytes, manifest.made_at_ms)
                    tar.addfile(about, cast("IO[bytes]", _Stepping(source, member, step)))
        settle(file)
    return hashing.size_bytes, hashing.sha256.hexdigest()


class _Stepping:
    """A file of a known length and digest, read."""

    def __init__(self, file: BinaryIO, member: Member, step: Callable[[], object]) -> None:
        self._file = file
        self._member = member
        self._step = step
        self._found = hashlib.sha256()
        self._left = member.size_bytes

    def read(self, size: int = -1) -> bytes:
        self._step()
        data = self._file.read(size)
        self._found.update(data)
        self._left -= len(data)
        if self._left <= 0 and self._found.hexdigest() != self._member.sha256:
            raise BackupError(f"{self._member.name} was changed while it was backed up; try again")
        return data


def _add(tar: tarfile.TarFile, name: str, data: bytes, at_ms: int) -> None:
    import io

    tar.addfile(_about(name, len(data), at_ms), io.BytesIO(data))


def _about(name: str, size: int, at_ms: int) -> tarfile.TarInfo:
    about = tarfile.TarInfo(name)
    about.size, about.mode, about.mtime = size, 0o600, at_ms // 1000
    return about


def manifest_of(path: Path, who: Identity | None = None) -> Manifest:
    """Only what it says of itself. Raises BackupError."""
    return _through(path, None, who, is_manifest_enough=True)


def unpack(path: Path, into: Path | None, who: Identity | None = None) -> Manifest:
    """Every byte is read and compared with the manifest, and laid into `into` if that is given. Raises BackupError with
    the first thing that is wrong; what lies in `into` is then of no use."""
    return _through(path, into, who, is_manifest_enough=False)


def _through(path: Path, into: Path | None, who: Identity | None, *, is_manifest_enough: bool) -> Manifest:
    try:
        with path.open("rb") as file:
            if is_manifest_enough:
                found: list[Manifest] = []
                try:
                    with sealing.reading(file, who) as opened:
                        found.append(_members(opened, None, is_manifest_enough=True))
                        raise _Enough
                except _Enough:
                    return found[0]
            with sealing.reading(file, who) as opened:
                return _members(opened, into, is_manifest_enough=False)
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise BackupError(f"{path.name}: it is damaged, or cut off ({error})") from error
    except BackupError as error:
        raise BackupError(f"{path.name}: {error.message}") from error


class _Enough(Exception):
    """The rest need not be read."""


def _members(opened: BinaryIO, into: Path | None, *, is_manifest_enough: bool) -> Manifest:
    with gzip.GzipFile(fileobj=opened, mode="rb") as zipped, tarfile.open(fileobj=zipped, mode="r|") as tar:
        first = tar.next()
        if first is None or first.name != MANIFEST or first.size > _LONGEST_MANIFEST:
            raise BackupError("it is no backup of Customhouse, or damaged: it does not begin with a manifest")
        manifest = _manifest(_read_all(tar, first))
        if is_manifest_enough:
            return manifest
        wanted = {member.name: member for member in manifest.members}
        while (one := tar.next()) is not None:  # iterating would begin with the manifest again
            member = wanted.pop(one.name, None)
            if member is None or not one.isreg() or one.size != member.size_bytes:
                raise BackupError(f"{one.name!r} in it is not what its manifest says")
            if _laid(tar, one, into) != member.sha256:
                raise BackupError(f"{one.name}: damaged; its sha256 is not the manifest's")
        while zipped.read(_CHUNK):  # to the end, where gzip's own sum is compared
            pass
        if wanted:
            raise BackupError(f"{min(wanted)} is missing in it: it was cut off")
        return manifest


def _manifest(data: bytes) -> Manifest:
    try:
        found = msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as error:
        raise BackupError(f"its manifest cannot be read ({error})") from error
    if found.format > FORMAT:
        raise BackupError(f"it was made by a newer Customhouse ({found.version}); use that one, or a later")
    for member in found.members:
        parts = PurePosixPath(member.name)
        if parts.is_absolute() or ".." in parts.parts or not parts.parts:
            raise BackupError(f"{member.name!r} would be laid outside of it")
    return found


def _read_all(tar: tarfile.TarFile, one: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(one)
    return b"" if file is None else file.read()


def _laid(tar: tarfile.TarFile, one: tarfile.TarInfo, into: Path | None) -> str:
    """Its sha256."""
    found = hashlib.sha256()
    source = tar.extractfile(one)
    assert source is not None  # it is a regular file
    if into is None:
        while chunk := source.read(_CHUNK):
            found.update(chunk)
        return found.hexdigest()
    path = into / one.name
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        while chunk := source.read(_CHUNK):
            found.update(chunk)
            file.write(chunk)
        settle(file)
    return found.hexdigest()
