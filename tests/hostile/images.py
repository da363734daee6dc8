"""Images out to break a decoder: bombs, headers that lie, pieces without end."""

import functools
import struct
import zlib
from collections.abc import Iterator

import cv2
import numpy as np

from tests.hostile.case import EITHER, REFUSED, Case
from tests.media import craft

MB = 1_000_000
PNG = b"\x89PNG\r\n\x1a\n"


# --- PNG and APNG ----------------------------------------------------------------------------------------------------


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def ihdr(width: int, height: int, bits: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace))


def zeros(count: int) -> bytes:
    """So many bytes of nothing, deflated to a thousandth of that: one megabyte's, again and again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = packer.compress(bytes(MB)) + packer.flush(zlib.Z_FULL_FLUSH)
    rest = packer.compress(bytes(count % MB)) + packer.flush()
    return b"\x78\xda" + piece * (count // MB) + rest + struct.pack(">I", (count % 65_521) << 16 | 1)


def deflated(megabytes: int) -> bytes:
    return zeros(megabytes * MB)


def black(width: int, height: int, *, bits: int = 1, colour: int = 0, interlace: int = 0) -> bytes:
    """A PNG of any size."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    body = zeros((1 + (width * bits * samples + 7) // 8) * height)
    return _png_of(body, width, height, bits=bits, colour=colour, interlace=interlace)


def png(*chunks: bytes, width: int = 100, height: int = 100, **header: int) -> bytes:
    """A whole picture with these chunks before its pixels."""
    rows = zlib.compress(bytes((1 + width * 3) * height))
    return PNG + ihdr(width, height, **header) + b"".join(chunks) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _png_of(body: bytes, width: int, height: int, **header: int) -> bytes:
    return PNG + ihdr(width, height, **header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _nested(levels: int) -> bytes:
    """Deflated again and again: what inflates is deflated still."""
    data = deflated(1000)
    for _ in range(levels):
        data = zlib.compress(data, 9)
    return data


def fctl(number: int, width: int, height: int) -> bytes:
    return chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, width, height, 0, 0, 1, 10, 0, 0))


def apng(frames: int, side: int, declared: int | None = None) -> bytes:
    rows = zlib.compress(bytes((1 + side * 4) * side), 9)
    pieces = [PNG, ihdr(side, side, 8, 6), chunk(b"acTL", struct.pack(">II", declared or frames, 0))]
    pieces += [fctl(0, side, side), chunk(b"IDAT", rows)]
    for number in range(1, frames):
        pieces += [fctl(2 * number - 1, side, side), chunk(b"fdAT", struct.pack(">I", 2 * number) + rows)]
    return b"".join(pieces) + chunk(b"IEND", b"")


