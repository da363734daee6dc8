"""What a file says it is. Nothing here decodes anything."""

import io
import struct

import pytest

from appliance.errors import MediaTooLarge, MediaUnsupported
from appliance.media import probe
from tests.media import craft

LIMIT = 100_000_000


def look(data: bytes) -> probe.Header:
    header = probe.look(io.BytesIO(data))
    probe.check(header, LIMIT)
    return header


@pytest.mark.parametrize("ending", ["jpeg", "png", "webp", "gif", "avif", "bmp", "tiff"])
def test_an_image_is_known_by_its_header(ending: str) -> None:
    header = look(craft.encode(f".{ending}", craft.photograph(size=(120, 80))))
    assert (header.kind, header.format, header.width, header.height) == ("image", ending, 120, 80)
    assert header.frames == 1


@pytest.mark.parametrize("ending", ["png", "webp", "gif", "avif"])
def test_an_animations_frames_are_counted(ending: str) -> None:
    pictures = [craft.photograph(name, (64, 48)) for name in ("astronaut", "coffee", "rocket")]
    assert look(craft.animation(f".{ending}", pictures)).frames == 3


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "ffconcat"),
        (b"#EXTM3U\n#EXTINF:10,\nsecret.ts\n", "playlist"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"<?xml version='1.0'?><svg/>", "SVG"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"PK\x03\x04" + bytes(60), "ZIP"),
        (b"\x1f\x8b" + bytes(60), "gzip"),
        (b"RIFF\x00\x01\x00\x00AVI LIST", "AVI"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"hello, world, this is plain text", "text"),
        (b"\xde\xad\xbe\xef" * 16, "this file"),
    ],
)
def test_what_is_no_media_is_refused_by_name_and_without_quoting_it(data: bytes, name: str) -> None:
    with pytest.raises(MediaUnsupported, match=name) as refused:
        look(data)
    assert "secret" not in refused.value.message
    assert "passwd" not in refused.value.message


def test_an_empty_file_says_so() -> None:
    with pytest.raises(MediaUnsupported, match="empty"):
        look(b"")


def test_a_png_of_a_few_kilobytes_and_400_million_pixels_is_refused_unseen() -> None:
    bomb = craft.png(20_000, 20_000)
    assert len(bomb) < 60_000
    with pytest.raises(MediaTooLarge, match="20000 × 20000"):
        look(bomb)


def _tiff(**tags: int) -> bytes:
    ids = {"width": 256, "height": 257, "tile": 322, "tile_length": 323}
    entries = b"".join(struct.pack("<HHII", ids[name], 4, 1, value) for name, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    "data",
    [
        b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;",  # a canvas
        b"GIF89a\x01\0\x01\0\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;",  # a frame that reaches out of it
        b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\xff\x3f\xff\xff\x3f",
        _tiff(width=100_000, height=100_000),
        _tiff(width=10, height=10, tile=60_000, tile_length=60_000),
        b"BM" + struct.pack("<IIIIiiHHI", 0, 0, 54, 40, 60_000, 60_000, 1, 8, 1) + bytes(20),
    ],
)
def test_a_header_that_declares_too_many_pixels_is_refused(data: bytes) -> None:
    with pytest.raises(MediaTooLarge):
        look(data)


@pytest.mark.parametrize(
    "data",
    [
        craft.png(0, 5),
        craft.png(5, 0),
        _tiff(width=0, height=5),
        b"GIF89a\0\0\0\0\0\0\0,\0\0\0\0\0\0\0\0\0\x02\x02D\x01\0;",
        b"BM" + struct.pack("<IIIIiiHHI", 0, 0, 54, 40, 0, 5, 1, 8, 0) + bytes(20),
    ],
)
def test_a_picture_without_pixels_is_refused(data: bytes) -> None:
    with pytest.raises(MediaUnsupported):
        look(data)


def test_an_animation_of_very_many_large_frames_is_refused() -> None:
    frame = b",\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0"
    huge = b"GIF89a" + struct.pack("<HH", 9000, 9000) + b"\0\0\0" + frame * 100 + b";"
    with pytest.raises(MediaTooLarge, match="100 frames"):
        look(huge)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "gif", "avif", "bmp"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_a_truncated_image_is_refused(ending: str, share: float) -> None:
    whole = craft.encode(f".{ending}", craft.photograph(size=(160, 120)))
    with pytest.raises(MediaUnsupported):
        look(whole[: int(len(whole) * share)])


def test_a_thumbnails_end_is_not_the_pictures() -> None:
    """A JPEG carries its thumbnail, with an end of its own, before the picture."""
    whole = craft.encode(".jpg", craft.photograph(size=(160, 120)))
    block = b"Exif\0\0" + craft.exif(1) + craft.encode(".jpg", craft.photograph(size=(16, 12)))
    carrying = whole[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + whole[2:]
    assert look(carrying).width == 160
    with pytest.raises(MediaUnsupported, match="truncated"):
        look(carrying[:-200])


def test_what_follows_a_picture_does_not_matter() -> None:
    for ending in ("jpg", "png", "gif", "webp"):
        data = craft.encode(f".{ending}", craft.photograph(size=(160, 120)))
        assert look(data + b"PK\x03\x04 and more" * 100).kind == "image"


def test_a_chain_of_pages_that_returns_to_itself_is_refused() -> None:
    loop = _tiff(width=10, height=10)
    assert look(loop).frames == 1
    with pytest.raises(MediaUnsupported):
        look(loop[:-4] + struct.pack("<I", 8))


def test_broken_boxes_and_elements_are_refused() -> None:
    for data in (
        b"\0\0\0\x04ftypisom" + bytes(40),
        b"\0\0\0\x10ftypisom\0\0\0\0" + b"\xff\xff\xff\xffmoov",
        b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\x01moov" + b"\xff" * 8,
        b"\x1aE\xdf\xa3\x00" + bytes(20),
        b"\x1aE\xdf\xa3\x84\x42\x82\x81x" + bytes(20),
        b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf",
    ):
        with pytest.raises(MediaUnsupported):
            look(data)
