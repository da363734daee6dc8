"""SQLite's write-ahead log, read as it lies: its index says what is committed, its frames are what is shipped.

The formats are SQLite's published ones (walformat.html). The index lies in shared memory; while one of our connections
has the database open, it is there. Its file is opened once and not closed before the process ends: closing it would
drop the locks that SQLite holds on it in this process.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import msgspec

from appliance.errors import BackupError

HEADER = 32
FRAME = 24
_INDEX = struct.Struct("=III BB H II II 8s II")  # WalIndexHdr, in the machine's own order
_MASK = 0xFFFFFFFF

Sum = tuple[int, int]


class Index(msgspec.Struct, frozen=True):
    """What every connection agrees upon."""

    page_size: int
    frames: int
    """The last committed frame of this log; 0 = it is empty."""
    last: Sum
    """The running checksum there."""
    salts: bytes
    """Of this log: others after it was begun anew."""
    copied: int
    """How many frames a checkpoint has brought into the database file."""


_open: dict[tuple[int, int], int] = {}


def _opened(path: Path) -> int:
    """Once for each file that there ever was: see above."""
    status = path.stat()
    which = (status.st_dev, status.st_ino)
    if which not in _open:
        _open[which] = os.open(path, os.O_RDONLY)
    return _open[which]


class Log:
    """The log of a database that this process holds open."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._index = _opened(database.with_name(f"{database.name}-shm"))
        self._log = _opened(database.with_name(f"{database.name}-wal"))

    def index(self) -> Index:
        """As of now. Raises BackupError when it cannot be made sense of."""
        for _ in range(1000):
            raw = os.pread(self._index, 136, 0)
            # written twice, so that who reads meanwhile sees a difference
            if len(raw) == 136 and raw[:48] == raw[48:96] and raw[12]:
                found = _INDEX.unpack(raw[:48])
                size = found[5]
                salts: bytes = found[10]
                return Index(
                    page_size=65536 if size == 1 else size,
                    frames=found[6],
                    last=(found[8], found[9]),
                    salts=salts,
                    copied=struct.unpack_from("=I", raw, 96)[0],
                )
        raise BackupError(f"{self._database}-shm: the index of the log cannot be read")

    def header(self) -> bytes:
        return os.pread(self._log, HEADER, 0)

    def read(self, first: int, last: int, page_size: int) -> bytes:
        """The frames from `first` on up to `last`, counted from 1. Raises BackupError when some are not there."""
        length = (last - first + 1) * (FRAME + page_size)
        found = bytearray()
        while len(found) < length:
            part = os.pread(self._log, length - len(found), HEADER + (first - 1) * (FRAME + page_size) + len(found))
            if not part:
                raise BackupError(f"{self._database}-wal: shorter than its index says")
            found += part
        return bytes(found)

    def sum_at(self, frame: int, page_size: int) -> Sum:
        """The running checksum after this frame; before the first one, the header's."""
        if frame == 0:
            return struct.unpack(">II", self.header()[24:32])
        raw = os.pread(self._log, FRAME, HEADER + (frame - 1) * (FRAME + page_size))
        return struct.unpack(">II", raw[16:24]) if len(raw) == FRAME else (0, 0)


def is_little(header: bytes) -> bool:
    """Whether its checksums are of little-endian words."""
    return header[3:4] == b"\x82"


class Frame(msgspec.Struct, frozen=True):
    page: int
    pages: int
    """Of the database after the commit that this frame ends; 0 = it ends none."""
    data: memoryview


def frames(raw: bytes, page_size: int, salts: bytes, seed: Sum, *, little: bool) -> Iterator[Frame]:
    """Taken apart, each with the checksum that SQLite gave it. Raises BackupError at the first that is not right."""
    view = memoryview(raw)
    running = seed
    for at in range(0, len(raw), FRAME + page_size):
        head, data = view[at : at + FRAME], view[at + FRAME : at + FRAME + page_size]
        running = _sum(bytes(head[:8]), running, little)
        running = _sum(data, running, little)
        page, pages, one, two = struct.unpack(">II8xII", head)
        if bytes(head[8:16]) != salts or running != (one, two) or page == 0:
            raise BackupError("a frame of the log is damaged")
        yield Frame(page, pages, data)


def _sum(data: bytes | memoryview, seed: Sum, little: bool) -> Sum:
    one, two = seed
    words = struct.unpack(f"{'<' if little else '>'}{len(data) // 4}I", data)
    for at in range(0, len(words), 2):
        one = (one + words[at] + two) & _MASK
        two = (two + words[at + 1] + one) & _MASK
    return one, two
