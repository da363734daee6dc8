"""Images through real decoder processes: every format, every way up, and what is out to break them."""

import contextlib
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from appliance.errors import DecoderDown, MediaTooLarge, MediaUnsupported
from appliance.media import decoders
from appliance.media.decoders import Decoders, Picture
from appliance.settings import Media, Settings
from tests.media import craft
from tests.media.craft import BLUE, GREEN, RED


@pytest.fixture(scope="module")
def pool() -> Iterator[Decoders]:
    made = Decoders(Settings(media=Media(max_side=256, decoders=1)))
    yield made
    made.close()


@pytest.fixture
def decode(pool: Decoders, tmp_path: Path):
    def run(data: bytes) -> list[Picture]:
        path = tmp_path / "file"
        path.write_bytes(data)
        return pool.image(path)

    return run


def rgb(picture: Picture) -> np.ndarray:
    pixels = picture.pixels
    return np.frombuffer(pixels.rgb, np.uint8).reshape(pixels.height, pixels.width, 3)


def corners() -> np.ndarray:
    """Red, green, blue and white: says which way is up."""
    picture = np.full((40, 60, 3), 255, np.uint8)
    picture[:20, :30], picture[:20, 30:], picture[20:, :30] = RED, GREEN, BLUE
    return picture


UNDO = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}


def lying(orientation: int) -> np.ndarray:
    """The corners as a camera would store them under this orientation."""
    from appliance.media.image import turn

    return turn(corners().astype(np.uint8), UNDO[orientation])


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "gif", "avif", "bmp", "tiff"])
def test_every_format_comes_out_upright_in_colour_and_reduced(decode, ending: str) -> None:
    [picture] = decode(craft.encode(f".{ending}", craft.photograph()))
    original = craft.photograph(size=(256, 256))[:, :, ::-1]
    assert (picture.pixels.width, picture.pixels.height, picture.at_ms) == (256, 256, None)
    assert np.abs(rgb(picture).astype(int) - original).mean() < 6


def test_a_small_picture_is_not_enlarged(decode) -> None:
    assert rgb(decode(craft.encode(".png", corners()))[0]).shape == (40, 60, 3)


def test_a_line_of_pixels_keeps_at_least_one_of_each_side(decode) -> None:
    assert rgb(decode(craft.encode(".png", np.zeros((1, 4000, 3), np.uint8)))[0]).shape == (1, 256, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_of_each_orientation_is_brought_upright(decode, orientation: int) -> None:
    [picture] = decode(craft.with_exif(craft.encode(".jpg", lying(orientation)), orientation))
    assert rgb(picture).shape == (40, 60, 3)
    assert np.abs(rgb(picture).astype(int) - corners()[:, :, ::-1]).mean() < 8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "webp", "avif"])
def test_other_formats_are_brought_upright_too(decode, ending: str, orientation: int) -> None:
    import cv2

    block = np.frombuffer(craft.exif(orientation), np.uint8)
    ok, data = cv2.imencodeWithMetadata(f".{ending}", lying(orientation), [cv2.IMAGE_METADATA_EXIF], [block])
    assert ok
    [picture] = decode(data.tobytes())
    assert np.abs(rgb(picture).astype(int) - corners()[:, :, ::-1]).mean() < 8


