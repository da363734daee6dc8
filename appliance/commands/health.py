"""`customhouse status`, `devices` and `logs`: how everything is, what it runs on, what it says."""

import json
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import click
import msgspec

from appliance import clock, overview, settings, survey
from appliance import logs as written
from appliance.database import Error
from appliance.errors import CustomhouseError, Misconfigured
from appliance.house import House
from appliance.inference.client import Models
from appliance.inference.wire import ModelStatus
from appliance.logs import LEVELS, Book, Entry, View, Wanted
from appliance.overview import Overview
from appliance.settings import Settings
from appliance.survey import Survey

_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON; watched or followed, one object a line.")
_WATCH = click.option("--watch", is_flag=True, help="Again every two seconds, until Ctrl-C.")
_EVERY_S = 2.0
_FOLLOW_S = 0.5


@click.command()
@_WATCH
@_JSON
def status(watch: bool, as_json: bool) -> None:
    """How everything is: processes, models, queue, verdicts a minute, rejections, quotas, disk, Stripe. Works while any
    or all processes are down, and says which. Exit code 1 when something is wrong."""
    loaded = settings.load()
    with opened_models(loaded) as models, opened_rows(loaded) as (house, why):
        looking = overview.Watch(loaded, models)
        while True:
            found = looking.look(house.db.reader() if house else None)
            if why:
                found = msgspec.structs.replace(found, rows_error=why, trouble=(why, *found.trouble))
            if as_json:
                said = {"healthy": found.is_healthy, **msgspec.to_builtins(found)}
                click.echo(json.dumps(said) if watch else json.dumps(said, indent=2))
            else:
                if watch:
                    click.clear()
                click.echo("\n".join(_told(found)))
            if not watch:
                break
            time.sleep(_EVERY_S)
    if not found.is_healthy:
        sys.exit(1)


@click.command()
@_WATCH
@_JSON
def devices(watch: bool, as_json: bool) -> None:
    """The machine: each GPU as NVIDIA's driver tells of it, processors, memory, and what our processes and models
    take."""
    loaded = settings.load()
    with opened_models(loaded) as models:
        looking = survey.Watch(loaded, models)
        looking.look()  # shares of a processor need two looks
        while True:
            time.sleep(_EVERY_S if watch else 0.3)
            found = looking.look()
            if as_json:
                said = msgspec.to_builtins(found)
                click.echo(json.dumps(said) if watch else json.dumps(said, indent=2))
            else:
                if watch:
                    click.clear()
                click.echo("\n".join(_machine(found)))
            if not watch:
                break
        looking.close()


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Then go on with what comes, until Ctrl-C.")
@click.option("--process", default="", help="Of this one only: api, worker, models, up.")
@click.option("--level", type=click.Choice(LEVELS), default="info", show_default=True, help="These and graver ones.")
@click.option("--text", default="", help="Lines with this in them, whichever case.")
@click.option("--request", default="", help="Of this x-request-id only: its way through all processes.")
@click.option("--lines", type=click.IntRange(0), default=100, show_default=True, help="How many of the newest first.")
@_JSON
def logs(follow: bool, process: str, level: str, text: str, request: str, lines: int, as_json: bool) -> None:
    """What the processes wrote, together and in order: from <home>/log, else from journald."""
    book = Book(settings.load())
    book.refresh()
    if not len(book) and not follow:
        click.echo(book.where, err=True)
    view = View(book, Wanted(process, level, text, request))
    view.extend()
    seen = max(0, len(view) - lines)
    try:
        while True:
            for one in view.entries(seen, len(view) - seen):
                click.echo(json.dumps(written.said_as_json([one])[0]) if as_json else _line(one))
            seen = len(view)
            if not follow:
                break
            time.sleep(_FOLLOW_S)
            book.refresh()
            view.extend()
    finally:
        book.close()


@contextmanager
def opened_models(loaded: Settings) -> Generator[Models]:
    models = Models(loaded.inference_socket, min(loaded.inference.deadline_s, 5.0))
    try:
        yield models
    finally:
        models.close()


@contextmanager
def opened_rows(loaded: Settings) -> Generator[tuple[House | None, str]]:
    """The house, or why it cannot be opened: the rest is told all the same."""
    try:
        house = House(loaded)
    except (CustomhouseError, Error, OSError) as error:
        yield None, error.message if isinstance(error, Misconfigured) else f"The database cannot be opened: {error}"
        return
    try:
        yield house, ""
    finally:
        house.close()


# --- in words ---------------------------------------------------------------------------------------------------------


