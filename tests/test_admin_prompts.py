"""The words of the built-in questions: versions over HTTP and by command, what jobs are asked, trying an example."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from appliance import prompts
from appliance.__main__ import root
from appliance.categories import Category
from appliance.errors import CustomhouseError
from appliance.house import House
from appliance.inference.client import Models
from appliance.inference.wire import Answer, LookRequest, ReadRequest
from appliance.jobs import explain, rows
from appliance.jobs.job import JobKind, Plan, Submission
from appliance.jobs.rows import JobRow
from appliance.jobs.submit import submit
from appliance.media.decoders import Decoders
from appliance.outbound import Outbound
from appliance.prompts import CATEGORY_OF
from appliance.settings import Inference, Media, Settings
from appliance.text.engine import Engine
from appliance.work.hands import Hands
from appliance.work.runner import Runner
from tests import judges
from tests.desk import ClientWith, Desk
from tests.tinyonnx import Process

MODERATION = "/api/v1/me/moderation-config"


@pytest.fixture
def desk(client_with: ClientWith, settings: Settings, _migrated: Path) -> Desk:
    return Desk(client_with, settings, _migrated)


# --- versions --------------------------------------------------------------------------------------------------------


def test_the_four_prompts_begin_as_the_file_has_them(desk: Desk) -> None:
    found = desk.done("get", "/prompts")["prompts"]
    assert [one["slug"] for one in found] == ["vlm-nsfw", "vlm-ai-adult-general", "vlm-underage", "text-prohibition"]
    shipped = desk.house.shipped_categories
    for one in found:
        assert (one["content"], one["version"], one["answered_by"]) == (
            shipped[CATEGORY_OF[one["slug"]]].question.strip(),
            0,
            None,
        )
        assert desk.done("get", f"/prompts/{one['slug']}") == one
    assert list(found[0])[:4] == ["slug", "content", "version", "updated_at"]


def test_a_change_is_a_new_version_with_actor_and_reason(desk: Desk) -> None:
    first = desk.done("put", "/prompts/vlm-nsfw", {"content": " Is it nude? ", "reason": "shorter"})
    second = desk.done("put", "/prompts/vlm-nsfw", {"content": "Is it bare?"})
    assert [(one["content"], one["version"]) for one in (first, second)] == [("Is it nude?", 1), ("Is it bare?", 2)]
    newest, oldest = desk.done("get", "/prompts/vlm-nsfw/versions")["versions"]
    assert (oldest["version"], oldest["content"], oldest["actor"], oldest["reason"]) == (
        1,
        "Is it nude?",
        desk.actor,
        "shorter",
    )
    assert (newest["version"], newest["created_at"]) == (2, second["updated_at"])
    assert [(line.detail["version"], line.reason) for line in desk.lines(action="prompt.changed")] == [
        (2, None),
        (1, "shorter"),
    ]
    assert desk.done("get", "/prompts/vlm-underage")["version"] == 0


def test_the_same_words_are_no_new_version(desk: Desk) -> None:
    for _ in range(2):
        assert desk.done("put", "/prompts/vlm-nsfw", {"content": "Is it nude?"})["version"] == 1
    assert len(desk.lines()) == 1


def test_what_was_changed_meanwhile_is_not_overwritten(desk: Desk) -> None:
    desk.done("put", "/prompts/vlm-nsfw", {"content": "Is it nude?", "version": 0})
    message = desk.refused("put", "/prompts/vlm-nsfw", {"content": "Is it bare?", "version": 0}, status=409)
    assert "at version 1, not 0" in message
    assert desk.done("get", "/prompts/vlm-nsfw")["content"] == "Is it nude?"


def test_rolling_back_is_a_new_version_with_the_old_words(desk: Desk) -> None:
    for words in ("One?", "Two?"):
        desk.done("put", "/prompts/vlm-nsfw", {"content": words})
    back = desk.done("post", "/prompts/vlm-nsfw/rollback", {"version": 1, "reason": "worse"})
    assert (back["content"], back["version"]) == ("One?", 3)
    assert desk.done("get", "/prompts/vlm-nsfw/versions")["versions"][0]["rolled_back_to"] == 1
    shipped = desk.done("post", "/prompts/vlm-nsfw/rollback", {"version": 0})
    assert (shipped["version"], shipped["content"]) == (4, desk.house.shipped_categories["nsfw"].question.strip())
    assert desk.refused("post", "/prompts/vlm-nsfw/rollback", {"version": 9}, status=404)
    assert "already" in desk.refused("post", "/prompts/vlm-nsfw/rollback", {"version": 4}, status=400)


@pytest.mark.parametrize(
    ("slug", "body", "message"),
    [
        ("vlm-nsfw", {}, "content is required"),
        ("vlm-nsfw", {"content": 7}, "content must be a string"),
        ("vlm-nsfw", {"content": "  "}, "1 to 500 characters"),
        ("vlm-nsfw", {"content": "x" * 501}, "1 to 500 characters"),
        ("text-prohibition", {"content": "x" * 4001}, "1 to 4,000 characters"),
        ("vlm-nsfw", {"content": "x", "version": "0"}, "version must be a whole number"),
    ],
)
def test_words_that_cannot_be_asked_are_refused(desk: Desk, slug: str, body: dict[str, Any], message: str) -> None:
    assert message in desk.refused("put", f"/prompts/{slug}", body, status=400)
    assert desk.done("get", f"/prompts/{slug}")["version"] == 0


@pytest.mark.parametrize("version", [None, -1, "1", True, 1.5, 10**30])
def test_a_version_that_is_none_is_refused(desk: Desk, version: object) -> None:
    assert "version" in desk.refused("post", "/prompts/vlm-nsfw/rollback", {"version": version}, status=400)


def test_a_file_that_gives_a_version_itself_is_refused(settings: Settings, tmp_path: Path) -> None:
    shipped = settings.categories_file.read_text().replace("judge_threshold", "version = 3\njudge_threshold", 1)
    (tmp_path / "categories.toml").write_text(shipped)
    with pytest.raises(CustomhouseError, match="take it out"):
        House(replace(settings, categories_file=tmp_path / "categories.toml"))


# --- what jobs are asked ---------------------------------------------------------------------------------------------


def plan_of(house: House, org_id: str) -> Plan:
    submission = Submission(kind=JobKind.PROMPT, text="hello")
    job_id = house.db.write(lambda conn: submit(conn, house, org_id, None, submission)).job_id
    job = rows.job(house.db.reader(), job_id)
    assert job is not None
    return job.plan


def test_another_process_asks_the_new_words_of_the_next_job_and_the_old_ones_of_an_old_one(desk: Desk) -> None:
    org = desk.alice.org_id
    other = House(desk.settings)
    before = plan_of(other, org)
    desk.done("put", "/prompts/vlm-nsfw", {"content": "One?"})
    first = plan_of(other, org)
    desk.done("put", "/prompts/vlm-nsfw", {"content": "Two?"})
    second = plan_of(other, org)
    assert [plan.prompts for plan in (before, first, second)] == [{}, {"nsfw": 1}, {"nsfw": 2}]
    asked = [other.categories_at(plan.prompts)["nsfw"] for plan in (before, first, second)]
    assert [(one.question.strip(), one.version) for one in asked] == [
        (other.shipped_categories["nsfw"].question.strip(), 0),
        ("One?", 1),
        ("Two?", 2),
    ]
    assert other.categories["nsfw"].question == "Two?"
    other.close()


def test_a_check_that_is_off_carries_no_version(desk: Desk) -> None:
    desk.done("put", "/prompts/vlm-nsfw", {"content": "One?"})
    desk.client.put(MODERATION, headers=desk.alice.headers, json={"nsfw": False})
    assert plan_of(desk.house, desk.alice.org_id).prompts == {}


def test_a_plan_of_the_second_issue_is_still_read() -> None:
    plan = msgspec.json.decode(b'{"checks":["nsfw"],"custom":{"dogs":"Is there a dog?"}}', type=Plan)
    assert (plan.checks, plan.prompts) == (["nsfw"], {})


class Overheard(Models):
    """The real models, and what they were asked."""

    def __init__(self, socket: Path) -> None:
        super().__init__(socket, 20.0)
        self.asked: list[str] = []

    def look(self, request: LookRequest) -> list[dict[str, Answer]]:
        self.asked += [question.text for question in request.questions]
        return super().look(request)

    def read(self, request: ReadRequest) -> list[dict[str, Answer]]:
        self.asked.append(request.prompt or "")
        return super().read(request)


@pytest.fixture(scope="module")
def yes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    home, models = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("models")
    judges.install(home, models, bias=-judges.ALWAYS)
    with judges.process(home, models) as process:
        yield process


@pytest.fixture
def judging(yes: Process, settings: Settings, client_with: ClientWith, _migrated: Path) -> Desk:
    """A desk whose judges are real, and say yes to everything."""
    settings = replace(
        settings,
        inference=Inference(vision_judge=judges.EYES, text_judge=judges.READER),
        models_dir=Path(yes.environ["CUSTOMHOUSE_MODELS_DIR"]),
        categories_file=Path(yes.environ["CUSTOMHOUSE_CATEGORIES_FILE"]),
        media=Media(allowed_private_cidrs=["127.0.0.0/8"], decoders=1),
    )
    judges.answer_for(settings, yes)
    return Desk(client_with, settings, _migrated)


@pytest.fixture
def worker(judging: Desk) -> Iterator[tuple[Runner, Overheard]]:
    models = Overheard(judging.settings.inference_socket)
    decoders = Decoders(judging.settings)
    hands = Hands(judging.house, models, decoders, Outbound(), Engine(judging.house))
    yield Runner(hands, lambda follow, kind: None), models
    decoders.close()
    models.close()


def png() -> bytes:
    return cv2.imencode(".png", np.full((40, 60, 3), 120, np.uint8))[1].tobytes()


def test_each_verdict_names_the_version_that_made_it(judging: Desk, worker: tuple[Runner, Overheard]) -> None:
    runner, models = worker
    judging.client.put(MODERATION, headers=judging.alice.headers, json={"nsfw": False, "ai_adult_general": False})

    def submitted(kind: str) -> str:
        what: dict[str, Any] = {"json": {"prompt": "a walk"}}
        if kind == "image":
            what = {"files": {"image_file": ("a.png", png(), "image/png")}}
        answer = judging.client.post(f"/api/v1/moderate/{kind}", headers=judging.alice.headers, **what)
        assert answer.status_code == 202, answer.text
        return answer.json()["job_id"]

    kinds = ("image", "prompt")
    judging.done("put", "/prompts/vlm-underage", {"content": "First?"})
    judging.done("put", "/prompts/text-prohibition", {"content": "Prohibited: first."})
    old = [submitted(kind) for kind in kinds]
    judging.done("put", "/prompts/vlm-underage", {"content": "Second?"})
    judging.done("put", "/prompts/text-prohibition", {"content": "Prohibited: second."})
    new = [submitted(kind) for kind in kinds]
    for job_id in (*old, *new):
        runner.work(job_id)
    assert models.asked == ["First?", "Prohibited: first.", "Second?", "Prohibited: second."]
    assert [named(judging.house, job_id) for job_id in (*old, *new)] == [1, 1, 2, 2]


def named(house: House, job_id: str) -> int | None:
    """The version of the question behind a verdict, where it is also told to people."""
    conn = house.db.reader()
    job = rows.job(conn, job_id)
    assert isinstance(job, JobRow)
    assert job.is_prohibited
    children = rows.children_of(conn, job_id)
    (score,) = [score for child in children if child.finding for score in child.finding.scores]
    assert f"{score.category}@{score.prompt}:" in str(explain.why(job, children))
    return score.prompt


# --- trying ----------------------------------------------------------------------------------------------------------


class Served:
    """A picture, and a page that is none, on loopback."""

    def __init__(self) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = png() if self.path == "/a.png" else b"<html></html>"
                self.send_response(200 if self.path != "/gone" else 404)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def pictures() -> Iterator[Served]:
    served = Served()
    yield served
    served.close()


def test_a_text_is_tried_under_the_present_policy_or_another(judging: Desk) -> None:
    judging.done("put", "/prompts/text-prohibition", {"content": "Prohibited: nothing."})
    tried = judging.done("post", "/prompts/test", {"slug": "text-prohibition", "input": "a walk"})
    assert (tried["version"], tried["is_prohibited"], tried["model"]) == (1, True, judges.READER)
    assert (tried["score"], tried["threshold"], tried["device"]) == (1.0, 0.5, "cpu")
    assert len(tried["digest"]) == 12
    assert isinstance(tried["output"], str)
    other = {"slug": "text-prohibition", "input": "a walk", "content": "Prohibited: walks."}
    assert judging.done("post", "/prompts/test", other)["version"] is None
    assert judging.done("get", "/prompts/text-prohibition")["content"] == "Prohibited: nothing."


def test_a_picture_is_tried_by_its_address(judging: Desk, pictures: Served) -> None:
    given = {"slug": "vlm-nsfw", "content": "Is it grey?", "image_url": f"{pictures.url}/a.png"}
    tried = judging.done("post", "/prompts/test", given)
    assert (tried["slug"], tried["version"], tried["is_prohibited"], tried["model"], tried["output"]) == (
        "vlm-nsfw",
        None,
        True,
        judges.EYES,
        None,
    )
    assert not list(judging.settings.media_dir.iterdir())


def test_a_trial_leaves_no_job_charge_or_line(judging: Desk) -> None:
    judging.done("post", "/prompts/test", {"slug": "text-prohibition", "input": "a walk"})
    conn = judging.house.db.reader()
    assert [conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("job", "ledger", "audit")] == [
        0,
        0,
        0,
    ]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "slug is required"),
        ({"slug": "vlm-other"}, 404, "There is no prompt"),
        ({"slug": "text-prohibition"}, 400, "input is required"),
        ({"slug": "text-prohibition", "input": " "}, 400, "input is required"),
        ({"slug": "text-prohibition", "input": "x", "image_url": "http://127.0.0.1/a"}, 400, "and no image_url"),
        ({"slug": "text-prohibition", "input": "x" * 20_001}, 400, "at most 20,000"),
        ({"slug": "text-prohibition", "input": "x", "content": " "}, 400, "1 to 4,000 characters"),
        ({"slug": "vlm-nsfw", "input": "x"}, 400, "image_url is required"),
        ({"slug": "vlm-nsfw", "image_url": "file:///etc/passwd"}, 400, "image_url"),
        ({"slug": "vlm-nsfw", "image_url": "http://10.0.0.1/a"}, 400, "private"),
        ({"slug": "vlm-nsfw", "image_url": "{url}/gone"}, 422, "answered 404"),
        ({"slug": "vlm-nsfw", "image_url": "{url}/page"}, 415, "image_url"),
    ],
)
def test_an_example_that_cannot_be_tried_is_refused(
    judging: Desk, pictures: Served, body: dict[str, str], status: int, message: str
) -> None:
    given = {name: value.replace("{url}", pictures.url) for name, value in body.items()}
    assert message in judging.refused("post", "/prompts/test", given, status=status)


@pytest.mark.parametrize(
    "body",
    [{"slug": "text-prohibition", "input": "x"}, {"slug": "vlm-nsfw", "image_url": "https://93.184.216.34/a.png"}],
)
def test_without_a_judge_nothing_is_tried_and_nothing_made_up(desk: Desk, body: dict[str, str]) -> None:
    message = desk.refused("post", "/prompts/test", body, status=400)
    assert "judge is configured" in message
    assert "customhouse models fetch" in message


@pytest.fixture
def deserted(settings: Settings, client_with: ClientWith, _migrated: Path) -> Desk:
    """A judge is configured, and no model process runs."""
    return Desk(client_with, replace(settings, inference=Inference(text_judge="reader")), _migrated)


def test_without_a_model_process_it_is_not_now(deserted: Desk) -> None:
    answer = deserted.ask("post", "/prompts/test", {"slug": "text-prohibition", "input": "x"})
    assert (answer.status_code, answer.json()["error"]) == (503, "SERVICE_UNAVAILABLE")
    assert int(answer.headers["retry-after"]) > 0


# --- the command -----------------------------------------------------------------------------------------------------


class Cli:
    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch, **environ: str) -> None:
        for name, value in {"CUSTOMHOUSE_HOME": str(home), **environ}.items():
            monkeypatch.setenv(name, value)

    def run(self, *arguments: str, given: str | None = None) -> str:
        done = CliRunner().invoke(root, ["prompts", *arguments], input=given)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))


@pytest.fixture
def cli(house: House, monkeypatch: pytest.MonkeyPatch) -> Cli:
    return Cli(house.settings.home, monkeypatch)


def test_the_commands_do_what_the_routes_do(cli: Cli, house: House, tmp_path: Path) -> None:
    assert [one["version"] for one in cli.json("list")] == [0, 0, 0, 0]
    (tmp_path / "words").write_text("From a file?\n")
    assert cli.json("set", "vlm-nsfw", f"@{tmp_path}/words", "--reason", "why")["content"] == "From a file?"
    assert "version 2" in cli.run("set", "vlm-nsfw", "-", given="From a pipe?")
    assert [(one["version"], one["reason"]) for one in cli.json("versions", "vlm-nsfw")] == [(2, None), (1, "why")]
    assert cli.json("rollback", "vlm-nsfw", "1")["version"] == 3
    assert cli.run("show", "vlm-nsfw") == "From a file?\n"
    assert house.categories["nsfw"].question == "From a file?"
    with pytest.raises(CustomhouseError, match="at version 3, not 2"):
        cli.run("set", "vlm-nsfw", "x", "--expect", "2")
    with pytest.raises(CustomhouseError, match="cannot be read"):
        cli.run("set", "vlm-nsfw", "@/nowhere")


def test_an_example_is_tried_from_the_terminal(judging: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cli = Cli(
        judging.settings.home,
        monkeypatch,
        CUSTOMHOUSE_INFERENCE_VISION_JUDGE=judges.EYES,
        CUSTOMHOUSE_INFERENCE_TEXT_JUDGE=judges.READER,
    )
    (tmp_path / "a.png").write_bytes(png())
    tried = cli.json("try", "vlm-nsfw", str(tmp_path / "a.png"), "--content", "Is it grey?")
    assert (tried["version"], tried["is_prohibited"], tried["model"]) == (None, True, judges.EYES)
    assert cli.json("try", "text-prohibition", "a walk")["version"] == 0
    assert "prohibited: 1.000 ≥ 0.5" in cli.run("try", "text-prohibition", "a walk")
    with pytest.raises(CustomhouseError, match="no such file"):
        cli.run("try", "vlm-nsfw", str(tmp_path / "b.png"))


def test_every_slug_is_a_categorys(house: House) -> None:
    assert set(CATEGORY_OF.values()) == set(house.shipped_categories)
    assert all(isinstance(house.categories[slug], Category) for slug in CATEGORY_OF.values())
    assert prompts.now(house.db.reader()) == {}
