"""Files that are not what they are named, or are two things at once, or only the address of another file. `canary` is a
file that none of them may open, `port` one that none of them may reach."""

import functools
import io
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tests.hostile import images, videos
from tests.hostile.case import EITHER, REFUSED, Case
from tests.media import craft


def _zip() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("hello.txt", "hello")
    return packed.getvalue()


HTML = b"<!doctype html><html><body><script>alert(1)</script></body></html>"
SCRIPT = b"/*" + b" " * 20 + b"*/=1;alert(1);"


def _lists(canary: Path, port: int) -> Iterator[tuple[str, bytes, str]]:
    """Name, what it says, and how it is refused."""
    path = str(canary).encode()
    url = f"http://127.0.0.1:{port}/a.mp4".encode()
    for target, name in ((path, "file"), (url, "address"), (canary.name.encode(), "neighbour")):
        yield f"ffconcat of a {name}", b"ffconcat version 1.0\nfile '" + target + b"'\n", "ffconcat"
        yield f"hls of a {name}", b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n" + target + b"\n#EXT-X-ENDLIST\n", "playlist"  # noqa: E501  # fmt: skip
        dash = b'<?xml version="1.0"?><MPD><Period><AdaptationSet><BaseURL>' + target + b"</BaseURL></AdaptationSet></Period></MPD>"  # noqa: E501  # fmt: skip
        yield f"dash of a {name}", dash, "XML"
        svg = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="' + target + b'"/></svg>'
        yield f"svg of a {name}", svg, "SVG"
        yield f"sdp of a {name}", b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 " + target + b"\n", "text"
        yield f"imagemagick script of a {name}", b"push graphic-context\nimage over 0,0 0,0 '" + target + b"'\n", "text"
    entity = b'<!DOCTYPE s [<!ENTITY x SYSTEM "file://' + path + b'">]><svg>&x;</svg>'
    yield "svg with an entity", entity, "web page|XML"
    laughs = b"<?xml version='1.0'?><!DOCTYPE l [<!ENTITY a 'ha'>" + b"".join(
        f"<!ENTITY {chr(98 + n)} '{f'&{chr(97 + n)};' * 10}'>".encode() for n in range(9)
    )
    yield "svg of a thousand million laughs", laughs + b"]><svg>&j;</svg>", "XML"
    yield "svg behind a byte order mark", b"\xef\xbb\xbf<svg/>", "SVG"
    yield "svg in UTF-16", "<svg/>".encode("utf-16"), "this file"


