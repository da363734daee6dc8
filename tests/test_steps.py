"""The additional steps of the prompt pipeline: analyzers of the text engine, switched on by an organisation."""

from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner
from litestar.testing import TestClient

from appliance.accounts import steps as step_rows
from appliance.commands.steps import steps as command
from appliance.database import Connection
from appliance.errors import InvalidRequest
from appliance.house import House
from appliance.inference.wire import Answer, ReadRequest
from appliance.jobs import rows
from appliance.media.decoders import Decoders
from appliance.moderations import heads
from appliance.outbound import Outbound
from appliance.text import keywords
from appliance.text.analysis import RULES, STEPS
from appliance.text.engine import Engine
from appliance.work.hands import Hands
from appliance.work.runner import Runner
from tests.cast import Person, enrol

PATH = "/api/v1/me/prompt-steps"
SHOUTED = "BUY NOW!!!!!!!!!!!! BUY NOW!!!!!!!!!!!! BUY NOW!!!!!!!!!!!!"


class Heads:
    """Answers for the model process: every label of the heads, all low but those that a test raises."""

    def __init__(self, **raised: float) -> None:
        self.raised = raised
        self.read_texts: list[str] = []

    def read(self, request: ReadRequest) -> list[dict[str, Answer]]:
        self.read_texts += request.texts
        labels = ("prohibited", "sexual", "violence", "violence/graphic", "self-harm", "harassment", "hate", "toxicity")
        scores = {label: 0.01 for label in labels} | self.raised
        return [{model: Answer(scores=scores, device="cpu", digest="0" * 12) for model in request.models}]


class Desk:
    """Alice, who may configure her account, and a worker that answers as `heads` does."""

    def __init__(self, client: TestClient[Any], house: House) -> None:
        self.client, self.house = client, house
        self.alice = enrol(house, "A", "keeper", granted=("moderate:prompt", "job:read", "account:config"))
        self.heads = Heads()
        self.decoders = Decoders(house.settings)
        models: Any = self.heads
        self.runner = Runner(Hands(house, models, self.decoders, Outbound(), Engine(house)), lambda follow, kind: None)

    def put(self, steps: Any) -> Any:
        return self.client.put(PATH, headers=self.alice.headers, json={"steps": steps})

    def judged(self, prompt: str) -> dict[str, Any]:
        sent = self.client.post("/api/v1/moderate/prompt", headers=self.alice.headers, json={"prompt": prompt})
        self.runner.work(sent.json()["job_id"])
        return self.client.get(f"/api/v1/job/{sent.json()['job_id']}", headers=self.alice.headers).json()


@pytest.fixture
def desk(client: TestClient[Any], house: House) -> Iterator[Desk]:
    made = Desk(client, house)
    yield made
    made.decoders.close()


def test_no_step_is_on_at_first_and_each_that_could_be_is_named(desk: Desk) -> None:
    body = desk.client.get(PATH, headers=desk.alice.headers).json()
    assert body["steps"] == {}
    assert [one["analyzer"] for one in body["available"]] == list(STEPS)
    assert {one["by"] for one in body["available"]} == {"rules", "model"}


def test_what_is_put_replaces_what_was(desk: Desk) -> None:
    assert desk.put({"spam": 0.8, "harassment": 0.5}).json()["steps"] == {"spam": 0.8, "harassment": 0.5}
    assert desk.put({"url": 1}).json()["steps"] == {"url": 1.0}
    assert desk.put({}).json()["steps"] == {}
    row = desk.house.db.reader().execute("SELECT count(*) AS n FROM audit WHERE action = 'prompt.steps'").fetchone()
    assert row["n"] == 3


@pytest.mark.parametrize(
    "steps", [{"spam": 0}, {"spam": 1.5}, {"spam": True}, {"spam": "0.5"}, {"rudeness": 0.5}, [], None]
)
def test_what_is_no_step_is_refused_by_name_and_nothing_changes(desk: Desk, steps: Any) -> None:
    desk.put({"spam": 0.8})
    refused = desk.put(steps)
    assert refused.status_code == 400
    assert refused.json()["error"] == "INVALID_REQUEST"
    assert desk.client.get(PATH, headers=desk.alice.headers).json()["steps"] == {"spam": 0.8}


def test_a_rule_that_reaches_its_threshold_rejects_and_is_named_and_no_model_is_asked(desk: Desk) -> None:
    desk.put({"formatting": 0.3})
    job = desk.judged(SHOUTED)
    assert job["is_prohibited"] is True
    assert job["reason"] == "The prompt was rejected by the check: formatting."
    assert desk.heads.read_texts == []


