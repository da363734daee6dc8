"""Videos through real decoder processes: spacing, scenes, repeats, every container, and what is out to break them."""

import itertools
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from appliance.errors import MediaTooLarge, MediaUnsupported
from appliance.media import video
from appliance.media.decoders import Decoders, Extraction, read_frame
from appliance.settings import Media, Settings
from tests.media import craft
from tests.media.craft import BLUE, GREEN, GREY, MEDIA, RED, clip, pan, plain, still

BUNNY = Path(__file__).parent / "media" / "bigbuckbunny.mp4"


@pytest.fixture(scope="module")
def pool() -> Iterator[Decoders]:
    made = Decoders(Settings(media=Media(decoders=1)))
    yield made
    made.close()


def longest_gap(extraction: Extraction) -> int:
    seen = sorted(at for frame in extraction.frames for at in (frame.at_ms, *frame.also_at))
    return max(b - a for a, b in zip([0, *seen], [*seen, extraction.duration_ms], strict=True))


def colour(folder: Path, name: str) -> tuple[int, ...]:
    pixels = read_frame(folder / name)
    picture = np.frombuffer(pixels.rgb, np.uint8).reshape(pixels.height, pixels.width, 3)
    return tuple(int(value) for value in picture.mean(axis=(0, 1)))


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {}),
        ("a.mov", "libx264", {}),
        ("a.mkv", "libx264", {}),
        ("a.mp4", "libx265", {}),
        ("a.mp4", "mpeg4", {}),
        ("a.webm", "libvpx", {}),
        ("a.webm", "libvpx-vp9", {}),
        ("a.mp4", "libvpx-vp9", {}),
        ("a.webm", "libsvtav1", {}),
        ("a.mp4", "libsvtav1", {}),
        ("a.mkv", "mjpeg", {"pixels": "yuvj420p"}),
        ("a.mp4", "libx264", {"pixels": "yuv420p10le"}),
        ("a.mp4", "libx264", {"container": {"movflags": "frag_keyframe+empty_moov"}}),
    ],
)
def test_every_container_and_codec_gives_frames_no_further_apart_than_a_step(
    pool: Decoders, tmp_path: Path, name: str, codec: str, options: dict[str, Any]
) -> None:
    path = clip(tmp_path / name, pan("astronaut", 12), codec, key_every=20, **options)
    extraction = pool.frames(path, tmp_path, None)
    assert abs(extraction.duration_ms - 12_000) <= 200
    assert longest_gap(extraction) <= 5500
    assert 3 <= len(extraction.frames) <= 7
    for frame in extraction.frames:
        pixels = read_frame(tmp_path / frame.file)
        assert (pixels.width, pixels.height) == (320, 180)


def test_making_a_video_leaves_this_process_scheduled_as_it_was(tmp_path: Path) -> None:
    """Run by root: nobody else is given the real-time class."""
    clip(tmp_path / "a.mp4", pan("astronaut", 1), "libsvtav1")
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx", "mpeg4"])
def test_only_key_frames_are_decoded_in_the_first_pass(tmp_path: Path, codec: str) -> None:
    """The option that says so is passed by the environment, and a wrong word there is ignored in silence."""
    name = "a.webm" if codec == "libvpx" else "a.mp4"
    path = clip(tmp_path / name, pan("coffee", 6), codec, key_every=20)
    with path.open("rb") as file:
        opened = video._Clip(file.fileno(), "matroska" if codec == "libvpx" else "mp4", 10**8)
        assert [at_ms for at_ms, _ in opened.key_frames()] == [0, 2000, 4000]


