"""What a file says it is, read from its header in plain Python before any decoder sees it.

Names the format, the pixels that decoding would cost, which way is up, and whether the file is all there. What is none
of ours is refused by its name, so that nothing which only pretends to be media (a playlist, an archive) is ever opened
as such.
"""

import struct
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec

from appliance.errors import MediaTooLarge, MediaUnsupported

MOST_FRAMES = 20
"""An animation may cost this many times the pixels that one picture may: 100 million pixels a second are decoded."""

_MOST_PARTS = 100_000  # chunks, blocks, boxes of one file; real ones have some hundreds
_MOST_PAGES = 1_000
_MOST_BLOCKS = 2_000_000  # of a GIF: 255 bytes each in real ones, so that those may have 500 MB
_WINDOW = 65_536

Kind = Literal["image", "video"]


class Header(msgspec.Struct, frozen=True):
    """`format` is jpeg, png, webp, gif, avif, bmp, tiff, mp4 (MOV too) or matroska (WebM too)."""

    kind: Kind
    format: str
    width: int = 0
    """As stored, before orientation; 0 for videos, whose decoder says it."""
    height: int = 0
    frames: int = 1
    """Frames of an animation, or pages."""
    orientation: int = 1
    """As EXIF counts: 1 is upright."""
    has_alpha: bool = False


def read(path: Path) -> Header:
    """Raises MediaUnsupported with the reason: unknown, known but not decoded here, empty, truncated, damaged."""
    with path.open("rb") as file:
        return look(file)


def look(file: BinaryIO) -> Header:
    """The same, of an open file."""
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(64)
    if not head:
        raise MediaUnsupported("the file is empty")
    reader = _READERS.get(_family(head))
    if reader is None:
        raise MediaUnsupported(f"{_name(head)} is not an image or video that is decoded here")
    try:
        return reader(_File(file, size))
    except (struct.error, IndexError) as error:
        raise MediaUnsupported("the file is truncated or damaged") from error


def kind(head: bytes) -> Kind:
    """What a file that begins with these 64 bytes says it is. Raises MediaUnsupported when it is none of ours."""
    family = _family(head)
    if family not in _READERS:
        raise MediaUnsupported(f"{_name(head)} is not an image or video that is decoded here")
    return "video" if family in ("mp4", "matroska") else "image"


def check(header: Header, max_pixels: int) -> None:
    """Whether an image may be decoded at all. Raises MediaTooLarge or MediaUnsupported."""
    if header.kind == "video":
        return
    pixels = header.width * header.height
    if pixels == 0:
        raise MediaUnsupported("the image has no pixels: its header says 0")
    if pixels > max_pixels:
        raise MediaTooLarge(
            f"the image has {header.width} × {header.height} pixels; the limit is {max_pixels:,} in all"
        )
    if pixels * header.frames > max_pixels * MOST_FRAMES:
        raise MediaTooLarge(
            f"the animation has {header.frames} frames of {header.width} × {header.height} pixels;"
            f" the limit is {max_pixels * MOST_FRAMES:,} in all"
        )


