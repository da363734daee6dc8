"""`python -m tests.hostile.rebinding`: the door to the network, where names answer as they like.

In a network of its own, with a name server of its own that the system's resolver asks, and web servers at a public
address and at private ones: who is asked for what is counted. Prints JSON; exits with 77 where the kernel gives no
such network.
"""

import contextlib
import ctypes
import fcntl
import ipaddress
import json
import os
import socket
import struct
import sys
import tempfile
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PUBLIC, INNER, METADATA = "93.184.216.34", "10.0.0.5", "169.254.169.254"
PRIVATE = ("127.0.0.1", INNER, METADATA, "::1")
NO_NETWORK = 77
TIMEOUT_S = 60.0

_NEW_USER, _NEW_NET, _NEW_MOUNTS = 0x10000000, 0x40000000, 0x00020000
_BIND, _PRIVATE, _ALL = 0x1000, 0x40000, 0x4000

# name → what it answers: addresses, the next list each time it is asked; a name leads to that one
NAMES: dict[str, list[list[str]]] = {
    "public.example": [[PUBLIC]],
    "rebinds.example": [[PUBLIC], ["127.0.0.1"]],
    "rebinds-later.example": [[PUBLIC], [PUBLIC], [INNER]],
    "both.example": [[PUBLIC, "127.0.0.1"]],
    "leads-inside.example": [["inside.example"]],
    "inside.example": [[INNER]],
    "metadata.example": [[METADATA]],
    "nothing.example": [["0.0.0.0"]],
    "six.example": [["::1"]],
    "mapped.example": [["::ffff:127.0.0.1"]],
    "translated.example": [["64:ff9b::7f00:1"]],
    "wrapped.example": [["2002:7f00:1::"]],
    "local.example": [["fe80::1"]],
    "unique.example": [["fd00::1"]],
    "public-and-six.example": [[PUBLIC, "::1"]],
    "by-tcp.example": [["127.0.0.1"]],
}
# ruff: noqa: E501
REDIRECTS = (
    "http://127.0.0.1/", "http://[::1]/", "http://2130706433/", "http://0177.0.0.1/", "http://0x7f000001/", "//10.0.0.5/",
    "http://inside.example/", "http://leads-inside.example/", "http://metadata.example/latest/meta-data", "http://six.example/",
    "http://public.example@127.0.0.1/", "http://127.0.0.1#@public.example/", "http://[::ffff:7f00:1]/", "file:///etc/passwd",
    "gopher://127.0.0.1/", "http://localhost/", "http://127.1/", "http://①②⑦.⓪.⓪.①/", "http://127。0。0。1/", "http:/127.0.0.1/",
)  # fmt: skip


class Seen:
    """Who was asked."""

    def __init__(self) -> None:
        self.connections: Counter[str] = Counter()
        self.questions: Counter[str] = Counter()


def main() -> int:
    if not _leave():
        return NO_NETWORK
    seen = Seen()
    _serve_names(seen)
    for address in (PUBLIC, *PRIVATE):
        with contextlib.suppress(OSError):  # a kernel without IPv6
            _serve_pages(address, seen)
    # only now: what is imported may start threads, and with those no user namespace is given
    from appliance.errors import Failure, MediaUnsupported
    from appliance.outbound import Outbound

    def tried(ask: Any) -> str:
        try:
            return f"done: {ask()}"
        except (Failure, MediaUnsupported) as failure:
            return f"{type(failure).__name__}: {failure.message}"

    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        to = Path(folder) / "file"
        for name in NAMES:
            url = f"http://{name}/a.png"
            if name.startswith("rebinds"):
                found[f"check {name}"] = tried(lambda url=url: Outbound().check(url))
            found[f"fetch {name}"] = tried(lambda url=url: Outbound().fetch(url, to, 1000, TIMEOUT_S).size_bytes)
            found[f"post {name}"] = tried(lambda url=url: Outbound().post(url, b"{}", {}, TIMEOUT_S).status)
        for place, target in enumerate(REDIRECTS):
            url = f"http://public.example/redirect/{place}"
            found[f"fetch, redirected to {target}"] = tried(
                lambda url=url: Outbound().fetch(url, to, 1000, TIMEOUT_S).size_bytes
            )
            found[f"post, redirected to {target}"] = tried(
                lambda url=url: Outbound().post(url, b"{}", {}, TIMEOUT_S).status
            )
        found["fetch nobody.example"] = tried(lambda: Outbound().fetch("http://nobody.example/", to, 9, TIMEOUT_S))
        allowed = Outbound(["10.0.0.0/8"])
        found["fetch inside.example, allowed"] = tried(
            lambda: allowed.fetch("http://inside.example/a.png", to, 1000, TIMEOUT_S).size_bytes
        )
    print(json.dumps({"found": found, "connections": seen.connections, "questions": seen.questions}))
    return 0