def test_each_scene_of_the_demos_clip_gives_a_frame(pool: Decoders, tmp_path: Path) -> None:
    extraction = pool.frames(MEDIA / "scenes.webm", tmp_path, None)
    scenes = {frame.at_ms // 4000 for frame in extraction.frames}
    assert scenes == {0, 1, 2, 3, 4}


def test_a_scene_between_two_steps_is_found_at_its_key_frame(pool: Decoders, tmp_path: Path) -> None:
    frames = [*still(plain(RED), 1.2), *still(plain(GREEN), 0.6), *still(plain(BLUE), 1.2)]
    path = clip(tmp_path / "a.mp4", frames, key_every=1000, is_key=lambda number: number in (0, 12, 18))
    extraction = pool.frames(path, tmp_path, None)
    assert [frame.at_ms for frame in extraction.frames] == [0, 1200, 1800]
    red, green, blue = (colour(tmp_path, frame.file) for frame in extraction.frames)
    assert red[0] > 200
    assert green[1] > 120
    assert blue[2] > 200


def test_a_still_video_is_judged_once_and_its_other_times_are_told(pool: Decoders, tmp_path: Path) -> None:
    path = clip(tmp_path / "a.mp4", still(craft.photograph(size=(320, 180)), 21))
    [frame] = pool.frames(path, tmp_path, None).frames
    assert frame.at_ms == 0
    assert len(frame.also_at) >= 3


def test_a_small_change_in_a_still_video_is_a_frame_of_its_own(pool: Decoders, tmp_path: Path) -> None:
    slide = plain(GREY)
    marked = slide.copy()
    marked[10:30, 10:40] = RED
    path = clip(tmp_path / "a.mp4", [*still(slide, 6), *still(marked, 6), *still(slide, 6)])
    assert len(pool.frames(path, tmp_path, None).frames) == 2


def test_where_only_the_first_is_a_key_frame_the_others_are_decoded_from_it(pool: Decoders, tmp_path: Path) -> None:
    path = clip(tmp_path / "a.mp4", pan("coffee", 30, fps=24), fps=24, key_every=10_000)
    extraction = pool.frames(path, tmp_path, None)
    assert longest_gap(extraction) <= 5500
    assert len(extraction.frames) >= 6


@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9"])
def test_holes_between_key_frames_are_filled_from_the_key_frame_before(
    pool: Decoders, tmp_path: Path, codec: str
) -> None:
    path = clip(tmp_path / "a.mp4", pan("rocket", 40, fps=24), codec, fps=24, key_every=240)
    extraction = pool.frames(path, tmp_path, None)
    assert longest_gap(extraction) <= 5500
    times = [frame.at_ms for frame in extraction.frames]
    assert {0, 10_000, 20_000, 30_000} <= set(times)


def test_the_picture_of_a_filled_hole_is_that_of_its_moment(pool: Decoders, tmp_path: Path) -> None:
    """Each second has a grey of its own, so a frame tells its time."""
    frames = [plain((20 + 7 * (i // 24), 20 + 7 * (i // 24), 20 + 7 * (i // 24))) for i in range(24 * 30)]
    path = clip(tmp_path / "a.mp4", frames, fps=24, key_every=288)
    extraction = pool.frames(path, tmp_path, None)
    assert len(extraction.frames) >= 6
    for frame in extraction.frames:
        assert abs(colour(tmp_path, frame.file)[0] - (20 + 7 * (frame.at_ms // 1000))) <= 4


def test_av1_with_key_frames_too_far_apart_is_refused_and_told_why(pool: Decoders, tmp_path: Path) -> None:
    path = clip(tmp_path / "a.mp4", pan("rocket", 26), "libsvtav1", key_every=1000)
    with pytest.raises(MediaUnsupported, match="AV1"):
        pool.frames(path, tmp_path, None)
    assert list(tmp_path.glob("*.rgb")) == []


@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9"])
@pytest.mark.parametrize("every_ms", [4000, 20_000])
def test_a_slide_show_is_judged_slide_by_slide_however_long_each_is_shown(
    pool: Decoders, tmp_path: Path, every_ms: int, codec: str
) -> None:
    """Half a second in slow motion's rate, then a slide now and then: the average rate says nothing."""
    slides = [plain((25 * i, 255 - 25 * i, 0)) for i in range(10)]
    times = [*range(0, 500, 10), *(500 + every_ms * i for i in range(10))]
    path = clip(tmp_path / "a.mkv", [*pan("chelsea", 5), *slides], codec, fps=100, key_every=25, times_ms=times)
    extraction = pool.frames(path, tmp_path, None)
    shown = [frame.at_ms for frame in extraction.frames if frame.at_ms >= 500]
    assert set(shown) <= set(times)
    assert len(shown) >= (7 if every_ms == 4000 else 9)  # four seconds may fall between two steps


def test_more_frames_than_the_cap_are_spread_over_the_video(tmp_path: Path) -> None:
    few = Decoders(Settings(media=Media(decoders=1, max_frames=5)))
    try:
        path = clip(tmp_path / "a.mp4", pan("astronaut", 60, fps=5), fps=5, key_every=5)
        extraction = few.frames(path, tmp_path, None)
        times = [frame.at_ms for frame in extraction.frames]
        assert len(times) == 5
        assert min(b - a for a, b in itertools.pairwise(times)) >= 6000
        assert sorted(file.name for file in tmp_path.glob("*.rgb")) == [frame.file for frame in extraction.frames]
    finally:
        few.close()


def test_the_same_video_again_writes_the_same_files(pool: Decoders, tmp_path: Path) -> None:
    (tmp_path / "frame-000000123.rgb").write_bytes(b"of an earlier try")
    first = pool.frames(BUNNY, tmp_path, None)
    written = {file.name: file.read_bytes() for file in tmp_path.glob("*.rgb")}
    assert pool.frames(BUNNY, tmp_path, None) == first
    assert {file.name: file.read_bytes() for file in tmp_path.glob("*.rgb")} == written
    assert sorted(written) == [frame.file for frame in first.frames]
    assert max(read_frame(tmp_path / name).width for name in written) == 640


@pytest.mark.parametrize("codec", ["libx264", "libsvtav1", "libvpx-vp9"])
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_video_filmed_on_its_side_comes_out_upright(pool: Decoders, tmp_path: Path, codec: str, turns: int) -> None:
    picture = plain(GREY)
    picture[:90, :160] = RED
    path = clip(tmp_path / "a.mp4", still(picture, 1), codec)
    path.write_bytes(craft.turned(path.read_bytes(), turns))
    [frame] = pool.frames(path, tmp_path, None).frames
    pixels = read_frame(tmp_path / frame.file)
    shown = np.frombuffer(pixels.rgb, np.uint8).reshape(pixels.height, pixels.width, 3)
    expected = np.rot90(picture, -turns)[:, :, ::-1]
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).mean() < 12


def test_progress_is_told_as_it_comes(pool: Decoders, tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    pool.frames(clip(tmp_path / "a.mp4", pan("coffee", 10)), tmp_path, lambda done, whole: heard.append((done, whole)))
    assert len(heard) >= 5
    assert all(0 <= done <= whole == 10_000 for done, whole in heard)


def test_a_video_whose_sound_goes_on_is_whole(pool: Decoders, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as file:
        pictures = file.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        pictures.width, pictures.height, pictures.pix_fmt = 320, 180, "yuv420p"
        sound = file.add_stream("aac", rate=44_100)
        for frame in pan("coffee", 3):
            file.mux(pictures.encode(av.VideoFrame.from_ndarray(frame, "bgr24")))
        file.mux(pictures.encode())
        for number in range(44 * 30):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            silence.sample_rate, silence.pts = 44_100, number * 1024
            file.mux(sound.encode(silence))
        file.mux(sound.encode())
    assert pool.frames(path, tmp_path, None).frames[0].at_ms == 0


def test_sound_alone_is_no_video(pool: Decoders, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as file:
        sound = file.add_stream("aac", rate=44_100)
        for number in range(20):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            silence.sample_rate, silence.pts = 44_100, number * 1024
            file.mux(sound.encode(silence))
        file.mux(sound.encode())
    with pytest.raises(MediaUnsupported):
        pool.frames(path, tmp_path, None)


@pytest.mark.parametrize(
    "data",
    [
        b"ffconcat version 1.0\nfile bigbuckbunny.mp4\n",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nbigbuckbunny.mp4\n#EXT-X-ENDLIST\n",
    ],
)
def test_a_list_of_files_in_disguise_opens_none_of_them(pool: Decoders, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "bigbuckbunny.mp4").write_bytes(BUNNY.read_bytes())
    path = tmp_path / "innocent.mp4"
    path.write_bytes(data)
    with pytest.raises(MediaUnsupported, match=r"ffconcat|playlist"):
        pool.frames(path, tmp_path, None)
    # and were the header's check not there, the decoder's own would be
    with path.open("rb") as file, pytest.raises(MediaUnsupported):
        video._Clip(file.fileno(), "mp4", 10**8)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_truncated_video_is_refused(pool: Decoders, tmp_path: Path, name: str, share: float) -> None:
    whole = clip(tmp_path / name, pan("coffee", 8), container={"movflags": "faststart"}).read_bytes()
    cut = tmp_path / f"cut-{name}"
    cut.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(MediaUnsupported):
        pool.frames(cut, tmp_path, None)


def test_a_damaged_end_leaves_what_comes_before_but_damage_throughout_fails(pool: Decoders, tmp_path: Path) -> None:
    path = clip(tmp_path / "a.mp4", pan("coffee", 20), container={"movflags": "faststart"})
    whole = path.read_bytes()
    end = bytearray(whole)
    end[-len(whole) // 12 :] = bytes(len(end[-len(whole) // 12 :]))
    path.write_bytes(end)
    assert len(pool.frames(path, tmp_path, None).frames) >= 3
    begin = whole.index(b"mdat") + 8
    path.write_bytes(whole[:begin] + bytes(len(whole) - begin))
    with pytest.raises(MediaUnsupported, match="damaged"):
        pool.frames(path, tmp_path, None)


def test_an_image_is_no_video(pool: Decoders, tmp_path: Path) -> None:
    with pytest.raises(MediaUnsupported, match="image"):
        pool.frames(MEDIA / "coffee.jpg", tmp_path, None)


LARGE = (640, 360)
"""A frame of it does not fit into the pipe: its decoder has the next in hand until somebody has read this one."""


def test_a_decoder_killed_in_mid_file_is_replaced_and_the_file_done(pool: Decoders, tmp_path: Path) -> None:
    path = clip(tmp_path / "a.mp4", pan("coffee", 12, size=LARGE))
    whole = pool.frames(path, tmp_path, None)
    killed: list[int] = []

    def kill_once(done: int, duration: int) -> None:
        if not killed:
            killed.extend(pool.pids())
            os.kill(killed[0], signal.SIGKILL)

    assert pool.frames(path, tmp_path, kill_once) == whole
    assert pool.pids() != killed


def test_a_file_that_loses_its_decoder_twice_fails_alone(pool: Decoders, tmp_path: Path) -> None:
    path = clip(tmp_path / "a.mp4", pan("coffee", 12, size=LARGE))
    with pytest.raises(MediaUnsupported, match="twice"):
        pool.frames(path, tmp_path, lambda done, duration: os.kill(pool.pids()[0], signal.SIGKILL))
    assert list(tmp_path.glob("*.rgb")) == []
    assert pool.frames(path, tmp_path, None).frames


def test_a_decoder_that_takes_too_long_is_ended_and_the_next_file_done(tmp_path: Path) -> None:
    impatient = Decoders(Settings(media=Media(decoders=1, decoder_timeout_s=2)))
    try:
        path = clip(tmp_path / "a.mp4", pan("coffee", 12, size=LARGE))
        with pytest.raises(MediaTooLarge, match="longer than"):
            impatient.frames(path, tmp_path, lambda done, duration: os.kill(impatient.pids()[0], signal.SIGSTOP))
        assert impatient.frames(path, tmp_path, None).frames
    finally:
        impatient.close()


def test_a_video_with_frames_over_the_limit_is_refused(tmp_path: Path) -> None:
    small = Decoders(Settings(media=Media(decoders=1, max_pixels=10_000)))
    try:
        with pytest.raises(MediaTooLarge, match="320 × 180"):
            small.frames(clip(tmp_path / "a.mp4", pan("coffee", 1)), tmp_path, None)
    finally:
        small.close()


def test_closing_the_pool_ends_a_file_in_work(tmp_path: Path) -> None:
    ending = Decoders(Settings(media=Media(decoders=1)))
    path = clip(tmp_path / "a.mp4", pan("coffee", 12))
    outcome: list[BaseException | Extraction] = []
    begun, is_closed = threading.Event(), threading.Event()

    def hold(done: int, duration: int) -> None:
        begun.set()
        is_closed.wait(20)  # else it may be done by then: a quick decoder needs nobody to listen to its progress

    def work() -> None:
        try:
            outcome.append(ending.frames(path, tmp_path, hold))
        except BaseException as error:
            outcome.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    assert begun.wait(20)
    ending.close()
    is_closed.set()
    worker.join(20)
    assert "closed" in str(outcome[0])