class _File:
    """Reads that fail loudly at the end of the file, and a count that ends every loop."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self.size = size
        self._parts = 0
        self._blocks = 0

    def at(self, offset: int, length: int) -> bytes:
        if offset < 0 or offset + length > self.size:
            raise MediaUnsupported("the file is truncated")
        self._file.seek(offset)
        return self._file.read(length)

    def unpack(self, form: str, offset: int) -> tuple[int, ...]:
        return struct.unpack(form, self.at(offset, struct.calcsize(form)))

    def count(self) -> None:
        """One more part seen."""
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise MediaUnsupported("the file has too many parts to be a real image or video")

    def skip_blocks(self, at: int) -> int:
        """Where a GIF's chain of blocks, each with its length before it, ends. Ten megabytes of blocks of one byte cost
        four seconds when each is read by itself."""
        while True:
            window = self.at(at, max(0, min(_WINDOW, self.size - at)))
            place = 0
            while place < len(window):
                length = window[place]
                self._blocks += 1
                place += 1 + length
                if length == 0:
                    return at + place
            if self._blocks > _MOST_BLOCKS:
                raise MediaUnsupported("the file has too many parts to be a real image or video")
            if not window:
                raise MediaUnsupported("the file is truncated")
            at += place


# --- which family ----------------------------------------------------------------------------------------------------


def _family(head: bytes) -> str:
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:4] in (b"II*\0", b"MM\0*"):
        return "tiff"
    if head[:2] == b"BM" and len(head) >= 18 and struct.unpack("<I", head[14:18])[0] in (12, 40, 52, 56, 64, 108, 124):
        return "bmp"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "matroska"
    if head[4:8] == b"ftyp":
        brands = {head[8:12], *(head[at : at + 4] for at in range(16, min(len(head), _u32(head, 0)), 4))}
        if brands & {b"avif", b"avis"}:
            return "avif"
        return "heif" if head[8:12] in _HEIF or (b"mif1" in brands and brands & _HEIF) else "mp4"
    if head[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"):  # QuickTime from before ftyp
        return "mp4"
    return ""


_HEIF = {b"heic", b"heix", b"hevc", b"heim", b"heis", b"hevx", b"mif1", b"msf1"}

_NAMES: tuple[tuple[bytes, str], ...] = (
    (b"ffconcat", "a list of files (ffconcat)"),
    (b"#EXTM3U", "a playlist (M3U)"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive or office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"OggS", "an Ogg file"),
    (b"FLV", "a Flash video"),
    (b"ID3", "an MP3 file"),
    (b"fLaC", "a FLAC file"),
    (b"\x00\x00\x01\xba", "an MPEG program stream"),
    (b"\x00\x00\x01\xb3", "an MPEG video stream"),
    (b"\x30\x26\xb2\x75", "a Windows Media file"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"8BPS", "a Photoshop document"),
    (b"\x00\x00\x01\x00", "an icon"),
    (b"II+\0", "a BigTIFF image"),
    (b"MM\0+", "a BigTIFF image"),
    (b"\x76\x2f\x31\x01", "an OpenEXR image"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
)


def _name(head: bytes) -> str:
    """What the file is instead, as far as its first bytes tell; never a quotation of them."""
    for magic, name in _NAMES:
        if head.startswith(magic):
            return name
    if head[:4] == b"RIFF":
        return {b"AVI ": "an AVI video", b"WAVE": "a WAV file"}.get(head[8:12], "a RIFF file")
    if _family(head) == "heif":
        return "a HEIC image"
    if head[:1] == b"\x47" and len(head) == 64:
        return "an MPEG transport stream"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<svg", b"<?xml")):
        return "an SVG or XML document"
    if text.startswith((b"<!doctype", b"<html", b"<head")):
        return "a web page"
    if head and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        return "text"
    return "this file"


# --- images ----------------------------------------------------------------------------------------------------------


def _jpeg(file: _File) -> Header:
    at, width, height, orientation = 2, 0, 0, 1
    while True:
        file.count()
        mark, code = file.unpack(">BB", at)
        if mark != 0xFF:
            raise MediaUnsupported("the JPEG image is damaged")
        if code == 0xFF:  # padding
            at += 1
            continue
        if code == 0x01 or 0xD0 <= code <= 0xD7:  # stand alone
            at += 2
            continue
        (length,) = file.unpack(">H", at + 2)
        if code == 0xE1 and file.at(at + 4, min(6, length)) == b"Exif\0\0":
            orientation = _exif(file.at(at + 10, max(0, length - 8)))
        elif 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            if width:
                raise MediaUnsupported("the JPEG image is damaged: it declares its size twice")
            height, width = file.unpack(">HH", at + 5)
        elif code == 0xDA:
            break
        elif code == 0xD9 or length < 2:
            raise MediaUnsupported("the JPEG image is damaged")
        at += 2 + length
    if b"\xff\xd9" not in file.at(at, file.size - at):  # the thumbnail's end, inside Exif, does not count
        raise MediaUnsupported("the file is truncated")
    return Header("image", "jpeg", width, height, orientation=orientation)


def _png(file: _File) -> Header:
    if file.at(12, 4) != b"IHDR":
        raise MediaUnsupported("the PNG image is damaged")
    width, height, _, colour = file.unpack(">IIBB", 16)
    at, frames, orientation, has_alpha = 8, 1, 1, colour in (4, 6)
    while True:
        file.count()
        length, kind = struct.unpack(">I4s", file.at(at, 8))
        file.at(at + 8, 0 if length == 0 else 1)
        if at + 12 + length > file.size:
            raise MediaUnsupported("the file is truncated")
        match kind:
            case b"acTL":
                frames = max(1, file.unpack(">I", at + 8)[0])
            case b"eXIf":
                orientation = _exif(file.at(at + 8, min(length, 65_536)))
            case b"tRNS":
                has_alpha = True
            case b"fcTL":
                if any(side > limit for side, limit in zip(file.unpack(">II", at + 12), (width, height), strict=True)):
                    raise MediaUnsupported("the PNG animation is damaged: a frame is larger than the picture")
            case b"IEND":
                break
            case _:
                pass
        at += 12 + length
    return Header("image", "png", width, height, frames, orientation, has_alpha)


def _gif(file: _File) -> Header:
    width, height, flags = file.unpack("<HHB", 6)
    at, frames = 13 + _table(flags), 0
    while at < file.size:
        file.count()
        (mark,) = file.at(at, 1)
        if mark == 0x3B:
            break
        if mark == 0x21:
            at = file.skip_blocks(at + 2)
        elif mark == 0x2C:
            left, top, across, down, flags = file.unpack("<HHHHB", at + 1)
            # the decoder keeps a canvas of the size in the header; a frame may not reach out of it
            if left + across > width or top + down > height:
                width, height = max(width, left + across), max(height, top + down)
            at = file.skip_blocks(at + 10 + _table(flags) + 1)
            frames += 1
        else:
            raise MediaUnsupported("the GIF image is damaged")
    if frames == 0:
        raise MediaUnsupported("the file is truncated")
    return Header("image", "gif", width, height, frames, has_alpha=True)


def _table(flags: int) -> int:
    """Bytes of a GIF's colour table."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _webp(file: _File) -> Header:
    (declared,) = file.unpack("<I", 4)
    if 8 + declared > file.size:
        raise MediaUnsupported("the file is truncated")
    end, at = 8 + declared, 12
    width = height = frames = 0
    orientation, has_alpha = 1, False
    while at + 8 <= end:
        file.count()
        kind, length = struct.unpack("<4sI", file.at(at, 8))
        body = at + 8
        match kind:
            case b"VP8X":
                flags = file.at(body, 1)[0]
                has_alpha = bool(flags & 0x10)
                width = 1 + int.from_bytes(file.at(body + 4, 3), "little")
                height = 1 + int.from_bytes(file.at(body + 7, 3), "little")
            case b"VP8 ":
                across, down = file.unpack("<HH", body + 6)
                width, height = max(width, across & 0x3FFF), max(height, down & 0x3FFF)
            case b"VP8L":
                bits = file.unpack("<I", body + 1)[0]
                width, height = max(width, (bits & 0x3FFF) + 1), max(height, (bits >> 14 & 0x3FFF) + 1)
                has_alpha = has_alpha or bool(bits >> 28 & 1)
            case b"ANMF":
                frames += 1
            case b"EXIF":
                orientation = _exif(file.at(body, min(length, 65_536)).removeprefix(b"Exif\0\0"))
            case _:
                pass
        at = body + length + (length & 1)
    if not width:
        raise MediaUnsupported("the WebP image is damaged")
    return Header("image", "webp", width, height, max(1, frames), orientation, has_alpha)


