"""Custom categories end to end: tried and judged by a real model process, on random weights that say yes to everything
(or, where it says so, no)."""

import base64
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from click.testing import CliRunner
from litestar.testing import TestClient
from msgspec.structs import replace

from appliance import clock
from appliance.__main__ import root
from appliance.accounts.custom import THRESHOLD
from appliance.database import Connection
from appliance.house import House
from appliance.inference.client import Models
from appliance.inference.wire import Question, ReadRequest
from appliance.jobs import explain, rows, trial
from appliance.jobs.job import ChildKind, Status
from appliance.media.decoders import Decoders
from appliance.outbound import Outbound
from appliance.settings import Inference, Settings
from appliance.text.engine import Engine
from appliance.work.hands import Hands
from appliance.work.runner import Runner
from tests import judges
from tests.cast import Person, enrol
from tests.tinyonnx import Process

Client = TestClient[Any]

CATEGORIES = "/api/v1/me/custom-categories"
CONFIG = "/api/v1/me/moderation-config"
BOTH = Inference(vision_judge=judges.EYES, text_judge=judges.READER)
NOTHING_BUILT_IN = {"nsfw": False, "ai_adult_general": False, "underage": False, "text": False}


@pytest.fixture(scope="module")
def yes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    home, models = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("models")
    judges.install(home, models, bias=-judges.ALWAYS)
    with judges.process(home, models) as process:
        yield process


class Box:
    """An application whose models are that process's, and a worker without threads."""

    def __init__(self, settings: Settings, client: Client, house: House) -> None:
        self.settings, self.client, self.house = settings, client, house
        self.alice = enrol(house, "A", "alice", granted=("moderate:prompt", "moderate:image", "moderate:video",
            "job:read", "account:config"))  # fmt: skip
        self.hands = Hands(
            house,
            Models(settings.inference_socket, 20.0),
            Decoders(settings),
            Outbound(),
            Engine(house),
        )
        self.runner = Runner(self.hands, lambda follow, kind: None)
        self.send("put", CONFIG, json=NOTHING_BUILT_IN)

    def send(self, method: str, path: str, **what: Any) -> httpx.Response:
        return getattr(self.client, method)(path, headers=self.alice.headers, **what)

    def add(self, **body: Any) -> dict[str, Any]:
        made = self.send("post", CATEGORIES, json={"name": "Dogs", "system_prompt": "Is there a dog?", **body})
        assert made.status_code == 201, made.text
        return made.json()

    def judged(self, path: str, **body: Any) -> dict[str, Any]:
        """The job's body after it was submitted and worked on."""
        submitted = self.send("post", f"/api/v1/moderate/{path}", **body)
        assert submitted.status_code == 202, submitted.text
        self.runner.work(submitted.json()["job_id"])
        return self.send("get", f"/api/v1/job/{submitted.json()['job_id']}").json()

    def close(self) -> None:
        self.hands.decoders.close()
        self.hands.models.close()


@pytest.fixture
def box(yes: Process, settings: Settings, client_with: Callable[[Settings], tuple[Client, House]]) -> Iterator[Box]:
    opened = open_box(yes, settings, client_with)
    yield opened
    opened.close()


def open_box(
    running: Process,
    settings: Settings,
    client_with: Callable[[Settings], tuple[Client, House]],
    inference: Inference = BOTH,
) -> Box:
    settings = replace(
        settings,
        inference=inference,
        models_dir=Path(running.environ["CUSTOMHOUSE_MODELS_DIR"]),
        categories_file=Path(running.environ["CUSTOMHOUSE_CATEGORIES_FILE"]),
    )
    judges.answer_for(settings, running)
    return Box(settings, *client_with(settings))


def png(level: int = 120) -> bytes:
    return cv2.imencode(".png", np.full((40, 60, 3), level, np.uint8))[1].tobytes()


def picture(level: int = 120) -> dict[str, Any]:
    return {"files": {"image_file": ("a.png", png(level), "image/png")}}


