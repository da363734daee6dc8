"""Frames of a video: key frames, which stand alone and cost little; where those lie too far apart, the frame at that
moment, decoded from the key frame before it. Runs in the decoder process only.

OpenCV's FFmpeg is told its options by the environment, and reads nothing but the open descriptor that it is given: the
format must be the one the header showed, the protocol must be `fd`, so a file that names other files reaches none.
`avdiscard;nonkey` is OpenCV's own option and reaches the decoder; FFmpeg's `skip_frame` does not, without a word.
"""

import bisect
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.errors import MediaTooLarge, MediaUnsupported
from appliance.inference.wire import Pixels
from appliance.media import repack
from appliance.media.image import shrink, thumb
from appliance.media.pipe import Done, Gone, Progress, Said, Shown, Task
from appliance.media.sampling import Found, Frames

MAX_SIDE = 640
"""Frames are judged at 224 to 256 pixels, and faces are found at 256: 640 leaves room, and is 0.7 MB a frame."""

_FORMATS = {"mp4": "mov,mp4,m4a,3gp,3g2,mj2", "matroska": "matroska,webm"}
_DAMAGED_IN_A_ROW = 64  # a packet that cannot be decoded ends one grab; so many in a row are the end
_MOST_KEYS = 200_000  # key frames: two hours of a format that has no others; a table of 4 bytes each can name millions
_MOST_LOOKED_AT = 50_000  # of these: seven hours at two a second
_NONREF_FROM_FPS = 20  # below, passing over the pictures that no other needs would step too far past the moment
_SEEK_FROM_FPS = 8
_SEEK_BEFORE = (
    16  # OpenCV seeks to the key frame before the 16th frame before the one asked for, and decodes from there
)

Array = NDArray[np.uint8]
Tell = Callable[[Said], None]
Moment = tuple[int, Callable[[], Array | None]]
"""A time in ms, and how to get its picture, blue first."""


