"""What this product reads itself, fed with damage: its own errors, and work that does not grow out of measure."""

import io
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.errors import InvalidRequest, MediaUnsupported, Misconfigured
from appliance.inference import packed, tfjs
from appliance.media import decoders, pipe, probe
from appliance.policies import body
from tests.hostile import images, parsers, videos
from tests.test_packed import Made
from tests.tinygraph import WEIGHTS

ROOT = Path(__file__).resolve().parent.parent
SEED = 20_261_121


def test_damage_gives_a_parsers_own_errors() -> None:
    """In a process with a limit of memory; a limit of the processor's time ends what runs away."""
    arguments = ["--seconds", "1", "--seed", str(SEED)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.parsers", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == list(parsers.PARSERS)


class Counting(io.BytesIO):
    """A file that knows how often it was read."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        return super().read(size)


def test_a_gif_of_very_many_small_blocks_is_not_read_block_by_block() -> None:
    """Ten megabytes cost the worker four seconds, in which it did nothing else."""
    many = Counting(images.gif(1, 1, [(1, 1)], b"\x02" + b"\x01\x01" * 900_000 + b"\0"))
    assert probe.look(many).frames == 1
    assert many.reads < 200
    endless = Counting(images.gif(1, 1, [(1, 1)], b"\x02" + b"\x01\x01" * 4_900_000 + b"\0"))
    with pytest.raises(MediaUnsupported, match="parts"):
        probe.look(endless)
    assert endless.reads < 200


@pytest.mark.parametrize("blocks", [0, 1, 257, 258, 600])
def test_a_gif_is_followed_from_window_to_window(blocks: int) -> None:
    """Blocks that end before, at and behind the edge of what is read at a time."""
    for pad in range(0, 255, 51):
        body = b"\x02" + (b"\xff" + bytes(255)) * blocks + bytes([pad, *bytes(pad)] if pad else b"") + b"\0"
        assert probe.look(io.BytesIO(images.gif(9, 9, [(9, 9)] * 2, body))).frames == 2
        with pytest.raises(MediaUnsupported):
            probe.look(io.BytesIO(images.gif(9, 9, [(9, 9)], body)[: -2 if blocks or pad else -3]))


def test_the_properties_of_very_many_items_of_an_avif_are_passed_over_together() -> None:
    """Seven seconds, when each was read by itself."""
    items = 30_000
    listed = box_of_items(items, b"\0\1\xff" + bytes(255))
    file = Counting(listed)
    assert probe.look(file).width == 5
    assert file.reads < items * 4


def box_of_items(count: int, entry: bytes) -> bytes:
    box = videos.box
    association = box(b"ipma", bytes(4) + struct.pack(">I", count) + entry * count)
    size = box(b"ispe", bytes(4) + struct.pack(">II", 5, 5))
    inner = box(b"iprp", box(b"ipco", size), association)
    return box(b"ftyp", b"avif" + bytes(4) + b"avif") + box(b"meta", bytes(4), box(b"pitm", bytes(4) + b"\0\0"), inner)


def test_words_of_a_decoder_that_are_no_utf_8_are_its_end_and_not_its_parents() -> None:
    words = parsers.PARSERS["what a decoder says"].seeds()[-1].replace(b"\xa1x", b"\xa1\xff")
    with pytest.raises(pipe.Broken):
        parsers.PARSERS["what a decoder says"].feed(words)


def test_models_that_are_deep_or_cut_are_conversion_errors(tmp_path: Path) -> None:
    deep = b'{"modelTopology": {}, "weightsManifest": ' + b"[" * 100_000
    with pytest.raises(tfjs.ConversionError):
        tfjs.convert(deep, [WEIGHTS])
    whole = Made().file()
    for at, form, value in ((20, "<i", 0), (40, "<i", 0), (20, "<i", -1), (44, "<i", 2)):
        hurt = bytearray(whole)
        struct.pack_into(form, hurt, at, value)
        for read in (packed.to_onnx, packed.to_tokenizer):
            try:
                read(bytes(hurt))
            except packed.PackedError:
                continue


def test_a_file_of_settings_that_is_deep_or_no_text_is_said(tmp_path: Path) -> None:
    from appliance import settings, settings_told
    from appliance.categories import load
    from appliance.inference.manifest import parse
    from appliance.policies.rows import shipped
    from appliance.text.lexicons import read_all
    from tui import preferences

    path = tmp_path / "file.toml"
    for content in (b"a = " + b"[" * 50_000, b"\xff\xfe", b'name = "\xe9"'):
        path.write_bytes(content)
        for read in (load, parse, settings.read, shipped, lambda path: read_all(path.parent)):
            with pytest.raises(Misconfigured, match=r"file\.toml"):
                read(path)
        assert "as if it were not there" in preferences.load(path, {}).wrong[0]
    [problem] = settings_told.problems("a = " + "[" * 50_000, path)
    assert problem.reason.startswith("not valid TOML")
    with pytest.raises(InvalidRequest):
        body.parse("a = " + "[" * 50_000)


def test_a_frame_that_says_it_is_larger_than_it_is_is_damaged(tmp_path: Path) -> None:
    for head in (b"", b"RGB8", struct.pack("<4sII", b"RGB8", 2**31, 2**31), struct.pack("<4sII", b"RGB9", 0, 0)):
        (tmp_path / "frame").write_bytes(head)
        with pytest.raises(MediaUnsupported, match="damaged"):
            decoders.read_frame(tmp_path / "frame")
