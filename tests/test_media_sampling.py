"""Which frames are judged, as plain arithmetic."""

import numpy as np

from appliance.media import sampling
from appliance.media.sampling import THUMB, Frames, Thumb


def thumb(*colour: int) -> Thumb:
    return np.full((THUMB, THUMB, 3), colour, np.uint8)


def unlike(number: int) -> Thumb:
    """Many pictures of one scene: the same colours, elsewhere."""
    return np.roll(thumb(10, 10, 10) + np.eye(THUMB, dtype=np.uint8)[:, :, None] * 40, number, axis=0)


PIXELS = np.zeros((1, 1, 3), np.uint8)


def run(frames: Frames, times: list[int], ends_ms: int) -> list[int]:
    kept: list[int] = []
    for number, at_ms in enumerate(times):
        kept += [found for found, _ in frames.key_frame(at_ms, unlike(number), PIXELS)]
    return kept + [found for found, _ in frames.end(ends_ms)]


def test_of_key_frames_within_a_step_the_last_is_kept_so_that_no_step_passes_unseen() -> None:
    assert run(Frames(5000, 1.0, 100), list(range(0, 20_001, 2000)), 23_000) == [0, 4000, 8000, 12_000, 16_000, 20_000]
    assert run(Frames(5000, 1.0, 100), list(range(0, 20_001, 5005)), 21_000) == [0, 5005, 10_010, 15_015]
    assert run(Frames(5000, 1.0, 100), list(range(0, 20_001, 1000)), 20_500) == [0, 5000, 10_000, 15_000, 20_000]


def test_the_end_is_not_left_unseen() -> None:
    assert run(Frames(5000, 1.0, 100), [0, 4000], 9000) == [0, 4000]
    assert run(Frames(5000, 1.0, 100), [0, 4000], 5000) == [0]


def test_holes_are_parted_evenly() -> None:
    frames = Frames(5000, 1.0, 100)
    run(frames, [0, 8333, 30_000], 31_000)
    assert frames.holes(31_000) == [4166, 13_749, 19_166, 24_583]
    for moment in frames.holes(31_000):
        frames.add(moment, thumb(1, 2, moment % 251))
    assert frames.unseen(31_000) == []


def test_a_video_that_begins_late_is_looked_at_from_its_beginning() -> None:
    frames = Frames(5000, 1.0, 100)
    run(frames, [9000], 10_000)
    assert frames.holes(10_000) == [0, 4500]


def test_a_new_scene_is_kept_at_once_and_a_pan_is_none() -> None:
    frames = Frames(5000, 0.35, 100)
    assert frames.key_frame(0, thumb(200, 10, 10), PIXELS)
    assert not frames.key_frame(500, thumb(198, 12, 10), PIXELS)
    assert frames.key_frame(1000, thumb(10, 200, 10), PIXELS)
    still = Frames(5000, 1.0, 100)
    assert still.key_frame(0, thumb(200, 10, 10), PIXELS)
    assert not still.key_frame(1000, thumb(10, 200, 10), PIXELS)


def test_a_repeated_picture_is_noted_where_it_was_first_seen() -> None:
    frames = Frames(1000, 0.35, 100)
    for number, colour in enumerate([(200, 0, 0), (0, 200, 0), (200, 0, 0), (201, 1, 0)]):
        frames.key_frame(number * 1000, thumb(*colour), PIXELS)
    assert [(kept.at_ms, kept.also_at) for kept in frames.kept] == [(0, [2000, 3000]), (1000, [])]


def test_a_small_picture_in_the_corner_is_no_repeat() -> None:
    slide = thumb(240, 240, 240)
    marked = slide.copy()
    marked[1:3, 1:3] = 90
    assert sampling.are_same([slide], slide + 1) == 0
    assert sampling.are_same([slide], marked) is None
    assert sampling.are_same([thumb(0, 0, 0)], thumb(255, 255, 255)) is None


def test_the_cap_is_spread_evenly_and_keeps_both_ends() -> None:
    times = [0, 1000, 1100, 1200, 1300, 2000, 3000, 4000]
    gone = sampling.spread(times, 5)
    left = [at_ms for place, at_ms in enumerate(times) if place not in gone]
    assert left == [0, 1000, 2000, 3000, 4000]
    assert sampling.spread(times, 8) == []


def test_a_video_without_an_end_is_thinned_as_it_comes() -> None:
    frames = Frames(1000, 1.0, 10)
    gone: list[int] = []
    for second in range(500):
        frames.key_frame(second * 1000, unlike(second % 31) + np.uint8(second % 200), PIXELS)
        gone += frames.thin()
        assert len(frames.kept) <= 21
    assert frames.every_ms > 10_000
    assert gone


def test_the_most_unlike_pictures_of_an_animation_are_taken_and_repeats_left_out() -> None:
    thumbs = [thumb(10 + i, 10, 10) for i in range(20)]
    thumbs[13] = thumb(250, 250, 250)
    chosen = sampling.most_unlike(thumbs, 4)
    assert chosen == sorted(chosen)
    assert {0, 13} <= set(chosen)
    assert len(chosen) == 4
    assert sampling.most_unlike([thumb(5, 5, 5)] * 9, 4) == [0]
