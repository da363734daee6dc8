"""Pictures into tensors, exactly as a manifest says. Pure: the same picture gives the same numbers anywhere."""

import math
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.errors import Misconfigured
from appliance.inference.manifest import ImageInput
from appliance.inference.wire import Pixels

_CV2 = {"bilinear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA, "bicubic": cv2.INTER_CUBIC}
INTERPOLATIONS = (*_CV2, "pil-bilinear")
MODES = ("warp", "crop", "letterbox")
JPEG_QUALITY = 75
"""Pillow's default, which the pipelines that recompress were measured with."""


def check(spec: ImageInput, where: str) -> None:
    """Raises Misconfigured, naming `where`, for a rule that no code here follows."""
    chosen = {
        "input.resize.mode": (spec.resize.mode, MODES),
        "input.resize.interpolation": (spec.resize.interpolation, INTERPOLATIONS),
        "input.layout": (spec.layout, ("NCHW", "NHWC")),
        "input.channels": (spec.channels, ("RGB", "BGR")),
    }
    for name, (value, allowed) in chosen.items():
        if value not in allowed:
            raise Misconfigured(f"{where}: {name} is {value!r}; it must be one of {', '.join(allowed)}")
    if len(spec.mean) != 3 or len(spec.std) != 3 or 0.0 in spec.std:
        raise Misconfigured(f"{where}: input.mean and input.std need three numbers each, and no std of 0")
    if spec.resize.mode == "crop" and spec.resize.resize_to < max(spec.width, spec.height):
        raise Misconfigured(f"{where}: input.resize.resize_to is smaller than the centre that is cut out of it")


def array(pixels: Pixels) -> NDArray[np.uint8]:
    """height × width × 3, RGB, without a copy. Raises ValueError when the bytes do not fit the size."""
    if pixels.width < 1 or pixels.height < 1 or len(pixels.rgb) != pixels.width * pixels.height * 3:
        raise ValueError("a picture's bytes do not fit its width and height")
    return np.frombuffer(pixels.rgb, np.uint8).reshape(pixels.height, pixels.width, 3)


def tensor(rgb: NDArray[np.uint8], spec: ImageInput) -> NDArray[np.float32]:
    """One picture as the model takes it, without the batch's dimension."""
    small = fitted(rgb, spec)
    if spec.channels == "BGR":
        small = small[:, :, ::-1]
    scaled = small.astype(np.float32)
    scaled *= np.float32(spec.scale)
    scaled -= np.asarray(spec.mean, np.float32)
    scaled /= np.asarray(spec.std, np.float32)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)) if spec.layout == "NCHW" else scaled


def fitted(rgb: NDArray[np.uint8], spec: ImageInput) -> NDArray[np.uint8]:
    """The picture brought to the model's width and height, still RGB bytes."""
    rule = spec.resize
    if rule.mode == "crop":
        whole = _recompressed(_resized(rgb, rule.resize_to, rule.resize_to, rule.interpolation), rule.jpeg_round_trip)
        top, left = (rule.resize_to - spec.height) // 2, (rule.resize_to - spec.width) // 2
        return whole[top : top + spec.height, left : left + spec.width]
    if rule.mode == "letterbox":
        return _recompressed(_letterboxed(rgb, spec), rule.jpeg_round_trip)
    return _recompressed(_resized(rgb, spec.width, spec.height, rule.interpolation), rule.jpeg_round_trip)


def _letterboxed(rgb: NDArray[np.uint8], spec: ImageInput) -> NDArray[np.uint8]:
    """Kept in its ratio, centred on black."""
    height, width = rgb.shape[:2]
    ratio = min(spec.width / width, spec.height / height)
    inner_width, inner_height = max(1, round(width * ratio)), max(1, round(height * ratio))
    top, left = (spec.height - inner_height) // 2, (spec.width - inner_width) // 2
    canvas = np.zeros((spec.height, spec.width, 3), np.uint8)
    inner = _resized(rgb, inner_width, inner_height, spec.resize.interpolation)
    canvas[top : top + inner_height, left : left + inner_width] = inner
    return canvas


