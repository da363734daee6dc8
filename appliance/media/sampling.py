"""Which frames are judged: one a step, every new scene, none twice, never more than so many. No decoding here.

A frame is known by its thumbnail, 32 × 32 colours. A difference hash of 64 bits would not do: it takes a black screen
for a white one, and a small picture in the corner of a slide for none at all.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

THUMB = 32
Thumb = NDArray[np.uint8]
"""THUMB × THUMB × 3."""

_SAME_MEAN = 2.0  # of 255: what a second encoding of the same still picture adds (0.3 to 1.2 seen)
_SAME_CELL = 14  # of 255, in any one cell of 1/1024 of the picture: a small change is a change
_BINS = 4  # a colour


def are_same(seen: Sequence[Thumb], thumb: Thumb) -> int | None:
    """The place of the first picture that this one repeats, or None."""
    if not seen:
        return None
    differences = np.abs(np.stack(seen).astype(np.int16) - thumb.astype(np.int16)).reshape(len(seen), -1)
    same = (differences.mean(axis=1) <= _SAME_MEAN) & (differences.max(axis=1) <= _SAME_CELL)
    return int(np.argmax(same)) if same.any() else None


def change(one: Thumb, other: Thumb) -> float:
    """How far two pictures' colours differ, 0 to 1, wherever they are: a pan is little, a cut is much."""
    return float(np.abs(_colours(one) - _colours(other)).sum() / 2)


def _colours(thumb: Thumb) -> NDArray[np.float64]:
    level = (thumb.reshape(-1, 3) // (256 // _BINS)).astype(np.int64)
    bins = level[:, 0] * _BINS * _BINS + level[:, 1] * _BINS + level[:, 2]
    return np.bincount(bins, minlength=_BINS**3) / bins.size


def most_unlike(thumbs: Sequence[Thumb], cap: int) -> list[int]:
    """Up to `cap` of an animation's pictures, in order: the first, then always the one least like those already taken,
    until all others repeat one of them. A single odd frame is found where even steps would pass it by."""
    flat = np.stack(thumbs).astype(np.int16).reshape(len(thumbs), -1)
    chosen = [0]
    distance = np.abs(flat - flat[0])
    nearest, largest = distance.mean(axis=1), distance.max(axis=1)
    while len(chosen) < min(cap, len(thumbs)):
        fresh = (nearest > _SAME_MEAN) | (largest > _SAME_CELL)
        if not fresh.any():
            break
        farthest = int(np.argmax(np.where(fresh, nearest * 8 + largest, -1)))
        chosen.append(farthest)
        distance = np.abs(flat - flat[farthest])
        nearest, largest = np.minimum(nearest, distance.mean(axis=1)), np.minimum(largest, distance.max(axis=1))
    return sorted(chosen)


def spread(times: Sequence[int], cap: int) -> list[int]:
    """Which of these ascending times to let go so that `cap` are left, spread evenly: always the one whose going leaves
    the smallest gap; the first and the last stay."""
    left = list(range(len(times)))
    gone: list[int] = []
    while len(left) > cap:
        gaps = [times[left[i + 1]] - times[left[i - 1]] for i in range(1, len(left) - 1)]
        gone.append(left.pop(1 + int(np.argmin(gaps))) if gaps else left.pop())
    return gone


class Kept(msgspec.Struct):
    at_ms: int
    thumb: Thumb
    also_at: list[int]


class Frames:
    """The frames kept so far of one video. Thumbnails stay here; pixels go to disk as they come."""

    def __init__(self, every_ms: int, scene_threshold: float, cap: int) -> None:
        self.every_ms = every_ms
        self.kept: list[Kept] = []
        self._scene = scene_threshold
        self._cap = cap
        self._filled: set[int] = set()

    def step_of(self, at_ms: int) -> int:
        """Steps lie at 0, every_ms, 2 × every_ms …; a frame stands for the one that it is nearest to."""
        return (at_ms + self.every_ms // 2) // self.every_ms

    def wants(self, at_ms: int, thumb: Thumb) -> bool:
        """Is this frame to be kept? One that repeats another is noted there, and fills its step."""
        step = self.step_of(at_ms)
        is_scene = bool(self.kept) and self._scene < 1 and change(self.kept[-1].thumb, thumb) >= self._scene
        if step in self._filled and not is_scene:
            return False
        self._filled.add(step)
        same = are_same([kept.thumb for kept in self.kept], thumb)
        if same is not None:
            self.kept[same].also_at.append(at_ms)
            return False
        self.kept.append(Kept(at_ms, thumb, []))
        return True

    def is_filled(self, step: int) -> bool:
        return step in self._filled

    def thin(self, *, at_last: bool = False) -> list[int]:
        """The times to let go: down to the cap, once there are twice as many (or at last, any more). Then the steps are
        twice as long too, for what is still to come."""
        if len(self.kept) <= (self._cap if at_last else 2 * self._cap):
            return []
        self.kept.sort(key=lambda kept: kept.at_ms)
        gone = {self.kept[i].at_ms for i in spread([kept.at_ms for kept in self.kept], self._cap)}
        self.kept = [kept for kept in self.kept if kept.at_ms not in gone]
        if not at_last:
            self.every_ms *= 2
            self._filled = {(step + 1) // 2 for step in self._filled}
        return sorted(gone)
