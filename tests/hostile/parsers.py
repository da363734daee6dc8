"""`python -m tests.hostile.parsers [--seconds N] [--seed S]`: what this product itself reads, fed with seeded damage to
honest input. Nothing may come out but the parser's own errors, and no input may cost more than so much of the
processor's time; the process has so much memory and no more.
"""

import argparse
import functools
import io
import itertools
import random
import resource
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import msgspec

from appliance import settings
from appliance.categories import load as load_categories
from appliance.errors import AddressRefused, InvalidRequest, MediaTooLarge, MediaUnreachable, MediaUnsupported
from appliance.errors import Misconfigured as Wrong
from appliance.inference import manifest, packed, tfjs
from appliance.inference.wire import Pixels
from appliance.media import decoders, pipe, probe
from appliance.outbound import Outbound
from appliance.policies import body
from appliance.text import expressions, language, links, normalize
from appliance.text.blocklist import Blocklist, Entry
from tests.hostile import disguises, images, mutate, videos
from tests.test_packed import Made
from tests.tinygraph import GRAPH, WEIGHTS

ROOT = Path(__file__).resolve().parent.parent.parent
CPU_S = 20.0
"""Of the processor, for one input: a limit for what runs away, not a measure of speed."""
MEMORY_BYTES = 3_000_000_000

Errors = tuple[type[Exception], ...]


class Parser(NamedTuple):
    """`feed` reads one input; `errors` are those that it may raise."""

    seeds: Callable[[], list[bytes]]
    feed: Callable[[bytes], Any]
    errors: Errors = ()


# --- media -----------------------------------------------------------------------------------------------------------


def _media_seeds() -> list[bytes]:
    honest = [data for _, data in mutate.seeds().values()]
    folder = Path(tempfile.gettempdir())
    made = [case.make() for case in disguises.cases(folder / "canary.mp4", 9) if case.kind == "image"]
    odd = [images.gif(9, 9, [(9, 9)] * 3), images.riff(), images.progressive(64, 3), videos.reference(b"file:///x")]
    return [*honest, *made, *odd]


def _look(data: bytes) -> None:
    probe.check(probe.look(io.BytesIO(data)), 100_000_000)