def test_a_rule_below_its_threshold_passes_the_prompt_on_and_its_score_is_kept(desk: Desk) -> None:
    desk.put({"formatting": 1.0, "spam": 1.0})
    job = desk.judged("a lighthouse at dawn")
    assert job["is_prohibited"] is False
    assert desk.heads.read_texts == ["a lighthouse at dawn"]
    [child] = rows.children_of(desk.house.db.reader(), job["job_id"])
    assert child.finding is not None
    assert {score.label for score in child.finding.scores if score.model == "engine"} == {"formatting", "spam"}


def test_a_head_that_reaches_its_threshold_rejects_and_is_named(desk: Desk) -> None:
    desk.heads.raised = {"harassment": 0.62}
    assert desk.judged("a portrait")["is_prohibited"] is False, "no step is on"
    desk.put({"harassment": 0.6})
    job = desk.judged("a portrait")
    assert (job["is_prohibited"], job["reason"]) == (True, "The prompt was rejected by the check: harassment.")


def test_a_prompt_in_another_language_is_read_by_its_own_heads_on_the_steps_scale(desk: Desk) -> None:
    for name in heads.MODELS:
        (folder := desk.house.settings.weights_dir / name).mkdir(parents=True)
        (folder / "heads.json").touch()
    desk.put({"hate": 0.2})
    # what the multilingual heads say of 1 % of everyday texts is less on the English ones' scale
    desk.heads.raised = {"hate": 0.5108}
    assert desk.judged("The weather is lovely today and everybody had a wonderful time")["is_prohibited"] is True
    job = desk.judged("un faro al amanecer y nadie que lo mire desde la playa")
    assert job["is_prohibited"] is False
    [child] = rows.children_of(desk.house.db.reader(), job["job_id"])
    assert child.finding is not None
    [step] = [score for score in child.finding.scores if score.label == "hate"]
    assert (step.model, step.score) == (heads.MULTILINGUAL, 0.1282)


def test_the_blocklist_comes_first(desk: Desk) -> None:
    desk.house.db.write(lambda conn: keywords.add(conn, "lighthouse", org_id=desk.alice.org_id, actor="test"))
    desk.put({"formatting": 0.01})
    assert desk.judged("LIGHTHOUSE!!!!!!!!!!!!")["reason"] == "The text contained a blacklisted keyword."


def test_steps_are_those_that_stood_when_the_prompt_was_submitted(desk: Desk) -> None:
    sent = desk.client.post("/api/v1/moderate/prompt", headers=desk.alice.headers, json={"prompt": SHOUTED})
    desk.put({"formatting": 0.3})
    desk.runner.work(sent.json()["job_id"])
    job = desk.client.get(f"/api/v1/job/{sent.json()['job_id']}", headers=desk.alice.headers).json()
    assert job["is_prohibited"] is False


def test_steps_rest_while_the_text_check_is_off(desk: Desk) -> None:
    desk.put({"formatting": 0.3})
    desk.client.put("/api/v1/me/moderation-config", headers=desk.alice.headers, json={"text": False})
    assert desk.judged(SHOUTED)["is_prohibited"] is False


def test_a_step_whose_analyzer_is_gone_fails_the_job_and_allows_nothing(desk: Desk) -> None:
    def change(conn: Connection) -> None:
        conn.execute("""UPDATE organisation SET prompt_steps = '{"bygone": 0.5}'""")

    desk.house.db.write(change)
    job = desk.judged("a lighthouse at dawn")
    assert (job["status"], job["is_prohibited"], job["error_code"]) == ("failed", None, "MODEL_UNAVAILABLE")


def test_the_models_read_a_disguised_prompt_undisguised(desk: Desk) -> None:
    # 2026-11-21: the heads learnt from texts with their disguises undone, and were given them as they came
    desk.judged("a l.i.g.h.t.h.o.u.s.e at d4wn")
    assert desk.heads.read_texts == ["a lighthouse at dawn"]


def test_the_steps_of_one_organisation_are_not_anothers(desk: Desk, charlie: Person) -> None:
    desk.put({"formatting": 0.3})
    assert step_rows.of(desk.house.db.reader(), charlie.org_id) == {}


def test_the_command_sets_shows_and_removes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUSTOMHOUSE_HOME", str(desk.house.settings.home))
    run = CliRunner().invoke
    assert "spam from 0.8" in run(command, ["set", "spam", "0.8", "--org", "A", "--reason", "flood"]).output
    assert "rejects from 0.8" in run(command, ["show", "--org", "A"]).output
    assert run(command, ["show", "--org", "A", "--json"]).output == '{"spam": 0.8}\n'
    assert "no additional steps" in run(command, ["remove", "spam", "--org", "A"]).output
    assert isinstance(run(command, ["set", "rudeness", "0.8", "--org", "A"]).exception, InvalidRequest)
    assert isinstance(run(command, ["remove", "rudeness", "--org", "A"]).exception, InvalidRequest)


def test_every_rule_is_answered_by_the_engine(house: House) -> None:
    """A step must never name what nothing answers."""
    assert set(Engine(house).analyze("", "a lighthouse at dawn").results) == set(RULES)
