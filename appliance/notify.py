"""Telling systemd how we are (sd_notify): one datagram, nothing when systemd did not start us."""

import os
import socket


def ready() -> None:
    """Say that the process does its work now."""
    _send("READY=1")


def stopping() -> None:
    _send("STOPPING=1")


def _send(state: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # systemd writes the abstract namespace with an @
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mouth:
        mouth.sendto(state.encode(), address)
