"""The pool of decoder processes, as the rest of the house sees it: a file goes in, pictures come out, or a Failure.

A decoder that crashes, is killed, runs out of memory or of time takes nothing with it but the file it was at: it is
replaced before the next. A file whose decoder is gone is tried once more in a fresh one, since the decoder may have
been killed for someone else's sake; a second time it is the file.
"""

import logging
import math
import os
import queue
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

import appliance
from appliance.errors import DecoderDown, MediaTooLarge, MediaUnsupported
from appliance.inference.wire import Pixels
from appliance.media import pipe, probe
from appliance.media.pipe import Broken, Done, Gone, Progress, Refused, Shown, Task
from appliance.media.probe import Header
from appliance.settings import Settings

log = logging.getLogger(__name__)

_FILES_EACH = 200  # then a decoder is replaced, and whatever its libraries leaked is gone
_START_S = 30.0
_MOST_MINUTES = 60  # that a video's length may buy it: a header can claim any
_MINUTE_BYTES = 500_000  # and no more than the file has bytes for; slides that are read aloud have more
_FRAME_HEAD = struct.Struct("<4sII")
_FRAME_MAGIC = b"RGB8"


class Picture(msgspec.Struct, frozen=True):
    """One picture of an image file. `at_ms`: where it stands in an animation; None in all else."""

    at_ms: int | None
    pixels: Pixels


class Frame(msgspec.Struct, frozen=True):
    at_ms: int
    file: str
    """Its name in the folder; read with read_frame."""
    also_at: list[int]
    """Other times at which the same picture is seen; it is judged once."""


class Extraction(msgspec.Struct, frozen=True):
    duration_ms: int
    frames: list[Frame]
    """In the order of time."""


class Decoders:
    """Thread-safe: callers wait for a free decoder. Close it."""

    def __init__(self, settings: Settings) -> None:
        self._media = settings.media
        self._free: queue.LifoQueue[_Decoder] = queue.LifoQueue()
        self._all = [_Decoder(settings.media.decoder_memory_mb) for _ in range(settings.media.decoders)]
        for decoder in self._all:
            decoder.start()
            self._free.put(decoder)

    def image(self, path: Path) -> list[Picture]:
        """The pictures to judge: one; two where transparency hides things on white; several of an animation or of
        pages. Raises MediaUnsupported, MediaTooLarge or DecoderDown."""
        task = self._task(path, "image")
        pictures: list[Picture] = []

        def begin() -> None:
            pictures.clear()

        def heard(said: Shown | Gone) -> None:
            if isinstance(said, Shown):
                pictures.append(Picture(said.at_ms, said.pixels))

        self._run(path, task, begin, heard, None)
        return pictures

    def frames(self, path: Path, to: Path, progress: Callable[[int, int], None] | None = None) -> Extraction:
        """Write the frames to judge into the folder `to`, which holds no others afterwards. `progress` hears how many
        milliseconds of how many are done. Raises MediaUnsupported, MediaTooLarge or DecoderDown."""
        task = self._task(path, "video")
        times: set[int] = set()

        def begin() -> None:
            times.clear()
            for old in to.glob("frame-*.rgb"):
                old.unlink()

        def heard(said: Shown | Gone) -> None:
            if isinstance(said, Shown):
                at_ms = said.at_ms or 0
                _write_frame(to / _name(at_ms), said.pixels)
                times.add(at_ms)
                if len(times) > 4 * task.max_frames + 16:  # more than any honest decoder holds
                    raise Broken
                return
            for at_ms in times.intersection(said.at_ms):
                (to / _name(at_ms)).unlink()
                times.remove(at_ms)

        done = self._run(path, task, begin, heard, progress)
        frames = [Frame(at_ms, _name(at_ms), sorted(done.repeats.get(at_ms, []))) for at_ms in sorted(times)]
        return Extraction(done.duration_ms, frames)

    def pids(self) -> list[int]:
        """The processes as they are now."""
        return [pid for decoder in self._all if (pid := decoder.pid()) is not None]

    def close(self) -> None:
        """Ends every decoder; a file in work fails as DecoderDown."""
        for decoder in self._all:
            decoder.close()

    def _task(self, path: Path, kind: probe.Kind) -> Task:
        """Read the header here, in plain Python: what is refused by it is never shown to a decoder."""
        header = probe.read(path)
        if header.kind != kind:
            raise MediaUnsupported(
                f"the file is a{'n image, not a video' if kind == 'video' else ' video, not an image'}"
            )
        probe.check(header, self._media.max_pixels)
        return self._task_of(header)

    def _task_of(self, header: Header) -> Task:
        media = self._media
        return Task(
            header,
            media.max_side,
            media.max_pixels,
            media.animation_frames,
            round(media.frame_every_s * 1000),
            media.scene_threshold,
            media.max_frames,
        )

    def _run(
        self,
        path: Path,
        task: Task,
        begin: Callable[[], None],
        heard: Callable[[Shown | Gone], None],
        progress: Callable[[int, int], None] | None,
    ) -> Done:
        decoder = self._free.get()
        try:
            for is_last in (False, True):
                begin()
                try:
                    with path.open("rb") as file:
                        return decoder.decode(task, file.fileno(), self._media.decoder_timeout_s, heard, progress)
                except Broken:
                    log.warning("decoder lost", extra={"format": task.header.format, "again": not is_last})
            raise MediaUnsupported("the file is damaged: decoding it ended its decoder, twice")
        except BaseException:
            begin()
            raise
        finally:
            self._free.put(decoder)


