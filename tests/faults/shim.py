"""The shim between a process and its disk and clock: shim.c compiled, and the mapped file that tells it what to do."""

import ctypes
import errno
import mmap
import os
import shutil
import subprocess
from enum import IntEnum, IntFlag
from pathlib import Path


class Op(IntFlag):
    """What can go wrong, as shim.c counts it."""

    WRITE = 1
    SYNC = 2
    RENAME = 4
    OPEN = 8
    REMOVE = 16
    TRUNCATE = 32
    ANY = 63


class Act(IntEnum):
    """How it goes wrong."""

    COUNT = 0
    FAIL = 1
    KILL_BEFORE = 2
    KILL_AFTER = 3
    TEAR = 4
    """Half of a write, and then the process is killed."""
    SHORTEN = 5
    """Half of a write, and the process is told so: as at the end of a disk."""


class _Control(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("armed", "ops", "action", "error", "times", "pid", "keep", "last_op")),
        *((name, ctypes.c_int64) for name in ("at", "seen", "injected", "offset_ms")),
        ("has", ctypes.c_char * 64),
        ("last", ctypes.c_char * 256),
    )


class Shim:
    """Told to whoever runs with `environ`, at once, from any process that opened the same file."""

    def __init__(self, control: Path) -> None:
        self._path = control
        if not control.exists():
            control.write_bytes(bytes(ctypes.sizeof(_Control)))
        with control.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), ctypes.sizeof(_Control))
        self._told = _Control.from_buffer(self._map)

    def environ(self, library: Path, home: Path, aside: Path | None = None) -> dict[str, str]:
        more = {"FAULTS_ASIDE": str(aside)} if aside is not None else {}
        return {"LD_PRELOAD": str(library), "FAULTS_CONTROL": str(self._path), "FAULTS_HOME": str(home), **more}

    def arm(
        self, ops: Op, act: Act, *, at: int = 1, times: int = 1, has: str = "", error: int = errno.EIO, pid: int = 0
    ) -> None:
        """From the `at`-th such call on, `times` of them (-1 = until told otherwise); `has`: of files so named only."""
        told = self._told
        told.armed = 0
        told.ops, told.action, told.error, told.times, told.pid = ops, act, error, times, pid
        told.at, told.seen, told.injected, told.has, told.last = at, 0, 0, has.encode(), b""
        told.armed = 1

    def disarm(self) -> int:
        """How often it struck."""
        self._told.armed = 0
        return int(self._told.injected)

    @property
    def seen(self) -> int:
        return int(self._told.seen)

    @property
    def injected(self) -> int:
        return int(self._told.injected)

    @property
    def last(self) -> str:
        """Where it struck last, below the home."""
        return bytes(self._told.last).decode("utf-8", "replace")

    def keep(self, on: bool) -> None:
        """Whether what is synced is copied aside."""
        self._told.keep = int(on)

    def turn(self, ms: int) -> None:
        """Move the wall clock by so much more."""
        self._told.offset_ms += ms

    @property
    def offset_ms(self) -> int:
        return int(self._told.offset_ms)


def compiled(folder: Path) -> Path | None:
    """The library, made now; None where there is no compiler, or it cannot make one."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    library = folder / "shim.so"
    source = Path(__file__).with_name("shim.c")
    made = subprocess.run(
        [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"],
        check=False,
        capture_output=True,
        text=True,
    )
    return library if made.returncode == 0 and os.access(library, os.R_OK) else None