def clip(path: Path) -> bytes:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for number in range(20):
        writer.write(np.full((48, 64, 3), number * 10, np.uint8))
    writer.release()
    return path.read_bytes()


# --- judged ----------------------------------------------------------------------------------------------------------


def test_its_answer_stands_under_custom_and_prohibits(box: Box) -> None:
    box.add()
    job = box.judged("image", **picture())
    assert (job["status"], job["is_prohibited"]) == ("completed", True)
    assert job["categories"] == {"custom": {"dogs": True}}
    child = rows.children_of(box.house.db.reader(), job["job_id"])[0]
    assert (child.kind, child.subject) == (ChildKind.VLM, "custom:dogs")


def test_a_video_is_asked_it_frame_by_frame(box: Box, tmp_path: Path) -> None:
    box.add()
    job = box.judged("video", files={"video_file": ("a.mp4", clip(tmp_path / "a.mp4"), "video/mp4")})
    assert job["categories"] == {"custom": {"dogs": True}}
    assert job["is_prohibited"] is True


def test_a_prompt_is_weighed_against_it_by_the_text_judge(box: Box) -> None:
    box.add()
    job = box.judged("prompt", json={"prompt": "a walk in the park"})
    assert (job["is_prohibited"], job["categories"]) == (True, {"custom": {"dogs": True}})
    assert job["reason"] == "The prompt was flagged as dogs."


def test_it_is_asked_only_of_what_it_applies_to(box: Box) -> None:
    box.add(applies_to=["prompt"])
    assert box.judged("image", **picture())["categories"] == {"custom": {}}
    assert box.judged("prompt", json={"prompt": "a walk"})["categories"] == {"custom": {"dogs": True}}


def test_one_that_is_not_enabled_is_not_asked(box: Box) -> None:
    made = box.add(enabled=False)
    assert box.judged("image", **picture())["categories"] == {"custom": {}}
    box.send("put", f"{CATEGORIES}/{made['category_id']}", json={"enabled": True})
    assert box.judged("image", **picture())["categories"] == {"custom": {"dogs": True}}


def test_several_are_answered_apart(box: Box) -> None:
    box.add()
    box.add(name="Cats", system_prompt="Is there a cat?")
    job = box.judged("prompt", json={"prompt": "a walk"})
    assert job["categories"] == {"custom": {"dogs": True, "cats": True}}
    (child,) = rows.children_of(box.house.db.reader(), job["job_id"])
    assert child.finding is not None
    assert [score.category for score in child.finding.scores] == ["custom:dogs", "custom:cats"]


def test_a_blocklisted_prompt_ends_before_it(box: Box) -> None:
    box.add()
    box.send("put", CONFIG, json={})

    def block(conn: Connection) -> None:
        conn.execute("INSERT INTO keyword (id, keyword, created_at) VALUES ('k', 'teapot', 0)")

    box.house.db.write(block)
    job = box.judged("prompt", json={"prompt": "a teapot"})
    assert (job["is_prohibited"], job["categories"]) == (True, {"custom": {}})


def test_without_a_judge_to_answer_it_the_job_fails_and_nothing_is_allowed(
    yes: Process, settings: Settings, client_with: Callable[[Settings], tuple[Client, House]]
) -> None:
    box = open_box(yes, settings, client_with)
    box.add()
    blind = replace(box.settings, inference=Inference())
    box.house.settings = blind
    for path, body in (("image", picture()), ("prompt", {"json": {"prompt": "hello"}})):
        job = box.judged(path, **body)
        assert (job["status"], job["is_prohibited"], job["error_code"]) == ("failed", None, "MODEL_UNAVAILABLE")
    box.close()


# --- the version that made a verdict ---------------------------------------------------------------------------------


