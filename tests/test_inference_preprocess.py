"""Pictures into tensors. The numbers marked as Pillow's were made with Pillow 13.0.0, which is not installed here."""

from typing import Any

import numpy as np
import pytest

from appliance.errors import Misconfigured
from appliance.inference import preprocess
from appliance.inference.manifest import ImageInput, Resize
from appliance.inference.wire import Pixels

RAMP = (
    (np.add.outer(np.arange(11) ** 2 * 3, np.arange(13) * 17)[:, :, None] + np.array([0, 40, 90])) % 256
).astype(np.uint8)  # fmt: skip
ROWS, COLUMNS = np.mgrid[0:16, 0:16]
SMOOTH = np.stack([COLUMNS * 12, ROWS * 12, (COLUMNS + ROWS) * 6], -1).astype(np.uint8)


def spec(width: int, height: int, *, resize: Resize | None = None, **how: Any) -> ImageInput:
    return ImageInput(width=width, height=height, resize=resize or Resize(), **how)


@pytest.mark.parametrize(
    ("size", "first_row", "total"),
    [
        ((4, 3), [37, 88, 142, 193], 4721),
        ((5, 4), [25, 64, 109, 154, 193], 7861),
        ((15, 12), [0, 14, 28, 43, 58, 73, 87, 102, 117, 131, 146, 161, 176, 190, 204], 70799),
        ((13, 3), [13, 30, 47, 64, 81, 98, 115, 132, 149, 166, 183, 200, 217], 15296),
    ],
)
def test_pil_bilinear_is_pillows_to_the_bit(size: tuple[int, int], first_row: list[int], total: int):
    fitted = preprocess.fitted(RAMP, spec(*size, resize=Resize(interpolation="pil-bilinear")))
    assert fitted[0, :, 0].tolist() == first_row
    assert int(fitted.astype(int).sum()) == total


def test_the_jpeg_round_trip_is_pillows():
    fitted = preprocess.fitted(SMOOTH, spec(16, 16, resize=Resize(jpeg_round_trip=True)))
    assert fitted[3, :, 0].tolist() == [6, 12, 24, 37, 51, 62, 75, 85, 97, 106, 119, 133, 147, 158, 170, 175]
    assert fitted[:, 5, 1].tolist() == [3, 11, 23, 36, 47, 59, 73, 83, 96, 106, 120, 132, 144, 156, 167, 175]


def test_bilinear_takes_four_pixels_however_much_it_shrinks():
    stripes = np.zeros((8, 8, 3), np.uint8)
    stripes[:, 3:5] = 200
    assert preprocess.fitted(stripes, spec(2, 2))[0, :, 0].tolist() == [0, 0]
    assert preprocess.fitted(stripes, spec(2, 2, resize=Resize(interpolation="area")))[0, :, 0].tolist() == [50, 50]


def test_crop_cuts_the_centre_out_of_the_larger_square():
    fitted = preprocess.fitted(SMOOTH, spec(4, 2, resize=Resize(mode="crop", resize_to=16)))
    assert (fitted == SMOOTH[7:9, 6:10]).all()


def test_letterbox_keeps_the_ratio_on_black():
    white = np.full((10, 40, 3), 255, np.uint8)
    fitted = preprocess.fitted(white, spec(8, 8, resize=Resize(mode="letterbox")))
    assert fitted[:, 0, 0].tolist() == [0, 0, 0, 255, 255, 0, 0, 0]


def test_channels_scale_mean_std_and_layout_are_applied_in_that_order():
    one = np.array([[[10, 20, 30]]], np.uint8)
    how = {"scale": 0.5, "mean": [1.0, 2.0, 3.0], "std": [2.0, 4.0, 8.0]}
    nhwc = preprocess.tensor(one, spec(1, 1, layout="NHWC", channels="BGR", **how))
    assert nhwc.tolist() == [[[(15 - 1) / 2, (10 - 2) / 4, (5 - 3) / 8]]]
    nchw = preprocess.tensor(one, spec(1, 1, layout="NCHW", **how))
    assert nchw.tolist() == [[[(5 - 1) / 2]], [[(10 - 2) / 4]], [[(15 - 3) / 8]]]
    assert nchw.dtype == np.float32


def test_pixels_that_do_not_fit_their_size_are_refused():
    assert preprocess.array(Pixels(2, 1, bytes(range(6)))).tolist() == [[[0, 1, 2], [3, 4, 5]]]
    for width, height, size in ((2, 2, 11), (0, 4, 0), (-1, -1, 3)):
        with pytest.raises(ValueError, match="do not fit"):
            preprocess.array(Pixels(width, height, bytes(size)))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (spec(8, 8, resize=Resize(mode="squeeze")), "input.resize.mode is 'squeeze'; it must be one of warp, crop"),
        (spec(8, 8, resize=Resize(interpolation="sinc")), "input.resize.interpolation is 'sinc'"),
        (spec(8, 8, layout="HWC"), "input.layout is 'HWC'"),
        (spec(8, 8, channels="GRB"), "input.channels is 'GRB'"),
        (spec(8, 8, std=[1.0, 0.0, 1.0]), "no std of 0"),
        (spec(8, 8, resize=Resize(mode="crop", resize_to=4)), "smaller than the centre"),
    ],
)
def test_a_rule_that_no_code_follows_is_refused_when_the_model_is_opened(wrong: ImageInput, says: str):
    with pytest.raises(Misconfigured, match=f"tiny: .*{says}"):
        preprocess.check(wrong, "tiny")
