"""Shows files to real decoder processes, and watches what these do meanwhile: which files they open, whom they call,
what processes they leave, how much memory and time they take."""

import contextlib
import ctypes
import os
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from msgspec.structs import replace

from appliance.errors import DecoderDown, MediaTooLarge, MediaUnsupported
from appliance.media.decoders import Decoders
from appliance.settings import Media, Settings
from tests.hostile import videos
from tests.hostile.case import EITHER, Case

_OPENED, _READ, _WRITTEN = 0x20, 0x01, 0x02  # inotify's
_EVENT = struct.Struct("iIII")


class Outcome(NamedTuple):
    """What became of a file."""

    case: Case
    verdict: str
    """decoded, refused, or broken: something that is no clear failure by name."""
    reason: str
    """Of a refusal, with numbers taken out; of something broken, what."""
    seconds: float
    peak_mb: float

    @property
    def is_as_it_should(self) -> bool:
        if self.verdict == "broken" or (self.verdict == "decoded" and self.case.expected != EITHER):
            return False
        return not self.case.says or re.search(self.case.says, self.reason) is not None

    @property
    def is_by_limit(self) -> bool:
        return re.search(r"took longer|more memory|ended its decoder", self.reason) is not None


class Watch:
    """A pool of one decoder with the limits that are given by default, a folder of canaries, and an open ear."""

    def __init__(self, folder: Path, timeout_s: float = 30.0) -> None:
        self._folder = folder
        self.canary = folder / "canary.mp4"
        self.canary.write_bytes(videos.clip())
        self._ear = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._ear.getsockname()[1])
        self._ear_udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._ear_udp.bind(("127.0.0.1", self.port))
        self._opened = _watching(self.canary)
        self._before = set(_children(os.getpid()))
        self.pool = Decoders(replace(Settings(), media=Media(decoders=1, decoder_timeout_s=timeout_s)))
        self.escapes: list[str] = []
        self._peak_kb = 0
        self._is_over = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._sampler.join()
        self.pool.close()
        self.escapes += [f"process {pid} was left behind" for pid in set(_children(os.getpid())) - self._before]
        for one in (self._ear, self._ear_udp):
            one.close()
        os.close(self._opened)

    def show(self, case: Case) -> Outcome:
        """One file through the pool."""
        path, frames = self._folder / "submitted", self._folder / "frames"
        path.write_bytes(case.make())
        frames.mkdir(exist_ok=True)
        self._begin()
        began = time.monotonic()
        try:
            shown = self._shown(case, path, frames)
            verdict, reason = ("decoded", f"{shown} pictures") if shown else ("broken", "decoded, but nothing shown")
        except (MediaUnsupported, MediaTooLarge) as refusal:
            verdict, reason = "refused", refusal.message
        except Exception as error:
            verdict, reason = "broken", f"{type(error).__name__}: {error}"
        seconds = time.monotonic() - began
        self._look_at_peaks()
        self._look_around(case)
        for left in frames.iterdir():
            left.unlink()
        return Outcome(case, verdict, reason, seconds, self._peak_kb / 1000)

    def _shown(self, case: Case, path: Path, frames: Path) -> int:
        """How many pictures; a decoder that a busy machine did not start in time is waited for, as a job would."""
        for is_last in (False, False, False, True):
            try:
                return len(self.pool.frames(path, frames).frames if case.kind == "video" else self.pool.image(path))
            except DecoderDown:
                if is_last:
                    raise
        raise AssertionError

    def _begin(self) -> None:
        self._peak_kb = 0
        for pid in self.pool.pids():
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak is counted from here

    def _look_around(self, case: Case) -> None:
        """What should not be there after a file, or have happened."""
        found: list[str] = []
        if select.select([self._opened], [], [], 0)[0]:
            os.read(self._opened, 65_536)
            found.append("opened a file that it was not given")
        for ear in select.select([self._ear, self._ear_udp], [], [], 0)[0]:
            found.append("called an address")
            if ear is self._ear:
                ear.accept()[0].close()
            else:
                ear.recv(65_536)
        pids = self.pool.pids()
        strangers = set(_children(os.getpid())) - self._before - set(pids)
        strangers |= {child for pid in pids for child in _children(pid)}
        found += [f"left process {pid}" for pid in strangers]
        for pid in pids:
            found += [f"holds {held}" for held in _still_held(pid)]
        self.escapes += [f"{case.name}: {what}" for what in found]

    def _sample(self) -> None:
        while not self._is_over.wait(0.02):
            self._look_at_peaks()

    def _look_at_peaks(self) -> None:
        for pid in self.pool.pids():
            with contextlib.suppress(OSError, StopIteration, ValueError):
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                peak = next(line for line in lines if line.startswith("VmHWM"))
                self._peak_kb = max(self._peak_kb, int(peak.split()[1]))


def _watching(path: Path) -> int:
    """A descriptor that can be read once somebody opened the file."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert descriptor >= 0
    assert libc.inotify_add_watch(descriptor, os.fsencode(path), _OPENED | _READ | _WRITTEN) >= 0
    return descriptor


def _children(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                yield from (int(child) for child in (task / "children").read_text().split())


def _still_held(pid: int, patience_s: float = 20.0) -> list[str]:
    """A decoder that has just begun has the modules that it imports open, one after the other."""
    until = time.monotonic() + patience_s
    while (held := _held(pid)) and time.monotonic() < until:
        time.sleep(0.05)
    return held


def _held(pid: int) -> list[str]:
    """Files by a path that a decoder still has open; it is given sockets, /dev/null, our own standard error, and files
    that are closed again."""
    held: list[str] = []
    given = {os.readlink(f"/proc/self/fd/{number}") for number in range(3)} | {"/dev/null"}
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = os.readlink(link)
                if target.startswith("/") and target not in given and not target.startswith("/memfd:"):
                    held.append(target)
    return held
