"""A picture reduced until no more can be told of it than where it is light and where dark."""

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.inference.wire import Pixels

SIDE = 24
"""Squares along the longer side. A person is a blot of four or five of them."""

Colour = tuple[int, int, int]


def blurred(pixels: Pixels) -> list[list[Colour]]:
    """Rows of colours, an even number of rows; every square is the mean of its place and of the eight around it."""
    whole = np.frombuffer(pixels.rgb, np.uint8).reshape(pixels.height, pixels.width, 3)
    longer = max(pixels.width, pixels.height)
    columns = max(1, round(SIDE * pixels.width / longer))
    rows = max(2, 2 * round(SIDE * pixels.height / longer / 2))
    small = _means(_means(whole, rows, 0), columns, 1)
    around = np.pad(small, ((1, 1), (1, 1), (0, 0)), mode="edge")
    soft = sum(around[y : y + rows, x : x + columns] for y in range(3) for x in range(3)) / 9
    return [[(int(r), int(g), int(b)) for r, g, b in row] for row in np.asarray(soft).round().tolist()]


def _means(whole: NDArray[Any], count: int, axis: int) -> NDArray[np.float32]:
    """As many means along this axis; a picture that has fewer lines than that repeats them."""
    length = whole.shape[axis]
    edges = [length * n // count for n in range(count + 1)]
    parts = [
        whole.take(range(min(first, length - 1), max(last, min(first, length - 1) + 1)), axis=axis).mean(
            axis=axis, dtype=np.float32
        )
        for first, last in itertools.pairwise(edges)
    ]
    return np.stack(parts, axis=axis)
