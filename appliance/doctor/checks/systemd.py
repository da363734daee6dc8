"""The units, where systemd is what starts things."""

from __future__ import annotations

from appliance.doctor.context import Context
from appliance.doctor.finding import Check, Outcome, Skip, failed, ok, warning

UNITS = ("customhouse-inference.service", "customhouse-worker.service", "customhouse-api.service")
"""One a process."""

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


CHECKS = (
    Check("systemd.units", "Units", "Whether all three services are known to systemd.", _units),
    Check("systemd.enabled", "Enabled", "Whether they start with the machine.", _enabled),
    Check("systemd.active", "Active", "Whether they run now.", _active),
    Check(
        "systemd.restarts", "Restarts", "How often systemd had to start one again since the machine's start.", _restarts
    ),
)