def test_an_old_verdict_names_the_question_that_made_it_whatever_became_of_the_category(box: Box) -> None:
    made = box.add()
    path = f"{CATEGORIES}/{made['category_id']}"
    submitted = box.send("post", "/api/v1/moderate/image", **picture()).json()["job_id"]
    box.send("put", path, json={"system_prompt": "Is there a wolf?"})
    box.send("delete", path)
    box.add(system_prompt="Is there a fox?")
    box.runner.work(submitted)
    job = rows.job(box.house.db.reader(), submitted)
    assert job is not None
    assert job.status is Status.COMPLETED
    children = rows.children_of(box.house.db.reader(), submitted)
    words = rows.words(box.house.db.reader(), job)
    said = "custom:dogs@1: eyes custom:dogs 1.000 ≥ 0.5 (“Is there a dog?”)"
    assert str(explain.why(job, children, words)) == said
    assert [(one.name, one.question) for one in explain.questions(job, words)] == [("custom:dogs@1", "Is there a dog?")]
    later = box.judged("image", **picture())
    job = rows.job(box.house.db.reader(), later["job_id"])
    assert job is not None
    assert rows.words(box.house.db.reader(), job) == {"dogs": "Is there a fox?"}
    assert job.plan.versions == {"dogs": 4}  # 2 was changed, 3 removed
    assert later["custom_versions"] == {"dogs": 4}
    assert box.send("get", f"/api/v1/job/{submitted}").json()["custom_versions"] == {"dogs": 1}
    env = {"CUSTOMHOUSE_HOME": str(box.settings.home)}
    shown = CliRunner(env=env).invoke(root, ["jobs", "show", submitted], catch_exceptions=False).output
    assert "asked        custom:dogs@1: Is there a dog?" in shown
    assert "custom:dogs: eyes custom:dogs 1.000 ≥ 0.5 (cpu" in shown
    told = CliRunner(env=env).invoke(root, ["jobs", "show", submitted, "--json"], catch_exceptions=False).output
    assert json.loads(told)["asked"] == [{"name": "custom:dogs@1", "question": "Is there a dog?"}]
    assert json.loads(told)["decided_by"]["version"] == 1


def test_the_export_has_a_column_for_each_category_that_was_asked_removed_ones_too(box: Box) -> None:
    box.add()
    box.judged("prompt", json={"prompt": "a walk"})
    box.send("delete", f"{CATEGORIES}/dogs")
    box.judged("prompt", json={"prompt": "a walk"})
    days = [clock.rfc3339(clock.now_ms() + later)[:10] for later in (0, 86_400_000)]
    answer = box.send("get", "/api/v1/jobs/export", params={"from": days[0], "to": days[1]})
    head, first, second, _ = answer.content.decode("utf-8-sig").split("\r\n")
    place = head.split(",").index("category_custom_dogs")
    assert (first.split(",")[place], second.split(",")[place]) == ("true", "")


def test_the_operator_lists_the_newest_jobs_of_everybody_or_of_one(box: Box) -> None:
    box.add()
    first, second = (box.judged("prompt", json={"prompt": "a walk"})["job_id"] for _ in range(2))

    def listed(*words: str) -> list[dict[str, Any]]:
        answer = CliRunner(env={"CUSTOMHOUSE_HOME": str(box.settings.home)}).invoke(
            root, ["jobs", "list", *words, "--json"], catch_exceptions=False
        )
        return json.loads(answer.output)

    assert [job["id"] for job in listed()] == [second, first]
    assert [job["id"] for job in listed("--org", "A", "--status", "completed", "--limit", "1")] == [second]
    assert listed("--status", "failed") == []
    assert (listed()[0]["organisation"], listed()[0]["is_prohibited"]) == ("A", True)


def test_a_job_from_before_questions_were_versioned_keeps_its_words(box: Box) -> None:
    box.add()
    submitted = box.send("post", "/api/v1/moderate/image", **picture()).json()["job_id"]
    plan = '{"checks":[],"custom":{"dogs":"Is there a cat?"}}'
    box.house.db.write(lambda conn: conn.execute("UPDATE job SET plan = ? WHERE id = ?", (plan, submitted)))
    box.runner.work(submitted)
    body = box.send("get", f"/api/v1/job/{submitted}").json()
    assert (body["categories"], "custom_versions" in body) == ({"custom": {"dogs": True}}, False)
    job = rows.job(box.house.db.reader(), submitted)
    assert job is not None
    words = rows.words(box.house.db.reader(), job)
    assert [(one.name, one.question) for one in explain.questions(job, words)] == [("custom:dogs", "Is there a cat?")]


