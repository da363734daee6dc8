"""`customhouse restart`: one of the processes, or all, begun anew. Who is connected to the API is not cut off."""

import json
import subprocess
from collections.abc import Sequence

import click

from appliance import access, audit, settings, supervised
from appliance.errors import CustomhouseError, Misconfigured
from appliance.house import House
from appliance.services import Systemd

_NAMES = ("api", "worker", "inference", "all")


@click.command()
@click.argument("name", type=click.Choice(_NAMES))
@click.option("--reason", help="Kept in the audit log.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def restart(name: str, reason: str | None, as_json: bool) -> None:
    """Begin the process NAME anew, or all: it finishes what it has in hand, another begins, and is ready as this
    returns. The API's socket stays open meanwhile, so that nobody is refused; who connects waits.

    Under `customhouse up` that process is asked. Where systemd runs the units, systemctl is: as root, or with polkit's
    leave; without it the command to run is named. Needed after a change of settings, or of the certificate.
    """
    loaded = settings.load()
    access.check(loaded)
    names = supervised.NAMES if name == "all" else (name,)
    if supervised.is_up(loaded.run_dir):
        by, states = "customhouse up", supervised.ask(loaded.run_dir, "restart", *names)
        told = [{"name": one.name, "pid": one.pid, "is_ready": one.is_ready} for one in states if one.name in names]
    else:
        by = _by_systemd(names)
        told = [{"name": one, "pid": None, "is_ready": True} for one in names]  # Type=notify: restart waits for READY
    _record(name, by, reason)
    if as_json:
        click.echo(json.dumps({"by": by, "restarted": told}, indent=2))
        return
    for one in told:
        pid = f" (pid {one['pid']})" if one["pid"] else ""
        click.echo(f"{one['name']}: restarted, ready{pid}")


def _by_systemd(names: Sequence[str]) -> str:
    """Raises Misconfigured with the command to run when systemd refuses us, or has none of our units."""
    for systemd in (Systemd(), Systemd(user=True)):
        if not _runs(systemd):
            continue
        try:
            systemd.restart(*names)
        except (Misconfigured, subprocess.TimeoutExpired) as error:
            units = " ".join(f"customhouse-{name}.service" for name in names)
            user = " --user" if systemd.kind == "systemd --user" else ""
            sudo = "" if user else "sudo "
            raise Misconfigured(
                f"systemd did not do it ({error}); run: {sudo}systemctl{user} restart {units}"
            ) from error
        return systemd.kind
    raise Misconfigured(
        "nothing to restart: `customhouse up` does not run for this state directory, and systemd runs none of our "
        "units. A process that was started by hand is stopped and started by hand"
    )


def _runs(systemd: Systemd) -> bool:
    """Whether it has any of our units to run."""
    try:
        return any(systemd.is_meant(name) for name in supervised.NAMES)
    except (OSError, subprocess.TimeoutExpired):
        return False


def _record(name: str, by: str, reason: str | None) -> None:
    """In the audit log, if that can be written: the restart has happened either way."""
    try:
        house = House(settings.load())
        try:
            house.db.write(
                lambda conn: audit.record(conn, audit.operator(), "processes.restart", name, reason=reason, by=by)
            )
        finally:
            house.close()
    except CustomhouseError as error:
        click.echo(f"not in the audit log: {error}", err=True)
