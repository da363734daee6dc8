"""`customhouse top`: everything at a glance, again and again: processes, queue, verdicts, latency, devices, memory."""

import json
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import click
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from appliance import clock, overview, settings, survey, vitals
from appliance.commands.health import opened_models, opened_rows
from appliance.overview import Overview
from appliance.survey import Survey

_FIRST_S = 0.5  # shares of a processor, and rates, need two looks
_ROUTES = 6
_SPARKS = "▁▂▃▄▅▆▇█"


class Route(msgspec.Struct, frozen=True):
    """Of one route, since the last look; at first, since the API started."""

    route: str
    per_s: float
    p50_ms: float
    p99_ms: float


class Api(msgspec.Struct, frozen=True):
    """What the API says of itself."""

    per_s: float
    errors_per_s: float
    """5xx of its own; refusals for lack of room apart."""
    turned_away_per_s: float
    streams: int
    routes: tuple[Route, ...]
    """The busiest ones."""


class Look(msgspec.Struct, frozen=True):
    overview: Overview
    survey: Survey
    api: Api | None
    """None while it does not answer."""
    items_per_s: dict[str, float]
    """Model → what it answers."""


@click.command()
@click.option("--once", is_flag=True, help="Look once, then end.")
@click.option("--every", type=click.FloatRange(min=0.2), default=2.0, show_default=True, help="Seconds between looks.")
@click.option("--json", "as_json", is_flag=True, help="As JSON; one object a line unless --once.")
def top(once: bool, every: float, as_json: bool) -> None:
    """Everything at a glance, until Ctrl-C: processes, queue, verdicts a minute, latency by route, models, devices,
    memory. Works while any or all processes are down. The terminal UI shows more: customhouse tui."""
    loaded = settings.load()
    meter = Rates()
    with opened_models(loaded) as models, opened_rows(loaded) as (house, why):
        whole, machine = overview.Watch(loaded, models), survey.Watch(loaded, models)
        try:
            whole.look(None)
            machine.look()
            meter.look(vitals.metrics(loaded), {})
            time.sleep(_FIRST_S)
            while True:
                seen = whole.look(house.db.reader() if house else None)
                if why:
                    seen = msgspec.structs.replace(seen, rows_error=why, trouble=(why, *seen.trouble))
                api, items = meter.look(vitals.metrics(loaded), {one.name: one.answered for one in seen.models})
                found = Look(seen, machine.look(), api, items)
                if as_json:
                    said = msgspec.to_builtins(found)
                    click.echo(json.dumps(said, indent=2) if once else json.dumps(said))
                else:
                    _paint(list(told(found)), is_again=not once)
                if once:
                    break
                time.sleep(every)
        except KeyboardInterrupt:
            click.echo()
        finally:
            machine.close()


class Rates:
    """What only two looks tell."""

    def __init__(self) -> None:
        self._before: tuple[float, dict[str, Any], Mapping[str, int]] | None = None

    def look(self, text: bytes | None, answered: Mapping[str, int]) -> tuple[Api | None, dict[str, float]]:
        now = time.monotonic()
        figures = _figures(text) if text is not None else None
        before = self._before
        self._before = now, figures or {}, answered
        if before is None:
            return None, {}
        seconds = max(0.001, now - before[0])
        items = {name: max(0, count - before[2].get(name, count)) / seconds for name, count in answered.items()}
        if figures is None:
            return None, items
        if not before[1] or figures["all"] < before[1]["all"]:  # it has just come, or begun anew
            return Api(0.0, 0.0, 0.0, int(figures["streams"]), ()), items
        was = before[1]
        routes: list[Route] = []
        for route, buckets in figures["routes"].items():
            old = was["routes"].get(route, {})
            fresh = {edge: count - old.get(edge, 0.0) for edge, count in buckets.items()}
            count = fresh.get(float("inf"), 0.0)
            if count > 0:
                per_s = round(count / seconds, 2)
                routes.append(Route(route, per_s, _quantile(fresh, 0.5), _quantile(fresh, 0.99)))
        routes.sort(key=lambda one: -one.per_s)
        rates = [round((figures[name] - was[name]) / seconds, 2) for name in ("all", "errors", "away")]
        return Api(rates[0], rates[1], rates[2], int(figures["streams"]), tuple(routes[:_ROUTES])), items


