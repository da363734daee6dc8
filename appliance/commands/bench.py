"""`customhouse bench`: a table and JSON of paired ratios, each measured in one run."""

import importlib
import os
import platform
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, cast

import click
import msgspec
from rich.console import Console
from rich.table import Table

from appliance import settings
from appliance.errors import CustomhouseError

BENCHES = {
    "images": ("(a) image jobs/s ÷ bare model loop, 32 clients; (g) peak memory", "appliance.bench.jobs:images"),
    "judge": ("(b) text judge, one batch ÷ chat completion with a JSON grammar", "appliance.bench.judges:text"),
    "questions": ("(c) 8 visual questions ÷ 1 on one image", "appliance.bench.judges:vision"),
    "accepts": ("(d) durable accepts/s ÷ Huey's enqueues/s, 32 clients", "appliance.bench.jobs:accepts"),
    "pickup": ("(e) idle pickup, submit to claim", "appliance.bench.jobs:pickup"),
    "clip": ("(f) 60 s 720p clip ÷ PyAV keyframe-only decode", "appliance.bench.video:clip"),
}
GPU = ("on a GPU: absolute figures", "appliance.bench.gpu:run")
POLICIES = ("a version previewed over stored events, and the list of them", "appliance.bench.policies:run")
TEXT = {
    "text": ("the text engine against 100 thousand terms, and two peers in process", "appliance.bench.text:run"),
    "moderations": (
        "decisions over HTTP ÷ an empty handler, and the judge's batches",
        "appliance.bench.moderations:run",
    ),
}
TUI = ("the terminal UI: start, key to paint, idle, on generated jobs", "appliance.bench.tui:run")
SOAK = ("mixed traffic for so long: growth of each process, latency, nothing lost", "appliance.bench.soak:run")
OVERLOAD = ("three times what the box does: refusals, latency, memory, recovery", "appliance.bench.overload:run")
HISTORY = ("the list, usage and the export, on generated jobs", "appliance.bench.history:run")


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(BENCHES)), help="Only these (may be repeated).")
@click.option("--gpu", is_flag=True, help="The GPU's absolute figures instead (needs CUDA builds).")
@click.option("--history", is_flag=True, help="The list of jobs, usage and the export instead, on generated jobs.")
@click.option(
    "--jobs",
    type=click.IntRange(1000),
    help="How many jobs are generated: 10 million by --history, 1 million by --tui.",
)
@click.option("--policies", is_flag=True, help="The preview of a policy version over 1 million events instead.")
@click.option("--text", is_flag=True, help="The text engine, and decisions over HTTP, instead.")
@click.option("--tui", is_flag=True, help="The terminal UI on generated jobs instead.")
@click.option(
    "--soak",
    type=click.FloatRange(min=0.05),
    metavar="MINUTES",
    help="Mixed traffic for so long instead, and a record of what each process takes.",
)
@click.option("--overload", is_flag=True, help="Three times what the box does instead, and how it gets over that.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("customhouse-soak"),
    show_default=True,
    help="Where --soak writes record.jsonl, summary.json and soak.svg.",
)
@click.option(
    "--pace",
    type=click.FloatRange(min=0.01),
    default=1.0,
    show_default=True,
    help="Of --soak: 1 is 4 prompts, 4 decisions and 4 polls a second, a picture every two, a clip every 25.",
)
@click.option(
    "--labelled",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV or JSONL with text and label: --text compares on these, with AUC.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def bench(
    only: tuple[str, ...],
    gpu: bool,
    history: bool,
    jobs: int | None,
    policies: bool,
    text: bool,
    tui: bool,
    soak: float | None,
    overload: bool,
    out: Path,
    pace: float,
    labelled: Path | None,
    as_json: bool,
) -> None:
    """Measure this machine. Takes some minutes; nothing of your state directory is changed."""
    signal.signal(signal.SIGTERM, _end)
    loaded = settings.load()
    console = Console(stderr=True)
    wanted = {name: BENCHES[name] for name in (only or BENCHES)}
    how: dict[str, dict[str, Any]] = {}
    if gpu:
        wanted = {"gpu": GPU}
    elif history:
        wanted, how = {"history": HISTORY}, {"history": {"jobs": jobs or 10_000_000}}
    elif tui:
        wanted, how = {"tui": TUI}, {"tui": {"jobs": jobs or 1_000_000}}
    elif soak is not None:
        wanted, how = {"soak": SOAK}, {"soak": {"minutes": soak, "folder": out, "pace": pace}}
    elif overload:
        wanted = {"overload": OVERLOAD}
    elif policies:
        wanted = {"policies": POLICIES}
    elif text:
        wanted, how = TEXT, {"text": {"labelled": labelled}}
    results: dict[str, dict[str, Any]] = {}
    for name, (title, path) in wanted.items():
        console.print(f"{title} …")
        begun = time.monotonic()
        module, function = path.split(":")
        try:
            run = cast(Callable[..., dict[str, Any]], getattr(importlib.import_module(module), function))
            results[name] = run(loaded, **how.get(name, {}))
        except CustomhouseError as error:
            results[name] = {"error": error.message}
        results[name]["took_s"] = round(time.monotonic() - begun, 1)
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    if as_json:
        click.echo(msgspec.json.encode({"machine": machine, "results": results}))
    else:
        table = Table(title=f"customhouse bench — {machine['cores']} cores, {machine['machine']}")
        table.add_column("what")
        table.add_column("figures", overflow="fold")
        plots = [figures.pop("plot", []) for figures in results.values()]
        for name, figures in results.items():
            table.add_row(wanted[name][0], "\n".join(_lines(figures)))
        Console().print(table)
        for plot in plots:
            click.echo("\n".join(plot))
    sys.exit(1 if any("error" in figures or not figures.get("is_well", True) for figures in results.values()) else 0)


def _end(number: int, _: object) -> NoReturn:
    """As Ctrl+C does: what was started for the bench is stopped, its scratch folder removed."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


def _lines(figures: dict[str, Any]) -> list[str]:
    """One for each figure; figures that belong together on one."""
    lines: list[str] = []
    for key, value in figures.items():
        if not isinstance(value, dict):
            lines.append(f"{key}: {value}")
            continue
        inner = cast("dict[str, Any]", value)
        if any(isinstance(one, dict) for one in inner.values()):
            lines += [f"{key}:", *(f"  {line}" for line in _lines(inner))]
        else:
            lines.append(f"{key}: " + ", ".join(f"{name} {one}" for name, one in inner.items()))
    return lines