@pytest.mark.parametrize("has_alpha", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_of_each_orientation_is_brought_upright(decode, orientation: int, has_alpha: bool) -> None:
    stored = lying(orientation)
    if has_alpha:
        stored = np.dstack([stored, np.full(stored.shape[:2], 255, np.uint8)])
    [picture] = decode(_with_tag(craft.encode(".tiff", stored), 274, orientation))
    assert np.abs(rgb(picture).astype(int) - corners()[:, :, ::-1]).mean() < 8


def _with_tag(tiff: bytes, tag: int, value: int) -> bytes:
    """The directory again at the end of the file, with one entry more."""
    (at,) = struct.unpack_from("<I", tiff, 4)
    (count,) = struct.unpack_from("<H", tiff, at)
    entries = [tiff[at + 2 + 12 * i :][:12] for i in range(count)]
    kept = [entry for entry in entries if struct.unpack("<H", entry[:2])[0] != tag]
    added = sorted(
        [*kept, struct.pack("<HHIHH", tag, 3, 1, value, 0)], key=lambda entry: struct.unpack("<H", entry[:2])
    )
    return (
        tiff[:4] + struct.pack("<I", len(tiff)) + tiff[8:] + struct.pack("<H", len(added)) + b"".join(added) + bytes(4)
    )


@pytest.mark.parametrize(
    ("ending", "picture"),
    [
        ("png", craft.photograph()[:, :, 1]),
        ("jpg", craft.photograph()[:, :, 1]),
        ("tiff", craft.photograph()[:, :, 1]),
        ("png", craft.photograph().astype(np.uint16) * 257),
        ("tiff", craft.photograph().astype(np.uint16) * 257),
        ("tiff", craft.photograph().astype(np.float32) / 255),
    ],
)
def test_grey_deep_and_float_pixels_come_out_as_eight_bit_colours(decode, ending: str, picture: np.ndarray) -> None:
    mean = rgb(decode(craft.encode(f".{ending}", picture))[0]).mean()
    assert abs(mean - craft.photograph().mean()) < 25


def test_a_picture_that_white_would_hide_is_shown_on_black_too(decode) -> None:
    """White on nothing: invisible on a white page, plain on a dark one."""
    drawn = np.full((60, 60, 4), 255, np.uint8)
    drawn[:, :, 3] = 0
    drawn[20:40, 20:40, 3] = 255
    on_white, on_black = decode(craft.encode(".png", drawn))
    assert rgb(on_white).min() > 250
    assert rgb(on_black)[30, 30].min() > 250
    assert rgb(on_black)[5, 5].max() < 5


def test_a_dark_drawing_on_nothing_is_shown_once(decode) -> None:
    drawn = np.zeros((60, 60, 4), np.uint8)
    drawn[20:40, 20:40, 3] = 255
    [picture] = decode(craft.encode(".png", drawn))
    assert rgb(picture)[30, 30].max() < 5
    assert rgb(picture)[5, 5].min() > 250


def test_what_lies_under_full_transparency_is_not_seen(decode) -> None:
    hidden = np.zeros((600, 600, 4), np.uint8)
    hidden[:, :, 2] = 255
    [picture] = decode(craft.encode(".png", hidden))
    assert rgb(picture).min() > 250


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "avif"])
def test_an_animations_odd_frame_is_among_those_sampled(decode, ending: str) -> None:
    pictures = [np.roll(craft.photograph(size=(96, 64)), 2 * i, axis=1).astype(np.uint8) for i in range(30)]
    pictures[17] = craft.plain(BLUE, (96, 64))
    shown = decode(craft.animation(f".{ending}", pictures))
    assert len(shown) <= 8
    times = [picture.at_ms for picture in shown]
    assert times == sorted(times)
    [odd] = [picture for picture in shown if picture.at_ms == 1700]
    assert np.abs(rgb(odd).astype(int) - (0, 0, 255)).mean() < 12


def test_an_animation_larger_than_a_chunk_is_sampled_in_flat_memory(decode) -> None:
    pictures = [craft.plain((i * 20, 0, 255 - i * 20), (1500, 1500)) for i in range(12)]  # ten fit into one
    shown = decode(craft.animation(".webp", pictures))
    assert len(shown) == 8
    assert shown[0].at_ms == 0


def test_an_animation_that_stands_still_is_one_picture(decode) -> None:
    assert len(decode(craft.animation(".gif", [craft.photograph(size=(96, 64))] * 10))) == 1


def test_every_page_of_a_tiff_is_looked_at(decode) -> None:
    import cv2

    ok, data = cv2.imencodemulti(".tiff", [craft.plain(RED), craft.plain(GREEN), craft.plain(BLUE)])
    assert ok
    assert [tuple(rgb(picture)[0, 0]) for picture in decode(data.tobytes())] == [(255, 0, 0), (0, 160, 0), (0, 0, 255)]


