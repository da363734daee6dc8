"""One request's way through all processes, told by the id that its answer carries: in the logs, and in spans."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from appliance import otel, tracing
from appliance.errors import Misconfigured
from tests.cast import Person, enrol
from tests.surfaces import WithModels

PATIENCE_S = 60.0
SECRET = "quokka-lantern"  # in what is submitted; in no line and no span


class Receiver:
    """A web server on loopback that keeps what is posted to it: a collector of spans, and a webhook's receiver."""

    def __init__(self) -> None:
        self.bodies: list[tuple[str, bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    import gzip

                    body = gzip.decompress(body)
                outer.bodies.append((self.path, body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                return None

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def spans(self) -> list[tuple[str, Any]]:
        """(service, span) of all that came."""
        found: list[tuple[str, Any]] = []
        for path, body in list(self.bodies):
            if path != "/v1/traces":
                continue
            for of in ExportTraceServiceRequest.FromString(body).resource_spans:
                named = {one.key: one.value.string_value for one in of.resource.attributes}
                found += [(named["service.name"], span) for scope in of.scope_spans for span in scope.spans]
        return found

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[WithModels]:
    """All three processes, with log files, telling spans every fifth of a second."""
    served = WithModels(
        tmp_path_factory.mktemp("traced"),
        CUSTOMHOUSE_MEDIA_ALLOWED_PRIVATE_CIDRS="127.0.0.0/8",
        CUSTOMHOUSE_LOG_FILES="on",
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
        OTEL_BSP_SCHEDULE_DELAY="200",
    )
    yield served
    served.close()


@pytest.fixture(scope="module")
def alice(served: WithModels) -> Person:
    return enrol(served.house, "A", "alice")


def wait(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def submit(served: WithModels, person: Person, receiver: Receiver, request: str) -> httpx.Response:
    answer = httpx.post(
        f"{served.url}/api/v1/moderate/prompt",
        data={"prompt": f"A {SECRET} beside the sea", "webhook_url": f"{receiver.url}/hook"},
        headers={**person.headers, "x-request-id": request},
        timeout=PATIENCE_S,
    )
    assert answer.status_code == 202, answer.text
    return answer


def lines_of(served: WithModels, request: str) -> list[dict[str, Any]]:
    """As `customhouse logs --request` prints them."""
    ran = subprocess.run(
        [sys.executable, "-m", "appliance", "logs", "--request", request, "--json"],
        env=served._environ,
        capture_output=True,
        check=True,
        text=True,
    )
    return [json.loads(line) for line in ran.stdout.splitlines()]


@pytest.mark.weights
def test_the_log_shows_one_requests_way_through_all_processes(
    served: WithModels, alice: Person, receiver: Receiver
) -> None:
    answer = submit(served, alice, receiver, "walk-1")
    submit(served, alice, receiver, "walk-12")
    assert answer.headers["x-request-id"] == "walk-1"
    wanted = {"request answered", "models asked", "job closed", "webhook delivered"}
    wait(lambda: {one["event"] for one in lines_of(served, "walk-1")} >= wanted)
    found = lines_of(served, "walk-1")
    by_event = {one["event"]: one for one in found}
    assert {name: by_event[name]["process"] for name in wanted} == {
        "request answered": "api",
        "models asked": "models",
        "job closed": "worker",
        "webhook delivered": "worker",
    }
    assert {one["request_id"] for one in found} == {"walk-1"}, "and no other request's"
    assert by_event["job closed"]["job"] == answer.json()["job_id"]
    assert [one["time"] for one in found] == sorted(one["time"] for one in found)


@pytest.mark.weights
def test_a_request_that_is_answered_at_once_has_its_id_in_the_model_process(
    served: WithModels, alice: Person, receiver: Receiver
) -> None:
    key = enrol(served.house, "A", "texts", surface="omnimod").key
    for request in ("now-1", "now-2"):
        answer = httpx.post(
            f"{served.url}/openai/v1/moderations",
            json={"input": f"You are a wretched {SECRET}, and nobody here likes you, {request}"},
            headers={"Authorization": f"Bearer {key}", "x-request-id": request},
            timeout=PATIENCE_S,
        )
        assert answer.status_code == 200, answer.text
    wait(lambda: any(one["event"] == "models asked" for one in lines_of(served, "now-2")))
    assert {one["process"] for one in lines_of(served, "now-2")} == {"api", "models"}


@pytest.mark.weights
def test_an_id_that_is_none_is_replaced(served: WithModels) -> None:
    for given in ("", "a b", "x" * 129, "<script>"):
        answer = httpx.get(f"{served.url}/health/live", headers={"x-request-id": given})
        assert answer.headers["x-request-id"].startswith("req_")


@pytest.mark.weights
def test_spans_go_from_the_api_to_the_worker_and_the_models(
    served: WithModels, alice: Person, receiver: Receiver
) -> None:
    theirs = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    job = httpx.post(
        f"{served.url}/api/v1/moderate/prompt",
        data={"prompt": f"A {SECRET} on the quay"},
        headers={**alice.headers, "x-request-id": "span-1", "traceparent": theirs},
        timeout=PATIENCE_S,
    ).json()["job_id"]
    trace = otel.trace_of("span-1").to_bytes(16)

    def ours() -> dict[tuple[str, str], Any]:
        return {(service, span.name): span for service, span in receiver.spans() if span.trace_id == trace}

    wanted = {
        ("customhouse-api", "request"),
        ("customhouse-worker", "work"),
        ("customhouse-worker", "ask models /read"),
        ("customhouse-models", "answer /read"),
    }
    wait(lambda: set(ours()) >= wanted)
    found = ours()
    root, work, ask, answered = (
        found[name]
        for name in (
            ("customhouse-api", "request"),
            ("customhouse-worker", "work"),
            ("customhouse-worker", "ask models /read"),
            ("customhouse-models", "answer /read"),
        )
    )
    assert root.parent_span_id == b""
    assert [link.trace_id.hex() for link in root.links] == ["4bf92f3577b34da6a3ce929d0e0e4736"], "the caller's trace"
    assert work.parent_span_id == root.span_id
    assert ask.parent_span_id == work.span_id
    assert answered.parent_span_id == ask.span_id
    told = {one.key: one.value for one in work.attributes}
    assert told["job"].string_value == job
    assert told[tracing.REQUEST].string_value == "span-1"
    route = {one.key: one.value for one in root.attributes}["http.route"].string_value
    assert route == "/api/v1/moderate/prompt"


@pytest.mark.weights
def test_neither_a_line_nor_a_span_holds_content(served: WithModels, alice: Person, receiver: Receiver) -> None:
    submit(served, alice, receiver, "quiet-1")
    wait(lambda: any(one["event"] == "webhook delivered" for one in lines_of(served, "quiet-1")))
    wait(lambda: any(span.trace_id == otel.trace_of("quiet-1").to_bytes(16) for _, span in receiver.spans()))
    for path in (served.house.settings.home / "log").glob("*.log*"):
        assert SECRET.encode() not in path.read_bytes(), path.name
        assert alice.key.encode() not in path.read_bytes(), path.name
    traces = b"".join(body for path, body in receiver.bodies if path == "/v1/traces")
    assert traces
    assert SECRET.encode() not in traces
    assert alice.key.encode() not in traces


# --- without processes ------------------------------------------------------------------------------------------------


def test_spans_that_are_off_bring_in_nothing() -> None:
    code = (
        "import sys; from appliance import tracing; from appliance.api import app; from appliance.work import process\n"
        "tracing.start('api', '')\n"
        "with tracing.request('a'), tracing.door('request', ''), tracing.span('x', n=1): pass\n"
        "assert not any(name.startswith('opentelemetry') for name in sys.modules), 'imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_spans_that_are_wanted_and_cannot_be_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "appliance.otel")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(Misconfigured, match=r"customhouse\[otel\]"):
        tracing.start("api", "http://127.0.0.1:1")


def test_a_collector_that_is_not_there_stops_nobody() -> None:
    end = tracing.start("worker", "http://127.0.0.1:1")
    try:
        with tracing.request("lonely"), tracing.span("work") as span:
            span.set_attribute("n", 1)
        assert tracing.is_on()
    finally:
        end()
    assert not tracing.is_on()


def test_requests_at_once_keep_their_own_numbers() -> None:
    kept = InMemorySpanExporter()
    tracing.use(otel.Otel("api", SimpleSpanProcessor(kept)))

    def ask(request: str) -> None:
        with tracing.request(request), tracing.door("request", ""), tracing.span("inner"):
            pass

    try:
        threads = [threading.Thread(target=ask, args=(f"r{number}",)) for number in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        tracing.use(None)
    spans = kept.get_finished_spans()
    assert len(spans) == 80
    for span in spans:
        request = str((span.attributes or {})[tracing.REQUEST])
        context = span.get_span_context()
        assert context is not None
        assert context.trace_id == otel.trace_of(request)
        assert (context.span_id == otel.span_of(request)) == (span.name == "request")


def test_the_standard_variable_turns_spans_on_and_ours_goes_before_it(tmp_path: Path) -> None:
    from appliance import settings

    environ = {"CUSTOMHOUSE_HOME": str(tmp_path), "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
    assert settings.load(environ={"CUSTOMHOUSE_HOME": str(tmp_path)}).tracing.otlp_endpoint == ""
    assert settings.load(environ=environ).tracing.otlp_endpoint == "http://127.0.0.1:4318"
    environ["CUSTOMHOUSE_TRACING_OTLP_ENDPOINT"] = "http://127.0.0.2:4318"
    assert settings.load(environ=environ).tracing.otlp_endpoint == "http://127.0.0.2:4318"
