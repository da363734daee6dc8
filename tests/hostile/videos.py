"""Videos out to break a decoder: tables that count what is not there, boxes in boxes, media that lie elsewhere."""

import functools
import os
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.hostile.case import EITHER, REFUSED, Case
from tests.media import craft

CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf", b"edts", b"udta"}
SAMPLES = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
MOST = 2**32 - 1
os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder tells of itself otherwise


@functools.cache
def clip(name: str = "a.mp4", codec: str = "libx264", **container: str) -> bytes:
    """Three seconds, a key frame a second; its tables lie behind the pictures, so that they may grow."""
    with tempfile.TemporaryDirectory() as folder:
        path = craft.clip(Path(folder) / name, craft.pan("coffee", 3, size=(96, 64)), codec, container=container)
        return path.read_bytes()


def box(name: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), name) + body


def boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    at = 0
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        found.append((name, data[at + 8 : at + size]))
        at += max(8, size)
    return found


def edited(data: bytes, path: tuple[bytes, ...], change: Callable[[bytes], bytes]) -> bytes:
    """The file with the body of the box at the end of a path changed."""
    first, *rest = path
    return b"".join(
        box(name, (edited(body, tuple(rest), change) if rest else change(body)) if name == first else body)
        for name, body in boxes(data)
    )


def _sample(name: bytes, body: bytes) -> Callable[[], bytes]:
    return lambda: edited(clip(), (*SAMPLES, name), lambda _: body)


def _added(path: tuple[bytes, ...], *more: bytes) -> Callable[[], bytes]:
    return lambda: edited(clip(), path, lambda body: body + b"".join(more))


def counted(count: int, *entries: bytes) -> bytes:
    """A full box of version 0: how many, and then those that are there."""
    return bytes(4) + struct.pack(">I", count) + b"".join(entries)


def _key_frame() -> tuple[int, int]:
    """Where the first picture lies, and how long it is."""
    tables = dict(boxes(_inside(clip(), SAMPLES)))
    return struct.unpack_from(">I", tables[b"stco"], 8)[0], struct.unpack_from(">I", tables[b"stsz"], 12)[0]


def _inside(data: bytes, path: tuple[bytes, ...]) -> bytes:
    for name in path:
        data = dict(boxes(data))[name]
    return data


def the_same_picture(times: int, lasts_ms: int) -> bytes:
    """One key frame, which the tables show again and again: four bytes a picture."""
    at, size = _key_frame()
    data = clip()
    tables = {
        b"stts": counted(1, struct.pack(">II", times, lasts_ms)),
        b"stsc": counted(1, struct.pack(">III", 1, 1, 1)),
        b"stsz": bytes(4) + struct.pack(">II", size, times),
        b"stco": counted(times, struct.pack(">I", at) * times),
        b"stss": None,
        b"ctts": None,
    }

    def change(body: bytes) -> bytes:
        kept = [(name, tables.get(name, inner)) for name, inner in boxes(body)]
        return b"".join(box(name, inner) for name, inner in kept if inner is not None)

    data = edited(data, SAMPLES, change)

    def scaled(body: bytes) -> bytes:
        return body[:12] + struct.pack(">II", 1000, min(MOST, times * lasts_ms)) + body[20:]

    data = edited(data, (b"moov", b"trak", b"mdia", b"mdhd"), scaled)
    data = edited(data, (b"moov", b"trak", b"edts"), lambda _: b"")
    return edited(data, (b"moov", b"mvhd"), scaled)


def _nested(name: bytes, levels: int) -> bytes:
    data = b""
    for _ in range(levels):
        data = box(name, data)
    return data


def _packed_moov() -> bytes:
    """QuickTime's compressed table, which says that it is 4 GB, and inflates to a gigabyte."""
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(1_000_000)) for _ in range(1000)) + packer.flush()
    return box(b"moov", box(b"cmov", box(b"dcom", b"zlib"), box(b"cmvd", struct.pack(">I", MOST) + bomb)))


def reference(address: bytes) -> bytes:
    """A QuickTime movie that is only the address of another."""
    inner = box(b"rdrf", bytes(4) + b"url " + struct.pack(">I", len(address)) + address)
    return box(b"ftyp", b"qt  " + bytes(4) + b"qt  ") + box(b"moov", box(b"rmra", box(b"rmda", inner)))