def _pngs() -> Iterator[Case]:
    yield Case("png 20000 x 20000", "image", lambda: black(20_000, 20_000), REFUSED, "20000 × 20000")
    yield Case("png at the limit of pixels", "image", lambda: black(10_000, 10_000, bits=8, colour=2), EITHER)
    yield Case("png at the limit, grey", "image", lambda: black(10_000, 10_000, bits=1), EITHER)
    yield Case("png at the limit, with alpha", "image", lambda: black(10_000, 10_000, bits=8, colour=6), EITHER)
    yield Case("png at the limit, 16 bits and alpha", "image", lambda: black(10_000, 10_000, bits=16, colour=6))
    yield Case(
        "png at the limit, interlaced", "image", lambda: _png_of(deflated(320), 10_000, 10_000, interlace=1), EITHER
    )
    yield Case("png one line of 100 million", "image", lambda: black(100_000_000, 1), EITHER)
    yield Case("png one column of 100 million", "image", lambda: black(1, 100_000_000), EITHER)
    yield Case("png small, a gigabyte of pixels", "image", lambda: _png_of(deflated(1000), 100, 100), EITHER)
    yield Case("png large, no pixels", "image", lambda: _png_of(zlib.compress(b""), 9_999, 9_999))
    yield Case("png nested deflate", "image", lambda: _png_of(_nested(3), 100, 100), EITHER)
    for kind, head in ((b"iCCP", b"profile\0\0"), (b"zTXt", b"Comment\0\0"), (b"iTXt", b"Comment\0\1\0\0\0")):
        bomb = functools.partial(lambda kind, head: png(chunk(kind, head + deflated(1000))), kind, head)
        yield Case(f"png {kind.decode()} bomb", "image", bomb, EITHER)
    yield Case("png 500 zTXt bombs", "image", lambda: png(*[chunk(b"zTXt", b"C\0\0" + deflated(8))] * 500), EITHER)
    yield Case("png 200,000 empty chunks", "image", lambda: png(*[chunk(b"zzzz", b"")] * 200_000), REFUSED, "parts")
    yield Case("png text in no encoding", "image", lambda: png(chunk(b"tEXt", b"\xff\xfe\0" + bytes(range(256)))), EITHER)  # noqa: E501  # fmt: skip
    yield Case("png exif bomb", "image", lambda: png(chunk(b"eXIf", exif_loop())), EITHER)
    yield Case("png palette missing", "image", lambda: png(colour=3), EITHER)
    yield Case("png unknown colour", "image", lambda: png(colour=77), EITHER)
    for width, height in ((0, 0), (0, 9), (9, 0), (2**31, 1), (1, 2**31), (2**32 - 1, 2**32 - 1), (2**31 - 1, 2)):
        sized = functools.partial(_png_of, b"", width, height)
        yield Case(f"png {width} x {height}", "image", sized)
    for length in (2**31, 2**32 - 1, 2**31 - 1):
        data = PNG + ihdr(9, 9) + struct.pack(">I", length) + b"IDAT" + bytes(99)
        yield Case(f"png chunk of {length}", "image", functools.partial(bytes, data), REFUSED, "truncated")
    yield Case("apng of 2^31 frames", "image", lambda: apng(2, 64, 2**31), REFUSED, "frames")
    yield Case("apng says 1000, has 2", "image", lambda: apng(2, 64, 1000), EITHER)
    yield Case("apng 20,000 frames", "image", lambda: apng(20_000, 1), EITHER)
    yield Case("apng 100 frames of 4000 x 4000", "image", lambda: apng(100, 4_000), EITHER)
    yield Case("apng 200 frames of 4000 x 4000", "image", lambda: apng(200, 4_000), REFUSED, "frames")


# --- JPEG ------------------------------------------------------------------------------------------------------------


def segment(code: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, code, len(body) + 2) + body


def progressive(side: int, scans: int) -> bytes:
    """A grey picture in so many scans. Each passes over all blocks and says of them, 32 thousand at a time, that there
    is nothing to add: 80 bytes cost what a whole picture costs."""
    blocks = (-(-side // 8)) ** 2
    runs = blocks // 32_767 + 1
    bits = ("0" + "1" * 14) * runs
    bits += "1" * (-len(bits) % 8)
    body = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)).replace(b"\xff", b"\xff\0")
    dc = "0" * blocks
    dc += "1" * (-len(dc) % 8)
    first = bytes(int(dc[at : at + 8], 2) for at in range(0, len(dc), 8))
    return b"".join(
        (
            b"\xff\xd8",
            segment(0xDB, b"\0" + bytes([1] * 64)),
            segment(0xC2, struct.pack(">BHHBBBB", 8, side, side, 1, 1, 0x11, 0)),
            segment(0xC4, b"\0" + bytes([1] + [0] * 15) + b"\0"),
            segment(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\xe0"),
            segment(0xDA, bytes([1, 1, 0, 0, 0, 0])) + first,
            (segment(0xDA, bytes([1, 1, 0, 1, 63, 0])) + body) * scans,
            b"\xff\xd9",
        )
    )


@functools.cache
def jpeg() -> bytes:
    return craft.encode(".jpg", craft.photograph(size=(160, 120)))


def _before_pixels(*segments: bytes) -> bytes:
    return jpeg()[:2] + b"".join(segments) + jpeg()[2:]


def _sof(height: int, width: int, *, code: int = 0xC0, bits: int = 8, sampling: int = 0x22) -> bytes:
    """The frame's header replaced."""
    at = jpeg().index(b"\xff\xc0")
    components = bytes([1, sampling, 0, 2, 0x11, 1, 3, 0x11, 1])
    header = segment(code, struct.pack(">BHHB", bits, height, width, 3) + components)
    return jpeg()[:at] + header + jpeg()[at + 19 :]


def exif_loop() -> bytes:
    """Directories that lead to each other, and 65 thousand entries of which each says that its value is elsewhere."""
    entry = struct.pack("<HHII", 0x8769, 4, 1, 8)
    return b"II*\0" + struct.pack("<IH", 8, 65_535) + entry * 5_000


def exif(*entries: tuple[int, int, int, int]) -> bytes:
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4)