def _told(found: Overview) -> Iterator[str]:
    yield "healthy" if found.is_healthy else f"{len(found.trouble)} wrong"
    for sentence in found.trouble:
        yield f"  ! {sentence}"
    for sentence in found.guide:
        yield f"  → {sentence}"
    yield "processes"
    for one in found.processes:
        figures = [
            f"pid {one.pid}" if one.pid else "",
            f"up {_span(found.at - one.started_at)}" if one.is_up and one.started_at else "",
            f"{one.rss_bytes // 1_000_000:,} MB" if one.rss_bytes else "",
            one.note,
        ]
        yield f"  {one.name:<8} {'up' if one.is_up else 'DOWN':<5} {'  '.join(filter(None, figures))}".rstrip()
    if found.models:
        yield f"models on {found.device} ({found.wanted_device} asked for)"
        for one in found.models:
            yield f"  {_model(one)}"
    yield f"queue  {found.open_jobs:,} open"
    for kind in found.waiting:
        if kind.queued or kind.processing:
            age = f", oldest {_span(found.at - kind.oldest_at)}" if kind.oldest_at is not None else ""
            yield f"  {kind.kind.wire:<8} {kind.queued:,} queued, {kind.processing:,} in work{age}"
    allowed, prohibited, failed = (
        sum(getattr(one, name) for one in found.minutes) for name in ("allowed", "prohibited", "failed")
    )
    yield f"verdicts in an hour  {allowed:,} allowed, {prohibited:,} prohibited, {failed:,} failed"
    for one in found.rejections:
        score = "" if one.score is None else f"{one.score:.3f}"
        yield f"  {clock.rfc3339(one.at)[11:19]}  {one.id}  {one.org}  {one.kind}  {one.category}  {score}".rstrip()
    for one in found.allowances:
        yield f"quota  {one.org}: {one.used:,} of {one.quota:,} this month ({one.share:.0%})"
    if found.disk is not None:
        disk = found.disk
        yield (
            f"disk   {disk.free_bytes // 1_000_000:,} MB free; database {disk.database_bytes // 1_000_000:,}, media "
            f"{disk.media_bytes // 1_000_000:,}, weights {disk.weights_bytes // 1_000_000:,} MB"
        )
    stripe = found.stripe
    if stripe.is_on:
        age = "never" if stripe.last_ok_at is None else f"{_span(found.at - stripe.last_ok_at)} ago"
        yield f"stripe synced {age}{'; ' + stripe.last_error if stripe.last_error else ''}"
    else:
        yield "stripe off (no key)"


def _machine(found: Survey) -> Iterator[str]:
    for sentence in found.trouble:
        yield f"! {sentence}"
    if not found.devices.devices:
        yield f"no GPU: {found.devices.why}"
    for one in found.devices.devices:
        load = "" if one.utilisation is None else f", {one.utilisation:.0%} busy"
        heat = "" if one.temperature_c is None else f", {one.temperature_c} °C"
        limit = "" if one.power_limit_w is None else f" of {one.power_limit_w:.0f}"
        power = "" if one.power_w is None else f", {one.power_w:.0f}{limit} W"
        yield (
            f"cuda:{one.index} {one.name}: {one.used_bytes // 1_000_000:,} of {one.memory_bytes // 1_000_000:,} MB"
            f"{load}{heat}{power}"
        )
        for holder in one.processes:
            memory = "" if holder.memory_bytes is None else f"  {holder.memory_bytes // 1_000_000:,} MB"
            yield f"  pid {holder.pid}{memory}"
    machine = found.machine
    busy = f", {sum(machine.cores) / len(machine.cores):.0%} busy" if machine.cores else ""
    yield f"{machine.core_count} cores of {machine.model}{busy}, load {' '.join(f'{one:.2f}' for one in machine.load)}"
    used = machine.memory_bytes - machine.available_bytes
    yield f"memory {used // 1_000_000:,} of {machine.memory_bytes // 1_000_000:,} MB used"
    for one in found.processes:
        share = "" if one.process.share is None else f"{one.process.share:6.1%}"
        yield f"  {one.name:<9} pid {one.process.pid:<8} {one.process.rss_bytes // 1_000_000:>7,} MB {share}"
    for one in found.models:
        yield f"  {_model(one)}"


def _model(one: ModelStatus) -> str:
    device = one.device if one.device == one.wanted_device else f"{one.device} INSTEAD OF {one.wanted_device}"
    figures = f"p50 {one.p50_ms:.0f} ms, p99 {one.p99_ms:.0f} ms" if one.answered else ""
    return (
        f"{one.name:<22} {one.state.value:<9} {device:<8} {one.memory_bytes // 1_000_000:>6,} MB  {figures}"
        f"{'  ' + one.last_error if one.last_error else ''}"
    ).rstrip()


def _line(one: Entry) -> str:
    behind = f"\n{one.traceback}" if one.traceback else ""
    return f"{clock.rfc3339(one.at)[:23]}  {one.process:<7} {one.level.upper():<8} {one.said}{behind}"


def _span(ms: int) -> str:
    for step, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min")):
        if ms >= step:
            return f"{ms // step} {unit}"
    return f"{max(0, ms) // 1000} s"