def _hear(data: bytes) -> None:
    """What a decoder that was taken over might say to its parent."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(1)
        theirs.send(data[:60_000])
        theirs.shutdown(socket.SHUT_WR)
        ours.settimeout(1)
        pipe.hear(ours)


def _said() -> list[bytes]:
    pixels = Pixels(2, 2, bytes(12))
    said = [pipe.Shown(7, pixels), pipe.Gone([1, 2]), pipe.Progress(1, 2), pipe.Done(9, {1: [2]}), pipe.Refused("x", True)]  # noqa: E501  # fmt: skip
    packed = [msgspec.msgpack.encode(one) for one in said]
    return [len(one).to_bytes(4, "little") + one for one in packed]


def _frame(data: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        decoders.read_frame(Path(file.name))


# --- text ------------------------------------------------------------------------------------------------------------

_TEXTS = (
    "A lighthouse at dawn, painted by h.e.r 𝖒𝖔𝖙𝖍𝖊𝖗 — see https://example.com/a?b=c#d or http://[::1]:80/ or 0x7f.1",
    "i l o v e y o u, l33t $p33ch, sooooooo, Zа́лго с̷л̷о̷в̷а̷, ﷺ ﬀ ǅ ẞ İ ı, ‮evil‬, \u200bhid\u200dden, e\u0301\u0301",
    "data:text/html;base64,PGI+ mailto:a@b.c xn--e1afmkfd.xn--p1ai münchen.example evil。com 。。。 @@@ ::: ///",
    "灯台の夜明け 등대의 새벽 فجر المنارة המגדלור בשחר маяк на рассвете φάρος την αυγή ประภาคาร",
)
_PATTERNS = (r"(a+)+$", r"\b(foo|bar){1,50}\b", r"[^\pL\pN]{3,}", r"(?i)x(?P<n>y)*?z", r"\x{1f600}+|\Q.*\E", r"^$|.")


def _read_text(data: bytes) -> None:
    text = data.decode("utf-8", "replace")[:20_000]  # no door lets half a character in
    list(_list().hits(normalize.views(text)))
    list(links.find(text))
    language.detect(text)
    normalize.undisguised(text)


@functools.cache
def _list() -> Blocklist:
    return Blocklist.build([Entry("lighthouse"), Entry("love", "substring"), Entry(r"l\d+t", "regex")])


def _compile(data: bytes) -> None:
    pattern = data.decode("utf-8", "replace")[:1_000]
    if expressions.problem(pattern) is None:
        Blocklist.build([Entry(pattern, "regex"), Entry(pattern[:50])])


# --- addresses, settings, models -------------------------------------------------------------------------------------

_ADDRESSES = (
    "http://example.com/a.jpg", "https://user:p@10.0.0.1:8443/x?y#z", "http://[::ffff:127.0.0.1%25eth0]/", "http://0x7f.1/",
    "http://①②⑦.0.0.1/", "http://ⓔⓧⓐⓜⓟⓛⓔ.com/", "http://xn--nxasmq6b/", "http://a\u3002b/", "ftp://x/", "http://a:0/",
)  # fmt: skip


def _check(data: bytes) -> None:
    Outbound().check(data.decode("utf-8", "replace"))


def _manifests() -> list[bytes]:
    return [path.read_bytes() for path in sorted((ROOT / "models").glob("*/manifest.toml"))]


def _of_file(read: Callable[[Path], Any]) -> Callable[[bytes], Any]:
    def feed(data: bytes) -> None:
        with tempfile.NamedTemporaryFile(suffix=".toml") as file:
            file.write(data)
            file.flush()
            read(Path(file.name))

    return feed


def _graphs() -> list[bytes]:
    return [GRAPH, b"!function(){module.exports=" + GRAPH + b"}()"]


def _packed() -> list[bytes]:
    return [Made().file()]


def _unpack(data: bytes) -> None:
    packed.to_onnx(data)
    packed.to_tokenizer(data)


def _texts(*some: str) -> Callable[[], list[bytes]]:
    return lambda: [one.encode() for one in some]


PARSERS: dict[str, Parser] = {
    "media headers": Parser(_media_seeds, _look, (MediaUnsupported, MediaTooLarge)),
    "what a decoder says": Parser(_said, _hear, (pipe.Broken, OSError)),
    "frames on disk": Parser(
        lambda: [b"RGB8" + bytes([2, 0, 0, 0, 2, 0, 0, 0]) + bytes(12)], _frame, (MediaUnsupported,)
    ),
    "texts": Parser(_texts(*_TEXTS), _read_text),
    "expressions": Parser(_texts(*_PATTERNS), _compile),
    "addresses": Parser(_texts(*_ADDRESSES), _check, (AddressRefused, MediaUnreachable)),
    "manifests": Parser(_manifests, _of_file(manifest.parse), (Wrong,)),
    "categories": Parser(lambda: [(ROOT / "config/categories.toml").read_bytes()], _of_file(load_categories), (Wrong,)),
    "settings": Parser(
        lambda: [(ROOT / "config/customhouse.toml").read_bytes()],
        _of_file(lambda path: settings.load(path, {})),
        (Wrong,),
    ),
    "policies": Parser(
        lambda: [path.read_bytes() for path in (ROOT / "config/policies").glob("*.toml")],
        lambda data: body.parse(data.decode("utf-8", "replace")),
        (InvalidRequest,),
    ),
    "tfjs graphs": Parser(_graphs, lambda data: tfjs.convert(data, [WEIGHTS]), (tfjs.ConversionError,)),
    "packed embeddings": Parser(_packed, _unpack, (packed.PackedError,)),
}


class Broken(NamedTuple):
    parser: str
    turn: int
    error: str


class _TookTooLong(BaseException):
    pass


def _inputs(name: str, seed: int) -> Iterator[tuple[int, bytes]]:
    """What is honest first, then what is deep or endless, then damage."""
    honest = PARSERS[name].seeds()
    odd = [b"", b"\0", b"[" * 100_000, b'{"a":' * 100_000, b"(" * 1_000, b"\xff" * 9_999, "\u0301".encode() * 9_999]
    first = [*honest, *odd]
    yield from enumerate(first)
    for turn in itertools.count(len(first)):
        data = random.Random(f"{name} {seed} {turn}").choice(honest)
        yield turn, mutate.damaged(seed * 1_000_003 + turn, data) if len(data) > 16 else data


def fuzz(name: str, seed: int, seconds: float) -> tuple[int, list[Broken]]:
    """How many inputs were read, and which of them broke the parser."""
    parser = PARSERS[name]
    found: list[Broken] = []
    count = 0
    until = time.monotonic() + seconds
    honest = len(parser.seeds()) + 7
    for turn, data in _inputs(name, seed):
        if time.monotonic() > until and turn > honest + 20:
            break
        count += 1
        signal.setitimer(signal.ITIMER_PROF, CPU_S)
        try:
            parser.feed(data)
        except parser.errors:
            pass
        except _TookTooLong:
            found.append(Broken(name, turn, f"took more than {CPU_S} s of the processor"))
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            found.append(Broken(name, turn, f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"[:300]))
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    return count, found


def _nobody(host: Any, *args: Any, **kwargs: Any) -> Any:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def _give_up(number: int, frame: FrameType | None) -> None:
    raise _TookTooLong


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.parsers", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each parser")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", default="", help="parsers whose name has this in it")
    given = parser.parse_args(arguments)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    socket.getaddrinfo = _nobody  # no name is asked for anywhere
    signal.signal(signal.SIGPROF, _give_up)
    broken: list[Broken] = []
    for name in PARSERS:
        if given.only in name:
            count, found = fuzz(name, given.seed, given.seconds)
            broken += found
            print(f"{name}: {count:,} inputs of seed {given.seed}, {len(found)} broke it", flush=True)
            for one in list({one.error: one for one in found}.values())[:10]:
                print(f"  {one.turn}: {one.error}", flush=True)
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
