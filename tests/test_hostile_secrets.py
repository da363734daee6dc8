"""Nothing that was sent, and no secret, stands where it should not: real processes at their most talkative level, jobs
that succeed and fail, a crash with its traceback; then everything that they wrote is searched."""

import base64
import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.accounts import scopes
from tests.cast import Person, enrol
from tests.hostile import images
from tests.hostile.traces import Traces, columns, files, forms
from tests.paying import KEY as STRIPE_KEY
from tests.reader import Reader
from tests.test_api_server import Served, free_port
from tests.test_end_to_end import Receiver

PATIENCE_S = 90.0

SENT = {
    "prompt": "Zephyrquill keeps a lantern",
    "text": "Brindlewick waters the ferns",
    "moderated at once": "Fennimarch sings of harbours",
    "batch": "Gallowmere counts the sails",
    "conversation": "Hesperwend writes to a friend",
    "words in an image": "Ivorythorn painted this one",
    "image address": "jasperfield-photograph-7731",
    "query of an address": "kestrelmoor-signature-9920",
    "video address": "larkspindle-moving-4417",
    "file name": "marrowgate-holiday-2203",
    "webhook address": "nettlecombe-hook-5518",
    "question of a category": "Is an Orrinfell to be seen?",
    "metadata": "pellingworth-comment-83",
    "idempotency key": "quarrystone-idem-6649",
    "refused body": "Rookhollow is cut off in the mid",
    "agent": "Sallowbrook-Browser-11",
    "path": "thistledown-nowhere-3306",
    "user of the caller": "umberleigh-user-7102",
    "unknown member": "Vervainholt the impossible",
}
"""Content, by what it was sent as. Names of nobody, found nowhere else."""

MAY_HOLD: dict[tuple[str, str], str] = {
    ("job_content.text", "prompt"): "what was submitted, for as long as retain_prompts_days says",
    ("job_content.text", "text"): "the same",
    ("job_content.text", "batch"): "the same",
    ("job_content.url", "image address"): "where the picture is fetched; gone with the job's content",
    ("job_content.url", "query of an address"): "the same",
    ("job_content.url", "video address"): "the same",
    ("job.webhook_url", "webhook address"): "where the verdict is sent",
    ("delivery.url", "webhook address"): "the same",
    ("webhook_endpoint.url", "webhook address"): "the same",
    ("custom_category.question", "question of a category"): "the question is the category",
    ("custom_category_version.question", "question of a category"): "the same, as it stood before",
    ("idempotency.key", "idempotency key"): "by which a second try is known; gone after a day",
    ("moderation_event.external_id", "metadata"): "by which a caller finds its event again, at its own choice",
    ("moderation_event.body", "metadata"): "the same, among what the event answers",
}
"""`table.column` and what of the above may stand in it, and why. All else may stand nowhere."""

SECRETS_IN: dict[tuple[str, str], str] = {
    ("webhook_secret.secret", "webhook secret"): "by which deliveries are signed; it must be read again",
}
"""The same of secrets."""