def _jpegs() -> Iterator[Case]:
    yield Case("jpeg 3,000 scans", "image", lambda: progressive(800, 3_000), EITHER)
    yield Case("jpeg 20,000 scans of 9,000 x 9,000", "image", lambda: progressive(9_000, 20_000), REFUSED, "longer")
    yield Case("jpeg 65500 x 65500", "image", lambda: _sof(65_500, 65_500), REFUSED, "65500")
    yield Case("jpeg at the limit of pixels", "image", lambda: _sof(10_000, 10_000), EITHER)
    yield Case("jpeg progressive at the limit", "image", lambda: progressive(10_000, 2), EITHER)
    yield Case("jpeg of no height", "image", lambda: _sof(0, 160))
    yield Case("jpeg of no width", "image", lambda: _sof(120, 0))
    yield Case("jpeg says its size twice", "image", lambda: _before_pixels(_sof(8, 8)[2:200]))
    for code in (0xC1, 0xC3, 0xC5, 0xC9, 0xCA, 0xCF):
        yield Case(f"jpeg of process {code:x}", "image", functools.partial(_sof, 120, 160, code=code), EITHER)
    for sampling in (0x00, 0x44, 0xFF, 0x14):
        yield Case(f"jpeg sampled {sampling:02x}", "image", functools.partial(_sof, 120, 160, sampling=sampling), EITHER)  # noqa: E501  # fmt: skip
    yield Case("jpeg of 12 bits", "image", lambda: _sof(120, 160, bits=12), EITHER)
    yield Case("jpeg no tables", "image", lambda: jpeg().replace(b"\xff\xc4", b"\xff\xfe"), EITHER)
    yield Case("jpeg 100,000 comments", "image", lambda: _before_pixels(segment(0xFE, b"") * 100_001), REFUSED, "parts")
    yield Case("jpeg comment in no encoding", "image", lambda: _before_pixels(segment(0xFE, b"\xff\xfe\x80" * 9)), EITHER)  # noqa: E501  # fmt: skip
    yield Case("jpeg padded without end", "image", lambda: _before_pixels(b"\xff" * 200_000), REFUSED, "parts")
    yield Case("jpeg exif bomb", "image", lambda: _before_pixels(segment(0xE1, b"Exif\0\0" + exif_loop())), EITHER)
    yield Case("jpeg icc bomb", "image", lambda: _before_pixels(segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(60_000)) * 99), EITHER)  # noqa: E501  # fmt: skip
    yield Case("jpeg no end", "image", lambda: jpeg()[:-2], REFUSED, "truncated")
    yield Case("jpeg restarts without end", "image", lambda: jpeg()[:-2] + b"\xff\xd0" * MB + b"\xff\xd9", EITHER)
    for value in (0, 9, 255, 65_535):
        turned = functools.partial(lambda value: _before_pixels(segment(0xE1, exif((274, 3, 1, value)))), value)
        yield Case(f"jpeg turned {value}", "image", turned, EITHER)
    twice = ((274, 3, 1, 6), (274, 3, 1, 8), (0x8769, 4, 1, 8), (274, 7, 2**32 - 1, 2**32 - 1))
    yield Case("jpeg turned two ways", "image", lambda: _before_pixels(segment(0xE1, exif(*twice))), EITHER)


# --- GIF -------------------------------------------------------------------------------------------------------------

_DOT = b"\x02\x02D\x01\0"


