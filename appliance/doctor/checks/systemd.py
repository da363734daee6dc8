"""The units, where systemd is what starts things."""

from __future__ import annotations

import re

from appliance.doctor.context import Context
from appliance.doctor.finding import Check, Outcome, Skip, failed, ok, warning

UNITS = ("customhouse-inference.service", "customhouse-worker.service", "customhouse-api.service")
"""One a process."""

SOCKET = "customhouse-api.socket"

_MOST_EXPOSED = 2.0
"""Of ten. As they are shipped: worker 1.4, the API where it reaches Stripe 1.2, the others less than a half."""

_PROPERTIES = ("LoadState", "UnitFileState", "ActiveState", "SubState", "Result", "NRestarts")


def states(context: Context) -> dict[str, dict[str, str]]:
    """Unit → what systemd says of it. Raises Skip where systemd is not what runs this machine."""
    if not (context.root / "run/systemd/system").is_dir():
        raise Skip("systemd does not run this machine")
    found: dict[str, dict[str, str]] = {}
    for unit in UNITS:
        ran = context.run("systemctl", "show", unit, f"--property={','.join(_PROPERTIES)}")
        if ran is None or ran.code != 0:
            raise Skip("systemctl does not answer")
        pairs = (line.partition("=") for line in ran.out.splitlines() if "=" in line)
        found[unit] = {name: value for name, _, value in pairs}
    return found


def _there(context: Context) -> dict[str, dict[str, str]]:
    found = {unit: facts for unit, facts in states(context).items() if facts.get("LoadState") == "loaded"}
    if not found:
        raise Skip("No unit of Customhouse is installed; it is run by hand: customhouse up")
    return found


def _units(context: Context) -> Outcome:
    lacking = [unit for unit in UNITS if unit not in _there(context)]
    if lacking:
        return failed(
            f"{lacking[0]} is not installed",
            cause="some of the units are there, some are not",
            fix="install again; the three units belong together",
            lacking=lacking,
        )
    return ok("All three units are installed", lacking=[])


def _enabled(context: Context) -> Outcome:
    off = [unit for unit, facts in _there(context).items() if facts.get("UnitFileState") not in ("enabled", "static")]
    if off:
        return warning(
            f"{off[0]} does not start with the machine",
            cause="it is not enabled",
            fix=f"systemctl enable {' '.join(off)}",
            off=off,
        )
    return ok("All start with the machine", off=[])


def _active(context: Context) -> Outcome:
    dead = [unit for unit, facts in _there(context).items() if facts.get("ActiveState") not in ("active", "activating")]
    if dead:
        return failed(
            f"{dead[0]} does not run",
            cause="it was stopped, or it failed",
            fix=f"systemctl start {' '.join(dead)}; why: journalctl -u {dead[0]} -n 50",
            dead=dead,
        )
    return ok("All run", dead=[])


def _restarts(context: Context) -> Outcome:
    counted = {unit: int(facts.get("NRestarts") or 0) for unit, facts in _there(context).items()}
    often = {unit: count for unit, count in counted.items() if count > 3}
    if often:
        unit = max(often, key=lambda one: often[one])
        return warning(
            f"{unit} was started again {often[unit]} times",
            cause="it ends by itself",
            fix=f"journalctl -u {unit} -p warning -n 100",
            restarts=often[unit],
        )
    return ok("None was started again often", restarts=max(counted.values()))


def _listens(context: Context) -> Outcome:
    _there(context)
    if context.settings is None:
        raise Skip(context.trouble)
    ran = context.run("systemctl", "show", SOCKET, "--property=Listen")
    lines = ran.out.splitlines() if ran is not None and ran.code == 0 else []
    held = [line.partition("=")[2].partition(" ")[0] for line in lines if line.startswith("Listen=")]
    if not held:
        raise Skip(f"{SOCKET} is not installed")
    port = context.settings.server.port
    if not any(one.endswith(f":{port}") for one in held):
        return warning(
            f"systemd listens at {held[0]}, the settings say port {port}",
            cause=f"where the API listens is decided in {SOCKET}; server.port is only what it is looked for at",
            fix=f"systemctl edit {SOCKET}: ListenStream= alone, then ListenStream=ADDRESS:{port}; then "
            f"systemctl restart {SOCKET} customhouse-api.service",
            held=held,
        )
    return ok(f"systemd listens at {held[0]} for the API", held=held)


def _exposure(context: Context) -> Outcome:
    levels: dict[str, float] = {}
    for unit in _there(context):
        ran = context.run("systemd-analyze", "security", "--no-pager", unit)
        found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", ran.out) if ran is not None else None
        if found is None:
            raise Skip("systemd-analyze does not say")
        levels[unit] = float(found.group(1))
    worst = max(levels, key=lambda one: levels[one])
    if levels[worst] > _MOST_EXPOSED:
        return warning(
            f"{worst} may do more than it needs: exposure {levels[worst]}, by systemd's count",
            cause="something was added to the unit, or its file is not ours any more",
            fix=f"systemd-analyze security {worst}; systemctl cat {worst} shows what was added",
            exposure=levels[worst],
        )
    return ok(
        f"The units let the processes do little else than their work: {levels[worst]} at most", exposure=levels[worst]
    )


CHECKS = (
    Check("systemd.units", "Units", "Whether all three services are known to systemd.", _units),
    Check("systemd.enabled", "Enabled", "Whether they start with the machine.", _enabled),
    Check("systemd.active", "Active", "Whether they run now.", _active),
    Check(
        "systemd.restarts", "Restarts", "How often systemd had to start one again since the machine's start.", _restarts
    ),
    Check("systemd.listens", "The API's socket", "Whether systemd listens where the settings say.", _listens),
    Check(
        "systemd.exposure", "Exposure", "How much the units let the processes do, by systemd's own count.", _exposure
    ),
)