def _bmp(file: _File) -> Header:
    (pixels_at,) = file.unpack("<I", 10)
    (size,) = file.unpack("<I", 14)
    if size == 12:
        width, height, _, bits = file.unpack("<HHHH", 18)
        packing = 0
    else:
        width, height, _, bits, packing = file.unpack("<iiHHI", 18)
    height = abs(height)
    if width < 0:
        raise MediaUnsupported("the BMP image is damaged")
    if packing in (0, 3) and pixels_at + (width * bits + 31) // 32 * 4 * height > file.size:
        raise MediaUnsupported("the file is truncated")
    return Header("image", "bmp", width, height, has_alpha=bits == 32 and size >= 56)


def _tiff(file: _File) -> Header:
    ends = "<" if file.at(0, 2) == b"II" else ">"
    (at,) = file.unpack(ends + "I", 4)
    width = height = pages = 0
    has_alpha = False
    visited: set[int] = set()
    while at:
        if at in visited or pages == _MOST_PAGES:
            raise MediaUnsupported("the TIFF image is damaged, or has too many pages")
        visited.add(at)
        (entries,) = file.unpack(ends + "H", at)
        tags: dict[int, int] = {}
        for entry in range(entries):
            file.count()
            tag, kind = file.unpack(ends + "HH", at + 2 + entry * 12)
            tags[tag] = file.unpack(ends + ("H" if kind == 3 else "I"), at + 10 + entry * 12)[0]
        # tiles are allocated whole, however small the picture
        width, height = max(width, tags.get(256, 0), tags.get(322, 0)), max(height, tags.get(257, 0), tags.get(323, 0))
        if not tags.get(256) or not tags.get(257):
            return Header("image", "tiff", 0, 0)
        has_alpha = has_alpha or 338 in tags or tags.get(277, 1) in (2, 4)
        pages += 1
        (at,) = file.unpack(ends + "I", at + 2 + entries * 12)
    if pages == 0:
        raise MediaUnsupported("the TIFF image is damaged")
    # its orientation is not told: OpenCV's TIFF decoder turns the picture whatever it is asked
    return Header("image", "tiff", width, height, pages, has_alpha=has_alpha)