def gif(width: int, height: int, frames: list[tuple[int, int]], body: bytes = _DOT) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes([0, 0, 0, 255, 255, 255])
    shown = (b"," + struct.pack("<HHHHB", 0, 0, across, down, 0) + body for across, down in frames)
    return head + b"".join(shown) + b";"


def _lzw(side: int) -> bytes:
    """Codes that each stand for a longer run than the last: 4,000 of them are 8 million pixels."""
    codes, bits, size = [4], "", 3
    codes += [0, *range(6, 4095)]
    next_code = 5
    packed: list[str] = []
    for code in codes:
        packed.append(format(code, f"0{size}b")[::-1])
        if code != 4:
            next_code += 1
            if next_code > (1 << size) and size < 12:
                size += 1
    bits = "".join(packed)
    bits += "0" * (-len(bits) % 8)
    data = bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))
    blocks = b"".join(bytes([len(data[at : at + 255])]) + data[at : at + 255] for at in range(0, len(data), 255))
    return b"\x02" + blocks + b"\0"


def _gifs() -> Iterator[Case]:
    yield Case("gif of a canvas of 65535", "image", lambda: gif(65_535, 65_535, [(1, 1)]), REFUSED, "65535")
    yield Case("gif frame beyond its canvas", "image", lambda: gif(1, 1, [(65_535, 65_535)]), REFUSED, "65535")
    yield Case("gif at the limit of pixels", "image", lambda: gif(10_000, 10_000, [(1, 1)]), EITHER)
    yield Case("gif 20 canvases at the limit", "image", lambda: gif(9_999, 9_999, [(1, 1)] * 20), EITHER)
    yield Case("gif 100 canvases of 9000", "image", lambda: gif(9_000, 9_000, [(1, 1)] * 100), REFUSED, "100 frames")
    yield Case("gif 50,000 frames", "image", lambda: gif(1, 1, [(1, 1)] * 50_000), EITHER)
    yield Case("gif of a million frames", "image", lambda: gif(1, 1, [(1, 1)] * 600_000), REFUSED, "parts")
    yield Case("gif of no pixels", "image", lambda: gif(0, 0, [(0, 0)]))
    yield Case("gif frame of no pixels", "image", lambda: gif(9, 9, [(0, 0)]), EITHER)
    yield Case("gif lzw runs", "image", lambda: gif(3_000, 3_000, [(3_000, 3_000)] * 60, _lzw(3_000)), EITHER)
    yield Case("gif blocks of one byte", "image", lambda: gif(1, 1, [(1, 1)], b"\x02" + b"\x01\x00" * 1 + b"\x01\x01" * 4_900_000 + b"\0"))  # noqa: E501  # fmt: skip
    yield Case("gif comment without end", "image", lambda: gif(1, 1, [])[:-1] + b"!\xfe" + b"\x01a" * 4_900_000 + b"\0;")  # noqa: E501  # fmt: skip
    yield Case("gif no frame", "image", lambda: gif(9, 9, []), REFUSED, "truncated")
    yield Case("gif not finished", "image", lambda: gif(9, 9, [(9, 9)])[:-5], EITHER)


