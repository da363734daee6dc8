"""Still and animated images, decoded reduced and brought upright. Runs in the decoder process only.

Transparency is judged on white, as most pages show it; a picture whose bright parts would vanish there is judged on
black as well. One grey background instead of two would hide what is drawn in that very grey.
"""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.errors import MediaTooLarge, MediaUnsupported
from appliance.media import sampling
from appliance.media.probe import Header
from appliance.media.sampling import THUMB, Thumb

Array = NDArray[np.uint8]
Shown = tuple[int | None, Array]
"""(milliseconds into the animation, or None; height × width × 3, red first)"""

_CHUNK_BYTES = 96_000_000  # of an animation decoded at a time
_MOST_LOOKED_AT = 600  # frames of an animation; more are passed over evenly
_VISIBLE = 64  # of 255
_BRIGHT_SHARE = 0.02


def decode(data: bytes, header: Header, max_side: int, animation_frames: int) -> list[Shown]:
    """The pictures to judge. Raises MediaUnsupported, or MediaTooLarge when there is no memory for it."""
    raw = np.frombuffer(data, np.uint8)
    try:
        if header.frames > 1:
            shown = _animation(raw, header, max_side, animation_frames)
        else:
            shown = _still(raw, header, max_side)
    except (MemoryError, cv2.error) as error:
        if isinstance(error, MemoryError) or error.code == cv2.Error.StsNoMem:
            raise MediaTooLarge("the image needs more memory to decode than media.decoder_memory_mb gives") from error
        raise MediaUnsupported(f"the {header.format.upper()} image is damaged") from error
    if not shown:
        raise MediaUnsupported(f"the {header.format.upper()} image is damaged")
    return shown


def shrink(picture: Array, max_side: int) -> Array:
    """So that the longer side is `max_side` at most; never enlarged."""
    height, width = picture.shape[:2]
    longer = max(height, width)
    if longer <= max_side:
        return picture
    size = max(1, round(width * max_side / longer)), max(1, round(height * max_side / longer))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def thumb(picture: Array) -> Thumb:
    """What sampling knows a picture by."""
    return np.asarray(cv2.resize(picture, (THUMB, THUMB), interpolation=cv2.INTER_AREA), np.uint8)


def turn(picture: Array, orientation: int) -> Array:
    """Upright, from one of EXIF's eight ways to lie."""
    match orientation:
        case 2:
            turned = picture[:, ::-1]
        case 3:
            turned = picture[::-1, ::-1]
        case 4:
            turned = picture[::-1]
        case 5:
            turned = picture.transpose(1, 0, 2)
        case 6:
            turned = np.rot90(picture, -1)
        case 7:
            turned = picture.transpose(1, 0, 2)[::-1, ::-1]
        case 8:
            turned = np.rot90(picture)
        case _:
            turned = picture
    return np.ascontiguousarray(turned)


def _still(raw: Array, header: Header, max_side: int) -> list[Shown]:
    flags = cv2.IMREAD_COLOR
    if header.has_alpha:
        flags = cv2.IMREAD_UNCHANGED
    elif header.format == "jpeg":  # 12 MP to 224 px: 29 ms reduced, 98 ms full
        longer = max(header.width, header.height)
        for factor, reduced in (
            (8, cv2.IMREAD_REDUCED_COLOR_8),
            (4, cv2.IMREAD_REDUCED_COLOR_4),
            (2, cv2.IMREAD_REDUCED_COLOR_2),
        ):
            if longer // factor >= max_side:
                flags = reduced
                break
    if flags != cv2.IMREAD_UNCHANGED:
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
    picture = cv2.imdecode(raw, flags)
    if picture is None and header.format == "tiff":  # 32-bit samples are decoded as they are, or not at all
        picture = cv2.imdecode(raw, cv2.IMREAD_UNCHANGED)
    if picture is None:
        if header.width * header.height >= 25_000_000:  # OpenCV swallows a failed allocation
            raise MediaTooLarge("the image is damaged, or needs more memory than media.decoder_memory_mb gives")
        return []
    return [(None, shown) for shown in _shown(np.asarray(picture), header, max_side)]