def test_a_job_whose_question_was_erased_fails_and_nothing_is_allowed(box: Box) -> None:
    box.add()
    submitted = box.send("post", "/api/v1/moderate/image", **picture()).json()["job_id"]
    box.house.db.write(lambda conn: conn.execute("DELETE FROM custom_category"))
    box.runner.work(submitted)
    body = box.send("get", f"/api/v1/job/{submitted}").json()
    assert (body["status"], body["is_prohibited"], body["error_code"]) == ("failed", None, "INTERNAL_ERROR")


# --- tried -----------------------------------------------------------------------------------------------------------


def test_a_question_is_tried_on_an_uploaded_picture(box: Box) -> None:
    given = {"data": {"system_prompt": "Is there a dog?"}, **picture()}
    tried = box.send("post", f"{CATEGORIES}/try", **given)
    assert tried.status_code == 200, tried.text
    body = tried.json()
    assert list(body) == ["is_prohibited", "score", "threshold", "model", "digest", "device", "ms"]
    assert (body["is_prohibited"], body["score"], body["threshold"]) == (True, 1.0, THRESHOLD)
    assert (body["model"], body["device"], len(body["digest"])) == ("eyes", "cpu", 12)
    assert body["ms"] > 0
    assert list(box.settings.media_dir.iterdir()) == []
    assert box.house.db.reader().execute("SELECT count(*) FROM job").fetchone()[0] == 0


def test_a_stored_category_is_tried_before_it_is_enabled_and_in_other_words(box: Box) -> None:
    made = box.add(enabled=False)
    url = "data:image/png;base64," + base64.b64encode(png()).decode()
    for extra in ({}, {"system_prompt": "Is there a wolf?"}):
        tried = box.send("post", f"{CATEGORIES}/{made['category_id']}/try", json={"image_url": url, **extra})
        assert tried.status_code == 200, tried.text
        assert tried.json()["model"] == "eyes"
    text = box.send("post", f"{CATEGORIES}/dogs/try", json={"input": "a walk in the park"})
    assert (text.status_code, text.json()["model"]) == (200, "reader")


def test_the_command_tries_a_category_or_a_question_on_a_file_or_a_text(box: Box, tmp_path: Path) -> None:
    box.add(enabled=False)
    (tmp_path / "a.png").write_bytes(png())
    env = {
        "CUSTOMHOUSE_HOME": str(box.settings.home),
        "CUSTOMHOUSE_MODELS_DIR": str(box.settings.models_dir),
        "CUSTOMHOUSE_INFERENCE_VISION_JUDGE": judges.EYES,
        "CUSTOMHOUSE_INFERENCE_TEXT_JUDGE": judges.READER,
    }

    def run(*words: str) -> str:
        answer = CliRunner(env=env).invoke(root, ["categories", "try", *words], catch_exceptions=False)
        assert answer.exit_code == 0, answer.output
        return answer.output

    assert run(str(tmp_path / "a.png"), "--slug", "dogs", "--org", "A").startswith("prohibited — eyes 1.000 ≥ 0.5 (cpu")
    told = json.loads(run("a walk", "--text", "--question", "Is it about dogs?", "--json"))
    assert (told["is_prohibited"], told["model"], told["threshold"]) == (True, "reader", THRESHOLD)
    usage = CliRunner(env=env).invoke(root, ["categories", "try", "a walk", "--question", "?"])
    assert (usage.exit_code, "neither a file nor an http(s) URL" in usage.output) == (2, True)


