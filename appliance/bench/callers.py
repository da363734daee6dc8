"""Many callers in one thread of a process of its own: asking costs little beside the server that is measured, and the
same whatever is asked."""

import select
import socket
import subprocess
import sys
import time

import msgspec

from appliance.errors import CustomhouseError

NUMBER = b"########"
"""Stands in a request where each is to differ."""


class Load(msgspec.Struct, frozen=True):
    """The same request over and over, by so many connections, each of which waits for its answer."""

    port: int
    request: bytes
    clients: int
    seconds: float
    begin: int = 0
    """The number of the first request."""


def rate(load: Load) -> float:
    """Answers a second. Raises CustomhouseError when one of them is not 200."""
    ran = subprocess.run(
        [sys.executable, "-m", __name__], input=msgspec.json.encode(load), capture_output=True, check=False
    )
    if ran.returncode:
        raise CustomhouseError(f"the callers stopped: {ran.stderr.decode(errors='replace')[-300:]}")
    return float(ran.stdout)


def ask_all(load: Load) -> float:
    before, _, after = load.request.partition(NUMBER)
    waiting: dict[int, tuple[socket.socket, bytes]] = {}
    number = load.begin

    def ask(connection: socket.socket) -> None:
        nonlocal number
        number += 1
        waiting[connection.fileno()] = connection, b""
        connection.sendall(before + b"%08d" % number + after if after else before)

    poll = select.epoll()
    began = time.perf_counter()
    for _ in range(load.clients):
        connection = socket.create_connection(("127.0.0.1", load.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poll.register(connection.fileno(), select.EPOLLIN)
        ask(connection)
    answered = 0
    while time.perf_counter() - began < load.seconds:
        for descriptor, _ in poll.poll(1.0):
            connection, received = waiting[descriptor]
            received += connection.recv(65_536)
            if _is_whole(received):
                answered += 1
                ask(connection)
            else:
                waiting[descriptor] = connection, received
    return answered / (time.perf_counter() - began)


def _is_whole(received: bytes) -> bool:
    """Raises CustomhouseError when it is no answer that was wanted, or there comes no more."""
    end = received.find(b"\r\n\r\n")
    if end < 0 and received:
        return False
    head = received[:end].lower()
    if not head.startswith(b"http/1.1 200"):
        raise CustomhouseError(f"the server answered {received[:200]!r}")
    return len(received) - end - 4 >= int(head.split(b"content-length:")[1].split(b"\r\n")[0])


if __name__ == "__main__":
    print(ask_all(msgspec.json.decode(sys.stdin.buffer.read(), type=Load)))