def _figures(text: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {"all": 0.0, "errors": 0.0, "away": 0.0, "streams": 0.0, "routes": defaultdict(dict)}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            match sample.name:
                case "customhouse_requests_total":
                    found["all"] += sample.value
                    found["errors"] += sample.value if sample.labels["status"] in ("500", "502", "504") else 0
                case "customhouse_requests_shed_total":
                    found["away"] += sample.value
                case "customhouse_streams":
                    found["streams"] += sample.value
                case "customhouse_request_seconds_bucket":
                    found["routes"][sample.labels["route"]][float(sample.labels["le"])] = sample.value
                case _:
                    pass
    return found


def _quantile(buckets: Mapping[float, float], share: float) -> float:
    """In milliseconds, within a bucket as if evenly spread; of the last one its lower edge."""
    edges = sorted(buckets)
    wanted, below, count_below = share * buckets[edges[-1]], 0.0, 0.0
    for edge in edges:
        if buckets[edge] >= wanted:
            if edge == float("inf"):
                break
            part = (wanted - count_below) / max(buckets[edge] - count_below, 1e-9)
            return round((below + (edge - below) * part) * 1000, 1)
        below, count_below = edge, buckets[edge]
    return round(below * 1000, 1)


# --- in words ---------------------------------------------------------------------------------------------------------


def told(found: Look) -> Iterator[str]:
    seen, machine = found.overview, found.survey.machine
    state = "healthy" if seen.is_healthy else f"{len(seen.trouble)} wrong"
    yield f"customhouse  {clock.rfc3339(seen.at)[11:19]} UTC  {state}"
    for sentence in seen.trouble:
        yield f"  ! {sentence}"
    yield f"{'PROCESS':<22} {'STATE':<6} {'PID':>8} {'MB':>8} {'CORES':>6} {'UP':>8}"
    for one in seen.processes:
        memory = "" if one.rss_bytes is None else f"{one.rss_bytes // 1_000_000:,}"
        share = "" if one.share is None else f"{one.share:.2f}"
        age = _span(seen.at - one.started_at) if one.is_up and one.started_at else ""
        yield (
            f"{one.name:<22} {'up' if one.is_up else 'DOWN':<6} {one.pid or '':>8} {memory:>8} {share:>6} {age:>8}"
            f"{'  ' + one.note if one.note else ''}"
        ).rstrip()
    yield from _queue(seen)
    yield from _requests(found.api)
    if seen.models:
        yield f"{'MODEL':<22} {'DEVICE':<10} {'MB':>6} {'WAITING':>8} {'ITEMS/S':>8} {'P50 MS':>7} {'P99 MS':>7}"
    for one in seen.models:
        device = one.device if one.device == one.wanted_device else f"{one.device} NOT {one.wanted_device}"
        yield (
            f"{one.name:<22} {device or one.state.value:<10} {one.memory_bytes // 1_000_000:>6,} {one.queued:>8,} "
            f"{found.items_per_s.get(one.name, 0.0):>8.1f} {one.p50_ms:>7.0f} {one.p99_ms:>7.0f}"
        )
    for one in found.survey.devices.devices:
        load = "" if one.utilisation is None else f"  {one.utilisation:.0%} busy"
        heat = "" if one.temperature_c is None else f"  {one.temperature_c} °C"
        yield f"cuda:{one.index}  {one.used_bytes // 1_000_000:,} of {one.memory_bytes // 1_000_000:,} MB{load}{heat}"
    if not found.survey.devices.devices:
        yield f"no GPU: {found.survey.devices.why}"
    busy = f"{sum(machine.cores) / len(machine.cores):.0%} busy, " if machine.cores else ""
    used = machine.memory_bytes - machine.available_bytes
    disk = "" if seen.disk is None else f"; disk {seen.disk.free_bytes // 1_000_000:,} MB free"
    yield (
        f"{machine.core_count} cores {busy}load {machine.load[0]:.2f}; memory {used // 1_000_000:,} of "
        f"{machine.memory_bytes // 1_000_000:,} MB{disk}"
    )


def _queue(seen: Overview) -> Iterator[str]:
    if seen.rows_error:
        yield "queue and verdicts are not known"
        return
    parts = [
        f"{one.kind.wire} {one.queued:,} waiting, {one.processing:,} in work"
        + (f", oldest {_span(seen.at - one.oldest_at)}" if one.oldest_at is not None else "")
        for one in seen.waiting
        if one.queued or one.processing
    ]
    yield f"queue      {seen.open_jobs:,} open{': ' + '; '.join(parts) if parts else ''}"
    if seen.minutes:
        *_, last, _ = (seen.minutes[0], *seen.minutes)
        totals = [one.allowed + one.prohibited + one.failed for one in seen.minutes]
        most = max(totals)
        line = "".join(_SPARKS[0 if not most else total * (len(_SPARKS) - 1) // most] for total in totals)
        yield f"verdicts   last minute {last.allowed:,} allowed, {last.prohibited:,} prohibited, {last.failed:,} failed"
        yield f"  an hour  {line} at most {most:,} a minute"


def _requests(api: Api | None) -> Iterator[str]:
    if api is None:
        yield "requests   not known: the API does not answer"
        return
    yield (
        f"requests   {api.per_s:,.1f} a second, {api.errors_per_s:,.1f} failed, "
        f"{api.turned_away_per_s:,.1f} turned away, {api.streams} streams"
    )
    for one in api.routes:
        yield f"  {one.route:<38} {one.per_s:>8.1f}/s  p50 {one.p50_ms:>7.1f} ms  p99 {one.p99_ms:>7.1f} ms"


def _paint(lines: list[str], *, is_again: bool) -> None:
    """Over what stands there, as far as the terminal is high; into a file or a pipe, one look after the other."""
    if not is_again or not sys.stdout.isatty():
        click.echo("\n".join(lines))
        return
    size = shutil.get_terminal_size()
    shown = "\n".join(f"{line[: size.columns - 1]}\x1b[K" for line in lines[: size.lines - 1])
    click.echo(f"\x1b[H{shown}\x1b[J", nl=False)


def _span(ms: int) -> str:
    for step, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min")):
        if ms >= step:
            return f"{ms // step} {unit}"
    return f"{max(0, ms) // 1000} s"
