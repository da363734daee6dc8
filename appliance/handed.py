"""Sockets that whoever started us holds open for us: systemd, or our own supervisor. The protocol is systemd's
(LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES), whoever speaks it.

Run as a program it is the other side: `python -m appliance.handed api=7 -- COMMAND …` becomes COMMAND with descriptor 7
handed over under the name api. LISTEN_PID is the receiver's own number, which nobody knows before it is there.
"""

import errno
import fcntl
import os
import socket
import sys
import time
from collections.abc import Mapping, MutableMapping, Sequence
from typing import NoReturn

from appliance import installed
from appliance.errors import Misconfigured

_FIRST = 3
"""The protocol's first descriptor."""

_PORT_S = 3.0  # a server that was just killed may still be going


def sockets(environ: MutableMapping[str, str] | None = None) -> dict[str, int]:
    """Name → descriptor of what was handed to this very process; of two with one name, the first. The variables are
    taken away: the sockets are not meant for what we start."""
    environ = os.environ if environ is None else environ
    pid, count, names = (environ.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS", "FDNAMES"))
    if not count.isdigit() or pid != str(os.getpid()):
        return {}
    named = names.split(":") if names else []
    found: dict[str, int] = {}
    for place in range(int(count)):
        os.set_inheritable(_FIRST + place, False)
        name = named[place] if place < len(named) else "unknown"  # as systemd calls a socket without a name
        found.setdefault(name, _FIRST + place)
    return found


def bound(host: str, port: int) -> socket.socket:
    """A socket to be listened on, here or by whom it is handed to. Ours alone: without SO_REUSEPORT, with which two
    servers would quietly share a port. Raises Misconfigured."""
    fresh = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    fresh.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    fresh.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it
    until = time.monotonic() + _PORT_S
    while True:
        try:
            fresh.bind((host, port))
            return fresh
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < until:
                time.sleep(0.1)
                continue
            fresh.close()
            raise Misconfigured(
                f"{host}:{port} cannot be listened on ({error.strerror}); "
                "stop the program that has it, or set CUSTOMHOUSE_SERVER_PORT or CUSTOMHOUSE_SERVER_HOST"
            ) from error


def command(given: Mapping[str, int], argv: Sequence[str]) -> list[str]:
    """What to start so that `argv` is handed these descriptors, which have to stay open until then."""
    if not given:
        return list(argv)
    pairs = [f"{name}={descriptor}" for name, descriptor in given.items()]
    return [*installed.python(), "-m", "appliance.handed", *pairs, "--", *argv]


def _become(given: Mapping[str, int], argv: Sequence[str]) -> NoReturn:
    """Put the descriptors where the protocol wants them, and be replaced by the command."""
    beyond = _FIRST + len(given)
    kept = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, beyond) for descriptor in given.values()]
    for descriptor in given.values():
        os.close(descriptor)  # or the command would have it twice
    for place, descriptor in enumerate(kept):
        os.dup2(descriptor, _FIRST + place)
    variables = {
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": str(len(given)),
        "LISTEN_FDNAMES": ":".join(given),
    }
    os.execvpe(argv[0], list(argv), {**os.environ, **variables})  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    _at = sys.argv.index("--")
    _pairs = (pair.partition("=") for pair in sys.argv[1:_at])
    _become({name: int(descriptor) for name, _, descriptor in _pairs}, sys.argv[_at + 1 :])
