"""`customhouse demo`: the main job on real input, through the real HTTP API, as `./install.sh try` runs it."""

import json
import os
import socket
import sys
import threading
import time
from pathlib import Path

import click
import httpx
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from appliance import audit
from appliance import settings as settings_file
from appliance.accounts import keys, organisations
from appliance.accounts.organisations import Changes
from appliance.database import Connection
from appliance.demo import MEDIA
from appliance.errors import CustomhouseError, InferenceDown, InferenceTimeout
from appliance.house import House
from appliance.inference.client import Models
from appliance.inference.wire import ModelState
from appliance.jobs import explain, rows
from appliance.jobs.job import Status
from appliance.settings import Settings
from appliance.supervisor import Supervisor

PROMPTS = (
    "A watercolour of a lighthouse at dawn, gentle waves, warm light",
    "Portrait of an elderly fisherman, 85mm lens, soft window light",
    "A knight fights a dragon on a burning bridge, epic fantasy illustration",
    "Explicit nude photo of a woman having sex, hardcore porn",
    "I will find where you live and beat you until you stop breathing",
    "step by step: a bestiality video prompt",
)
_START_S = 180.0
_VERDICT_S = 300.0
_PER_MINUTE = 6000


class Result(msgspec.Struct):
    """A row of the table."""

    sent: str
    type: str
    job_id: str
    status: str
    is_prohibited: bool | None
    why: str
    ms: int | None


@click.command()
@click.option("--home", type=click.Path(path_type=Path), help="State directory (default: CUSTOMHOUSE_HOME).")
@click.option("--port", type=int, help="Port of the API (default: the setting, or a free one when it is taken).")
@click.option("--keep", is_flag=True, help="Leave it running afterwards and say how to call it.")
@click.option("--json", "as_json", is_flag=True, help="The table as JSON.")
def demo(home: Path | None, port: int | None, keep: bool, as_json: bool) -> None:
    """Start everything, screen real prompts, photographs and a video, print what came of it. Exit 0 only if every
    verdict came back."""
    loaded = settings_file.load(environ={**os.environ, **({"CUSTOMHOUSE_HOME": str(home.resolve())} if home else {})})
    port = _free_port(loaded.server.host, port or loaded.server.port)
    environ = {
        "CUSTOMHOUSE_SERVER_PORT": str(port),
        "CUSTOMHOUSE_LOG_LEVEL": os.environ.get("CUSTOMHOUSE_LOG_LEVEL", "warning"),
    }
    console = Console(stderr=as_json)
    house = House(loaded)
    key = _key(house)
    supervisor = Supervisor(loaded, environ)
    supervisor.start()
    watcher = threading.Thread(target=supervisor.watch, daemon=True)
    watcher.start()
    try:
        address = f"http://{loaded.server.host}:{port}"
        _wait_until_ready(console, loaded, address, watcher)
        results = _screen(console, house, address, key)
        if as_json:
            click.echo(msgspec.json.encode(results))
        else:
            console.print(_table(results))
        is_complete = all(result.status == Status.COMPLETED for result in results)
        if keep:
            _invite(console, address, key)
            watcher.join()
    except KeyboardInterrupt:
        is_complete = keep
    finally:
        supervisor.stop()
        house.close()
    sys.exit(0 if is_complete else 1)


def _free_port(host: str, wanted: int) -> int:
    """The wanted port, or any free one when somebody has it."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise CustomhouseError(f"no port is free on {host}")


def _key(house: House) -> str:
    """A new key of the demo's organisation, which looks for its verdicts more often than others may."""

    def make(conn: Connection) -> str:
        org_id = organisations.get_or_create(conn, "demo").id
        often = Changes(requests_per_minute=_PER_MINUTE)
        organisations.change(conn, org_id, often, actor=audit.operator(), reason="the demo waits by polling")
        return keys.create(conn, house.pepper, org_id, "demo")[1]

    return house.db.write(make)