def _leave() -> bool:
    """A network and a tree of mounts of our own, with a resolver's file that names our own server."""
    uid, gid = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_USER | _NEW_NET | _NEW_MOUNTS) != 0:
        return False
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            up = struct.pack("16sH14x", b"lo", 0x1 | 0x8 | 0x40)  # up, loopback, running
            fcntl.ioctl(control, 0x8914, up)
            for number, address in enumerate((PUBLIC, INNER, METADATA), 1):
                name = f"lo:{number}".encode()
                fcntl.ioctl(control, 0x8916, struct.pack("16sHH4s8x", name, socket.AF_INET, 0, socket.inet_aton(address)))  # fmt: skip
        if libc.mount(b"none", b"/", None, _PRIVATE | _ALL, None) != 0:
            return False
        with tempfile.NamedTemporaryFile("w", delete=False) as file:
            file.write("nameserver 127.0.0.1\noptions timeout:9 attempts:2\n")
        resolver = os.path.realpath("/etc/resolv.conf")
        return libc.mount(file.name.encode(), resolver.encode(), None, _BIND, None) == 0
    except OSError:
        return False


# --- names -----------------------------------------------------------------------------------------------------------


def _serve_names(seen: Seen) -> None:
    by_udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    by_udp.bind(("127.0.0.1", 53))
    by_tcp = socket.create_server(("127.0.0.1", 53))

    def answer_udp() -> None:
        while True:
            question, who = by_udp.recvfrom(4096)
            by_udp.sendto(_answer(question, seen, is_tcp=False), who)

    def answer_tcp() -> None:
        while True:
            conn, _ = by_tcp.accept()
            with conn:
                while len(length := conn.recv(2, socket.MSG_WAITALL)) == 2:  # of A and of AAAA, one after the other
                    said = _answer(conn.recv(int.from_bytes(length, "big"), socket.MSG_WAITALL), seen, is_tcp=True)
                    conn.sendall(len(said).to_bytes(2, "big") + said)

    for target in (answer_udp, answer_tcp):
        threading.Thread(target=target, daemon=True).start()


def _answer(question: bytes, seen: Seen, *, is_tcp: bool) -> bytes:
    at, labels = 12, []
    while length := question[at]:
        labels.append(question[at + 1 : at + 1 + length].decode().lower())
        at += 1 + length
    kind = int.from_bytes(question[at + 1 : at + 3], "big")
    asked, name = question[12 : at + 5], ".".join(labels)
    if name.startswith("by-tcp") and not is_tcp:
        return question[:2] + b"\x87\x80" + struct.pack(">4H", 1, 0, 0, 0) + asked  # cut short: ask by TCP
    if name not in NAMES:
        return question[:2] + b"\x85\x83" + struct.pack(">4H", 1, 0, 0, 0) + asked
    seen.questions[name] += kind == 1
    turns = NAMES[name]
    answers = _records(turns[min(max(seen.questions[name] - 1, 0), len(turns) - 1)], kind)
    return question[:2] + b"\x85\x80" + struct.pack(">4H", 1, len(answers), 0, 0) + asked + b"".join(answers)


def _records(values: list[str], kind: int) -> list[bytes]:
    """For A (1) and AAAA (28); they may be kept for no time at all."""
    found: list[bytes] = []
    for value in values:
        if value in NAMES:
            data = b"".join(bytes([len(part)]) + part.encode() for part in value.split(".")) + b"\0"
            found.append(b"\xc0\x0c" + struct.pack(">HHIH", 5, 1, 0, len(data)) + data)
            owner = data
            for address in NAMES[value][0]:
                if kind == 1:
                    found.append(owner + struct.pack(">HHIH", 1, 1, 0, 4) + socket.inet_aton(address))
            continue
        packed = ipaddress.ip_address(value).packed
        if (kind == 1) == (len(packed) == 4):
            found.append(b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 0, len(packed)) + packed)
    return found


# --- pages -----------------------------------------------------------------------------------------------------------


def _serve_pages(address: str, seen: Seen) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/redirect/"):
                self.send_response(302)
                self.send_header("location", REDIRECTS[int(self.path.rpartition("/")[2])].encode().decode("latin-1"))
                self.send_header("content-length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("content-length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            return None

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        daemon_threads = True

        def verify_request(self, request: Any, client_address: Any) -> bool:
            seen.connections[address] += 1
            return True

        def server_bind(self) -> None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind(self.server_address)
            self.server_name, self.server_port = address, 80

    server = Server((address, 80), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
