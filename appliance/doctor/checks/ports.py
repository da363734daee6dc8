"""The one port that is listened on: free before the start, ours afterwards."""

from __future__ import annotations

import errno
import http.client
import ipaddress
import json
import socket
import ssl
from typing import Any, cast

from appliance.doctor.context import Context
from appliance.doctor.finding import Check, Outcome, Skip, failed, ok, skipped, warning

_ANSWER_S = 5.0
_MOST_BYTES = 1_000_000


def near(host: str) -> str:
    """The address at which this machine itself reaches what listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104  # it is replaced


def get(host: str, port: int, path: str, *, is_tls: bool = False) -> tuple[int, bytes] | None:
    """Status and body of one GET to this machine; None when nothing answers."""
    if is_tls:  # whose certificate it is, is another check's: here it is asked by its address
        asked = http.client.HTTPSConnection(near(host), port, timeout=_ANSWER_S, context=_trusting())
    else:
        asked = http.client.HTTPConnection(near(host), port, timeout=_ANSWER_S)
    try:
        asked.request("GET", path)
        answer = asked.getresponse()
        return answer.status, answer.read(_MOST_BYTES)
    except (OSError, http.client.HTTPException):
        return None
    finally:
        asked.close()


def _trusting() -> ssl.SSLContext:
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    found.check_hostname, found.verify_mode = False, ssl.CERT_NONE
    return found


def address(context: Context) -> tuple[str, int]:
    """What will be listened on; where the settings cannot be read yet, as the environment or the default has it."""
    if context.settings is not None:
        return context.settings.server.host, context.settings.server.port
    if not context.is_bare:
        raise Skip("The settings cannot be read; see settings.parse")
    port = context.environ.get("CUSTOMHOUSE_SERVER_PORT", "")
    return context.environ.get("CUSTOMHOUSE_SERVER_HOST", "127.0.0.1"), int(port) if port.isdigit() else 8000


def report(context: Context) -> dict[str, Any] | None:
    """What /health says, when it is ours that answers there."""
    is_tls = context.settings is not None and context.settings.server.tls_certificate != ""
    answer = get(*address(context), "/health", is_tls=is_tls)
    try:
        said = json.loads(answer[1]) if answer else None
    except ValueError:
        return None
    if not isinstance(said, dict) or not {"status", "database", "queue"} <= said.keys():
        return None
    return cast("dict[str, Any]", said)


def _port(context: Context) -> Outcome:
    host, port = address(context)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return failed(
                    f"{host}:{port} cannot be listened on ({error.strerror})",
                    cause="this machine does not have that address, or a port below 1024 needs a right",
                    fix="set CUSTOMHOUSE_SERVER_HOST=127.0.0.1, or AmbientCapabilities=CAP_NET_BIND_SERVICE in the "
                    "unit",
                    port=port,
                    is_ours=False,
                )
        else:
            return ok(f"Port {port} is free", port=port, is_ours=False)
    if report(context) is None:
        return failed(
            f"Another program has port {port}",
            cause="what answers there is not Customhouse; or systemd holds it for an API that does not run",
            fix=f"see which: ss -ltnp 'sport = :{port}'; stop it, or set CUSTOMHOUSE_SERVER_PORT",
            port=port,
            is_ours=False,
        )
    return ok(f"Customhouse has port {port}", port=port, is_ours=True)


def _health(context: Context) -> Outcome:
    said = report(context)
    if said is None:
        return skipped("The API does not run; see ports.port")
    sentences = [str(one) for one in cast("list[object]", said.get("degraded") or [])]
    if said["status"] != "ok":
        return warning(
            f"/health says: {sentences[0] if sentences else said['status']}",
            cause=f"{len(sentences)} thing{'s' if len(sentences) != 1 else ''} not as it should be; the other "
            "groups say which",
            fix=f"curl -s http://{near(context.known().server.host)}:{context.known().server.port}/health",
            degraded=len(sentences),
        )
    return ok("/health says ok", degraded=0)


def _reach(context: Context) -> Outcome:
    """Whether what is meant to be reached from elsewhere can be, and what is not, cannot."""
    host, _ = address(context)
    try:
        is_local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_local = host == "localhost"
    if is_local:
        return ok("Only this machine is listened to", is_local=True)
    return warning(
        "The port is open to other machines, without TLS",
        cause="server.host is no loopback address, and Customhouse itself speaks plain HTTP: keys travel readable",
        fix="put a reverse proxy with a certificate before it and set CUSTOMHOUSE_SERVER_HOST=127.0.0.1, or let a "
        "firewall admit the proxy only",
        is_local=False,
    )


CHECKS = (
    Check(
        "ports.port",
        "The port",
        "Whether server.host:server.port can be listened on, or, when something answers there, whether it is "
        "Customhouse.",
        _port,
        is_early=True,
    ),
    Check("ports.health", "Health", "What the running API says of itself at /health.", _health),
    Check(
        "ports.reach",
        "Who can reach it",
        "Customhouse speaks plain HTTP and is meant to stand behind a proxy: an address other than loopback shows "
        "keys to "
        "the network between.",
        _reach,
        is_early=True,
    ),
)
