"""What is shipped: records of committed frames, appended to segments, each with the sha256 of all before it and itself.

A segment begins with a line that says where in the chain it stands, so that older ones can be removed. The last record
of the last segment may be cut off, by a crash; nothing else may.
"""

import hashlib
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from appliance import durable
from appliance.backup import sealing, wal
from appliance.backup.sealing import Identity
from appliance.errors import BackupError

_MAGIC = b"CHR1"
_HEAD = struct.Struct(">4sII")
_SUM_BYTES = 32
_MOST_BYTES = 32_000_000
_MOST_MS = 600_000


class Head(msgspec.Struct, frozen=True):
    """What a record says of itself."""

    number: int
    at_ms: int
    """Nothing in it was committed after this moment; what was committed 0.1 s before it is in it, or in one before."""
    page_size: int
    salts: str
    first: int
    """Its first frame's place in the log."""
    frames: int
    seed: wal.Sum
    """The log's running checksum before its first frame, and …"""
    last: wal.Sum
    """… after its last one."""
    little: bool
    is_sealed: bool


class Begin(msgspec.Struct, frozen=True):
    """The first line of a segment."""

    generation: str
    first: int
    chain: str
    """The sum before its first record."""


class Record(msgspec.Struct, frozen=True):
    head: Head
    payload: bytes
    chain: bytes
    end: int
    """Where in the file it ends."""

    def raw(self, who: Identity | None) -> bytes:
        """The frames. Raises BackupError."""
        data = sealing.open_(self.payload, who) if self.head.is_sealed else self.payload
        try:
            return zlib.decompress(data)
        except zlib.error as error:
            raise BackupError("a record is damaged") from error


class Segments:
    """Those of one generation, to be added to."""

    def __init__(self, folder: Path, keys: Sequence[Any], *, number: int = 0, chain: bytes | None = None) -> None:
        self.folder = folder
        self.number = number
        """Of the last record."""
        self._keys = keys
        self._chain = hashlib.sha256(folder.name.encode()).digest() if chain is None else chain
        self._file: int | None = None
        self._size = 0
        self._began_ms = 0

    def add(self, raw: bytes, head: Head) -> int:
        """Append a record and have it on the disk; its bytes. Raises OSError, and nothing of it is left then."""
        if self._file is None or self._size > _MOST_BYTES or head.at_ms - self._began_ms > _MOST_MS:
            self._begin(head.at_ms)
        assert self._file is not None
        payload = zlib.compress(raw, 1)
        if self._keys:
            payload = sealing.seal(payload, self._keys)
        told = msgspec.json.encode(msgspec.structs.replace(head, number=self.number + 1, is_sealed=bool(self._keys)))
        chain = hashlib.sha256(self._chain + told + payload).digest()
        whole = _HEAD.pack(_MAGIC, len(told), len(payload)) + told + payload + chain
        try:
            _write(self._file, whole, self._size)
            os.fdatasync(self._file)
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(whole)
        self._chain = chain
        self.number += 1
        return len(whole)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _begin(self, at_ms: int) -> None:
        self.close()
        path = self.folder / f"segment-{self.number + 1:012d}.log"
        line = msgspec.json.encode(Begin(self.folder.name, self.number + 1, self._chain.hex())) + b"\n"
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            _write(self._file, line, 0)
            os.fsync(self._file)
            durable.settle_folder(self.folder)
        except OSError:
            self.close()
            path.unlink(missing_ok=True)
            raise
        self._size, self._began_ms = len(line), at_ms


def _write(file: int, data: bytes, at: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(file, data[done:], at + done)


def files(folder: Path) -> list[tuple[int, Path]]:
    """(its first record's number, the segment), in order."""
    found = [(int(path.stem.removeprefix("segment-")), path) for path in folder.glob("segment-*.log")]
    return sorted(found)


def read(folder: Path, first: int = 1) -> Iterator[Record]:
    """The records from the segment on that holds `first`, the chain compared. What is cut off at the very end is left
    out. Raises BackupError where it is damaged, or a segment is missing."""
    segments = files(folder)
    begins = [at for at, (number, _) in enumerate(segments) if number <= first]
    segments = segments[begins[-1] if begins else 0 :]
    number, chain = None, b""
    for at, (begin, path) in enumerate(segments):
        is_last = at == len(segments) - 1
        with path.open("rb") as file:
            told = _begin_of(file.readline(), path)
            if told is None:
                if is_last:
                    return
                raise BackupError(f"{path.name}: it is cut off, and there is more after it")
            if told.generation != folder.name or told.first != begin or (number is not None and told.first != number):
                raise BackupError(f"{path.name}: what comes before it is missing")
            if number is not None and told.chain != chain.hex():
                raise BackupError(f"{path.name}: it does not follow from what comes before it")
            number, chain = told.first, bytes.fromhex(told.chain)
            while (one := _next(file, chain, number, path, is_last=is_last)) is not None:
                number, chain = number + 1, one.chain
                yield one


def _begin_of(line: bytes, path: Path) -> Begin | None:
    if not line.endswith(b"\n"):
        return None
    try:
        return msgspec.json.decode(line, type=Begin)
    except msgspec.MsgspecError as error:
        raise BackupError(f"{path.name}: its first line is damaged") from error


def _next(file: Any, chain: bytes, number: int, path: Path, *, is_last: bool) -> Record | None:
    start: bytes = file.read(_HEAD.size)
    if not start:
        return None
    if len(start) < _HEAD.size:
        return _cut(path, is_last)
    magic, told_bytes, payload_bytes = _HEAD.unpack(start)
    if magic != _MAGIC or told_bytes > 4096:
        raise BackupError(f"{path.name}: damaged at record {number}")
    left = os.fstat(file.fileno()).st_size - file.tell()
    if told_bytes + payload_bytes + _SUM_BYTES > left:
        return _cut(path, is_last)
    told: bytes = file.read(told_bytes)
    payload: bytes = file.read(payload_bytes)
    found: bytes = file.read(_SUM_BYTES)
    if hashlib.sha256(chain + told + payload).digest() != found:
        raise BackupError(f"{path.name}: damaged at record {number}")
    head = msgspec.json.decode(told, type=Head)
    if head.number != number:
        raise BackupError(f"{path.name}: record {number} is missing")
    return Record(head, payload, found, file.tell())


def _cut(path: Path, is_last: bool) -> None:
    if not is_last:
        raise BackupError(f"{path.name}: it is cut off, and there is more after it")


def resume(folder: Path, keys: Sequence[Any]) -> tuple[Segments, Head] | None:
    """To go on where the last record ends; what is cut off after it is removed. None when there is none, or something
    is damaged."""
    last: Record | None = None
    found = files(folder)
    try:
        for one in read(folder, found[-1][0] if found else 1):
            last = one
    except BackupError:
        return None
    if last is None:
        return None
    # what was cut off stays in its segment, after the last whole record: cut it away, then begin a new segment
    path = found[-1][1]
    with path.open("r+b") as file:
        file.truncate(last.end)
        durable.settle(file)
    return Segments(folder, keys, number=last.head.number, chain=last.chain), last.head