def test_a_picture_that_needs_more_memory_than_a_decoder_has_fails_alone(tmp_path: Path) -> None:
    small = Decoders(Settings(media=Media(decoders=1, decoder_memory_mb=100)))
    try:
        (tmp_path / "bomb.png").write_bytes(craft.png(9_000, 9_000, bits=8, colour=2))
        (tmp_path / "fine.jpg").write_bytes(craft.encode(".jpg", craft.photograph()))
        with pytest.raises(MediaTooLarge, match="memory"):
            small.image(tmp_path / "bomb.png")
        assert len(small.image(tmp_path / "fine.jpg")) == 1
    finally:
        small.close()


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "gif", "avif", "tiff"])
def test_damage_in_the_middle_fails_or_is_shown_but_never_stops_the_pool(decode, pool: Decoders, ending: str) -> None:
    whole = craft.encode(f".{ending}", craft.photograph())
    noise = np.random.default_rng(7)
    for _ in range(12):
        hurt = bytearray(whole)
        for at in noise.integers(len(hurt) // 4, len(hurt), 40):
            hurt[at] = int(noise.integers(256))
        with contextlib.suppress(MediaUnsupported, MediaTooLarge):
            assert decode(bytes(hurt))
    assert decode(whole)


def test_a_video_is_no_image(pool: Decoders) -> None:
    with pytest.raises(MediaUnsupported, match="video"):
        pool.image(craft.MEDIA / "scenes.webm")


def test_a_decoder_killed_while_idle_is_replaced_and_the_file_decoded(decode, pool: Decoders) -> None:
    assert decode(craft.encode(".png", corners()))
    [pid] = pool.pids()
    os.kill(pid, 9)
    assert decode(craft.encode(".png", corners()))
    assert pool.pids() != [pid]


def test_a_decoder_is_replaced_after_its_share_of_files(
    decode, pool: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "_FILES_EACH", 1)
    decode(craft.encode(".png", corners()))
    before = pool.pids()
    decode(craft.encode(".png", corners()))
    assert before == []
    monkeypatch.undo()
    decode(craft.encode(".png", corners()))
    assert len(pool.pids()) == 1


def test_many_callers_share_few_decoders_and_memory_stays_bounded(tmp_path: Path) -> None:
    shared = Decoders(Settings(media=Media(decoders=2)))
    path = tmp_path / "photo.jpg"
    path.write_bytes(craft.encode(".jpg", craft.photograph(size=(3000, 2000))))
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(6):
                assert shared.image(path)[0].pixels.width == 1024
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert failures == []
        assert len(shared.pids()) == 2
        for pid in shared.pids():
            peak_kb = int(next(line for line in _status(pid) if line.startswith("VmHWM")).split()[1])
            assert peak_kb < 200_000
    finally:
        shared.close()


def test_a_decoder_is_limited_as_the_kernel_sees_it(decode, pool: Decoders) -> None:
    decode(craft.encode(".png", corners()))
    [pid] = pool.pids()
    limits = Path(f"/proc/{pid}/limits").read_text()
    rows = {line[:25].strip(): line[25:].split()[0] for line in limits.splitlines()[1:]}
    assert rows["Max address space"] != "unlimited"
    assert int(rows["Max core file size"]) == 0
    assert int(rows["Max open files"]) <= 64
    assert not Path(f"/proc/{pid}/environ").read_bytes().count(b"CUSTOMHOUSE")


def test_a_closed_pool_says_so_and_leaves_no_process(tmp_path: Path) -> None:
    closed = Decoders(Settings(media=Media(decoders=1)))
    [pid] = closed.pids()
    closed.close()
    (tmp_path / "a.png").write_bytes(craft.encode(".png", corners()))
    with pytest.raises(DecoderDown):
        closed.image(tmp_path / "a.png")
    assert not Path(f"/proc/{pid}").exists()


def _status(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/status").read_text().splitlines()


def test_a_decoder_opens_no_path_and_no_connection_once_it_is_closed_in() -> None:
    """In a process of its own, as the decoder does it; where the kernel has no Landlock there is nothing to show."""
    script = """
import socket, sys
from appliance.media import sandbox
import appliance.media.video
sandbox.limit(256, 32)
if not sandbox.close_files():
    sys.exit(77)
for attempt in (
    lambda: open("/etc/hostname"),
    lambda: open("/dev/shm/made", "w"),
    lambda: socket.create_connection(("127.0.0.1", 9), 1),
):
    try:
        attempt()
    except PermissionError:
        continue
    except ConnectionRefusedError:  # kernels before 6.7 close files only
        continue
    sys.exit(1)
try:
    bytearray(600_000_000)
except MemoryError:
    sys.exit(0)
sys.exit(2)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    if ended.returncode == 77:
        pytest.skip("this kernel has no Landlock")
    assert ended.returncode == 0, ended.stderr
