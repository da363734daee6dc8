"""Proof that content is gone: what it was is looked for in the files themselves, byte by byte.

The looking is a process of its own: closing a database file drops the locks that SQLite holds on it in the same
process. What is looked for comes in through a pipe and stands in memory only.
"""
# pyahocorasick is a compiled module without types; what leaves this file is typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportAttributeAccessIssue=false

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import ahocorasick
import msgspec

import appliance
from appliance.errors import Misconfigured

SHORTEST = 12
"""Bytes. What is shorter may stand anywhere by chance and is not looked for."""

_PIECE = 48
_EVERY = 1024  # four pieces a page of the file, so that no page of a long text is without a whole one
_MOST = 20_000
_CHUNK = 1 << 23


class Asked(msgspec.Struct, frozen=True):
    files: list[str]
    pieces: list[bytes]


class Looked(msgspec.Struct, frozen=True):
    """What was looked through, and which pieces are still there."""

    size_bytes: int
    found: list[bytes]


class Contents:
    """What is being erased, so that it can be looked for afterwards: all of it up to 20,000 texts, then every second
    one, every fourth, and so on. It does not print."""

    def __init__(self) -> None:
        self.seen = 0
        self.short = 0
        self._kept: list[list[bytes]] = []
        self._stride = 1

    def add(self, content: str) -> None:
        raw = content.encode("utf-8", "surrogatepass")
        if len(raw) < SHORTEST:
            self.short += 1
            return
        if self.seen % self._stride == 0:
            self._kept.append([raw[at : at + _PIECE] for at in range(0, max(1, len(raw) - SHORTEST), _EVERY)])
        self.seen += 1
        if len(self._kept) > _MOST:
            self._kept = self._kept[::2]
            self._stride *= 2

    @property
    def looked_for(self) -> int:
        return len(self._kept)

    def pieces(self) -> list[bytes]:
        return list({piece for pieces in self._kept for piece in pieces})


def look(home: Path, pieces: Sequence[bytes]) -> Looked:
    """Look for the pieces in every database file of the state directory, logs included. Raises Misconfigured when a
    file cannot be read."""
    files = sorted(str(path) for path in home.glob("*.db*") if path.is_file())
    done = subprocess.run(
        [sys.executable, "-m", "appliance.work.proof"],
        input=msgspec.msgpack.encode(Asked(files, list(pieces))),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(Path(appliance.__file__).resolve().parent.parent)},
    )
    if done.returncode != 0:
        raise Misconfigured(f"{home}: the files could not be looked through ({done.stderr.decode()[-200:].strip()})")
    return msgspec.msgpack.decode(done.stdout, type=Looked)


def _search(asked: Asked) -> Looked:
    automaton = ahocorasick.Automaton()
    for piece in asked.pieces:
        automaton.add_word(piece.decode("latin-1"), piece)  # one character a byte
    automaton.make_automaton()
    size = 0
    found: set[bytes] = set()
    for path in asked.files:
        for chunk, fresh in _chunks(Path(path)):
            size += fresh
            if asked.pieces:
                found.update(piece for _, piece in automaton.iter(chunk.decode("latin-1")))
    return Looked(size, sorted(found))


def _chunks(path: Path) -> Iterable[tuple[bytes, int]]:
    """The file in parts, each with the end of the one before it, so that no piece falls between two; and how many of
    the bytes are new."""
    try:
        with path.open("rb") as file:
            before = b""
            while chunk := file.read(_CHUNK):
                yield before + chunk, len(chunk)
                before = chunk[-_PIECE:]
    except FileNotFoundError:  # a log goes when the last connection is closed
        return


if __name__ == "__main__":
    sys.stdout.buffer.write(
        msgspec.msgpack.encode(_search(msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Asked)))
    )
