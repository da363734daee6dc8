"""What parent and decoder say to each other: messages with their length before them, and the file to decode as an open
descriptor, so that the decoder needs no right to open anything."""

import socket
import struct

import msgspec

from appliance.inference.wire import Pixels
from appliance.media.probe import Header

_LENGTH = struct.Struct("<I")
_LONGEST = 256_000_000  # a decoder that was taken over must not make its parent allocate without end


class Task(msgspec.Struct, frozen=True):
    """Decode the file that comes with this."""

    header: Header
    max_side: int
    max_pixels: int
    animation_frames: int
    frame_every_ms: int
    scene_threshold: float
    max_frames: int


class Shown(msgspec.Struct, frozen=True, tag=True):
    """A picture to judge."""

    at_ms: int | None
    pixels: Pixels


class Gone(msgspec.Struct, frozen=True, tag=True):
    """Frames shown before that are not wanted after all."""

    at_ms: list[int]


class Progress(msgspec.Struct, frozen=True, tag=True):
    done_ms: int
    duration_ms: int


class Done(msgspec.Struct, frozen=True, tag=True):
    """The last word on a file. `repeats`: a kept frame's time → the other times at which it is seen."""

    duration_ms: int = 0
    repeats: dict[int, list[int]] = {}


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The other last word."""

    message: str
    is_too_large: bool


Said = Shown | Gone | Progress | Done | Refused


class Broken(Exception):
    """The other side is gone, or speaks nonsense."""


def tell(line: socket.socket, message: Task | Said, descriptor: int | None = None) -> None:
    """Raises OSError, TimeoutError among them."""
    body = msgspec.msgpack.encode(message)
    head = _LENGTH.pack(len(body))
    if descriptor is None:
        line.sendall(head)
    else:
        socket.send_fds(line, [head], [descriptor])
    line.sendall(body)


def hear_task(line: socket.socket) -> tuple[Task, int]:
    """The next file, and its descriptor. Raises Broken when the parent has hung up."""
    head, descriptors, _, _ = socket.recv_fds(line, _LENGTH.size, 1)
    if len(head) != _LENGTH.size or len(descriptors) != 1:
        raise Broken
    return msgspec.msgpack.decode(_read(line, _LENGTH.unpack(head)[0]), type=Task), descriptors[0]


def hear(line: socket.socket) -> Said:
    """Raises Broken, or OSError, TimeoutError among them."""
    try:
        return msgspec.msgpack.decode(_read(line, _LENGTH.unpack(_read(line, _LENGTH.size))[0]), type=Said)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Broken from error


def _read(line: socket.socket, length: int) -> bytearray:
    if length > _LONGEST:
        raise Broken
    data = bytearray(length)
    view, at = memoryview(data), 0
    while at < length:
        got = line.recv_into(view[at:])
        if got == 0:
            raise Broken
        at += got
    return data
