"""What msgspec has to know of our Structs, learned while a process has one thread.

It learns one as it is first read into, and two threads that do so together crash the process: seen on 2026-11-21 with
msgspec 0.22.0, as a worker started while jobs waited.
"""

import contextlib
from collections.abc import Iterator

import msgspec


def prepare() -> None:
    """Learn every Struct that is imported by now. To be called before a process starts its threads (25 ms)."""
    for kind in _below(msgspec.Struct):
        with contextlib.suppress(TypeError):  # it holds what no message can carry: nothing is ever read into it
            msgspec.json.Decoder(kind)


def _below(kind: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)