class _Decoder:
    """One process and the line to it; used by one thread at a time, but closed by any."""

    def __init__(self, memory_mb: int) -> None:
        self._memory_mb = memory_mb
        self._lock = threading.Lock()  # of starting and closing
        self._is_closed = False
        self._is_ready = False
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._files = 0

    def start(self) -> None:
        """Does not wait for it: the libraries take a quarter of a second to load."""
        with self._lock:
            if self._is_closed:
                raise DecoderDown("the decoders are closed")
            ours, theirs = socket.socketpair()
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "appliance.media.decoder", str(theirs.fileno()), str(self._memory_mb)],
                    pass_fds=[theirs.fileno()],
                    env=_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the parent, which lets the file in work finish
                )
            self._line, self._is_ready, self._files = ours, False, 0

    def decode(
        self,
        task: Task,
        descriptor: int,
        timeout_s: float,
        heard: Callable[[Shown | Gone], None],
        progress: Callable[[int, int], None] | None,
    ) -> Done:
        """Raises MediaUnsupported or MediaTooLarge, DecoderDown, or Broken when the process was lost."""
        line = self._ready_line()
        is_sound = False
        begun = time.monotonic()
        minutes, most = 1.0, min(1 + os.fstat(descriptor).st_size / _MINUTE_BYTES, _MOST_MINUTES)
        try:
            line.settimeout(timeout_s)
            pipe.tell(line, task, descriptor)
            while True:
                left = begun + timeout_s * minutes - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                line.settimeout(left)
                match pipe.hear(line):
                    case Progress(done_ms, duration_ms):
                        # bought by what is done, not by what is claimed: who stands still is ended
                        minutes = max(minutes, min(1 + done_ms / 60_000, most))
                        if progress is not None:
                            progress(done_ms, duration_ms)
                    case Done() as done:
                        is_sound = True
                        return done
                    case Refused(message, is_too_large):
                        is_sound = True
                        raise MediaTooLarge(message) if is_too_large else MediaUnsupported(message)
                    case said:
                        heard(said)
        except TimeoutError as error:
            raise MediaTooLarge(
                f"decoding took longer than {math.ceil(timeout_s * minutes)} s (media.decoder_timeout_s)"
            ) from error
        except OSError as error:
            if self._is_closed:
                raise DecoderDown("the decoders are closed") from error
            if isinstance(error, ConnectionError):
                raise Broken from error
            raise  # of heard: the disk is full, say
        finally:
            self._files += 1
            if not is_sound or self._files >= _FILES_EACH:
                self._end()

    def pid(self) -> int | None:
        process = self._process
        return None if process is None else process.pid

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
        self._end()

    def _ready_line(self) -> socket.socket:
        if self._line is None:
            self.start()
        line = self._line
        assert line is not None
        if not self._is_ready:
            try:
                line.settimeout(_START_S)
                pipe.hear(line)
            except (Broken, OSError) as error:
                self._end()
                raise DecoderDown("the decoder process did not start; its own words are on standard error") from error
            self._is_ready = True
        return line

    def _end(self) -> None:
        with self._lock:
            process, line, self._process, self._line = self._process, self._line, None, None
        if process is not None and line is not None:
            process.kill()
            process.wait()
            line.close()


def read_frame(path: Path) -> Pixels:
    """A frame that `frames` wrote. Raises MediaUnsupported when it is none."""
    data = path.read_bytes()
    if len(data) < _FRAME_HEAD.size:
        raise MediaUnsupported("the frame's file is damaged")
    magic, width, height = _FRAME_HEAD.unpack_from(data)
    if magic != _FRAME_MAGIC or len(data) != _FRAME_HEAD.size + width * height * 3:
        raise MediaUnsupported("the frame's file is damaged")
    return Pixels(width, height, data[_FRAME_HEAD.size :])


def _write_frame(path: Path, pixels: Pixels) -> None:
    if len(pixels.rgb) != pixels.width * pixels.height * 3:
        raise Broken
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(_FRAME_HEAD.pack(_FRAME_MAGIC, pixels.width, pixels.height))
        file.write(pixels.rgb)


def _name(at_ms: int) -> str:
    """By its time, so that extracting again writes the same files."""
    return f"frame-{at_ms:09d}.rgb"


def _environment() -> dict[str, str]:
    """Nothing of ours is handed down. One thread a library: more would cost address space, and closing the file system
    to a process reaches only the threads that begin afterwards."""
    return {
        "PYTHONPATH": str(Path(appliance.__file__).resolve().parent.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
        "OPENCV_LOG_LEVEL": "OFF",
        "OPENCV_FFMPEG_LOGLEVEL": "-8",
        "OPENCV_FFMPEG_READ_ATTEMPTS": "10000000",  # packets of sound between two pictures; the deadline ends it
        "OPENCV_FFMPEG_DECODE_ATTEMPTS": "1000",
    }
