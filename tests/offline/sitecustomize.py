"""For the processes that tests/fuzz.py starts: no socket leaves this machine, and no name resolves. Python reads it as
it starts, when this folder is on PYTHONPATH; generated addresses are fetched and called, and belong to somebody."""

import ipaddress
import socket
import sys
from typing import Any


def _refuse_outside(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect":
        sock, address = arguments
        if sock.family in (socket.AF_INET, socket.AF_INET6) and not ipaddress.ip_address(address[0]).is_loopback:
            raise OSError(101, "Network is unreachable")
    elif event == "socket.getaddrinfo":
        try:
            ipaddress.ip_address(str(arguments[0]).partition("%")[0])
        except ValueError:
            if arguments[0] not in (None, "localhost"):
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None


sys.addaudithook(_refuse_outside)
