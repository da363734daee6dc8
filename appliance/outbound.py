"""The one door to the network: fetching media and posting webhooks. The only file that imports httpcore.

An address is checked as the socket opens, on every hop, and the socket is opened to the very address that was checked:
so a redirect, or a name that answers differently the second time (rebinding), does not reach a private network. The
environment's proxies are not used: a proxy would open the socket where nothing is checked.
"""

import contextlib
import functools
import ipaddress
import os
import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore
import msgspec

from appliance import __version__
from appliance.errors import AddressRefused, MediaTooLarge, MediaUnreachable

MAX_URL = 2048
_REDIRECTS = 5
_STEP_S = 10.0  # resolving, and connecting to one address
_ANSWER_BYTES = 65_536  # of a webhook's answer: read so that the receiver is not cut off, and dropped
_GONE = (400, 401, 403, 404, 405, 410, 414, 451)  # asking again will not help
_USER_AGENT = f"Customhouse/{__version__}"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")  # all else is loopback, local, site-local, multicast, or not given out

# Written out rather than asked of ipaddress.is_global, whose answers differ between releases of Python.
_REFUSED_V4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local: a cloud's metadata
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",  # documentation, as are 198.51.100 and 203.0.113
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
_REFUSED_V6 = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # Teredo, which wraps any IPv4 address, ORCHID and other protocols
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: wraps any IPv4 address
        "3fff::/20",  # documentation
    )
)


class Fetched(msgspec.Struct, frozen=True):
    size_bytes: int
    content_type: str
    url: str
    """Where it was found, after redirects."""


class Response(msgspec.Struct, frozen=True):
    status: int
    headers: dict[str, str]
    """Names in lower case."""
    ms: float