@pytest.mark.parametrize(
    ("body", "status", "code", "message"),
    [
        ({"json": {"input": "x"}}, 400, "INVALID_REQUEST", "system_prompt is required"),
        ({"json": {"system_prompt": " ", "input": "x"}}, 400, "INVALID_REQUEST", "system_prompt must have 1 to 2,000"),
        ({"json": {"system_prompt": "?"}}, 400, "INVALID_REQUEST", "image_url, image_file or input is required"),
        ({"json": {"system_prompt": "?", "text": "x"}}, 400, "INVALID_REQUEST", "send a text as input"),
        ({"json": {"system_prompt": "?", "input": ""}}, 400, "INVALID_REQUEST", "input must not be empty"),
        ({"json": {"system_prompt": "?", "input": "x", "image_url": "https://93.184.216.34/a"}}, 400,
            "INVALID_REQUEST", "send one of them"),
        ({"json": {"system_prompt": "?", "image_url": "http://127.0.0.1/a.png"}}, 400, "INVALID_REQUEST",
            "image_url leads to a private"),
        ({"json": {"system_prompt": "?", "image_url": "http://unresolvable.example/a.png"}}, 422,
            "MEDIA_UNREACHABLE", "image_url"),
        ({"data": {"system_prompt": "?"}, "files": {"image_file": ("a.png", b"hello", "image/png")}}, 415,
            "UNSUPPORTED_MEDIA", "image_file"),
        ({"data": {"system_prompt": "?"}, "files": {"image_file": ("a.png", png()[:60], "image/png")}}, 415,
            "UNSUPPORTED_MEDIA", "image_file"),
    ],
)  # fmt: skip
def test_an_example_that_cannot_be_tried_is_refused_by_name(
    box: Box, body: dict[str, Any], status: int, code: str, message: str
) -> None:
    refused = box.send("post", f"{CATEGORIES}/try", **body)
    assert (refused.status_code, refused.json()["error"]) == (status, code), refused.text
    assert message in refused.json()["message"]


def test_a_trial_without_a_judge_says_what_to_install(
    yes: Process, settings: Settings, client_with: Callable[[Settings], tuple[Client, House]]
) -> None:
    box = open_box(yes, settings, client_with, Inference())
    for body in ({"json": {"system_prompt": "?", "input": "x"}}, {"data": {"system_prompt": "?"}, **picture()}):
        refused = box.send("post", f"{CATEGORIES}/try", **body)
        assert (refused.status_code, refused.json()["error"]) == (400, "INVALID_REQUEST")
        assert "customhouse models fetch NAME" in refused.json()["message"]
    box.close()


def test_a_trial_that_the_models_do_not_answer_is_503_and_never_reads_as_allowed(
    settings: Settings, client_with: Callable[[Settings], tuple[Client, House]]
) -> None:
    settings = replace(settings, inference=Inference(vision_judge="eyes", text_judge="reader"))
    client, house = client_with(settings)
    alice = enrol(house, "A", "alice", granted=("account:config",))
    bodies: list[dict[str, Any]] = [
        {"json": {"system_prompt": "?", "input": "x"}},
        {"data": {"system_prompt": "?"}, **picture()},
    ]
    for body in bodies:
        refused = client.post(f"{CATEGORIES}/try", headers=alice.headers, **body)
        assert (refused.status_code, refused.json()["error"]) == (503, "SERVICE_UNAVAILABLE"), refused.text
        assert "is_prohibited" not in refused.json()
        assert refused.headers["retry-after"] == "5"


# --- the real small model --------------------------------------------------------------------------------------------


