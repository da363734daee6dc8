"""Seeded damage to honest files: bits, blocks, and the numbers that formats count and measure by, with checksums made
right again where a decoder would otherwise look no further."""

import functools
import random
import struct
import zlib
from collections.abc import Callable, Iterator

import cv2
import numpy as np

from tests.hostile import videos
from tests.hostile.case import EITHER, Case, Kind
from tests.media import craft

Damage = Callable[[random.Random, bytearray], bytearray]

NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**24, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1)


@functools.cache
def seeds() -> dict[str, tuple[Kind, bytes]]:
    """Small honest files of every format, plain and in their odder forms."""
    photo = craft.photograph(size=(96, 64))
    moving = [np.asarray(np.roll(photo, 5 * n, 1), np.uint8) for n in range(5)]
    found: dict[str, tuple[Kind, bytes]] = {}
    for ending in ("jpg", "png", "gif", "webp", "avif", "bmp", "tiff"):
        found[ending] = ("image", craft.encode(f".{ending}", photo))
    for ending in ("gif", "png", "webp", "avif"):
        found[f"moving {ending}"] = ("image", craft.animation(f".{ending}", moving))
    ok, pages = cv2.imencodemulti(".tiff", moving)
    assert ok
    found |= {
        "progressive jpg": ("image", craft.encode(".jpg", photo, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
        "turned jpg": ("image", craft.with_exif(craft.encode(".jpg", photo), 6)),
        "lossless webp": ("image", craft.encode(".webp", photo, cv2.IMWRITE_WEBP_QUALITY, 101)),
        "deep png": ("image", craft.encode(".png", photo.astype(np.uint16) * 257)),
        "pages of tiff": ("image", pages.tobytes()),
        "mp4": ("video", videos.clip()),
        "streamed mp4": ("video", videos.clip("b.mp4", movflags="faststart")),
        "fragmented mp4": ("video", videos.clip("c.mp4", movflags="frag_keyframe+empty_moov")),
        "mpeg-4": ("video", videos.clip("d.mp4", "mpeg4")),
        "vp9 mp4": ("video", videos.clip("e.mp4", "libvpx-vp9")),
        "av1 mp4": ("video", videos.clip("f.mp4", "libsvtav1")),
        "mkv": ("video", videos.clip("a.mkv")),
        "vp8 webm": ("video", videos.clip("g.webm", "libvpx")),
        "vp9 webm": ("video", videos.clip("h.webm", "libvpx-vp9")),
    }
    return found


# --- without knowing the format --------------------------------------------------------------------------------------


def flip(dice: random.Random, data: bytearray) -> bytearray:
    for _ in range(dice.choice((1, 1, 2, 8, 64))):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    return data


def swap(dice: random.Random, data: bytearray) -> bytearray:
    size = min(dice.choice((4, 16, 64, 512)), len(data) // 4)
    one, other = (dice.randrange(len(data) - size) for _ in range(2))
    data[one : one + size], data[other : other + size] = data[other : other + size], data[one : one + size]
    return data


def cut(dice: random.Random, data: bytearray) -> bytearray:
    at = dice.randrange(len(data))
    del data[at : at + dice.choice((1, 4, 64, len(data)))]
    return data


def repeat(dice: random.Random, data: bytearray) -> bytearray:
    at = dice.randrange(len(data))
    piece = data[at : at + dice.choice((8, 64, 512))]
    data[at:at] = piece * dice.choice((1, 10, 1000))
    return data


def number(dice: random.Random, data: bytearray) -> bytearray:
    """Somewhere near the beginning or the end, where headers and tables are, a number that is asked for trouble."""
    form = dice.choice(("<H", ">H", "<I", ">I", ">Q"))
    size = struct.calcsize(form)
    value = dice.choice(NUMBERS) & ((1 << 8 * size) - 1)
    within = min(len(data) - size, dice.choice((64, 512, 4096)))
    at = dice.randrange(max(1, within))
    struct.pack_into(form, data, at if dice.random() < 0.7 else len(data) - size - at, value)
    return data


ANY: tuple[Damage, ...] = (flip, flip, swap, cut, repeat, number)


# --- knowing it ------------------------------------------------------------------------------------------------------


def png_chunks(dice: random.Random, data: bytearray) -> bytearray:
    """One chunk changed and its checksum made right, or chunks in another order."""
    found: list[tuple[bytes, bytes]] = []
    at = 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        found.append((kind, bytes(data[at + 8 : at + 8 + length])))
        at += 12 + length
    if not found:
        return _any(dice, data)
    place = dice.randrange(len(found))
    kind, body = found[place]
    match dice.randrange(4):
        case 0:
            found[place] = kind, bytes(_any(dice, bytearray(body)))
        case 1:
            found.insert(dice.randrange(len(found)), found[place])
        case 2:
            found[place] = dice.choice((b"PLTE", b"tRNS", b"iCCP", b"eXIf", b"acTL", b"fcTL", b"fdAT", b"sPLT")), body
        case _ if kind == b"IDAT":
            found[place] = kind, zlib.compress(bytes(_any(dice, bytearray(_inflated(body)))))
        case _:
            dice.shuffle(found)
    pieces = (struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in found)  # noqa: E501  # fmt: skip
    return data[:8] + b"".join(pieces)


def _inflated(body: bytes) -> bytes:
    try:
        return zlib.decompress(body)
    except zlib.error:
        return body


def jpeg_segments(dice: random.Random, data: bytearray) -> bytearray:
    """One segment changed in its body, its length or its kind, or there twice."""
    places: list[tuple[int, int]] = []
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", data, at + 2)
        places.append((at, length))
        at += 2 + length
    if not places:
        return _any(dice, data)
    at, length = dice.choice(places)
    match dice.randrange(4):
        case 0:
            data[at + 4 : at + 2 + length] = _any(dice, data[at + 4 : at + 2 + length])[: length - 2]
        case 1:
            struct.pack_into(
                ">H", data, at + 2, dice.choice((0, 1, 2, 3, max(0, length - 1), length + 1 & 0xFFFF, 0xFFFF))
            )
        case 2:
            data[at + 1] = dice.choice((0xC0, 0xC1, 0xC2, 0xC4, 0xC9, 0xDB, 0xDD, 0xDC, 0xE0, 0xE1, 0xE2, 0xEE))
        case _:
            data[at:at] = data[at : at + 2 + length]
    return data


def mp4_boxes(dice: random.Random, data: bytearray) -> bytearray:
    """One box, however deep, changed: its length, its name, a number in its table; or there twice, or not at all."""
    places: list[tuple[int, int]] = []

    def walk(at: int, end: int) -> None:
        while at + 8 <= end:
            size, name = struct.unpack_from(">I4s", data, at)
            if size < 8 or at + size > end:
                return
            places.append((at, size))
            if name in (*videos.CONTAINERS, b"moof", b"traf", b"mvex"):
                walk(at + 8, at + size)
            elif name in (b"meta", b"iprp", b"ipco"):
                walk(at + (12 if name == b"meta" else 8), at + size)
            at += size

    walk(0, len(data))
    if not places:
        return _any(dice, data)
    at, size = dice.choice(places)
    match dice.randrange(5):
        case 0:
            struct.pack_into(
                ">I", data, at, dice.choice((0, 1, 7, 8, size - 4, size + 4, 2**31, 2**32 - 1)) & 0xFFFFFFFF
            )
        case 1:
            data[at + 4 : at + 8] = dice.choice((b"free", b"stts", b"stsz", b"elst", b"cmov", b"moov", b"uuid"))
        case 2 if size >= 20:
            where = at + 8 + 4 * dice.randrange((size - 8) // 4)
            struct.pack_into(">I", data, where, dice.choice(NUMBERS))
        case 3:
            data[at:at] = data[at : at + size]
        case _:
            del data[at : at + size]
    return data


AWARE: dict[bytes, Damage] = {b"\x89PNG": png_chunks, b"\xff\xd8\xff": jpeg_segments, b"ftyp": mp4_boxes}


def _any(dice: random.Random, data: bytearray) -> bytearray:
    return dice.choice(ANY)(dice, data) if len(data) > 16 else data


def damaged(seed: int, data: bytes) -> bytes:
    """Always the same of the same seed."""
    dice = random.Random(seed)
    hurt = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 4))):
        if not 17 < len(hurt) < 4_000_000:
            break
        knows = next((way for magic, way in AWARE.items() if magic in hurt[:8]), None)
        hurt = knows(dice, hurt) if knows is not None and dice.random() < 0.5 else _any(dice, hurt)
    return bytes(hurt[:4_000_000])


def cases(seed: int) -> Iterator[Case]:
    """Without end; the formats in turn."""
    turn = 0
    while True:
        for name, (kind, data) in seeds().items():
            made = functools.partial(damaged, seed * 1_000_003 + turn, data)
            yield Case(f"{name}, damaged {seed}.{turn}", kind, made, EITHER)
            turn += 1
