"""(f) a minute of 720p through our extraction ÷ PyAV decoding nothing but its key frames."""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from appliance.demo import MEDIA
from appliance.errors import Misconfigured
from appliance.media.decoders import Decoders, Extraction
from appliance.settings import Settings

SECONDS, FPS, WIDTH, HEIGHT = 60, 30, 1280, 720
TURNS = 5


def clip(settings: Settings) -> dict[str, object]:
    """Two clips: key frames two seconds apart, as streaming services and phones make them; and as x264 makes them when
    told nothing (250 frames, and cuts): there half of our frames lie between key frames, and cost decoding that PyAV's
    do not. Paired turn by turn."""
    report: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        frames = Path(folder) / "frames"
        frames.mkdir()
        decoders = Decoders(settings)
        try:
            for name, key_every in (("", 60), ("x264_default_", 250)):
                path = Path(folder) / f"{key_every}.mp4"
                _make(path, key_every)
                decoders.frames(path, frames)  # warm
                ours: list[float] = []
                theirs: list[float] = []
                extraction = None
                for _ in range(TURNS):
                    begun = time.perf_counter()
                    extraction = decoders.frames(path, frames)
                    ours.append(time.perf_counter() - begun)
                    begun = time.perf_counter()
                    _key_frames(path)
                    theirs.append(time.perf_counter() - begun)
                mine, pyav = statistics.median(ours), statistics.median(theirs)
                report |= {
                    f"{name}ours_s": round(mine, 3),
                    f"{name}pyav_s": round(pyav, 3),
                    f"{name}ratio": round(mine / pyav, 2),
                    f"{name}frames": _count(extraction),
                }
        finally:
            decoders.close()
    return report | {"aim": "ratio <= 1.5"}


def _count(extraction: Extraction | None) -> int:
    return 0 if extraction is None else len(extraction.frames)


def _key_frames(path: Path) -> int:
    """PyAV's own way: decoded, and brought to pixels of the size that ours are written in."""
    count = 0
    with _av().open(str(path)) as file:
        stream = file.streams.video[0]
        stream.codec_context.skip_frame = "NONKEY"
        for frame in file.decode(stream):
            frame.reformat(width=640, height=360, format="rgb24").to_ndarray()
            count += 1
    return count


def _make(path: Path, key_every: int) -> None:
    """A slow pan over the demo's photographs with a cut every seven seconds, and the noise of a camera."""
    av = _av()
    noise = np.random.default_rng(0)
    pictures = [cv2.imread(str(photograph)) for photograph in sorted(MEDIA.glob("*.jpg"))]
    large = [cv2.resize(picture, (WIDTH + 256, HEIGHT + 144)) for picture in pictures if picture is not None]
    grain = [noise.integers(0, 10, (HEIGHT, WIDTH, 3), np.uint8) for _ in range(8)]
    with av.open(str(path), "w") as file:
        options = {"preset": "veryfast", "g": str(key_every)}
        stream = file.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = WIDTH, HEIGHT, "yuv420p", 3_000_000
        for number in range(SECONDS * FPS):
            scene, at = divmod(number, 7 * FPS)
            picture = large[scene % len(large)][at // 2 :, at:][:HEIGHT, :WIDTH]
            noisy = cv2.add(np.ascontiguousarray(picture), grain[number % len(grain)])
            file.mux(stream.encode(av.VideoFrame.from_ndarray(noisy, "bgr24")))
        file.mux(stream.encode())


def _av() -> Any:
    """The rod to measure by; the product does not use it."""
    try:
        import av
    except ImportError as error:
        raise Misconfigured("this benchmark measures against PyAV; run: pip install 'customhouse[test]'") from error
    return av
