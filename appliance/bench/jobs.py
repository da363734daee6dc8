"""(a) image jobs through everything ÷ a bare loop of the same model · (d) durable accepts ÷ Huey's enqueue ·
(e) idle pickup · (g) peak memory of each process."""

import statistics
import threading
import time
from pathlib import Path

import httpx
import numpy as np

from appliance.bench import rig
from appliance.bench.rig import Rig
from appliance.demo import MEDIA
from appliance.house import House
from appliance.inference import manifest, runtime
from appliance.inference.wire import Pixels
from appliance.jobs.job import JobKind, Submission
from appliance.jobs.submit import submit
from appliance.settings import Settings
from appliance.tasks import Lanes, default_enqueue

CLIENTS = 32


def images(settings: Settings, jobs: int = 480) -> dict[str, object]:
    """(a), and (g) of the same run. Bare: the model's adapter called in a loop on decoded pictures, in batches."""
    bare = max(_bare_rate(settings, batch) for batch in (1, 8, 32))
    with rig.running(settings, is_one_model=True) as running:
        _only_nsfw(running)
        _drive(running, CLIENTS * 2)  # warm
        rate = _drive(running, jobs)
        peak = running.peak_mb()
    return {
        "bare_images_per_s": round(bare, 1),
        "jobs_per_s": round(rate, 1),
        "ratio": round(rate / bare, 3),
        "aim": ">= 0.9",
        "peak_mb": peak,
    }


def accepts(settings: Settings, each: int = 300) -> dict[str, object]:
    """(d): 32 callers submit prompts, each on disk before its answer; then 32 put messages into Huey as it comes."""
    with rig.scratch(settings) as scratch:
        house = House(scratch)
        org = house.db.write(_make_organisation)
        waits: list[float] = []
        lock = threading.Lock()

        def accept(_: int) -> None:
            mine: list[float] = []
            for number in range(each):
                begun = time.perf_counter()
                prompt = Submission(JobKind.PROMPT, text=f"a lighthouse at dawn, number {number}")
                house.db.write(lambda conn, prompt=prompt: submit(conn, house, org, None, prompt))
                mine.append(time.perf_counter() - begun)
            with lock:
                waits.extend(mine)

        enqueue, close = default_enqueue(scratch.home / "huey-default.db")

        def put(_: int) -> None:
            for number in range(each):
                enqueue(str(number))

        ours: list[float] = []
        theirs: list[float] = []
        for _ in range(3):
            ours.append(CLIENTS * each / rig.in_parallel(CLIENTS, accept))
            theirs.append(CLIENTS * each / rig.in_parallel(CLIENTS, put))
        close()
        house.close()
    mine, huey = statistics.median(ours), statistics.median(theirs)
    return {
        "accepts_per_s": round(mine),
        "huey_enqueues_per_s": round(huey),
        "ratio": round(mine / huey, 2),
        "p99_ms": round(rig.percentile(waits, 0.99) * 1000, 2),
        "aim": ">= 2, p99 <= 10 ms",
    }


def pickup(settings: Settings, jobs: int = 100) -> dict[str, object]:
    """(e): one prompt at a time into an idle box; from the commit of the job to the worker's claim of it, as their
    rows have it."""
    with rig.running(settings) as running:
        house, lanes = running.house, Lanes(running.settings)
        org = house.db.write(_make_organisation)
        for number in range(jobs):
            prompt = Submission(JobKind.PROMPT, text=f"a quiet harbour {number}")
            lanes.follow(
                house.db.write(lambda conn, prompt=prompt: submit(conn, house, org, None, prompt)), JobKind.PROMPT
            )
            time.sleep(0.05 + (number % 7) * 0.01)
        waits = [
            float(row[0])
            for row in house.db.reader().execute("SELECT started_at - created_at FROM job WHERE started_at IS NOT NULL")
        ]
    return {
        "jobs": len(waits),
        "p50_ms": rig.percentile(waits, 0.5),
        "p99_ms": rig.percentile(waits, 0.99),
        "aim": "p99 <= 20 ms",
    }


def _make_organisation(conn: object) -> str:
    from appliance.accounts import organisations

    return organisations.get_or_create(conn, "bench").id  # pyright: ignore[reportArgumentType]  # a Connection


def _bare_rate(settings: Settings, batch: int, seconds: float = 4.0) -> float:
    """Pictures a second of the model alone, on pictures that are decoded already."""
    model = runtime.open_model(settings, manifest.read(settings.models_dir / "opennsfw"))
    pixels = np.random.default_rng(7).integers(0, 255, (512, 512, 3), dtype=np.uint8)
    pictures = [Pixels(512, 512, pixels.tobytes())] * batch
    model.answer(pictures)
    done, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        model.answer(pictures)
        done += batch
    rate = done / (time.perf_counter() - begun)
    model.close()
    return rate


def _only_nsfw(running: Rig) -> None:
    off = {"ai_adult_general": False, "underage": False, "text": False}
    headers = {"Authorization": f"Bearer {running.key}"}
    httpx.put(f"{running.address}/api/v1/me/moderation-config", json=off, headers=headers).raise_for_status()


def _drive(running: Rig, jobs: int) -> float:
    """Jobs a second, from the first upload to the last verdict, 32 clients that each wait for theirs."""
    photographs = [path.read_bytes() for path in sorted(Path(MEDIA).glob("*.jpg"))]
    headers = {"Authorization": f"Bearer {running.key}"}

    def client(number: int) -> None:
        with httpx.Client(base_url=running.address, headers=headers, timeout=120) as http:
            for turn in range(jobs // CLIENTS):
                file = photographs[(number + turn) % len(photographs)]
                answer = http.post("/api/v1/moderate/image", files={"image_file": ("a.jpg", file)})
                job = answer.raise_for_status().json()["job_id"]
                wait_s = 0.02
                while http.get(f"/api/v1/job/{job}").json()["status"] in ("queued", "processing"):
                    time.sleep(wait_s)
                    wait_s = min(0.5, wait_s * 1.5)

    return (jobs // CLIENTS) * CLIENTS / rig.in_parallel(CLIENTS, client)
