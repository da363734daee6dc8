"""Which frames are judged: one a step, every new scene, none twice, never more than so many. No decoding here.

A frame is known by its thumbnail, 32 × 32 colours. A difference hash of 64 bits would not do: it takes a black screen
for a white one, and a small picture in the corner of a slide for none at all.
"""

import bisect
import itertools
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


Found = tuple[int, NDArray[np.uint8]]
"""A time in ms, and the picture to keep."""


class Frames:
    """The frames kept so far of one video. Thumbnails stay here; pixels go to disk as they come."""

    def __init__(self, every_ms: int, scene_threshold: float, cap: int) -> None:
        self.every_ms = every_ms
        self.kept: list[Kept] = []
        self._scene = scene_threshold
        self._cap = cap
        self._seen: list[int] = []
        self._last: Thumb | None = None
        self._waiting: tuple[int, Thumb, NDArray[np.uint8]] | None = None

    @property
    def longest_ms(self) -> int:
        """More than this must not pass unseen. A tenth over the step: key frames 150 frames apart are 5.005 s apart."""
        return self.every_ms * 11 // 10

    def key_frame(self, at_ms: int, thumb: Thumb, picture: NDArray[np.uint8]) -> list[Found]:
        """The next key frame; returns what is to be kept now: of those within a step the last, so that as few as can be
        leave no more than a step unseen, and every one that shows a new scene."""
        found: list[Found] = []
        if self._waiting is not None and at_ms - self._seen[-1] > self.longest_ms:
            waiting_at, waiting_thumb, waiting = self._waiting
            found = [(waiting_at, waiting)] if self.add(waiting_at, waiting_thumb) else []
        is_scene = self._last is not None and self._scene < 1 and change(self._last, thumb) >= self._scene
        if not self._seen or is_scene or at_ms - self._seen[-1] >= self.every_ms:
            found += [(at_ms, picture)] if self.add(at_ms, thumb) else []
        else:
            self._waiting = at_ms, thumb, picture
        return found

    def end(self, ends_ms: int) -> list[Found]:
        """After the last key frame; returns the one that was waiting when what follows would be too long."""
        if self._waiting is None or ends_ms - self._seen[-1] <= self.longest_ms:
            return []
        at_ms, thumb, picture = self._waiting
        return [(at_ms, picture)] if self.add(at_ms, thumb) else []

    def add(self, at_ms: int, thumb: Thumb) -> bool:
        """This frame is seen. False when it repeats one that is kept, and is noted there."""
        self._waiting = None
        if at_ms in self._seen:
            return False
        self._last = thumb
        bisect.insort(self._seen, at_ms)
        same = are_same([kept.thumb for kept in self.kept], thumb)
        if same is not None:
            self.kept[same].also_at.append(at_ms)
            return False
        self.kept.append(Kept(at_ms, thumb, []))
        return True

    def is_seen(self, at_ms: int) -> bool:
        return at_ms in self._seen

    def cover(self, at_ms: int) -> None:
        """What is shown at this moment is a picture that was seen: it began earlier, and lasts."""
        if at_ms not in self._seen:
            bisect.insort(self._seen, at_ms)

    def unseen(self, ends_ms: int) -> list[tuple[int, int]]:
        """The stretches, from and to, that are longer than may pass unseen."""
        edges = [0, *self._seen, ends_ms]
        return [(one, other) for one, other in itertools.pairwise(edges) if other - one > self.longest_ms]

    def holes(self, ends_ms: int) -> list[int]:
        """The moments to look at so that nothing longer is left, evenly: as close behind a key frame as would do costs
        half the decoding, and passes by more scenes where an encoder puts no key frame at a cut."""
        moments: list[int] = []
        for one, other in self.unseen(ends_ms):
            parts = -(-(other - one) // self.longest_ms)
            moments += [one + (other - one) * part // parts for part in range(0 if one == 0 else 1, parts)]
        return [moment for moment in moments if moment not in self._seen]

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
            self._seen = sorted(at_ms for kept in self.kept for at_ms in (kept.at_ms, *kept.also_at))
        return sorted(gone)