def extract(descriptor: int, task: Task, tell: Tell) -> Done:
    """Tells every frame to keep as it is found. Raises MediaUnsupported or MediaTooLarge."""
    clip = _Clip(descriptor, task.header.format, task.max_pixels)
    every_ms = max(task.frame_every_ms, -(-clip.duration_ms // task.max_frames), 1)
    frames = Frames(every_ms, task.scene_threshold, task.max_frames)
    max_side = min(task.max_side, MAX_SIDE)

    def keep(found: list[Found]) -> None:
        for at_ms, picture in found:
            tell(Shown(at_ms, pixels(picture[:, :, ::-1])))
        gone = frames.thin()
        if gone:
            tell(Gone(gone))

    # 1. key frames
    keys: list[int] = []
    for at_ms, read in _looked_at(clip.key_frames(), keys):
        picture = read()
        if picture is not None:
            small = shrink(picture, max_side)
            keep(frames.key_frame(at_ms, thumb(small), small))
            tell(Progress(min(at_ms, clip.duration_ms), clip.duration_ms))
    # 2. where it truly ends, and when its pictures change: sound may go on after them, a header may say anything
    ends = clip.duration_ms
    times: list[int] = []
    if not ends or frames.unseen(ends):
        times = clip.times()
        last = max(times, default=0)
        ends = min(ends, last + 1) if ends else last + 1
    keep(frames.end(ends))
    # 3. what lies between them: the picture that is shown at each such moment, wherever it began
    targets: dict[int, list[int]] = {}
    for moment in frames.holes(ends):
        begun = times[max(0, bisect.bisect_right(times, moment) - 1)] if times else moment
        if frames.is_seen(begun):
            frames.cover(moment)
        else:
            targets.setdefault(begun, []).append(moment)
    if targets and not clip.is_av1:
        for target, at_ms, picture in clip.at(sorted(targets), times, keys, frames.every_ms // 2):
            small = shrink(picture, max_side)
            keep([(at_ms, small)] if frames.add(at_ms, thumb(small)) else [])
            for moment in targets[target]:
                frames.cover(max(moment, at_ms))
            tell(Progress(min(at_ms, ends), ends))
    _check_seen(frames, ends, clip.is_av1)
    gone = frames.thin(at_last=True)
    if gone:
        tell(Gone(gone))
    return Done(clip.duration_ms or ends, {kept.at_ms: kept.also_at for kept in frames.kept if kept.also_at})


def pixels(picture: Array) -> Pixels:
    return Pixels(picture.shape[1], picture.shape[0], np.ascontiguousarray(picture).tobytes())


def _check_seen(frames: Frames, ends: int, is_av1: bool) -> None:
    """Never a silent allow: a stretch of two steps that nobody saw fails the video."""
    if not frames.kept:
        raise MediaUnsupported("the video is damaged: not one picture of it could be decoded")
    longest = max((other - one for one, other in frames.unseen(ends)), default=0)
    if longest > 2 * frames.longest_ms:
        raise MediaUnsupported(
            f"the AV1 video has key frames {longest // 1000} s apart; encode it with more of them, or as H.264"
            if is_av1
            else f"the video is damaged: {longest // 1000} s of it could not be decoded"
        )


def _looked_at(moments: Iterator[Moment], keys: list[int]) -> Iterator[Moment]:
    """Every key frame; but where every frame is one (MJPEG, ProRes), two a second. All times go into `keys`."""
    recent: deque[int] = deque(maxlen=4)
    before, looked_at = -1, 0
    for at_ms, read in moments:
        at_ms = max(at_ms, before + 1)  # a file's own times may be nonsense; ours name files
        before = at_ms
        keys.append(at_ms)
        if len(keys) > _MOST_KEYS:
            raise MediaTooLarge(f"the video has more than {_MOST_KEYS:,} key frames")
        if len(recent) == 4 and at_ms - recent[0] < 2000 and at_ms - recent[-1] < 500:
            continue
        recent.append(at_ms)
        looked_at += 1
        if looked_at > _MOST_LOOKED_AT:
            raise MediaTooLarge(f"the video has more than {_MOST_LOOKED_AT:,} key frames to look at")
        yield at_ms, read


class _Clip:
    def __init__(self, descriptor: int, format: str, max_pixels: int) -> None:
        self._descriptor = descriptor
        self._formats = _FORMATS[format]
        self._capture = self._open("nonkey")
        if not self._capture.isOpened():
            raise MediaUnsupported("the video is damaged, or its codec is not decoded here")
        width, height = _size(self._capture)
        if width * height > max_pixels:
            raise MediaTooLarge(f"the video has {width} × {height} pixels a frame; the limit is {max_pixels:,}")
        self._codec = int(self._capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=False).lower()
        self.fps = _finite(self._capture.get(cv2.CAP_PROP_FPS))
        count = _finite(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.duration_ms = int(count / self.fps * 1000) if self.fps > 0 and count > 0 else 0

    @property
    def is_av1(self) -> bool:
        return self._codec == b"av01"

    def key_frames(self) -> Iterator[Moment]:
        if self.is_av1 or self._codec in (b"vp90", b"vp09"):
            return self._repacked()
        return self._direct()

    def times(self) -> list[int]:
        """When each picture begins, ascending. Reads the whole file, decodes nothing."""
        raw = self._open(raw=True)
        found: list[int] = []
        while raw.grab():
            found.append(_at_ms(raw))
        return sorted(found)

    def at(
        self, targets: list[int], times: list[int], keys: list[int], late_ms: int
    ) -> Iterator[tuple[int, int, Array]]:
        """(target, time, picture) for each of the ascending targets: the picture that begins then, or a little later
        where that one cannot be had. One that is not there within `late_ms` is left out."""
        is_even = all(other - one <= 500 for one, other in itertools.pairwise(times))
        discard = "nonref" if is_even and self.fps >= _NONREF_FROM_FPS else "default"
        capture = self._open(discard)
        may_seek = self.fps >= _SEEK_FROM_FPS
        position = -1
        for target in targets:
            key = keys[bisect.bisect_right(keys, target) - 1] if keys and keys[0] <= target else 0
            if may_seek and key > position + 1000:
                capture.set(cv2.CAP_PROP_POS_FRAMES, key * self.fps / 1000 + _SEEK_BEFORE + 1)
                position = _at_ms(capture)
                if position > target:  # pictures lie further apart here than the average said
                    capture, position, may_seek = self._open(discard), -1, False
            while position < target and _grab(capture):
                position = _at_ms(capture)
            if target <= position < target + late_ms:
                ok, picture = capture.retrieve()
                if ok:
                    yield target, position, np.asarray(picture, np.uint8)

    def _direct(self) -> Iterator[Moment]:
        def read() -> Array | None:
            ok, picture = self._capture.retrieve()
            return np.asarray(picture, np.uint8) if ok else None

        while _grab(self._capture):
            yield _at_ms(self._capture), read

    def _repacked(self) -> Iterator[Moment]:
        """Key frames by their packets, each decoded from a file of its own."""
        raw = self._open(raw=True)
        width, height = _size(raw)
        configuration = b""

        def read() -> Array | None:
            nonlocal configuration
            ok, packet = raw.retrieve()
            if not ok:
                return None
            data = np.asarray(packet, np.uint8).tobytes()
            if not self.is_av1:
                return self._upright(_first_of_ivf(repack.ivf([data], width, height)))
            if not configuration:
                ok, extra = raw.retrieve(flag=int(raw.get(cv2.CAP_PROP_CODEC_EXTRADATA_INDEX)))
                configuration = np.asarray(extra, np.uint8).tobytes() if ok else b""
            if len(configuration) < 4:
                return None
            still = np.frombuffer(repack.avif(data, configuration, width, height), np.uint8)
            picture = cv2.imdecode(still, cv2.IMREAD_COLOR)
            return None if picture is None else self._upright(np.asarray(picture, np.uint8))

        while raw.grab():
            if raw.get(cv2.CAP_PROP_LRF_HAS_KEY_FRAME):
                yield _at_ms(raw), read

    def _upright(self, picture: Array | None) -> Array | None:
        angle = int(self._capture.get(cv2.CAP_PROP_ORIENTATION_META)) % 360
        turned = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
        if picture is None or angle not in turned:
            return picture
        return np.asarray(cv2.rotate(picture, turned[angle]), np.uint8)

    def _open(self, discard: str = "default", *, raw: bool = False) -> cv2.VideoCapture:
        return _capture(self._descriptor, self._formats, discard, raw=raw)


def _capture(descriptor: int, formats: str, discard: str, *, raw: bool = False) -> cv2.VideoCapture:
    """Opened from its beginning, on one thread: the pool's processes are the parallelism."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = (
        f"format_whitelist;{formats}|protocol_whitelist;fd|fd;{descriptor}|avdiscard;{discard}"
    )
    packets = [cv2.CAP_PROP_FORMAT, -1] if raw else []
    capture = cv2.VideoCapture("fd:", cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1, *packets])
    if raw:
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)  # else width and height are those of the turned picture
    return capture


def _size(capture: cv2.VideoCapture) -> tuple[int, int]:
    return int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))


def _first_of_ivf(data: bytes) -> Array | None:
    descriptor = os.memfd_create("key-frame")
    try:
        os.write(descriptor, data)
        ok, picture = _capture(descriptor, "ivf", "default").read()
        return np.asarray(picture, np.uint8) if ok else None
    finally:
        os.close(descriptor)


def _grab(capture: cv2.VideoCapture) -> bool:
    return any(capture.grab() for _ in range(_DAMAGED_IN_A_ROW))


def _at_ms(capture: cv2.VideoCapture) -> int:
    return max(0, round(_finite(capture.get(cv2.CAP_PROP_POS_MSEC))))


def _finite(value: float) -> float:
    return value if 0 <= value < 1e12 else 0.0