OTHERS: tuple[tuple[str, bytes, str], ...] = (
    ("font, TrueType", b"\0\1\0\0\0\x0c\0\x80\0\3\0\x40" + bytes(99), "this file"),
    ("font, OpenType", b"OTTO\0\x0c\0\x80\0\3\0\x40" + bytes(99), "this file"),
    ("font, WOFF", b"wOFF\0\1\0\0" + bytes(99), "this file"),
    ("font, WOFF2", b"wOF2\0\1\0\0" + bytes(99), "this file"),
    ("pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj<</Type/Catalog>>", "PDF"),
    ("postscript", b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) (r) file", "text"),
    ("zip", _zip(), "ZIP"),
    ("jpeg 2000", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99), "JPEG 2000"),
    ("jpeg 2000, its codes", b"\xff\x4f\xff\x51" + bytes(99), "JPEG 2000"),
    ("jpeg xl", b"\xff\x0a" + bytes(99), "JPEG XL"),
    ("heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "HEIC"),
    ("photoshop", b"8BPS\0\1" + bytes(99), "Photoshop"),
    ("icon", b"\0\0\1\0\1\0" + bytes(99), "icon"),
    ("openexr", b"\x76\x2f\x31\x01\2\0\0\0" + bytes(99), "OpenEXR"),
    ("radiance", b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 99999 +X 99999\n", "text"),
    ("portable bitmap", b"P6\n99999 99999\n255\n" + bytes(99), "this file"),
    ("portable float map", b"PF\n99999 99999\n-1.0\n" + bytes(99), "this file"),
    ("sun raster", b"\x59\xa6\x6a\x95" + struct.pack(">7I", 99_999, 99_999, 24, 0, 1, 0, 0), "this file"),
    ("avi", b"RIFF\x99\0\0\0AVI LIST" + bytes(99), "AVI"),
    ("flash video", b"FLV\1\5\0\0\0\x09" + bytes(99), "Flash"),
    ("transport stream", (b"G\x40\0\x10" + bytes(184)) * 9, "transport stream"),
    ("asf", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + bytes(99), "Windows Media"),
    ("program", b"\x7fELF\2\1\1" + bytes(99), "a program"),
    ("html", HTML, "web page"),
    ("script", b"#!/bin/sh\ntouch /tmp/was-here\n", "text"),
    ("text in UTF-16", "Müßiggang".encode("utf-16"), "this file"),
    ("text in Latin-1", "Müßiggang".encode("latin-1") * 9, "this file"),
    ("text in Shift JIS", "灯台".encode("shift-jis") * 9, "this file"),
    ("nothing", b"", "empty"),
    ("one byte", b"\xff", "this file"),
    ("zeros", bytes(99_999), "this file"),
)


def _both() -> Iterator[tuple[str, str, bytes]]:
    """What a decoder takes for a picture, and something else takes for its own."""
    photo = craft.photograph(size=(96, 64))
    jpeg, gif, mp4 = craft.encode(".jpg", photo), craft.encode(".gif", photo), videos.clip()
    yield "png and zip", "image", craft.encode(".png", photo) + _zip()
    yield "png with a page in it", "image", images.png(images.chunk(b"tEXt", b"Comment\0" + HTML))
    yield "jpeg and html", "image", jpeg[:2] + images.segment(0xFE, HTML) + jpeg[2:]
    yield "jpeg and pdf", "image", jpeg[:2] + images.segment(0xFE, b"%PDF-1.4\n") + jpeg[2:] + b"%%EOF"
    yield "jpeg and playlist", "image", jpeg + b"\n#EXTM3U\n#EXTINF:9,\n/etc/passwd\n"
    yield "gif and script", "image", gif + SCRIPT
    yield "webp and zip", "image", craft.encode(".webp", photo) + _zip()
    yield "bmp and script", "image", craft.encode(".bmp", photo) + SCRIPT
    yield "mp4 and text", "video", mp4 + videos.box(b"free", b"#EXTM3U\nfile:///etc/passwd\n")
    yield "mp4 and playlist", "video", videos.box(b"free", b"\n#EXTM3U\n") + mp4
    yield "avif and mp4", "image", craft.encode(".avif", photo) + mp4[mp4.index(b"moov") - 4 :]
    yield "mp4 that says avif", "image", mp4.replace(b"ftypisom", b"ftypavif", 1)
    yield "avif that says mp4", "video", craft.encode(".avif", photo).replace(b"avif", b"isom", 1).replace(b"avif", b"isom", 1)  # noqa: E501  # fmt: skip


def cases(canary: Path, port: int) -> Iterator[Case]:
    for kind in ("image", "video"):
        for name, data, says in (*_lists(canary, port), *OTHERS):
            yield Case(f"{name}, as {kind}", kind, functools.partial(bytes, data), REFUSED, says)
    for name, kind, data in _both():
        yield Case(name, "video" if kind == "video" else "image", functools.partial(bytes, data), EITHER)
    # Media that lie elsewhere: what follows the address would be opened by its path, or asked for over the network.
    url = f"http://127.0.0.1:{port}/a.mp4".encode()
    for where, address in (("a file", b"file://" + str(canary).encode()), ("an address", url), ("a neighbour", b"canary.mp4")):  # noqa: E501  # fmt: skip
        for kind in (b"url ", b"urn ", b"alis"):
            made = functools.partial(videos.elsewhere, kind, address)
            yield Case(f"mp4 whose pictures are in {where} ({kind.decode().strip()})", "video", made, EITHER)
        yield Case(f"mov that refers to {where}", "video", functools.partial(videos.reference, address))
    for kind in ("image", "video"):
        lists = b"ffconcat version 1.0\nfile '" + str(canary).encode() + b"'\n"
        for name, head in (("mp4", videos.clip()[:40]), ("mkv", videos.clip("a.mkv")[:60])):
            yield Case(f"{name}'s beginning, then a list, as {kind}", kind, functools.partial(bytes, head + lists))