def _exif(block: bytes) -> int:
    """The orientation in a block of Exif; 1 when it says nothing that can be read."""
    try:
        ends = {b"II": "<", b"MM": ">"}[block[:2]]
        (at,) = struct.unpack_from(ends + "I", block, 4)
        (entries,) = struct.unpack_from(ends + "H", block, at)
        for entry in range(min(entries, 512)):
            tag, _, _, value = struct.unpack_from(ends + "HHIH", block, at + 2 + entry * 12)
            if tag == 274:
                return value if 1 <= value <= 8 else 1
    except (KeyError, struct.error):
        pass
    return 1


# --- boxes: AVIF, MP4, QuickTime -------------------------------------------------------------------------------------


def _boxes(file: _File, at: int, end: int) -> list[tuple[bytes, int, int]]:
    """(name, begin, end) of the boxes between two offsets. One that ends beyond is a truncated file."""
    found: list[tuple[bytes, int, int]] = []
    while at + 8 <= end:
        file.count()
        size, name = struct.unpack(">I4s", file.at(at, 8))
        begin = at + 8
        if size == 1:
            (size,) = file.unpack(">Q", begin)
            begin += 8
        elif size == 0:
            size = end - at
        if size < begin - at:
            raise MediaUnsupported("the file is damaged")
        if at + size > end:
            raise MediaUnsupported("the file is truncated")
        found.append((name, begin, at + size))
        at += size
    return found


def _inside(file: _File, boxes: list[tuple[bytes, int, int]], *names: bytes) -> list[tuple[bytes, int, int]]:
    """The boxes at the end of a path of names."""
    for name in names:
        boxes = [
            inner
            for found, begin, end in boxes
            if found == name
            for inner in _boxes(file, begin + (4 if name == b"meta" else 0), end)
        ]
    return boxes