class Outbound:
    """Opens sockets to public addresses, and to private ones in `allowed_private_cidrs`."""

    def __init__(self, allowed_private_cidrs: Iterable[str] = ()) -> None:
        self._allowed = tuple(ipaddress.ip_network(cidr) for cidr in allowed_private_cidrs)

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()  # 50 ms of reading certificates, which who only checks does not need

    def check(self, url: str) -> None:
        """Is this a URL that we would open now? Raises AddressRefused (permanent), or MediaUnreachable when the name
        cannot be resolved."""
        parts = _parse(url)
        _resolve(parts.host, parts.port, self._allowed, time.monotonic() + _STEP_S)

    def fetch(self, url: str, to: Path, max_bytes: int, timeout_s: float) -> Fetched:
        """Stream a GET into `to`; redirects are followed, each hop checked. Raises AddressRefused, MediaUnreachable
        (permanent for an answer like 404) or MediaTooLarge, and leaves no file then."""
        until = time.monotonic() + timeout_s
        try:
            for _ in range(_REDIRECTS + 1):
                found = self._hop(url, to, max_bytes, until)
                if isinstance(found, Fetched):
                    return found
                url = found
        except BaseException:
            to.unlink(missing_ok=True)
            raise
        raise MediaUnreachable(f"more than {_REDIRECTS} redirects", permanent=True)

    def post(self, url: str, body: bytes, headers: dict[str, str], timeout_s: float) -> Response:
        """POST once; redirects are answers like any other. Raises AddressRefused or MediaUnreachable."""
        parts = _parse(url)
        begun = time.monotonic()
        sent = {"host": parts.authority, "user-agent": _USER_AGENT, **{k.lower(): v for k, v in headers.items()}}
        with self._open("POST", parts, sent, body, begun + timeout_s) as answer:
            kept = 0
            with contextlib.suppress(httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
                for chunk in answer.iter_stream():
                    kept += len(chunk)
                    if kept > _ANSWER_BYTES:
                        break
            return Response(answer.status, _headers(answer), (time.monotonic() - begun) * 1000)

    def _hop(self, url: str, to: Path, max_bytes: int, until: float) -> Fetched | str:
        """One GET: the file, or where it is said to be instead."""
        parts = _parse(url)
        # identity: a compressed body could be a bomb, and its length would not be the one announced
        sent = {"host": parts.authority, "user-agent": _USER_AGENT, "accept": "*/*", "accept-encoding": "identity"}
        with self._open("GET", parts, sent, None, until) as answer:
            headers = _headers(answer)
            if answer.status in (301, 302, 303, 307, 308) and "location" in headers:
                try:
                    return urljoin(url, headers["location"])
                except ValueError as error:
                    raise MediaUnreachable(f"{parts.host} redirects to nowhere", permanent=True) from error
            if answer.status != 200:
                raise MediaUnreachable(f"{parts.host} answered {answer.status}", permanent=answer.status in _GONE)
            if headers.get("content-encoding", "identity") != "identity":
                raise MediaUnreachable(f"{parts.host} sent a compressed body unasked", permanent=True)
            announced = headers.get("content-length", "0")
            if announced.isdigit() and int(announced) > max_bytes:
                raise MediaTooLarge(f"the file has {int(announced):,} bytes; the limit is {max_bytes:,}")
            try:
                size = _save(answer, to, max_bytes)
            except OSError as error:
                raise MediaUnreachable(f"the download cannot be stored ({error.strerror})", permanent=False) from error
            return Fetched(size, headers.get("content-type", ""), url)

    @contextlib.contextmanager
    def _open(
        self, method: str, parts: "_Parts", headers: dict[str, str], body: bytes | None, until: float
    ) -> Generator[httpcore.Response]:
        """An answer whose body is read within the block. httpcore's errors come out as ours."""
        left = max(0.001, until - time.monotonic())
        timeout = {"connect": left, "read": left, "write": left, "pool": left}
        with httpcore.ConnectionPool(ssl_context=self._tls, network_backend=_Guard(self._allowed, until)) as pool:
            try:
                with pool.stream(
                    method, parts.target, headers=list(headers.items()), content=body, extensions={"timeout": timeout}
                ) as answer:
                    yield answer
            except httpcore.TimeoutException as error:
                raise MediaUnreachable(f"{parts.host} did not answer in time", permanent=False) from error
            except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError) as error:
                raise MediaUnreachable(f"{parts.host}: {_what_failed(error)}", permanent=False) from error


def _what_failed(error: Exception) -> str:
    """A protocol error's own words may quote what the other side sent; the operating system's and OpenSSL's do not."""
    if isinstance(error, httpcore.ProtocolError):
        return "the answer broke off, or is not HTTP"
    kind = "certificate or TLS error" if "ssl" in str(error).lower() else "connection failed"
    return f"{kind} ({error})"[:200]


class _Parts(msgspec.Struct, frozen=True):
    host: str
    port: int
    authority: str
    target: httpcore.URL


def _parse(url: str) -> _Parts:
    """Raises AddressRefused on anything that is not a plain absolute http(s) URL."""
    if len(url) > MAX_URL:
        raise AddressRefused(f"is longer than {MAX_URL} characters")
    if re.search(r"[\x00-\x20\x7f\\]", url):
        raise AddressRefused("has a space, a backslash or a control character in it")
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        host = (parts.hostname or "").rstrip(".")
        name = host if ":" in host else host.encode("idna").decode()
    except (ValueError, UnicodeError) as error:
        raise AddressRefused("is not a well-formed URL") from error
    if parts.scheme not in ("http", "https"):
        raise AddressRefused("must begin with http:// or https://")
    if not name:
        raise AddressRefused("names no host")
    if "@" in parts.netloc:
        raise AddressRefused("carries credentials")
    shown = f"[{name}]" if ":" in name else name
    authority = shown if parts.port is None else f"{shown}:{port}"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    # what is not ASCII is percent-encoded as UTF-8, as browsers do
    target = re.sub(r"[^\x21-\x7e]", lambda found: "".join(f"%{b:02X}" for b in found[0].encode()), path)
    return _Parts(
        name,
        port,
        authority,
        httpcore.URL(scheme=parts.scheme.encode(), host=name.encode(), port=port, target=target.encode()),
    )


Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]


