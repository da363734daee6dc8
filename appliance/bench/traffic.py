"""Mixed traffic as customers make it: every surface at its own pace, each request timed, each promise written down."""

import base64
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import msgspec

from appliance.bench import rig
from appliance.demo import MEDIA

PACES = {
    "prompts": 4.0,
    "pictures": 0.5,
    "clips": 0.04,
    "decisions": 4.0,
    "polls": 4.0,
    "streams": 0.5,
    "history": 0.5,
    "refused": 1.0,
}
"""Surface → requests a second, at pace 1."""

_ENDED = ("completed", "failed")
_KEPT = 4_000  # the newest jobs, to poll and to follow
_PATIENCE_S = 60.0
DELIVERY = "X-Omnifence-Delivery-Id"


class Figures(msgspec.Struct, frozen=True):
    """Of one surface, since the last look."""

    count: int
    errors: int
    """Answers that were not the ones that are right there, refusals for lack of room apart."""
    turned_away: int
    """503 with Retry-After."""
    p50_ms: float
    p99_ms: float


class Receiver:
    """A webhook's receiver on loopback: which job was told of by which delivery, and how often."""

    def __init__(self) -> None:
        self.told: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                job: str = msgspec.json.decode(body).get("job_id", "")
                with outer._lock:
                    outer.told[job][self.headers.get(DELIVERY, "")] += 1
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                return None

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/hook"

    def deliveries(self) -> dict[str, dict[str, int]]:
        with self._lock:
            return {job: dict(by_id) for job, by_id in self.told.items()}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Traffic:
    """Begins with `start`, ends with `stop`. One thread a surface: who is late sends the next at once, and no more."""

    def __init__(self, address: str, key: str, omnimod_key: str, hook: str, pace: float) -> None:
        self.accepted: dict[str, str] = {}
        """Job → surface: each 202."""
        self._address, self._hook, self._pace = address, hook, pace
        self._headers = {"Authorization": f"Bearer {key}"}
        self._omnimod = {"Authorization": f"Bearer {omnimod_key}"}
        self._photographs = [path.read_bytes() for path in sorted(Path(MEDIA).glob("*.jpg"))]
        self._clips = [path.read_bytes() for path in sorted(Path(MEDIA).glob("*.webm"))]
        self._recent: list[str] = []
        self._took: dict[str, list[float]] = defaultdict(list)
        self._wrong: dict[str, int] = defaultdict(int)
        self._away: dict[str, int] = defaultdict(int)
        self._unlike: dict[str, str] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        acts: dict[str, Callable[[httpx.Client, int], None]] = {
            "prompts": self._prompt,
            "pictures": self._picture,
            "clips": self._clip,
            "decisions": self._decision,
            "polls": self._poll,
            "streams": self._stream,
            "history": self._history,
            "refused": self._refused,
        }
        self._threads = [
            threading.Thread(target=self._keep, args=(name, act), name=name, daemon=True)
            for name, act in acts.items()
            if name != "clips" or self._clips
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def look(self) -> dict[str, Figures]:
        """Since the last look, by surface."""
        with self._lock:
            took, wrong, away = self._took, self._wrong, self._away
            self._took, self._wrong, self._away = defaultdict(list), defaultdict(int), defaultdict(int)
        return {
            name: Figures(
                len(values),
                wrong[name],
                away[name],
                round(rig.percentile(values, 0.5), 2),
                round(rig.percentile(values, 0.99), 2),
            )
            for name, values in took.items()
            if values
        }

    def wrong(self) -> dict[str, str]:
        """Surface → the first answer that was not right."""
        with self._lock:
            return dict(self._unlike)

    def _keep(self, name: str, act: Callable[[httpx.Client, int], None]) -> None:
        every = 1 / (PACES[name] * self._pace)
        due, number = time.monotonic(), 0
        with httpx.Client(base_url=self._address, timeout=_PATIENCE_S) as http:
            while not self._stop.wait(max(0.0, due - time.monotonic())):
                number += 1
                try:
                    act(http, number)
                except httpx.HTTPError as error:
                    self._note(name, 0.0, type(error).__name__)
                due = max(due + every, time.monotonic())

    def _note(self, name: str, ms: float, wrong: str = "", *, is_away: bool = False) -> None:
        with self._lock:
            self._took[name].append(ms)
            self._away[name] += is_away
            if wrong:
                self._wrong[name] += 1
                self._unlike.setdefault(name, wrong)

    def _sent(self, name: str, expected: int, send: Callable[[], httpx.Response]) -> httpx.Response | None:
        """Timed; None when it was turned away, or was not answered as it should have been."""
        began = time.perf_counter()
        answer = send()
        ms = (time.perf_counter() - began) * 1000
        if answer.status_code == expected:
            self._note(name, ms)
            return answer
        is_away = answer.status_code == 503 and "retry-after" in answer.headers
        self._note(name, ms, "" if is_away else f"{answer.status_code} {answer.text[:200]}", is_away=is_away)
        return None

    def _job(self, name: str, answer: httpx.Response | None) -> None:
        if answer is not None:
            job = answer.json()["job_id"]
            with self._lock:
                self.accepted[job] = name
                self._recent = [*self._recent[-_KEPT:], job]

    def _job_at(self, number: int) -> str | None:
        with self._lock:
            return self._recent[-1 - number % min(len(self._recent), 50)] if self._recent else None

    def _prompt(self, http: httpx.Client, number: int) -> None:
        form = {"prompt": f"A watercolour of a lighthouse at dawn, number {number}", "webhook_url": self._hook}
        self._job(
            "prompts",
            self._sent("prompts", 202, lambda: http.post("/api/v1/moderate/prompt", data=form, headers=self._headers)),
        )

    def _picture(self, http: httpx.Client, number: int) -> None:
        file = {"image_file": ("a.jpg", self._photographs[number % len(self._photographs)])}
        form = {"webhook_url": self._hook}
        self._job(
            "pictures",
            self._sent(
                "pictures",
                202,
                lambda: http.post("/api/v1/moderate/image", data=form, files=file, headers=self._headers),
            ),
        )

    def _clip(self, http: httpx.Client, number: int) -> None:
        file = {"video_file": ("a.webm", self._clips[number % len(self._clips)])}
        form = {"webhook_url": self._hook}
        self._job(
            "clips",
            self._sent(
                "clips", 202, lambda: http.post("/api/v1/moderate/video", data=form, files=file, headers=self._headers)
            ),
        )

    def _decision(self, http: httpx.Client, number: int) -> None:
        if number % 25 == 0:  # a picture with the answer open
            data = base64.b64encode(self._photographs[number % len(self._photographs)]).decode()
            image = [{"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}}]
            self._sent(
                "decisions",
                200,
                lambda: http.post("/openai/v1/moderations", json={"input": image}, headers=self._omnimod),
            )
            return
        body = {"modality": "text", "input": f"The ferry leaves at seven and comes back before dark, number {number}"}
        self._sent("decisions", 200, lambda: http.post("/omnimod/v1/moderations", json=body, headers=self._omnimod))

    def _poll(self, http: httpx.Client, number: int) -> None:
        if (job := self._job_at(number)) is not None:
            self._sent("polls", 200, lambda: http.get(f"/api/v1/job/{job}", headers=self._headers))

    def _stream(self, http: httpx.Client, number: int) -> None:
        """To the end of the job."""
        job = self._job_at(0)
        if job is None:
            return
        began, last = time.perf_counter(), ""
        with http.stream("GET", f"/api/v1/job/{job}/progress", headers=self._headers) as answer:
            for line in answer.iter_lines():
                last = line if line.startswith("data:") else last
                if self._stop.is_set():
                    return
        has_ended = any(f'"{status}"' in last.replace(" ", "") for status in _ENDED)
        wrong = "" if has_ended else f"{answer.status_code}, ended with {last[:100]!r}"
        self._note("streams", (time.perf_counter() - began) * 1000, wrong)

    def _history(self, http: httpx.Client, number: int) -> None:
        path = ("/api/v1/jobs?limit=50", "/api/v1/usage", "/health/live")[number % 3]
        self._sent("history", 200, lambda: http.get(path, headers=self._headers))

    def _refused(self, http: httpx.Client, number: int) -> None:
        """What is no request: each has its own refusal, and costs the box next to nothing."""
        broken = self._photographs[0][:2_000]
        asks: tuple[tuple[int, Callable[[], httpx.Response]], ...] = (
            (400, lambda: http.post("/api/v1/moderate/prompt", json={"prompt": " "}, headers=self._headers)),
            (400, lambda: http.post("/api/v1/moderate/prompt", content=b"{", headers={**self._headers, **_AS_JSON})),
            (401, lambda: http.get("/api/v1/jobs", headers={"Authorization": "Bearer stars_nobody"})),
            (404, lambda: http.get("/api/v1/job/00000000-0000-4000-8000-000000000000", headers=self._headers)),
            (415, lambda: self._file(http, b"no picture at all")),
            (202, lambda: self._file(http, broken)),  # its head is a picture's: the decoder finds out
        )
        expected, ask = asks[number % len(asks)]
        answer = self._sent("refused", expected, ask)
        if expected == 202:
            self._job("refused", answer)

    def _file(self, http: httpx.Client, content: bytes) -> httpx.Response:
        return http.post("/api/v1/moderate/image", files={"image_file": ("a.jpg", content)}, headers=self._headers)


_AS_JSON = {"content-type": "application/json"}