def _avif(file: _File) -> Header:
    top = _boxes(file, 0, file.size)
    meta = _inside(file, top, b"meta")
    properties = _inside(file, meta, b"iprp", b"ipco")
    width = height = 0
    for name, begin, _ in properties:
        if name == b"ispe":
            across, down = file.unpack(">II", begin + 4)
            width, height = max(width, across), max(height, down)
    has_alpha = any(name == b"auxC" and b"alpha" in file.at(begin, end - begin) for name, begin, end in properties)
    frames = 1
    for name, _, end in _inside(file, top, b"moov", b"trak"):
        if name == b"tkhd":
            across, down = (side >> 16 for side in file.unpack(">II", end - 8))
            width, height = max(width, across), max(height, down)
    for name, begin, _ in _inside(file, top, b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        if name == b"stsz":
            frames = max(frames, file.unpack(">I", begin + 8)[0])
        if name == b"stsd":
            across, down = file.unpack(">HH", begin + 8 + 32)
            width, height = max(width, across), max(height, down)
    return Header("image", "avif", width, height, frames, _avif_turn(file, meta, properties), has_alpha)


def _avif_turn(file: _File, meta: list[tuple[bytes, int, int]], properties: list[tuple[bytes, int, int]]) -> int:
    """The primary item's rotation and mirror, as EXIF would count them."""
    primary = 0
    for name, begin, _ in meta:
        if name == b"pitm":
            (primary,) = file.unpack(">H" if file.at(begin, 1) == b"\0" else ">I", begin + 4)
    turns, mirror = 0, -1
    for index in _avif_properties_of(file, meta, primary):
        if not 0 < index <= len(properties):
            continue
        name, begin, _ = properties[index - 1]
        if name == b"irot":
            turns = file.at(begin, 1)[0] & 3
        elif name == b"imir":
            mirror = file.at(begin, 1)[0] & 1
    if mirror < 0:
        return (1, 8, 3, 6)[turns]
    return ((4, 5, 2, 7), (2, 7, 4, 5))[mirror][turns]


def _avif_properties_of(file: _File, meta: list[tuple[bytes, int, int]], item: int) -> list[int]:
    """The item's properties, as numbers into ipco, counted from 1."""
    for name, begin, _ in _inside(file, meta, b"iprp"):
        if name != b"ipma":
            continue
        version, *_, flags = file.at(begin, 4)
        (entries,) = file.unpack(">I", begin + 4)
        at = begin + 8
        for _ in range(entries):
            file.count()
            (number,) = file.unpack(">I" if version else ">H", at)
            at += 4 if version else 2
            (many,) = file.at(at, 1)
            form = f">{many}{'H' if flags & 1 else 'B'}"
            if number == item:
                return [one & (0x7FFF if flags & 1 else 0x7F) for one in file.unpack(form, at + 1)]
            at += 1 + struct.calcsize(form)
    return []


def _mp4(file: _File) -> Header:
    names = {name for name, _, _ in _boxes(file, 0, file.size)}
    if b"moov" not in names:
        raise MediaUnsupported("the file is truncated: it has no table of its contents")
    return Header("video", "mp4")


# --- Matroska --------------------------------------------------------------------------------------------------------


def _matroska(file: _File) -> Header:
    at, doc_type = 4, b""
    size, at = _vint(file, at)
    end = at + size
    if end - at > 4096:
        raise MediaUnsupported("the Matroska file is damaged")
    while at < end:
        file.count()
        ident, at = _element_id(file, at)
        size, at = _vint(file, at)
        if ident == 0x4282:
            doc_type = file.at(at, min(size, 16)).rstrip(b"\0")
        at += size
    if doc_type not in (b"webm", b"matroska"):
        raise MediaUnsupported("the file is neither WebM nor Matroska")
    ident, at = _element_id(file, end)
    if ident != 0x18538067:
        raise MediaUnsupported("the Matroska file is damaged")
    size, at = _vint(file, at)
    if size >= 0 and at + size > file.size:
        raise MediaUnsupported("the file is truncated")
    return Header("video", "matroska")


def _element_id(file: _File, at: int) -> tuple[int, int]:
    first = file.at(at, 1)[0]
    length = 9 - first.bit_length()
    if length > 4:
        raise MediaUnsupported("the Matroska file is damaged")
    return int.from_bytes(file.at(at, length), "big"), at + length


def _vint(file: _File, at: int) -> tuple[int, int]:
    """A size, and where it ends; -1 when the size is unknown, as in a live recording."""
    first = file.at(at, 1)[0]
    length = 9 - first.bit_length()
    if length > 8:
        raise MediaUnsupported("the Matroska file is damaged")
    value = int.from_bytes(file.at(at, length), "big") & ((1 << 7 * length) - 1)
    return (-1 if value == (1 << 7 * length) - 1 else value), at + length


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")


_READERS = {
    "jpeg": _jpeg,
    "png": _png,
    "gif": _gif,
    "webp": _webp,
    "bmp": _bmp,
    "tiff": _tiff,
    "avif": _avif,
    "mp4": _mp4,
    "matroska": _matroska,
}
