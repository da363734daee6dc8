"""Faces and their apparent age: BlazeFace finds faces and eyes, dlib's age network looks at chips aligned by the eyes.

The score is P(under 18) of the youngest-looking face. It escalates and never clears: a face that was not found has no
age, and the network's error is some five to eight years.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from appliance.errors import Misconfigured
from appliance.inference import preprocess
from appliance.inference.manifest import ImageInput, Manifest, Resize
from appliance.inference.onnx import Session
from appliance.inference.runtime import digest_of
from appliance.inference.wire import Answer, Pixels, Problem
from appliance.settings import Settings

DETECTOR, AGE = "blazeface.onnx", "age-v1.onnx"

_Floats = NDArray[np.floating[Any]]

_SIDE = 256
_GRIDS = ((16, 2), (8, 6))
"""BlazeFace's two grids: cells a side, and anchors a cell."""
_NMS = 0.3
_ADULT = 18
_AGE_MEAN = (122.782, 117.001, 104.298)
_YEARS = np.array([0.25, *range(1, 81)], np.float32)
"""The expected age weighs class 0 as a quarter of a year, as dlib's example does."""

_RIGHT_EYE = np.array([(0.1205750620789 + 0.3340850613712) / 2, (0.2137274526848 + 0.2290642403242) / 2])
_LEFT_EYE = np.array([(0.8595674595992 + 0.6460604764104) / 2, (0.2134981538014 + 0.2289674387677) / 2])
"""Where dlib's five-point chip has the eyes, without padding: the middles of their two corners. The subject's right eye
is on the picture's left. Ages from chips aligned so are 1.8 years on average and 3.6 at most from those of dlib's own
alignment, on 11 faces; moving or widening these places by 2 to 10 per cent was never better."""


class Face(msgspec.Struct, frozen=True):
    """One face in a picture's own pixels."""

    score: float
    box: tuple[float, float, float, float]
    """left, top, right, bottom"""
    right_eye: tuple[float, float]
    left_eye: tuple[float, float]