def _animation(raw: Array, header: Header, max_side: int, cap: int) -> list[Shown]:
    """Two passes unless all fits in one chunk: thumbnails of every frame, then the chosen ones again."""
    stride = -(-header.frames // _MOST_LOOKED_AT)
    chunk = max(1, _CHUNK_BYTES // (header.width * header.height * 4))
    thumbs: list[Thumb] = []
    times: list[int] = []
    places: list[int] = []
    held: dict[int, NDArray[np.generic]] = {}
    clock = 0
    count = 0
    for index, picture, lasts in _frames(raw, header, chunk):
        count += 1
        if index % stride == 0:
            small = _small_rgb(picture, header)
            thumbs.append(small)
            times.append(clock)
            places.append(index)
            if header.frames <= chunk:
                held[index] = picture
        clock += lasts
    # an APNG's count includes pictures that decoders may leave out; the others' are exact
    if not thumbs or (count < header.frames and header.format != "png"):
        raise MediaUnsupported(f"the {header.format.upper()} animation is damaged")
    wanted = {places[i]: times[i] for i in sampling.most_unlike(thumbs, max(1, cap))}
    if not held:
        held = {index: picture for index, picture, _ in _frames(raw, header, chunk, set(wanted))}
    is_timed = header.format != "tiff"
    return [
        (at_ms if is_timed else None, shown)
        for index, at_ms in wanted.items()
        for shown in _shown(held[index], header, max_side)
    ]


def _small_rgb(picture: NDArray[np.generic], header: Header) -> Thumb:
    return thumb(_shown(picture.copy(), header, 8 * THUMB)[0])


def _frames(
    raw: Array, header: Header, chunk: int, only: set[int] | None = None
) -> Iterator[tuple[int, NDArray[np.generic], int]]:
    """(place, picture, milliseconds shown) of each frame, or of those in `only`; one chunk in memory at a time."""
    for start in range(0, header.frames, chunk):
        if only is not None and not any(start <= index < start + chunk for index in only):
            continue
        if header.format == "tiff":
            ok, pictures = cv2.imdecodemulti(
                raw, cv2.IMREAD_UNCHANGED, range=(start, min(start + chunk, header.frames))
            )
            lasting = [0] * len(pictures)
        else:
            ok, animation = cv2.imdecodeanimation(raw, start=start, count=chunk)
            pictures, lasting = animation.frames, animation.durations
        if not ok:
            return
        for place, (picture, lasts) in enumerate(zip(pictures, lasting, strict=False), start):
            if only is None or place in only:
                yield place, np.asarray(picture), int(lasts)


def _shown(picture: NDArray[np.generic], header: Header, max_side: int) -> list[Array]:
    """As people see it: eight bits, three colours, upright, on white, and on black where white would hide it."""
    plain = _eight_bits(picture)
    if plain.ndim == 2:
        plain = plain[:, :, None]
    if plain.shape[2] == 2:
        plain = plain[:, :, (0, 0, 0, 1)]
    if plain.shape[2] == 1:
        small = shrink(np.ascontiguousarray(plain[:, :, 0]), max_side)
        return [turn(np.repeat(small[:, :, None], 3, axis=2), header.orientation)]
    if plain.shape[2] == 3:
        return [turn(shrink(plain, max_side)[:, :, ::-1], header.orientation)]
    small = shrink(_premultiplied(plain), max_side)
    colours, alpha = small[:, :, 2::-1], small[:, :, 3:]
    on_white = colours + (255 - alpha)
    backgrounds = [on_white]
    visible = alpha[:, :, 0] >= _VISIBLE
    if alpha.min() < 255 and visible.any():
        bright = visible & (colours.min(axis=2) >= alpha[:, :, 0] * 0.8)
        if bright.sum() >= _BRIGHT_SHARE * visible.sum():
            backgrounds.append(colours)
    return [turn(shown.astype(np.uint8), header.orientation) for shown in backgrounds]


def _eight_bits(picture: NDArray[np.generic]) -> Array:
    if picture.dtype == np.uint8:
        return picture.astype(np.uint8, copy=False)
    if picture.dtype == np.uint16:
        return (picture.astype(np.uint16, copy=False) >> 8).astype(np.uint8)
    if np.issubdtype(picture.dtype, np.floating):
        return (np.clip(np.nan_to_num(picture.astype(np.float32)), 0, 1) * 255).astype(np.uint8)
    raise MediaUnsupported("the image's kind of pixel is not decoded here")


def _premultiplied(picture: Array) -> Array:
    """Colours times alpha, some rows at a time: what lies under full transparency is seen by nobody, and must not bleed
    into its neighbours as the picture is made smaller."""
    picture = np.array(picture, np.uint8, copy=not picture.flags.writeable)
    for top in range(0, picture.shape[0], 256):
        rows = picture[top : top + 256]
        rows[:, :, :3] = (rows[:, :, :3].astype(np.uint16) * rows[:, :, 3:] // 255).astype(np.uint8)
    return picture
