"""`customhouse models status`, `load`, `unload`, `reload` and `try`: what the running model process has open, changing
that, and putting one model to an example."""

import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec

from appliance import access, audit, categories, settings
from appliance.errors import InvalidRequest
from appliance.house import House
from appliance.inference.client import Models
from appliance.inference.wire import ModelState, ModelStatus
from appliance.media.decoders import Decoders
from appliance.models import change, stock, trying
from appliance.settings import Settings

_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")
_REASON = click.option("--reason", help="Kept in the audit log.")


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


@click.command()
@click.argument("name")
@_REASON
@_JSON
def load(name: str, reason: str | None, as_json: bool) -> None:
    """Have the running model process open the model NAME, whose weights are here."""
    with _process() as (house, models):
        _say(change.load(house.db, models, name, actor=audit.operator(), reason=reason), as_json)


@click.command()
@click.argument("name")
@_REASON
@_JSON
def unload(name: str, reason: str | None, as_json: bool) -> None:
    """Have it give back the memory of the model NAME. What is waiting for it is answered first; what asks it afterwards
    fails until it is loaded again, or the process is restarted."""
    with _process() as (house, models):
        _say(change.unload(house.db, models, name, actor=audit.operator(), reason=reason), as_json)


@click.command("reload")
@click.argument("names", nargs=-1)
@_REASON
@_JSON
def reload_(names: tuple[str, ...], reason: str | None, as_json: bool) -> None:
    """Open the loaded models NAMES, or all, anew from their files: caches go, replaced weights are read. The old one
    answers until the new one has passed a test question."""
    with _process() as (house, models):
        ready = [one.name for one in models.status().models if one.state is ModelState.READY]
        if unknown := [name for name in names if name not in ready]:
            raise InvalidRequest(f"{unknown[0]} is not loaded; loaded are: {', '.join(ready) or 'none'}")
        told = change.reopen(house.db, models, names or ready, actor=audit.operator(), reason=reason)
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    for name, said in told.items():
        click.echo(f"{name}: {said}")


@click.command("try")
@click.argument("name")
@click.argument("what")
@_JSON
def try_(name: str, what: str, as_json: bool) -> None:
    """Put the model NAME to WHAT: a picture's or a video's path, or, for a model that reads, a text (or @FILE).

    What it says is shown against the thresholds that count. Nothing is kept of it, and nobody is charged.
    """
    loaded = settings.load()
    one = stock.named(loaded, [name])[0]
    known = categories.load(loaded.categories_file)
    models = Models(loaded.inference_socket, loaded.inference.deadline_s)
    try:
        if one.task in trying.READS:
            text = Path(what[1:]).read_text() if what.startswith("@") else what
            tried = trying.of_text(models, one, known, text)
        else:
            with one_decoder(loaded) as decoders:
                tried = trying.of_file(models, decoders, one, known, Path(what))
    finally:
        models.close()
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(tried), indent=2))
        return
    for sentence in trying.sentences(tried):
        click.echo(sentence)


@contextmanager
def one_decoder(loaded: Settings) -> Generator[Callable[[], Decoders]]:
    """A decoder for one call, begun when it is first asked for."""
    opened: list[Decoders] = []

    def decoders() -> Decoders:
        if not opened:
            media = msgspec.structs.replace(loaded.media, decoders=1)
            opened.append(Decoders(msgspec.structs.replace(loaded, media=media)))
        return opened[0]

    try:
        yield decoders
    finally:
        for one in opened:
            one.close()


@contextmanager
def _process() -> Generator[tuple[House, Models]]:
    """To change what it has open. Raises Forbidden to who may only look."""
    access.check(settings.load())
    house = House(settings.load())
    models = Models(house.settings.inference_socket, house.settings.inference.deadline_s)
    try:
        yield house, models
    finally:
        models.close()
        house.close()


def _say(one: ModelStatus, as_json: bool) -> None:
    told: Any = msgspec.to_builtins(one)
    click.echo(json.dumps(told, indent=2) if as_json else _line(one))


def _line(one: ModelStatus) -> str:
    figures = f"{one.answered:,} answered, p50 {one.p50_ms:.0f} ms, p99 {one.p99_ms:.0f} ms" if one.answered else ""
    device = one.device if one.device == one.wanted_device else f"{one.device} instead of {one.wanted_device}"
    return (
        f"{one.name:<24} {one.state.value:<9} {device:<8} {one.memory_bytes // 1_000_000:>6,} MB  {figures}"
        f"{'  ' + one.last_error if one.last_error else ''}"
    )