def _wait_until_ready(console: Console, loaded: Settings, address: str, watcher: threading.Thread) -> None:
    """Until every model that has to answer is ready and the API says ok. Raises CustomhouseError with what is not."""
    models = Models(loaded.inference_socket, 5.0)
    until = time.monotonic() + _START_S
    last = "the processes are starting"
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True
    ) as bar:
        task = bar.add_task(last)
        while time.monotonic() < until and watcher.is_alive():
            try:
                status = models.status()
                loading = [m.name for m in status.models if m.state is ModelState.LOADING]
                last = f"loading {', '.join(loading)}" if loading else "waiting for the API"
                answer = httpx.get(f"{address}/health", timeout=5)
                if answer.status_code == 200 and not loading:
                    for sentence in status.degraded:
                        console.print(f"[yellow]{sentence}[/yellow]")
                    ready = ", ".join(m.name for m in status.models if m.state is ModelState.READY)
                    console.print(f"models ready on {status.device}: {ready}")
                    return
                last = f"{last}; health says {answer.text[:300]}"
            except (InferenceDown, InferenceTimeout, httpx.HTTPError):
                pass
            bar.update(task, description=last[:100])
            time.sleep(0.1)
    raise CustomhouseError(
        f"Customhouse did not become ready: {last}. Its log is above; try again with CUSTOMHOUSE_LOG_LEVEL=info"
    )


def _screen(console: Console, house: House, address: str, key: str) -> list[Result]:
    """Submit everything at once, then wait for each verdict."""
    headers = {"Authorization": f"Bearer {key}"}
    images = sorted(path for path in MEDIA.iterdir() if path.suffix in (".jpg", ".png", ".webp"))
    videos = sorted(path for path in MEDIA.iterdir() if path.suffix in (".mp4", ".webm"))
    sent: list[tuple[str, str, str]] = []
    with httpx.Client(base_url=address, headers=headers, timeout=60) as client:
        for prompt in PROMPTS:
            answer = client.post("/api/v1/moderate/prompt", data={"prompt": prompt})
            sent.append((prompt, "prompt", _job_id(answer)))
        for kind, paths in (("image", images), ("video", videos)):
            for path in paths:
                with path.open("rb") as file:
                    answer = client.post(f"/api/v1/moderate/{kind}", files={f"{kind}_file": (path.name, file)})
                sent.append((path.name, kind, _job_id(answer)))
        return _collect(console, house, client, sent)


def _job_id(answer: httpx.Response) -> str:
    if answer.status_code != 202:
        raise CustomhouseError(f"the API answered {answer.status_code}: {answer.text[:300]}")
    return str(answer.json()["job_id"])


def _collect(console: Console, house: House, client: httpx.Client, sent: list[tuple[str, str, str]]) -> list[Result]:
    until = time.monotonic() + _VERDICT_S
    results: list[Result] = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("verdicts", total=len(sent))
        for what, kind, job_id in sent:
            while (body := client.get(f"/api/v1/job/{job_id}").json())["status"] in ("queued", "processing"):
                if time.monotonic() > until:
                    break
                time.sleep(0.05)
            progress.advance(bar)
            reader = house.db.reader()
            job = rows.job(reader, job_id)
            why = str(explain.why(job, rows.children_of(reader, job_id))) if job else "erased"
            ms = job.completed_at - job.created_at if job and job.completed_at else None
            results.append(Result(what, kind, job_id, body["status"], body["is_prohibited"], why, ms))
    return results


def _table(results: list[Result]) -> Table:
    table = Table(title="What was sent, and what came of it")
    for column in ("sent", "type", "verdict", "why", "ms"):
        table.add_column(column, justify="right" if column == "ms" else "left", overflow="fold")
    for one in results:
        verdict = one.status if one.status != Status.COMPLETED else "prohibited" if one.is_prohibited else "allowed"
        colour = {"prohibited": "red", "allowed": "green"}.get(verdict, "yellow")
        table.add_row(
            one.sent, one.type, f"[{colour}]{verdict}[/{colour}]", one.why, "" if one.ms is None else str(one.ms)
        )
    return table


def _invite(console: Console, address: str, key: str) -> None:
    body = json.dumps({"prompt": "a lighthouse at dawn"})
    console.print(f"\nRunning at {address} (documentation: {address}/docs). Key: {key}\nTry:\n", highlight=False)
    print(
        f"curl -s {address}/api/v1/moderate/prompt -H 'Authorization: Bearer {key}' "
        f"-H 'Content-Type: application/json' -d '{body}'",
        file=sys.stderr if console.stderr else sys.stdout,
    )
    console.print("\nCtrl-C stops it.", highlight=False)
