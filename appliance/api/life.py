"""The life of one API process, as its parent sees it: it beats while its event loop turns, and leaves in order.

In order means that nobody who is connected is cut off. Granian stops taking connections and lets go of the open ones in
one step; then a connection whose request lies unread is closed in the caller's face. So we come before it: from the
moment we are told to leave, new connections stay in the socket's queue, for who comes after us; every answer says
`connection: close`; and Granian is stopped when no connection is left, or only such as nobody says anything on.
"""

import array
import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import stat
import struct
import termios
from collections.abc import Coroutine, Iterator
from typing import Any

from litestar.types import ASGIApp, Message, Receive, Scope, Send

LEAVE = signal.SIGUSR1
"""What the parent sends: SIGTERM is Granian's own."""

QUIET_S = 3.0
"""A connection on which nothing has been asked for so long may be closed."""
LONGEST_S = 10.0
"""After so long we go, whatever lies unread."""

_LOOK_S = 0.02
_BEAT = struct.Struct("=i")
_OTHER_BYTES = 4096


class Life:
    """`listener` is the socket's descriptor, `mouth` the end of a pipe that the parent listens at."""

    def __init__(self, listener: int, mouth: int, every_s: float) -> None:
        self._listener = listener
        self._mouth = mouth
        self._every_s = every_s
        self._is_leaving = False
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """Beat from now on. In the event loop that answers requests."""
        self._keep(self._beat())

    def leave(self) -> None:
        """Take nobody new, answer who is there, then go."""
        if not self._is_leaving:
            self._is_leaving = True
            self._keep(self._see_off())

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application, whose answers end their connections once we leave."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return

            async def last(message: Message) -> None:
                if self._is_leaving and message["type"] == "http.response.start":
                    others = [header for header in message["headers"] if header[0].lower() != b"connection"]
                    message["headers"] = [*others, (b"connection", b"close")]
                await send(message)

            await app(scope, receive, last)

        return answer

    def _keep(self, doing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(doing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _beat(self) -> None:
        beat = _BEAT.pack(os.getpid())
        while True:
            with contextlib.suppress(BlockingIOError):  # it hears enough
                os.write(self._mouth, beat)
            await asyncio.sleep(self._every_s)

    async def _see_off(self) -> None:
        # Granian may have been told itself, as one of its group, and have let go of the listener already
        with contextlib.suppress(OSError):
            await _until_quiet(self._close_the_door())
        os.kill(os.getpid(), signal.SIGTERM)

    def _close_the_door(self) -> int:
        """The port, which this process does not listen at any more: put a socket that nobody knows in the
        listener's place. What comes in waits in the queue of the real one, which the parent holds. Granian does not
        notice; it asks the descriptor."""
        with socket.socket(fileno=os.dup(self._listener)) as real:
            port = int(real.getsockname()[1])
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as other:
            other.bind("")  # Linux finds it a name
            other.listen(1)
            os.dup2(other.fileno(), self._listener, inheritable=False)
        return port


def beats(ear: int) -> list[int]:
    """Which processes have beaten since the last look. Blocks until one has."""
    read = os.read(ear, _OTHER_BYTES)  # whole ones: the pipe keeps a beat together, and this is a multiple of one
    return [pid for (pid,) in _BEAT.iter_unpack(read)]


async def _until_quiet(port: int) -> None:
    """Until nobody who came in at the port is left, or only such as say nothing."""
    begun = asyncio.get_running_loop().time()
    while True:
        waited = asyncio.get_running_loop().time() - begun
        unread = [_unread(one) for one in _connections(port)]
        if not unread or waited >= LONGEST_S or (waited >= QUIET_S and not any(unread)):
            return
        await asyncio.sleep(_LOOK_S)


def _connections(port: int) -> Iterator[socket.socket]:
    """The connections of this process that came in at the port, each open while it is looked at."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            one = socket.socket(fileno=os.dup(int(name)))
        except OSError:  # closed since
            continue
        with one:
            try:
                is_ours = one.family in (socket.AF_INET, socket.AF_INET6) and one.getsockname()[1] == port
                one.getpeername()
            except OSError:  # closed by the other side
                continue
            if is_ours:
                yield one


def _unread(one: socket.socket) -> int:
    """Bytes that came in and were not read yet."""
    count = array.array("i", [0])
    with contextlib.suppress(OSError):
        fcntl.ioctl(one.fileno(), termios.FIONREAD, count)
    return count[0]