def elsewhere(kind: bytes, address: bytes) -> bytes:
    """The pictures are said to lie in another file."""
    entry = box(kind, bytes(4) + address + b"\0")
    return edited(clip(), (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"), lambda _: counted(1, entry))


def _sized(width: int, height: int) -> bytes:
    def entry(body: bytes) -> bytes:
        return body[: 16 + 24] + struct.pack(">HH", width, height) + body[16 + 28 :]

    def track(body: bytes) -> bytes:
        return body[:-8] + struct.pack(">II", (width << 16) & MOST, (height << 16) & MOST)

    return edited(edited(clip(), (*SAMPLES, b"stsd"), entry), (b"moov", b"trak", b"tkhd"), track)


def _fragments(count: int, entries: int) -> bytes:
    run = box(b"trun", struct.pack(">IIi", 0x201, entries, 0), bytes(64))
    part = box(b"moof", box(b"mfhd", bytes(8)), box(b"traf", box(b"tfhd", struct.pack(">II", 0, 1)), run))
    whole = clip(movflags="frag_keyframe+empty_moov")
    return whole + part * count


def ebml(ident: bytes, body: bytes, size: int | None = None) -> bytes:
    return ident + struct.pack(">Q", 1 << 56 | (len(body) if size is None else size)) + body


def _matroska_head() -> bytes:
    return ebml(b"\x1aE\xdf\xa3", ebml(b"\x42\x82", b"matroska"))


def _mp4s() -> Iterator[Case]:
    # 1. tables
    for name, entry in ((b"stts", 8), (b"ctts", 8), (b"stsc", 12), (b"stco", 4), (b"co64", 8), (b"stss", 4)):
        yield Case(f"mp4 {name.decode()} of 2^32", "video", _sample(name, counted(MOST, bytes(entry * 3))), EITHER)
    yield Case("mp4 stts of one entry, 2^32 samples", "video", _sample(b"stts", counted(1, struct.pack(">II", MOST, 1))), EITHER)  # noqa: E501  # fmt: skip
    yield Case("mp4 stts that goes back", "video", _sample(b"stts", counted(1, struct.pack(">II", 30, MOST))), EITHER)
    yield Case("mp4 stsz of 2^32 samples", "video", _sample(b"stsz", bytes(4) + struct.pack(">II", 1, MOST)), EITHER)
    yield Case(
        "mp4 stsz of samples of 4 GB", "video", _sample(b"stsz", bytes(4) + struct.pack(">II", MOST, 30)), EITHER
    )
    yield Case("mp4 chunks beyond its end", "video", _sample(b"stco", counted(3, struct.pack(">III", MOST, 1, 0))), EITHER)  # noqa: E501  # fmt: skip
    yield Case("mp4 stsd of 2^32", "video", _sample(b"stsd", counted(MOST, bytes(86))), EITHER)
    yield Case("mp4 no samples", "video", _sample(b"stsz", bytes(12)))
    million = functools.partial(the_same_picture, 1_000_000, 1)
    yield Case("mp4 of a million frames", "video", million, REFUSED, "key frames|longer")
    yield Case(
        "mp4 of a million frames, 40 s each",
        "video",
        lambda: the_same_picture(1_000_000, 40_000),
        REFUSED,
        "key frames|longer",
    )
    yield Case("mp4 of 2^31 ms, two frames", "video", lambda: the_same_picture(2, 2**31 - 1), EITHER)
    yield Case("mp4 mvhd of no time scale", "video", lambda: edited(clip(), (b"moov", b"mvhd"), lambda body: body[:12] + bytes(8) + body[20:]), EITHER)  # noqa: E501  # fmt: skip
    yield Case("mp4 mdhd of no time scale", "video", lambda: edited(clip(), (*SAMPLES[:3], b"mdhd"), lambda body: body[:12] + bytes(8) + body[20:]), EITHER)  # noqa: E501  # fmt: skip
    # 2. edit lists
    edit = struct.pack(">IiI", 1, 0, 1 << 16)
    yield Case("mp4 500,000 edits", "video", lambda: edited(clip(), (b"moov", b"trak", b"edts"), lambda _: box(b"elst", counted(500_000, edit * 500_000))), EITHER)  # noqa: E501  # fmt: skip
    yield Case("mp4 2^32 edits", "video", lambda: edited(clip(), (b"moov", b"trak", b"edts"), lambda _: box(b"elst", counted(MOST, edit))), EITHER)  # noqa: E501  # fmt: skip
    yield Case("mp4 an edit of 68 years", "video", lambda: edited(clip(), (b"moov", b"trak", b"edts"), lambda _: box(b"elst", counted(2, struct.pack(">IiI", 2**31 - 1, -1, 1 << 16), edit))), EITHER)  # noqa: E501  # fmt: skip
    # 3. boxes
    for name in (b"moov", b"trak", b"udta", b"meta"):
        yield Case(f"mp4 {name.decode()} in itself, 100,000 deep", "video", _added((b"moov",), _nested(name, 100_000)), EITHER)  # noqa: E501  # fmt: skip
    yield Case("mp4 5,000 tracks", "video", lambda: edited(clip(), (b"moov",), lambda body: body + box(b"trak", dict(boxes(body))[b"trak"]) * 5_000), EITHER)  # noqa: E501  # fmt: skip
    yield Case("mp4 200,000 boxes", "video", lambda: clip() + box(b"free") * 200_000, REFUSED, "parts")
    yield Case("mp4 boxes of 200 MB said", "video", lambda: clip() + struct.pack(">I4s", 200_000_000, b"free"), REFUSED, "truncated")  # noqa: E501  # fmt: skip
    yield Case("mp4 100,000 pieces of user data", "video", _added((b"moov",), box(b"udta", box(b"\xa9nam", b"\0\4\0\0name") * 100_000)), EITHER)  # noqa: E501  # fmt: skip
    yield Case("mp4 packed moov", "video", lambda: box(b"ftyp", b"qt  " + bytes(8)) + _packed_moov())
    yield Case("mp4 uuid and sidx of 65535", "video", _added((b"moov",), box(b"sidx", bytes(22) + b"\xff\xff")), EITHER)
    yield Case("mp4 moov alone", "video", lambda: box(b"ftyp", b"isom" + bytes(8)) + box(b"moov"))
    yield Case("mp4 run of 2^32 samples", "video", lambda: _fragments(1, MOST), EITHER)
    yield Case("mp4 50,000 fragments", "video", lambda: _fragments(50_000, 16), EITHER)
    # 4. sizes
    for width, height in ((0, 0), (65_535, 65_535), (1, 65_535), (0, 64)):
        yield Case(f"mp4 {width} x {height}", "video", functools.partial(_sized, width, height), EITHER)
    for codec in (b"jp2k", b"png ", b"tiff", b"gif ", b"rawv", b"SVQ3", b"cvid", b"text", b"mp4a", b"HapY", b"mjp2"):
        renamed = functools.partial(lambda codec: clip().replace(b"avc1", codec), codec)
        yield Case(f"mp4 of {codec.decode().strip()}", "video", renamed, EITHER)
    # 5. cut
    for cut in (8, 16, 32, 40, len(clip()) // 2, len(clip()) - 400, len(clip()) - 1):
        yield Case(f"mp4 cut at {cut}", "video", functools.partial(bytes, clip()[:cut]))
    streamed = clip("b.mp4", movflags="faststart")
    for share in (3, 6, 9):
        yield Case(f"mp4 streamed, cut at {share}/10", "video", functools.partial(bytes, streamed[: len(streamed) * share // 10]))  # noqa: E501  # fmt: skip


def _matroskas() -> Iterator[Case]:
    whole = clip("a.mkv")
    head, segment = _matroska_head(), b"\x18S\x80g"
    yield Case("mkv of nothing", "video", lambda: head + ebml(segment, b""))
    yield Case("mkv without end", "video", lambda: head + segment + b"\x01" + b"\xff" * 7 + bytes(99))
    yield Case("mkv of 2^55", "video", lambda: head + ebml(segment, b"", 2**55), REFUSED, "truncated")
    yield Case("mkv deep", "video", lambda: head + ebml(segment, _deep(2_000)))
    yield Case("mkv of another kind", "video", lambda: ebml(b"\x1aE\xdf\xa3", ebml(b"\x42\x82", b"mkvfonts")), REFUSED, "neither")  # noqa: E501  # fmt: skip
    yield Case("mkv elements of no id", "video", lambda: head + bytes(9_999))
    for cut in (5, 20, 60, len(whole) // 2, len(whole) - 1):
        yield Case(f"mkv cut at {cut}", "video", functools.partial(bytes, whole[:cut]), EITHER if cut > 60 else REFUSED)
    attached = ebml(b"\x19\x41\xa4\x69", ebml(b"\x61\xa7", ebml(b"\x46\x6e", b"../../etc/passwd") + ebml(b"\x46\x5c", bytes(9_000_000))))  # noqa: E501  # fmt: skip
    yield Case("mkv with a file in it", "video", lambda: whole + attached, EITHER)
    linked = ebml(b"\x15\x49\xa9\x66", ebml(b"\x3e\xb9\x23", bytes(16)) + ebml(b"\x3e\x83\xbb", b"file:///etc/passwd"))
    yield Case("mkv that goes on elsewhere", "video", lambda: head + ebml(segment, linked))


def _deep(levels: int) -> bytes:
    data = b""
    for _ in range(levels):
        data = ebml(b"\x11\x4d\x9b\x74", data)
    return data


def cases() -> Iterator[Case]:
    yield from _mp4s()
    yield from _matroskas()
