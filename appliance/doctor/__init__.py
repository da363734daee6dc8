"""`customhouse doctor`: is this machine, this installation and this house in order?

`run` looks, `CHECKS` says what is looked at. Nothing of a third party is imported before a check needs it, so all of it
works before the installation: `python -m appliance.doctor`.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036  # an older one would stumble over the next import, without a word of help
    sys.exit("Customhouse needs Python 3.11 to 3.13. Fix: apt-get install python3.11 python3.11-venv")

from collections.abc import Iterable

from appliance.doctor import context as contexts
from appliance.doctor.checks import (
    backups,
    clock,
    configuration,
    database,
    disk,
    egress,
    gpu,
    host,
    log,
    memory,
    models,
    permissions,
    ports,
    python,
    queue,
    releases,
    sockets,
    sqlite,
    stripe,
    systemd,
    tls,
    webhooks,
)
from appliance.doctor.context import Context
from appliance.doctor.examine import examine
from appliance.doctor.finding import Check, Finding, Report, State

__all__ = ["CHECKS", "GROUPS", "Check", "Context", "Finding", "Report", "State", "chosen", "run"]

GROUPS: dict[str, tuple[Check, ...]] = {
    "host": host.CHECKS,
    "python": python.CHECKS,
    "sqlite": sqlite.CHECKS,
    "disk": disk.CHECKS,
    "clock": clock.CHECKS,
    "ports": ports.CHECKS,
    "permissions": permissions.CHECKS,
    "systemd": systemd.CHECKS,
    "sockets": sockets.CHECKS,
    "gpu": gpu.CHECKS,
    "memory": memory.CHECKS,
    "models": models.CHECKS,
    "database": database.CHECKS,
    "queue": queue.CHECKS,
    "webhooks": webhooks.CHECKS,
    "tls": tls.CHECKS,
    "stripe": stripe.CHECKS,
    "egress": egress.CHECKS,
    "backups": backups.CHECKS,
    "releases": releases.CHECKS,
    "log": log.CHECKS,
    "settings": configuration.CHECKS,
}

CHECKS: dict[str, Check] = {check.id: check for checks in GROUPS.values() for check in checks}


def chosen(names: Iterable[str]) -> list[Check]:
    """The checks of these groups, or by these ids; all when none is named. Raises KeyError with a name that is none."""
    wanted: dict[str, Check] = {}
    for name in names:
        found = GROUPS.get(name) or ((CHECKS[name],) if name in CHECKS else ())
        if not found:
            raise KeyError(name)
        wanted |= {check.id: check for check in found}
    return list((wanted or CHECKS).values())


def run(names: Iterable[str] = (), context: Context | None = None, *, mends: bool = False) -> Report:
    """Look at these groups or checks, or at all. Takes seconds without `is_quick`, and raises KeyError only."""
    return examine(chosen(names), context or contexts.make(), mends=mends)