@pytest.mark.weights
def test_a_real_judge_weighs_each_policy_as_it_would_alone(tmp_path: Path) -> None:
    weights = os.environ.get("CUSTOMHOUSE_TEST_WEIGHTS")
    if not weights:
        pytest.skip("CUSTOMHOUSE_TEST_WEIGHTS is not set; ./install.sh test sets it")
    (tmp_path / "weights").symlink_to(Path(weights).resolve())
    name = "smollm2-135m"
    with Process(
        tmp_path,
        CUSTOMHOUSE_INFERENCE_DEVICE="cpu",
        CUSTOMHOUSE_INFERENCE_TEXT_JUDGE=name,
        CUSTOMHOUSE_INFERENCE_MODELS=name,
    ) as process:
        text, policy = "We walked the dog in the park.", "Prohibited: any text about food."
        own = [Question("custom:dogs", "Prohibited: anything about dogs."), Question("custom:sea", "Prohibited: sea.")]
        [item] = process.models.read(ReadRequest([text], [], name, policy, 1.01, own))
        together = item[name]
        assert together.problem is None
        assert list(together.scores) == ["prohibited", "custom:dogs", "custom:sea"]
        for question in (Question("prohibited", policy), *own):
            [item] = process.models.read(ReadRequest([text], [], name, questions=[question]))
            # what stands beside it in the batch moves a CPU's logits by some hundredths
            assert together.scores[question.id] == pytest.approx(item[name].scores[question.id], abs=0.05)
        tried = trial.of_text(process.models, name, "Is this about dogs?", text)
        assert 0 < tried.score < 1
        assert (tried.model, tried.device, len(tried.digest)) == (name, "cpu", 12)


# --- the model process -----------------------------------------------------------------------------------------------


def test_policies_of_one_text_are_answered_as_one_and_in_order(yes: Process) -> None:
    questions = [Question("custom:a", "Prohibited: a"), Question("custom:b", "Prohibited: b")]
    items = yes.models.read(ReadRequest(["one", "two"], [], "reader", "Prohibited: c", 1.01, questions))
    assert [list(item["reader"].scores) for item in items] == [["prohibited", "custom:a", "custom:b"]] * 2
    alone = yes.models.read(ReadRequest(["one"], [], "reader", questions=questions))
    assert list(alone[0]["reader"].scores) == ["custom:a", "custom:b"]
    assert alone[0]["reader"].reason is None


def test_a_policy_that_cannot_be_weighed_is_the_whole_texts_problem(yes: Process) -> None:
    questions = [Question("custom:a", "Prohibited: a"), Question("custom:b", "word " * 6000)]
    [item] = yes.models.read(ReadRequest(["one"], [], "reader", "Prohibited: c", 1.01, questions))
    assert item["reader"].scores == {}
    assert item["reader"].problem is not None
    assert item["reader"].problem.code == "MODEL_REFUSED"


def test_the_catalogue_of_the_config_and_the_built_ins_say_what_answers(box: Box) -> None:
    box.add()
    catalogue = box.send("get", CONFIG).json()["catalogue"]
    assert catalogue["custom"] == {"dogs": {"label": "Dogs", "description": "Is there a dog?", "icon": "tag"}}
    said = box.send("get", "/api/v1/me/default-categories").json()
    assert said["count"] == 4
    assert [one["slug"] for one in said["categories"]] == ["nsfw", "ai_adult_general", "underage", "text"]
    assert not any(one["enabled"] for one in said["categories"])
    assert [by["by"] for by in said["categories"][3]["answered_by"]] == ["blocklist", "judge"]
    assert said["categories"][0]["answered_by"][-1]["model"] == "eyes"
    assert json.dumps(said)


def test_alice_is_the_only_one_who_sees_it(box: Box) -> None:
    made = box.add()
    charlie: Person = enrol(box.house, "C", "charlie", granted=("account:config",))
    assert box.client.get(CATEGORIES, headers=charlie.headers).json() == {"categories": [], "count": 0, "limit": 10}
    for method, path in (
        ("put", f"{CATEGORIES}/{made['category_id']}"),
        ("delete", f"{CATEGORIES}/{made['category_id']}"),
        ("get", f"{CATEGORIES}/{made['category_id']}/versions"),
        ("post", f"{CATEGORIES}/{made['category_id']}/try"),
    ):
        body = {"json": {"input": "x"}} if method in ("put", "post") else {}
        refused = getattr(box.client, method)(path, headers=charlie.headers, **body)
        assert (refused.status_code, refused.json()["error"]) == (404, "NOT_FOUND")
