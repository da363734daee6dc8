"""`customhouse bench`: a table and JSON of paired ratios, each measured in one run."""

import importlib
import os
import platform
import sys
import time
from collections.abc import Callable
from typing import Any, cast

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


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(BENCHES)), help="Only these (may be repeated).")
@click.option("--gpu", is_flag=True, help="The GPU's absolute figures instead (needs CUDA builds).")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def bench(only: tuple[str, ...], gpu: bool, as_json: bool) -> None:
    """Measure this machine. Takes some minutes; nothing of your state directory is changed."""
    loaded = settings.load()
    console = Console(stderr=True)
    wanted = {"gpu": GPU} if gpu else {name: BENCHES[name] for name in (only or BENCHES)}
    results: dict[str, dict[str, Any]] = {}
    for name, (title, path) in wanted.items():
        console.print(f"{title} …")
        begun = time.monotonic()
        module, function = path.split(":")
        try:
            run = cast(Callable[[Any], dict[str, Any]], getattr(importlib.import_module(module), function))
            results[name] = run(loaded)
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
        for name, figures in results.items():
            table.add_row(wanted[name][0], "\n".join(f"{key}: {value}" for key, value in figures.items()))
        Console().print(table)
    sys.exit(1 if any("error" in figures for figures in results.values()) else 0)