def _resolve(host: str, port: int, allowed: Networks, until: float) -> list[str]:
    """Every address of the name, each of them allowed. One that is not refuses the whole name."""
    with contextlib.suppress(OSError):
        host = socket.inet_ntoa(socket.inet_aton(host))  # 2130706433, 0x7f.1, 0177.0.0.1: resolvers differ, we do not
    try:
        addresses = _ask(host, port, min(until - time.monotonic(), _STEP_S))
    except (OSError, UnicodeError) as error:
        raise MediaUnreachable(f"{host} cannot be resolved", permanent=False) from error
    for address in addresses:
        if not is_allowed(ipaddress.ip_address(address), allowed):
            raise AddressRefused(
                "leads to a private or internal network address; the operator can allow its network in "
                "media.allowed_private_cidrs"
            )
    return addresses


def _ask(host: str, port: int, timeout_s: float) -> list[str]:
    """getaddrinfo knows no time-out of its own: a resolver that hangs costs a thread, not the caller's patience."""
    answers: queue.SimpleQueue[list[str] | OSError | UnicodeError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put(list(dict.fromkeys(str(entry[4][0]).split("%")[0] for entry in found)))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=max(0.001, timeout_s))
    except queue.Empty:
        raise TimeoutError(f"{host} was not resolved in time") from None
    if isinstance(answer, list):
        return answer
    raise answer


def is_allowed(address: Address, allowed: Networks = ()) -> bool:
    """Public, or in a network that the operator named. An IPv4 address in IPv6 clothes is judged as what it is."""
    inner = _unwrapped(address)
    if any(one.version == network.version and one in network for one in (address, inner) for network in allowed):
        return True
    if isinstance(inner, ipaddress.IPv4Address):
        return not any(inner in network for network in _REFUSED_V4)
    return inner in _PUBLIC_V6 and not any(inner in network for network in _REFUSED_V6)


def _unwrapped(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


class _Guard(httpcore.NetworkBackend):
    """Resolves, checks and only then connects, to what was checked; no operation outlives the deadline."""

    def __init__(self, allowed: Networks, until: float) -> None:
        self._allowed = allowed
        self._until = until
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = _resolve(host, port, self._allowed, self._until)
        for turn, address in enumerate(addresses):
            left = min(
                _left(self._until, timeout), _STEP_S
            )  # one address that swallows packets leaves time for the next
            try:
                return _Timed(self._plain.connect_tcp(address, port, left), self._until)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if turn == len(addresses) - 1:
                    raise
        raise httpcore.ConnectError(f"{host} has no address")


class _Timed(httpcore.NetworkStream):
    """A stream whose every wait ends at the deadline, so that a byte now and then does not keep us for ever."""

    def __init__(self, stream: httpcore.NetworkStream, until: float) -> None:
        self._stream = stream
        self._until = until

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._until, timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._until, timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = _left(self._until, timeout)
        return _Timed(self._stream.start_tls(ssl_context, server_hostname, left), self._until)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(
    until: float, timeout: float | None, error: type[httpcore.TimeoutException] = httpcore.ConnectTimeout
) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise error("the time for this request is over")
    return left if timeout is None else min(left, timeout)


def _headers(answer: httpcore.Response) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}


def _save(answer: httpcore.Response, to: Path, max_bytes: int) -> int:
    """Write the body, never more than `max_bytes` of it; returns its size."""
    size = 0
    descriptor = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        for chunk in answer.iter_stream():
            size += len(chunk)
            if size > max_bytes:
                raise MediaTooLarge(f"the file has more than {max_bytes:,} bytes")
            file.write(chunk)
    return size
