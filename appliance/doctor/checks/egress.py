"""What may leave this machine: by the settings, and by what the processes truly do."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

from appliance.doctor.context import Context
from appliance.doctor.finding import Check, Outcome, Skip, failed, ok, skipped, warning

_METADATA = ipaddress.ip_address("169.254.169.254")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def _private(context: Context) -> Outcome:
    networks = [ipaddress.ip_network(one, strict=False) for one in context.known().media.allowed_private_cidrs]
    if any(one.version == 4 and _METADATA in one for one in networks):
        return failed(
            "Submitted addresses may reach the cloud's metadata service",
            cause="a network in media.allowed_private_cidrs contains 169.254.169.254: a customer can read this "
            "machine's credentials",
            fix="name only the networks of your own stores: CUSTOMHOUSE_MEDIA_ALLOWED_PRIVATE_CIDRS=10.1.2.0/24",
            networks=len(networks),
        )
    wide = [one for one in networks if one.num_addresses >= 2**24 or one.is_loopback]
    if wide:
        return warning(
            "Submitted addresses may reach this machine itself, or a whole large network of yours",
            cause="media.allowed_private_cidrs names loopback, or 16 million addresses and more",
            fix="name only the networks of your own stores: CUSTOMHOUSE_MEDIA_ALLOWED_PRIVATE_CIDRS=10.1.2.0/24",
            networks=len(networks),
            wide=len(wide),
        )
    return ok(
        f"{len(networks)} private networks may be reached" if networks else "No private network may be reached",
        networks=len(networks),
    )


def _proxies(context: Context) -> Outcome:
    found = [name for name in _PROXIES if context.environ.get(name) or context.environ.get(name.upper())]
    if found:
        return warning(
            f"{' and '.join(found)} {'are' if len(found) > 1 else 'is'} set, and not used",
            cause="media, webhooks and Stripe are reached directly: a proxy would open the socket where nothing is "
            "checked",
            fix="let this machine reach what it must by itself; for Stripe: billing.stripe_proxy; for fetching models, "
            "pip and npm read their own settings",
            found=found,
        )
    return ok("No proxy is set", found=[], stripe_proxy=bool(context.known().billing.stripe_proxy))


def _models(context: Context) -> Outcome:
    """The running model process has no socket of the Internet's."""
    return without_network(context, context.models().pid)


def without_network(context: Context, pid: int) -> Outcome:
    folder = context.root / "proc" / str(pid)
    try:
        held = {link[8:-1] for one in os.listdir(folder / "fd") if (link := _link(folder / "fd" / one))}
    except OSError as error:
        raise Skip("Another user's process cannot be looked into; run this as root or as that user") from error
    used = sum(
        line.split()[9] in held
        for kind in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6")
        for line in _lines(folder / "net" / kind)
        if len(line.split()) > 9
    )
    if used:
        return failed(
            f"The model process has {used} socket{'s' if used > 1 else ''} of the network",
            cause="it is made to have none: a library, or something injected, talks to somebody",
            fix=f"stop it at once, and see to whom: ss -tunap | grep pid={pid}",
            sockets=used,
        )
    return ok("The model process has no socket of the network", sockets=0)


def _link(path: Path) -> str:
    """`socket:[INODE]`, or "" for what is none, and for a file that was closed since the folder was read."""
    try:
        link = os.readlink(path)
    except FileNotFoundError:
        return ""
    return link if link.startswith("socket:[") else ""


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()[1:]
    except OSError:
        return []


def _policy(context: Context) -> Outcome:
    """In one place: what may go out at all."""
    settings = context.known()
    out = ["media", "webhooks", *(["stripe"] if settings.billing.stripe_key_file else [])]
    evidence = {"may": out, "uploads_only": False}
    if settings.billing.stripe_address:
        return warning(
            "Stripe's key goes to another address than Stripe's",
            cause="billing.stripe_address is set: for a relay of yours, or a test server",
            fix="unset CUSTOMHOUSE_BILLING_STRIPE_ADDRESS unless that relay is yours",
            evidence=evidence,
        )
    return ok(f"What may go out: {', '.join(out)}", evidence=evidence)


def _hub(context: Context) -> Outcome:
    names = ("HF_ENDPOINT", "PIP_INDEX_URL", "NPM_CONFIG_REGISTRY")
    plain = [name for name in names if context.environ.get(name, "").startswith("http:")]
    if plain:
        return warning(
            f"{plain[0]} is plain http",
            cause="what is fetched can be exchanged on its way; digests find that, and the fetch then fails",
            fix=f"export {plain[0]}=https://…",
            plain=plain,
        )
    if not any(context.environ.get(name) for name in names):
        return skipped("Models are fetched from where pip, npm and the hub point by themselves")
    return ok("Models are fetched over https", plain=[])


CHECKS = (
    Check(
        "egress.private",
        "Private networks",
        "media.allowed_private_cidrs lets submitted addresses reach networks that are refused otherwise: never the "
        "cloud's metadata, and not this machine.",
        _private,
        is_early=True,
    ),
    Check(
        "egress.proxies",
        "Proxies",
        "The environment's proxies are not used, on purpose; said here since it surprises.",
        _proxies,
        is_early=True,
    ),
    Check(
        "egress.models",
        "The model process is alone",
        "Compares the sockets that the running model process holds with the kernel's lists of TCP, UDP and raw "
        "sockets.",
        _models,
    ),
    Check(
        "egress.policy",
        "What may go out",
        "Media by address, webhooks, and Stripe where there is a key: nothing else.",
        _policy,
        is_early=True,
    ),
    Check(
        "egress.sources",
        "Where models come from",
        "Package indices and hubs named by variables, if plain http.",
        _hub,
        is_early=True,
    ),
)
