"""The certificate that customers see, where their address is https."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from datetime import UTC, datetime
from urllib.parse import urlsplit

from appliance.doctor.context import Context
from appliance.doctor.finding import Check, Outcome, Skip, failed, ok, skipped, warning

_SOON_DAYS = 21
_ANSWER_S = 5.0


def served(host: str, port: int, name: str, authorities: ssl.SSLContext | None = None) -> datetime:
    """When the certificate of whoever listens there ends. Raises ssl.SSLError when it is not to be trusted."""
    context = authorities or ssl.create_default_context()
    with (
        socket.create_connection((host, port), timeout=_ANSWER_S) as plain,
        context.wrap_socket(plain, server_hostname=name) as line,
    ):
        return datetime.fromtimestamp(ssl.cert_time_to_seconds(str((line.getpeercert() or {})["notAfter"])), UTC)


def _is_here(host: str) -> bool:
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(str(one).partition("%")[0]).is_loopback for one in found)


def _certificate(context: Context) -> Outcome:
    url = urlsplit(context.known().billing.public_url)
    host, port = url.hostname or "", url.port or 443
    if url.scheme != "https":
        return skipped("billing.public_url is not https, so nothing says where a certificate is served")
    # the proxy in front stands on this machine as a rule; who it is to others is asked with --online only
    where = host if context.is_online or _is_here(host) else "127.0.0.1"
    return certificate(context, where, port, host)


def certificate(
    context: Context, where: str, port: int, name: str, authorities: ssl.SSLContext | None = None
) -> Outcome:
    try:
        ends = served(where, port, name, authorities)
    except ssl.SSLCertVerificationError as error:
        return failed(
            f"The certificate is not to be trusted ({error.verify_message})",
            cause="it has ended, is for another name, or the chain is not whole",
            fix="renew it: certbot renew; then reload the proxy",
            days=0,
        )
    except OSError as error:
        raise Skip(
            f"Nothing answers TLS at {where}:{port} ({type(error).__name__}); --online asks the public address"
        ) from error
    days = (ends.timestamp() - context.now()) / 86_400
    if days < _SOON_DAYS:
        return warning(
            f"The certificate ends in {days:.0f} days",
            cause="it is not renewed by itself, or that fails",
            fix="certbot renew --dry-run; systemctl list-timers 'certbot*'",
            days=round(days),
        )
    return ok(f"The certificate ends in {days:.0f} days", days=round(days))


def _public(context: Context) -> Outcome:
    url = urlsplit(context.known().billing.public_url)
    try:
        is_local = ipaddress.ip_address(url.hostname or "").is_loopback
    except ValueError:
        is_local = url.hostname == "localhost"
    if is_local:
        if context.known().billing.stripe_key_file:
            return warning(
                "Customers would come back from Stripe to their own machine",
                cause="billing.public_url is a loopback address",
                fix="CUSTOMHOUSE_BILLING_PUBLIC_URL=https://… (where customers reach this service)",
                scheme=url.scheme,
            )
        return ok("Only this machine is served", scheme=url.scheme)
    if url.scheme == "http":
        return warning(
            "Customers reach this service by plain http",
            cause="billing.public_url is http: keys travel readable",
            fix="put a proxy with a certificate before it; CUSTOMHOUSE_BILLING_PUBLIC_URL=https://…",
            scheme="http",
        )
    return ok("Customers come by https", scheme=url.scheme)


CHECKS = (
    Check(
        "tls.certificate",
        "The certificate",
        "When billing.public_url is https: until when the certificate lasts that is served on this machine; with "
        "--online, at the public address itself.",
        _certificate,
    ),
    Check(
        "tls.public_url",
        "The public address",
        "Whether billing.public_url is https, or for this machine only.",
        _public,
    ),
)