class Run:
    """What was written in one run, and by whom."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answers: list[bytes] = []
        self.secrets: dict[str, str] = {}
        self.log = ""


def _picture() -> bytes:
    return images.png(images.chunk(b"tEXt", b"Comment\0" + SENT["words in an image"].encode()))


def _submit(run: Run, served: Served, alice: Person, receiver: Receiver) -> list[str]:
    """Everything, once: what is fine, what is refused, what fails later. Returns the jobs."""
    hook = f"{receiver.url}/{SENT['webhook address']}"
    agent = {"user-agent": SENT["agent"], "x-forwarded-for": "203.0.113.9"}
    jobs: list[str] = []
    with httpx.Client(base_url=served.url, headers={**alice.headers, **agent}, timeout=60) as http:

        def ask(method: str, path: str, **how: Any) -> httpx.Response:
            answer = http.request(method, path, **how)
            if answer.status_code >= 400:
                run.answers.append(answer.content + str(answer.headers).encode())
            elif answer.status_code == 202 and "job_id" in answer.json():
                jobs.append(answer.json()["job_id"])
            return answer

        assert ask("POST", "/api/v1/webhook/register", json={"url": hook}).status_code == 200
        run.secrets["webhook secret"] = ask("POST", "/api/v1/me/webhook-secrets/rotate").json()["secret"]
        question = {"name": "orrin", "system_prompt": SENT["question of a category"]}
        assert ask("POST", "/api/v1/me/custom-categories", json=question).status_code == 201
        key = {"idempotency-key": SENT["idempotency key"]}
        assert ask("POST", "/api/v1/moderate/prompt", json={"prompt": SENT["prompt"]}, headers=key).status_code == 202
        assert ask("POST", "/api/v1/moderate/text", data={"text": SENT["text"], "webhook_url": hook}).status_code == 202
        file = (SENT["file name"] + ".png", io.BytesIO(_picture()), "image/png")
        assert ask("POST", "/api/v1/moderate/image", files={"image_file": file}).status_code == 202
        where = f"{receiver.url}/{SENT['image address']}.png?sig={SENT['query of an address']}"
        assert ask("POST", "/api/v1/moderate/image", json={"image_url": where}).status_code == 202
        moving = f"http://127.0.0.1:1/{SENT['video address']}.mp4"
        assert ask("POST", "/api/v1/moderate/video", json={"video_url": moving}).status_code == 202
        items = {"items": [{"key": "a", "text": SENT["batch"]}]}
        assert ask("POST", "/api/v1/moderate/text/batch", json=items).status_code == 202
        said = {"modality": "text", "input": SENT["moderated at once"], "metadata": {"external_id": SENT["metadata"]}}
        ask("POST", "/omnimod/v1/moderations", json=said)
        ask("POST", "/openai/v1/moderations", json={"input": SENT["conversation"], "user": SENT["user of the caller"]})
        ask("POST", "/compat/dify", json={"point": "app.moderation.output", "params": {"text": SENT["conversation"]}})
        picture = "data:image/png;base64," + base64.b64encode(_picture()).decode()
        ask("POST", "/api/v1/moderate/image", json={"image_url": picture})
        # what is refused, quoting nothing
        ask("POST", "/api/v1/moderate/prompt", content=b'{"prompt": "' + SENT["refused body"].encode())
        ask("POST", "/api/v1/moderate/image", files={"image_file": (SENT["file name"], SENT["refused body"].encode())})
        ask("POST", "/api/v1/moderate/image", json={"image_url": f"http://10.0.0.1/{SENT['image address']}"})
        ask("POST", "/api/v1/moderate/prompt", json={SENT["unknown member"]: SENT["refused body"]})
        ask("GET", f"/api/v1/{SENT['path']}/x?q={SENT['query of an address']}")
        ask("GET", f"/v1/events/{SENT['path']}")
        ask("GET", "/v1alpha1/comments:analyze", params={"key": alice.key})
        wrong = alice.key[:-6] + "AAAAAA"
        run.secrets["key that is none"] = wrong
        ask("GET", "/api/v1/jobs", headers={"authorization": f"Bearer {wrong}"})
        basic = base64.b64encode(f"{alice.key}:".encode()).decode()
        ask("GET", "/api/v1/jobs", headers={"authorization": f"Basic {basic}"})
        ask("POST", f"/compat/pictrs/{wrong}", content=_picture())
    return jobs


def _crash(run: Run, served: Served, alice: Person) -> None:
    """A table is gone: the request in hand ends in a traceback, with its content in the frames."""
    house = served.house
    house.db.write(lambda conn: conn.execute("ALTER TABLE idempotency RENAME TO elsewhere"))
    try:
        for path, body in (("prompt", {"prompt": SENT["prompt"]}), ("image", {"image_url": "http://93.184.216.34/x"})):
            key = {"idempotency-key": SENT["idempotency key"] + "2"}
            answer = httpx.post(
                f"{served.url}/api/v1/moderate/{path}", headers={**alice.headers, **key}, json=body, timeout=60
            )
            assert answer.status_code >= 500
            run.answers.append(answer.content)
    finally:
        house.db.write(lambda conn: conn.execute("ALTER TABLE elsewhere RENAME TO idempotency"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("secrets")
    home = folder / "home"
    home.mkdir()
    run = Run(folder)
    (folder / "stripe-key").write_text(STRIPE_KEY + "\n")
    (folder / "stripe-key").chmod(0o600)
    environ = {
        "CUSTOMHOUSE_LOG_LEVEL": "debug",
        "CUSTOMHOUSE_LOG_FILES": "on",
        "CUSTOMHOUSE_MEDIA_ALLOWED_PRIVATE_CIDRS": "127.0.0.0/8",
        "CUSTOMHOUSE_WORKER_RETRY_BASE_S": "0.1",
        "CUSTOMHOUSE_WORKER_MAX_ATTEMPTS": "2",
        "CUSTOMHOUSE_WORKER_OUTAGE_ATTEMPTS": "2",
        "CUSTOMHOUSE_INFERENCE_VISION_JUDGE": "qwen3-vl-2b",  # or no question can be registered; nobody answers for it
        "CUSTOMHOUSE_BILLING_STRIPE_KEY_FILE": str(folder / "stripe-key"),
        "CUSTOMHOUSE_BILLING_STRIPE_ADDRESS": f"http://127.0.0.1:{free_port()}",  # down: its errors are logged
    }
    receiver = Receiver()
    with contextlib.ExitStack() as stack:
        stack.callback(receiver.server_close)
        stack.callback(receiver.shutdown)
        served = Served(home, **environ)
        stack.callback(served.close)
        reader = Reader(served.house.settings.inference_socket)  # texts are judged; pictures find nobody
        stack.callback(reader.close)
        worker = subprocess.Popen(
            [sys.executable, "-m", "appliance", "work"], env=served._environ, stdout=served._log, stderr=served._log
        )
        stack.callback(worker.wait)
        stack.callback(worker.kill)
        alice = enrol(served.house, "A", "alice", granted=tuple(one for one in scopes.ALL if one != "admin:config"))
        run.secrets |= {"key": alice.key, "stripe key": STRIPE_KEY}
        run.secrets["pepper"] = (home / "pepper").read_bytes().hex() if (home / "pepper").exists() else "no-pepper-here"
        jobs = _submit(run, served, alice, receiver)
        _wait_for(served, jobs)
        httpx.post(f"{served.url}/api/v1/billing/checkout-session", headers=alice.headers, json={"amount_usd": 25}, timeout=60)  # noqa: E501  # fmt: skip
        _crash(run, served, alice)
        for name in ("metrics", "health", "health/live", "schema/openapi.json"):
            run.answers.append(httpx.get(f"{served.url}/{name}", timeout=60).content)
        for command in (["support-bundle", "--yes", "--output", str(folder / "bundle.tar.gz")], ["doctor", "--json"]):
            told = subprocess.run(
                [sys.executable, "-m", "appliance", *command], env=served._environ, capture_output=True
            )
            run.answers += [told.stdout, told.stderr]
            assert command[0] == "doctor" or told.returncode == 0, told.stderr
        (folder / "command-lines").write_bytes(b"\n".join(_command_lines([served.process.pid, worker.pid])))
        worker.terminate()
        worker.wait(PATIENCE_S)
        served.stop()
        run.log = served.log()
        yield run


def _wait_for(served: Served, jobs: list[str]) -> None:
    """Until each is closed, one way or the other."""
    until = time.monotonic() + PATIENCE_S
    marks = ",".join("?" * len(jobs))
    while time.monotonic() < until:
        open_ = served.house.db.reader().execute(
            f"SELECT count(*) FROM job WHERE id IN ({marks}) AND status IN ('queued', 'processing')", jobs
        )
        if open_.fetchone()[0] == 0:
            return
        time.sleep(0.1)
    raise AssertionError("jobs are still open")


def _command_lines(pids: list[int]) -> Iterator[bytes]:
    """Of the processes and of what they started: anybody on the machine can read them."""
    for pid in pids:
        with contextlib.suppress(OSError):
            yield Path(f"/proc/{pid}/cmdline").read_bytes()
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            yield from _command_lines([int(child) for child in children])


def test_the_run_did_what_could_leave_something(run: Run) -> None:
    """Were nothing logged, nothing could be found."""
    events = [json.loads(line) for line in run.log.splitlines() if line.startswith("{")]
    assert len(events) > 20
    assert any(line["level"] == "debug" for line in events)
    assert any("traceback" in line for line in events)
    assert (run.folder / "bundle.tar.gz").exists()
    held = dict(columns(run.folder / "home" / "customhouse.db"))
    found = {name for name, data in held.items() if Traces(SENT).kinds(data)}
    assert {"job_content.text", "job_content.url", "delivery.url"} <= found
    names = [name for name, _ in files(run.folder)]
    assert any(name.startswith("home/log/") for name in names), names
    failed = [line for line in events if line["level"] in ("warning", "error")]
    assert failed


def test_no_content_and_no_secret_stands_in_any_file_or_answer(run: Run) -> None:
    traces = Traces({**SENT, **run.secrets})
    found: dict[str, set[tuple[str, str]]] = {}
    for name, data in files(run.folder):
        there = traces.within(data)
        if name == "stripe-key":
            assert {kind for kind, _ in there} == {"stripe key"}
            continue
        if name == "home/pepper":
            continue
        if there:
            found[name] = there
    for number, answer in enumerate(run.answers):
        if there := traces.within(answer):
            found[f"answer {number}: {answer[:200]!r}"] = there
    assert found == {}


def test_the_database_holds_content_where_the_table_says_and_nowhere_else(run: Run) -> None:
    traces = Traces(SENT)
    found = {
        (name, kind) for name, data in columns(run.folder / "home" / "customhouse.db") for kind in traces.kinds(data)
    }
    assert found == set(MAY_HOLD)  # the table says neither less nor more


def test_the_database_holds_no_secret_but_what_signs(run: Run) -> None:
    traces = Traces(run.secrets)
    found = {
        (name, kind) for name, data in columns(run.folder / "home" / "customhouse.db") for kind in traces.kinds(data)
    }
    assert found == set(SECRETS_IN)


def test_the_queue_and_all_other_databases_carry_ids_only(run: Run) -> None:
    traces = Traces({**SENT, **run.secrets})
    others = [path for path in run.folder.rglob("*.db*") if not path.name.startswith("customhouse.db")]
    assert others
    for path in others:
        assert traces.within(path.read_bytes()) == set(), path.name


@pytest.mark.parametrize("word", ["Zephyrquill keeps a lantern", "stars_AbCdEf0123456789", "ümläut ☂ rain"])
def test_a_word_is_found_in_each_of_its_forms(word: str) -> None:
    """The search itself: in the middle of other things, however it is written."""
    traces = Traces({"word": word})
    written = [word, word.upper(), json.dumps({"a": f"x{word}y"}), f"q={httpx.QueryParams({'q': word})}"]
    written += [base64.b64encode(b"." * shift + word.encode() + b"...").decode() for shift in range(7)]
    written += [word.encode().hex(), "".join(f"%{byte:02X}" for byte in word.encode())]
    for one in written:
        if one != word.upper() or word.isascii():
            assert traces.kinds(f"before {one} after".encode()) == {"word"} or "+" in one, one
    assert traces.within(b"something else") == set()
    assert len(forms(word)) == 8
    assert os.linesep
