"""The processes, and what version they are."""

import json
import sys

import click

from appliance import __version__, log, settings, tracing


@click.command()
def up() -> None:
    """Run all three processes in the foreground (for evaluation; Ctrl-C stops them)."""
    from appliance import supervisor

    loaded = supervisor.with_files(settings.load())
    log.configure(loaded.log, file=loaded.log_file("up"))
    sys.exit(supervisor.main(loaded))


@click.command()
def serve() -> None:
    """Run the HTTP API."""
    from appliance.api import server

    loaded = settings.load()
    log.configure(loaded.log, file=loaded.log_file("api"))
    sys.exit(server.main(loaded))


@click.command()
def work() -> None:
    """Run the worker: jobs, webhooks, sweep."""
    from appliance.work import process

    loaded = settings.load()
    log.configure(loaded.log, file=loaded.log_file("worker"))
    end = tracing.start("worker", loaded.tracing.otlp_endpoint)
    status = process.main(loaded)
    end()
    sys.exit(status)


@click.command()
def infer() -> None:
    """Run the model process."""
    from appliance.inference import server

    loaded = settings.load()
    log.configure(loaded.log, file=loaded.log_file("models"))
    sys.exit(server.main(loaded))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def version(as_json: bool) -> None:
    """Print the version of Customhouse and of what it stands on."""
    from importlib.metadata import version as of

    from appliance.database import sqlite3

    parts = {"customhouse": __version__, "python": sys.version.split()[0], "sqlite": sqlite3.sqlite_version}
    for name in ("litestar", "granian", "huey", "onnxruntime-gpu", "llama-cpp-python", "opencv-python-headless"):
        parts[name] = of(name)
    if as_json:
        click.echo(json.dumps(parts))
    else:
        for name, value in parts.items():
            click.echo(f"{name:24} {value}")