class Faces:
    """Pictures → {"under_18": P}, with the faces' number and the youngest expected age as detail. See runtime.Model."""

    def __init__(self, manifest: Manifest, folder: Path, device: str, threads: int, max_batch: int) -> None:
        wanted = manifest.parameters
        self._threshold = float(wanted.get("face_threshold", 0.8))
        self._most = int(wanted.get("max_faces", 16))
        self._chip = int(wanted.get("chip_size", 64))
        self._padding = float(wanted.get("chip_padding", 0.2))
        if {file.name for file in manifest.files} != {DETECTOR, AGE}:
            raise Misconfigured(f"{manifest.name}: runtime faces needs the files {DETECTOR} and {AGE}")
        self.digest = digest_of(manifest, folder)
        self._detector = Session(folder / DETECTOR, device, threads)
        self._ages = Session(folder / AGE, device, threads)
        self._anchors = anchors()
        self.device = "cpu" if "cpu" in (self._detector.device, self._ages.device) else self._ages.device
        self.shortfall = self._detector.shortfall or self._ages.shortfall
        self.memory_bytes = self._detector.memory_bytes + self._ages.memory_bytes
        self.max_batch = max_batch

    def answer(self, items: Sequence[Pixels]) -> list[Answer]:
        pictures = [_decoded(each) for each in items]
        found = [[] if picture is None else self.find(picture) for picture in pictures]
        chips = [
            chip(picture, face, self._chip, self._padding)
            for picture, faces in zip(pictures, found, strict=True)
            if picture is not None
            for face in faces
        ]
        rows = iter(self.ages(chips))
        answers: list[Answer] = []
        for picture, faces in zip(pictures, found, strict=True):
            if picture is None:
                answers.append(_DAMAGED)
            else:
                answers.append(_verdict([next(rows) for _ in faces]))
        return answers

    def close(self) -> None:
        self._detector.close()
        self._ages.close()

    def find(self, rgb: NDArray[np.uint8]) -> list[Face]:
        """The surest faces first."""
        # One picture at a time: the graph's reshapes are fixed to one.
        feed = preprocess.tensor(rgb, _DETECTOR_INPUT)[np.newaxis]
        outputs = {each.shape[1:]: each[0] for each in self._detector.run({self._detector.inputs[0].name: feed})}
        logits = np.concatenate([outputs[(512, 1)], outputs[(384, 1)]])[:, 0]
        raw = np.concatenate([outputs[(512, 16)], outputs[(384, 16)]])
        scores = 1.0 / (1.0 + np.exp(-np.clip(logits, -50.0, 50.0)))
        sure = scores >= self._threshold
        points = raw[sure].reshape(-1, 8, 2) / _SIDE
        points[:, [0, 2, 3, 4, 5, 6, 7]] += self._anchors[sure][:, np.newaxis]
        return _merged(points, scores[sure], rgb.shape[1], rgb.shape[0])[: self._most]

    def ages(self, chips: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """One row a chip: the probability of each age from 0 to 80."""
        rows = [np.empty((0, 81), np.float32)]
        for first in range(0, len(chips), self._most):
            batch = np.stack(chips[first : first + self._most]).astype(np.float32)
            batch = (batch - np.array(_AGE_MEAN, np.float32)) / np.float32(256.0)
            feed = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
            rows.append(self._ages.run({self._ages.inputs[0].name: feed})[0].reshape(len(batch), -1))
        return np.concatenate(rows)


def open_model(settings: Settings, manifest: Manifest, folder: Path) -> Faces:
    wanted = settings.inference
    return Faces(manifest, folder, wanted.device, wanted.threads, wanted.max_batch)


def anchors() -> NDArray[np.float32]:
    """The 896 anchors' centres as (x, y) between 0 and 1, in the order of the detector's outputs."""
    centres = [
        ((x + 0.5) / cells, (y + 0.5) / cells)
        for cells, each in _GRIDS
        for y in range(cells)
        for x in range(cells)
        for _ in range(each)
    ]
    return np.array(centres, np.float32)


def chip(rgb: NDArray[np.uint8], face: Face, size: int, padding: float) -> NDArray[np.uint8]:
    """The face turned, scaled and moved so that its eyes lie where dlib's five-point chip has them."""
    place = (np.stack([_RIGHT_EYE, _LEFT_EYE]) + padding) / (2 * padding + 1) * size
    eyes = np.array([face.right_eye, face.left_eye])
    # One complex factor turns and scales: chip = factor × picture + move.
    across, wanted = complex(*(eyes[1] - eyes[0])), complex(*(place[1] - place[0]))
    factor = wanted / across if across else complex(1.0)
    # Shrunk by halves first, or the warp would pick 4 pixels out of each large square and see noise.
    halves = max(0, int(np.floor(-np.log2(abs(factor)))))
    if halves:
        whole = 2**halves
        small = (max(1, rgb.shape[1] // whole), max(1, rgb.shape[0] // whole))
        rgb = cv2.resize(rgb, small, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        eyes, factor = eyes / whole, factor * whole
    move = place[0] - np.array([(factor * complex(*eyes[0])).real, (factor * complex(*eyes[0])).imag])
    matrix = np.array([[factor.real, -factor.imag, move[0]], [factor.imag, factor.real, move[1]]])
    return cv2.warpAffine(rgb, matrix, (size, size), flags=cv2.INTER_LINEAR).astype(np.uint8, copy=False)


_DETECTOR_INPUT = ImageInput(
    width=_SIDE,
    height=_SIDE,
    layout="NHWC",
    scale=1 / 127.5,
    mean=[1.0, 1.0, 1.0],
    resize=Resize(mode="letterbox", interpolation="area"),
)
_DAMAGED = Answer(
    problem=Problem(code="MODEL_REFUSED", message="The picture's bytes do not fit its width and height.", passing=False)
)


def _decoded(pixels: Pixels) -> NDArray[np.uint8] | None:
    try:
        return preprocess.array(pixels)
    except ValueError:
        return None


def _verdict(rows: list[NDArray[np.float32]]) -> Answer:
    if not rows:
        return Answer(scores={"under_18": 0.0}, detail={"faces": 0.0})
    under = max(float(row[:_ADULT].sum()) for row in rows)
    youngest = min(float(row @ _YEARS) for row in rows)
    return Answer(
        scores={"under_18": min(1.0, under)}, detail={"faces": float(len(rows)), "youngest_age": round(youngest, 1)}
    )


def _merged(points: _Floats, scores: _Floats, width: int, height: int) -> list[Face]:
    """Boxes that overlap are one face, their mean weighted by score, as BlazeFace's authors do it.

    `points` are (centre, size, six keypoints) in the letterboxed square, between 0 and 1.
    """
    ratio = _SIDE / max(width, height)
    bars = np.array([(_SIDE - round(width * ratio)) // 2, (_SIDE - round(height * ratio)) // 2])
    scaled = points * _SIDE
    scaled[:, [0, 2, 3, 4, 5, 6, 7]] -= bars
    scaled /= ratio
    corners = np.concatenate([scaled[:, 0] - scaled[:, 1] / 2, scaled[:, 0] + scaled[:, 1] / 2], axis=1)
    left = list(np.argsort(-scores))
    faces: list[Face] = []
    while left:
        overlap = _overlaps(corners[left[0]], corners[left])
        same = [index for index, share in zip(left, overlap, strict=True) if share > _NMS or index == left[0]]
        weights = scores[same] / scores[same].sum()
        box, marks = weights @ corners[same], np.tensordot(weights, scaled[same], 1)
        faces.append(
            Face(
                score=float(scores[left[0]]),
                box=(float(box[0]), float(box[1]), float(box[2]), float(box[3])),
                right_eye=(float(marks[2][0]), float(marks[2][1])),
                left_eye=(float(marks[3][0]), float(marks[3][1])),
            )
        )
        left = [index for index in left if index not in same]
    return faces


def _overlaps(one: _Floats, many: _Floats) -> _Floats:
    """Intersection over union."""
    inner = np.maximum(0.0, np.minimum(one[2:], many[:, 2:]) - np.maximum(one[:2], many[:, :2]))
    shared = inner[:, 0] * inner[:, 1]
    area = (many[:, 2] - many[:, 0]) * (many[:, 3] - many[:, 1])
    return shared / np.maximum((one[2] - one[0]) * (one[3] - one[1]) + area - shared, 1e-6)