# --- WebP ------------------------------------------------------------------------------------------------------------


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(kind + struct.pack("<I", len(data)) + data + bytes(len(data) & 1) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def _vp8x(width: int, height: int, flags: int = 0) -> tuple[bytes, bytes]:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"VP8X", bytes([flags, 0, 0, 0]) + sides


@functools.cache
def _vp8l() -> bytes:
    return craft.encode(".webp", craft.photograph(size=(64, 48)), cv2.IMWRITE_WEBP_QUALITY, 101)[20:]


def _anmf(side: int) -> tuple[bytes, bytes]:
    size = (side - 1).to_bytes(3, "little") * 2
    inner = b"VP8L" + struct.pack("<I", len(_vp8l())) + _vp8l()
    return b"ANMF", bytes(6) + size + (10).to_bytes(3, "little") + b"\0" + inner


def _webps() -> Iterator[Case]:
    anim = (b"ANIM", bytes(6))
    yield Case("webp of 2^24", "image", lambda: riff(_vp8x(2**24, 2**24), (b"VP8L", _vp8l())), REFUSED, "16777216")
    yield Case("webp canvas lies", "image", lambda: riff(_vp8x(9_000, 9_000), (b"VP8L", _vp8l())), EITHER)
    yield Case("webp picture lies", "image", lambda: riff((b"VP8L", b"\x2f\xff\xff\xff\x0f" + _vp8l()[5:])))
    yield Case("webp 16383 x 6000", "image", lambda: riff((b"VP8L", b"\x2f" + struct.pack("<I", 16_382 | 5_999 << 14) + _vp8l()[5:])), EITHER)  # noqa: E501  # fmt: skip
    yield Case("webp 90,000 frames", "image", lambda: riff(_vp8x(64, 48, 2), anim, *[(b"ANMF", b"")] * 90_000))
    yield Case("webp 3,000 frames", "image", lambda: riff(_vp8x(64, 48, 2), anim, *[_anmf(48)] * 3_000), EITHER)
    yield Case("webp 200 canvases of 9000", "image", lambda: riff(_vp8x(9_000, 9_000, 2), anim, *[_anmf(48)] * 200), REFUSED, "frames")  # noqa: E501  # fmt: skip
    yield Case("webp 24 canvases of 9000", "image", lambda: riff(_vp8x(9_000, 9_000, 2), anim, *[_anmf(48)] * 24), EITHER)  # noqa: E501  # fmt: skip
    yield Case("webp exif bomb", "image", lambda: riff(_vp8x(64, 48, 8), (b"VP8L", _vp8l()), (b"EXIF", exif_loop())), EITHER)  # noqa: E501  # fmt: skip
    yield Case("webp icc bomb", "image", lambda: riff(_vp8x(64, 48, 32), (b"ICCP", bytes(9 * MB)), (b"VP8L", _vp8l())), EITHER)  # noqa: E501  # fmt: skip
    yield Case("webp longer than it is", "image", lambda: b"RIFF\xff\xff\xff\x7fWEBP" + _vp8l(), REFUSED, "truncated")
    yield Case("webp of nothing", "image", lambda: riff(), REFUSED, "damaged")


# --- TIFF, BMP -------------------------------------------------------------------------------------------------------


def tiff(body: bytes, *tags: tuple[int, int, int, int]) -> bytes:
    """Its pixels first, its directory behind them."""
    at = 8 + len(body)
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<I", at) + body + struct.pack("<H", len(tags)) + entries + bytes(4)


def _tagged(side: int, packing: int, body: bytes, *more: tuple[int, int, int, int], samples: int = 1) -> bytes:
    tags = {
        256: (256, 4, 1, side), 257: (257, 4, 1, side), 258: (258, 3, 1, 8), 259: (259, 3, 1, packing),
        262: (262, 3, 1, 2 if samples >= 3 else 1), 273: (273, 4, 1, 8), 277: (277, 3, 1, samples),
        278: (278, 4, 1, side), 279: (279, 4, 1, len(body)),
    }  # fmt: skip
    tags |= {tag[0]: tag for tag in more}
    return tiff(body, *tags.values())


def _tiffs() -> Iterator[Case]:
    yield Case("tiff deflate bomb", "image", lambda: _tagged(10_000, 8, deflated(100)), EITHER)
    yield Case("tiff deflate bomb in colour", "image", lambda: _tagged(9_999, 8, deflated(500), samples=4), EITHER)
    yield Case("tiff packbits bomb", "image", lambda: _tagged(10_000, 32773, b"\x81\0" * 781_250), EITHER)
    yield Case("tiff 100000 x 100000", "image", lambda: _tagged(100_000, 8, b"x"), REFUSED, "100000")
    yield Case("tiff 2^32", "image", lambda: _tagged(2**32 - 1, 8, b"x"))
    yield Case("tiff of no pixels", "image", lambda: _tagged(0, 1, b"x"), REFUSED, "no pixels")
    yield Case("tiff strips beyond its end", "image", lambda: _tagged(64, 1, bytes(64), (273, 4, 1, 2**31)))
    yield Case("tiff 2^32 strips", "image", lambda: _tagged(64, 1, bytes(64), (273, 4, 2**32 - 1, 8)), EITHER)
    yield Case("tiff rows a strip 0", "image", lambda: _tagged(64, 1, bytes(4096), (278, 4, 1, 0)), EITHER)
    yield Case("tiff tiles of 2^31", "image", lambda: _tagged(64, 1, b"", (322, 4, 1, 2**31), (323, 4, 1, 2**31)))
    yield Case("tiff 65535 samples", "image", lambda: _tagged(64, 1, bytes(4096), (277, 3, 1, 65_535)))
    yield Case("tiff 64 bits a sample", "image", lambda: _tagged(64, 1, bytes(4096), (258, 3, 1, 64)), EITHER)
    yield Case("tiff packed as jpeg", "image", lambda: _tagged(64, 7, jpeg()), EITHER)
    yield Case("tiff packed as none knows", "image", lambda: _tagged(64, 60_000, bytes(99)), EITHER)
    loop = _tagged(64, 1, bytes(4096))
    yield Case("tiff directory to itself", "image", lambda: loop[:-4] + loop[4:8], REFUSED, "too many pages")
    yield Case("tiff 65535 entries", "image", lambda: b"II*\0\x08\0\0\0\xff\xff" + bytes(300), REFUSED, "truncated")
    yield Case("bigtiff", "image", lambda: b"II+\0\x08\0\0\0" + bytes(99), REFUSED, "BigTIFF")


def bmp(width: int, height: int, bits: int, packing: int, body: bytes, at: int = 54) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, packing, len(body), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(body), 0, 0, at) + head + body


