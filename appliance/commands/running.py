"""`customhouse models status` and `reload`: what the running model process has, and opening its models anew."""

import json

import click
import msgspec

from appliance import audit, settings
from appliance.errors import Failure, InvalidRequest
from appliance.house import House
from appliance.inference.client import Models
from appliance.inference.wire import ModelState, ModelStatus

_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.command()
@_JSON
def status(as_json: bool) -> None:
    """Say what the running model process has loaded, on which device, and how it does."""
    loaded = settings.load()
    models = Models(loaded.inference_socket, loaded.inference.deadline_s)
    try:
        found = models.status()
    finally:
        models.close()
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found), indent=2))
        return
    for one in found.models:
        if one.state is not ModelState.ABSENT:
            click.echo(_line(one))
    click.echo(f"device {found.device}, {found.rss_bytes // 1_000_000:,} MB, up {found.uptime_s:.0f} s", err=True)
    for sentence in found.degraded:
        click.echo(f"degraded: {sentence}", err=True)


@click.command("reload")
@click.argument("names", nargs=-1)
@click.option("--reason", help="Kept in the audit log.")
@_JSON
def reload_(names: tuple[str, ...], reason: str | None, as_json: bool) -> None:
    """Open the loaded models NAMES, or all, anew from their files: caches go, replaced weights are read. The old one
    answers until the new one has passed a test question."""
    house = House(settings.load())
    models = Models(house.settings.inference_socket, house.settings.inference.deadline_s)
    try:
        ready = [one.name for one in models.status().models if one.state is ModelState.READY]
        if unknown := [name for name in names if name not in ready]:
            raise InvalidRequest(f"{unknown[0]} is not loaded; loaded are: {', '.join(ready) or 'none'}")
        told = {name: _reopened(models, name) for name in names or ready}
        house.db.write(
            lambda conn: audit.record(conn, audit.operator(), "models.reopened", "", reason=reason, models=told)
        )
    finally:
        models.close()
        house.close()
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    for name, said in told.items():
        click.echo(f"{name}: {said}")


def _reopened(models: Models, name: str) -> str:
    try:
        return models.reload(name).state.value
    except Failure as failure:
        return failure.message


def _line(one: ModelStatus) -> str:
    figures = f"{one.answered:,} answered, p50 {one.p50_ms:.0f} ms, p99 {one.p99_ms:.0f} ms" if one.answered else ""
    device = one.device if one.device == one.wanted_device else f"{one.device} instead of {one.wanted_device}"
    return (
        f"{one.name:<24} {one.state.value:<9} {device:<8} {one.memory_bytes // 1_000_000:>6,} MB  {figures}"
        f"{'  ' + one.last_error if one.last_error else ''}"
    )
