"""Media made by code: bombs, clips with key frames where a test wants them, boxes turned on their side."""

import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
from av.video.frame import PictureType
from av.video.stream import VideoStream
from numpy.typing import NDArray

from appliance.demo import MEDIA

Array = NDArray[np.uint8]

RED, GREEN, BLUE, GREY = (0, 0, 255), (0, 160, 0), (255, 0, 0), (128, 128, 128)


def photograph(name: str = "astronaut", size: tuple[int, int] | None = None) -> Array:
    """One of the demo's, blue first."""
    picture = cv2.imread(str(MEDIA / f"{name}.jpg"))
    assert picture is not None
    return np.asarray(picture if size is None else cv2.resize(picture, size), np.uint8)


def plain(colour: tuple[int, int, int], size: tuple[int, int] = (320, 180)) -> Array:
    return np.full((size[1], size[0], 3), colour, np.uint8)


def encode(ending: str, picture: NDArray[np.integer[Any]] | NDArray[np.floating[Any]], *options: int) -> bytes:
    ok, data = cv2.imencode(ending, picture, list(options))
    assert ok
    return data.tobytes()


def animation(ending: str, pictures: list[Array], ms: int = 100) -> bytes:
    moving = cv2.Animation()
    moving.frames = [np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)]) for picture in pictures]
    moving.durations = [ms] * len(pictures)
    ok, data = cv2.imencodeanimation(ending, moving)
    assert ok
    return data.tobytes()


def png(width: int, height: int, *, bits: int = 1, colour: int = 0) -> bytes:
    """All black, of any size, in a few KB."""
    samples = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    row = bytes(1 + (width * bits * samples + 7) // 8)
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)),
        (b"IDAT", packed),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def exif(orientation: int) -> bytes:
    return b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)


def with_exif(jpeg: bytes, orientation: int) -> bytes:
    block = b"Exif\0\0" + exif(orientation)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]


def still(picture: Array, seconds: float, fps: int = 10) -> list[Array]:
    return [picture] * round(seconds * fps)


def pan(name: str, seconds: float, fps: int = 10, size: tuple[int, int] = (320, 180)) -> list[Array]:
    """A slow pan over a photograph: neighbours differ, the scene stays."""
    frames = round(seconds * fps)
    large = photograph(name, (size[0] * 2, size[1] * 2))
    return [
        np.ascontiguousarray(large[i * size[1] // frames :, i * size[0] // frames :][: size[1], : size[0]])
        for i in range(frames)
    ]


@contextmanager
def _scheduled_as_before() -> Iterator[None]:
    """SVT-AV1, when root calls it, leaves its caller in the real-time class, before all else on the machine.

    2026-11-22: whatever the tests started after that had it too. libvpx spins until a thread of its own has got on;
    with such spinners on both cores that thread never ran, nor did anything else, for an hour.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def clip(
    path: Path,
    frames: Iterable[Array],
    codec: str = "libx264",
    *,
    fps: int = 10,
    key_every: int = 10,
    is_key: Callable[[int], bool] | None = None,
    times_ms: list[int] | None = None,
    pixels: str = "yuv420p",
    container: dict[str, str] | None = None,
) -> Path:
    """A video with a key frame each `key_every` frames, and no others unless `is_key` says so."""
    presets = {
        "libx264": {"preset": "ultrafast", "sc_threshold": "0", "bf": "2"},
        "libx265": {"preset": "ultrafast", "x265-params": f"log-level=none:scenecut=0:keyint={key_every}"},
        "libsvtav1": {"preset": "12", "svtav1-params": "scd=0"},
        "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
        "libvpx": {"deadline": "realtime", "cpu-used": "8"},
    }
    with _scheduled_as_before(), av.open(str(path), "w", options=container or {}) as file:
        stream: VideoStream | None = None
        for number, frame in enumerate(frames):
            if stream is None:
                given = {"g": str(key_every), "keyint_min": str(key_every), **presets.get(codec, {})}
                stream = cast(VideoStream, file.add_stream(codec, rate=fps, options=given))
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt = pixels
                stream.codec_context.time_base = Fraction(1, 1000)
            shown = av.VideoFrame.from_ndarray(frame, "bgr24")
            shown.pts = times_ms[number] if times_ms else number * 1000 // fps
            shown.time_base = Fraction(1, 1000)
            if is_key is not None and is_key(number):
                shown.pict_type = PictureType.I
            file.mux(stream.encode(shown))
        assert stream is not None
        file.mux(stream.encode())
    return path


def turned(mp4: bytes, quarter_turns: int) -> bytes:
    """The video's display matrix says to turn it clockwise."""
    one, zero = 1 << 16, 0
    matrices = {1: (zero, one, 0, -one, zero, 0), 2: (-one, zero, 0, zero, -one, 0), 3: (zero, -one, 0, one, zero, 0)}
    at = mp4.index(b"tkhd") + 4 + 40
    assert struct.unpack(">6i", mp4[at : at + 24]) == (one, 0, 0, 0, one, 0)
    return mp4[:at] + struct.pack(">6i", *matrices[quarter_turns]) + mp4[at + 24 :]