def _bmps() -> Iterator[Case]:
    yield Case("bmp rle bomb", "image", lambda: bmp(10_000, 10_000, 8, 1, bytes(1024) + b"\xff\1" * 400_000), EITHER)
    yield Case("bmp rle leaps", "image", lambda: bmp(9_000, 9_000, 8, 1, bytes(1024) + b"\0\2\xff\xff" * 9_000), EITHER)
    for width, height in ((0, 9), (9, 0), (-9, 9), (9, -(2**31)), (2**31 - 1, 1), (60_000, 60_000)):
        yield Case(f"bmp {width} x {height}", "image", functools.partial(bmp, width, height, 24, 1, bytes(999)))
    yield Case("bmp of 3 bits", "image", lambda: bmp(64, 64, 3, 0, bytes(99_999)), EITHER)
    yield Case("bmp of a jpeg", "image", lambda: bmp(160, 120, 24, 4, jpeg()), EITHER)
    yield Case("bmp pixels beyond its end", "image", lambda: bmp(64, 64, 24, 0, bytes(99_999), at=2**32 - 1))


def _truncated() -> Iterator[Case]:
    """Cut where a length has just been read, where a table ends, and anywhere."""
    small = craft.photograph(size=(96, 64))
    for ending in ("jpg", "png", "gif", "webp", "avif", "bmp", "tiff"):
        whole = craft.encode(f".{ending}", small)
        for cut in sorted({1, 2, 3, 4, 8, 12, 16, 24, 33, 54, 64, len(whole) // 2, len(whole) - 9, len(whole) - 1}):
            made = functools.partial(bytes, whole[:cut])
            # in most formats the last byte is a checksum or padding: then there is a picture
            yield Case(f"{ending} cut at {cut}", "image", made, EITHER if cut > len(whole) - 10 else REFUSED)
    pictures = [np.asarray(np.roll(small, 5 * n, 1), np.uint8) for n in range(6)]
    for ending in ("gif", "png", "webp", "avif"):
        whole = craft.animation(f".{ending}", pictures)
        for share in (3, 6, 9):
            made = functools.partial(bytes, whole[: len(whole) * share // 10])
            yield Case(f"animated {ending} cut at {share}/10", "image", made, EITHER)


def cases() -> Iterator[Case]:
    for family in (_pngs, _jpegs, _gifs, _webps, _tiffs, _bmps, _truncated):
        yield from family()