def _resized(rgb: NDArray[np.uint8], width: int, height: int, interpolation: str) -> NDArray[np.uint8]:
    if interpolation == "pil-bilinear":
        return _antialiased(rgb, width, height)
    return cv2.resize(rgb, (width, height), interpolation=_CV2[interpolation]).astype(np.uint8, copy=False)


def _recompressed(rgb: NDArray[np.uint8], wanted: bool) -> NDArray[np.uint8]:
    if not wanted:
        return rgb
    encoded = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)
    assert decoded is not None, "what was just encoded decodes"
    return decoded.astype(np.uint8, copy=False)


# --- Pillow's bilinear -----------------------------------------------------------------------------------------------
# cv2's bilinear looks at 4 pixels however much it shrinks; Pillow's widens its triangle by the factor. Models trained
# behind Pillow see other pictures otherwise. Columns first, then rows, rounded to bytes in between, as Pillow does.


def _antialiased(rgb: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    if rgb.shape[1] != width:
        rgb = _transposed(_shrunk_rows(_transposed(rgb), width))
    return _shrunk_rows(rgb, height) if rgb.shape[0] != height else rgb


def _transposed(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return cv2.transpose(rgb).astype(np.uint8, copy=False)  # 8 times faster than numpy's copy


def _shrunk_rows(rgb: NDArray[np.uint8], rows: int) -> NDArray[np.uint8]:
    """`rows` rows out of rgb's: each a weighted mean of neighbouring ones. In blocks, because the matrix is a band."""
    flat = rgb.reshape(rgb.shape[0], -1)
    result = np.empty((rows, flat.shape[1]), np.uint8)
    for first, last, start, weights in _band(rgb.shape[0], rows):
        source = flat[start : start + weights.shape[1]]
        step = max(1, _BLAS_ALONE // weights.size)
        for left in range(0, flat.shape[1], step):
            # Sums of integers below 2^53: float64 holds them exactly, and only it has a fast matrix product.
            mixed = weights @ source[:, left : left + step].astype(np.float64)
            mixed += 0.5
            result[first:last, left : left + step] = mixed  # truncates, so the half rounds; a mean of bytes is a byte
    return result.reshape(rows, *rgb.shape[1:])


_BLOCK = 8
_BLAS_ALONE = 250_000
"""Multiplications up to which OpenBLAS stays on the caller's thread. Beyond, its threads wait for each other by
spinning: on two busy cores a picture took 50 to 160 ms instead of 3."""


@lru_cache(maxsize=64)
def _band(size: int, rows: int) -> list[tuple[int, int, int, NDArray[np.float64]]]:
    """(first row, last row, first source, weights) of each block."""
    scale = size / rows
    support = max(scale, 1.0)
    blocks: list[tuple[int, int, int, NDArray[np.float64]]] = []
    for first in range(0, rows, _BLOCK):
        last = min(first + _BLOCK, rows)
        start = max(0, math.floor((first + 0.5) * scale - support + 0.5))
        end = min(size, math.floor((last - 0.5) * scale + support + 0.5))
        weights = np.zeros((last - first, end - start))
        for row in range(first, last):
            centre = (row + 0.5) * scale
            low = max(0, int(centre - support + 0.5))
            high = min(size, int(centre + support + 0.5))
            triangle = np.maximum(0.0, 1.0 - np.abs(np.arange(low, high) - centre + 0.5) / support)
            # Pillow's own rounding of a weight, to 22 bits: many sums are ties, and ties must fall its way.
            weights[row - first, low - start : high - start] = np.floor(triangle / triangle.sum() * 2**22 + 0.5) / 2**22
        blocks.append((first, last, start, weights))
    return blocks
