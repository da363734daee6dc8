"""Telling whoever started us how we are (sd_notify): one datagram, nothing when nobody wants to know."""

import contextlib
import os
import socket

_OTHERS = "WATCHDOG_PID"


def ready(status: str = "") -> None:
    """Say that the process does its work now."""
    _send("READY=1", status)


def stopping(status: str = "") -> None:
    _send("STOPPING=1", status)


def alive(status: str = "") -> None:
    """Say that the work goes on. Only what does the work may say it; who does not hear it in time starts us again."""
    _send("WATCHDOG=1", status)


def watchdog_s() -> float | None:
    """Within how many seconds the next alive() is awaited; None when nobody waits for one."""
    given = os.environ.get("WATCHDOG_USEC", "")
    if not given.isdigit() or int(given) == 0 or os.environ.get(_OTHERS, str(os.getpid())) != str(os.getpid()):
        return None
    return int(given) / 1_000_000


def _send(state: str, status: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # systemd writes the abstract namespace with an @
    said = f"{state}\nSTATUS={status}" if status else state
    with (
        contextlib.suppress(OSError),  # whoever wanted to know is gone, or hears too much; the work goes on
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as mouth,
    ):
        mouth.sendto(said.encode(), address)
