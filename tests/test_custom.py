"""Custom categories as rows and over HTTP: made, changed, versioned, removed; and the upgrade of what was there."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlite_utils
from click.testing import CliRunner
from litestar.testing import TestClient
from msgspec.structs import replace

from appliance import database
from appliance.__main__ import root
from appliance.accounts import custom
from appliance.accounts.custom import slug_of
from appliance.database import Connection, Error
from appliance.errors import InvalidRequest, NotFound
from appliance.house import House
from appliance.schema import migrations
from appliance.settings import Inference, Settings
from tests.cast import Person, enrol

Client = TestClient[Any]

CATEGORIES = "/api/v1/me/custom-categories"
SEEING = Inference(vision_judge="eyes")
BOTH = Inference(vision_judge="eyes", text_judge="reader")


class Stage:
    def __init__(self, client: Client, house: House) -> None:
        self.client, self.house = client, house
        self.alice: Person = enrol(house, "A", "alice", granted=("account:config",))
        self.charlie: Person = enrol(house, "C", "charlie", granted=("account:config",))

    def send(self, method: str, path: str = "", who: Person | None = None, **what: Any) -> httpx.Response:
        headers = {**(who or self.alice).headers, **what.pop("headers", {})}
        return getattr(self.client, method)(CATEGORIES + path, headers=headers, **what)

    def add(self, **body: Any) -> dict[str, Any]:
        made = self.send("post", json={"name": "Dogs", "system_prompt": "Is there a dog?", **body})
        assert made.status_code == 201, made.text
        return made.json()

    def audited(self) -> list[tuple[str, str, str, int]]:
        rows = self.house.db.reader().execute("SELECT actor, action, subject, detail FROM audit ORDER BY id")
        return [
            (row["actor"], row["action"], row["subject"], json.loads(row["detail"])["version"])
            for row in rows
            if row["action"].startswith("category.")
        ]


Make = Callable[[Settings], tuple[Client, House]]


@pytest.fixture
def stage(settings: Settings, client_with: Make) -> Stage:
    return Stage(*client_with(replace(settings, inference=SEEING)))


# --- made ------------------------------------------------------------------------------------------------------------


def test_a_category_is_answered_with_the_later_generations_names(stage: Stage) -> None:
    made = stage.add(description="Our members are allergic.")
    assert list(made) == [
        "category_id", "name", "slug", "description", "system_prompt", "enabled", "created_at", "updated_at",
        "applies_to", "version",
    ]  # fmt: skip
    assert (made["slug"], made["enabled"], made["applies_to"], made["version"]) == ("dogs", True, ["image", "video"], 1)
    assert stage.send("get").json() == {"categories": [made], "count": 1, "limit": 10}
    assert stage.audited() == [(f"key:{stage.alice.key[:12]}", "category.added", "dogs", 1)]


def test_with_both_judges_it_is_asked_of_everything_unless_it_says_of_what(
    settings: Settings, client_with: Make
) -> None:
    stage = Stage(*client_with(replace(settings, inference=BOTH)))
    assert stage.add()["applies_to"] == ["prompt", "image", "video"]
    assert stage.add(name="Cats", applies_to=["video", "prompt"])["applies_to"] == ["prompt", "video"]


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Dogs", "dogs"),
        ("  Ünïcode: cats & dogs! ", "unicode_cats_dogs"),
        ("3 wise monkeys", "wise_monkeys"),
        ("猫", "category"),
        ("NSFW", "nsfw_2"),
        ("custom", "custom_2"),
        ("x" * 60, "x" * 40),
        ("a-" * 30, "a_a_a_a_a_a_a_a_a_a_a_a_a_a_a_a_a_a_a_a"),
    ],
)
def test_a_slug_is_made_of_the_name(name: str, slug: str) -> None:
    assert slug_of(name) == slug


def test_a_slug_that_is_taken_gets_a_number(stage: Stage) -> None:
    assert [stage.add()["slug"] for _ in range(3)] == ["dogs", "dogs_2", "dogs_3"]
    assert slug_of("x" * 60, {"x" * 40}) == "x" * 38 + "_2"


def test_the_same_request_again_makes_one_category(stage: Stage) -> None:
    body: dict[str, Any] = {
        "json": {"name": "Dogs", "system_prompt": "Is there a dog?"},
        "headers": {"Idempotency-Key": "k"},
    }
    first, second = stage.send("post", **body), stage.send("post", **body)
    assert (first.json(), second.headers["idempotent-replayed"]) == (second.json(), "true")
    assert stage.send("get").json()["count"] == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "name is required"),
        ({"name": "Dogs"}, "system_prompt is required"),
        ({"name": "", "system_prompt": "?"}, "name must have 1 to 100"),
        ({"name": "x" * 101, "system_prompt": "?"}, "name must have 1 to 100"),
        ({"name": 5, "system_prompt": "?"}, "name must be a string"),
        ({"name": "Dogs", "system_prompt": " "}, "system_prompt must have 1 to 2,000"),
        ({"name": "Dogs", "system_prompt": "x" * 2001}, "system_prompt must have 1 to 2,000"),
        ({"name": "Dogs", "system_prompt": "?", "slug": "No Slug"}, "slug 'No Slug' is not usable"),
        ({"name": "Dogs", "system_prompt": "?", "slug": "nsfw"}, "slug 'nsfw' is not usable"),
        ({"name": "Dogs", "system_prompt": "?", "slug": 1}, "slug must be a string"),
        ({"name": "Dogs", "system_prompt": "?", "description": "x" * 501}, "description must have at most 500"),
        ({"name": "Dogs", "system_prompt": "?", "enabled": "yes"}, "enabled must be true or false"),
        ({"name": "Dogs", "system_prompt": "?", "applies_to": []}, "applies_to must name"),
        ({"name": "Dogs", "system_prompt": "?", "applies_to": ["audio"]}, "applies_to must name"),
        ({"name": "Dogs", "system_prompt": "?", "applies_to": "image"}, "applies_to must be a list"),
        ({"name": "Dogs", "system_prompt": "?", "applies_to": ["prompt"]}, "inference.text_judge"),
    ],
)
def test_what_is_no_category_is_refused_by_name(stage: Stage, body: dict[str, Any], message: str) -> None:
    refused = stage.send("post", json=body)
    assert (refused.status_code, refused.json()["error"]) == (400, "INVALID_REQUEST")
    assert message in refused.json()["message"]
    assert stage.send("get").json()["count"] == 0


def test_a_slug_that_is_given_and_taken_is_a_conflict_and_the_eleventh_is_refused(stage: Stage) -> None:
    for number in range(10):
        stage.add(name=f"N{number}")
    taken = stage.send("post", json={"name": "x", "system_prompt": "?", "slug": "n3"})
    assert (taken.status_code, taken.json()["error"]) == (409, "CONFLICT")
    eleventh = stage.send("post", json={"name": "x", "system_prompt": "?"})
    assert (eleventh.status_code, eleventh.json()["error"]) == (400, "INVALID_REQUEST")
    assert "at most 10" in eleventh.json()["message"]
    stage.send("delete", "/n3")
    assert stage.add(name="again")["slug"] == "again"


def test_without_any_judge_a_category_is_refused_saying_what_to_install(settings: Settings, client_with: Make) -> None:
    stage = Stage(*client_with(settings))
    refused = stage.send("post", json={"name": "Dogs", "system_prompt": "?"})
    assert (refused.status_code, refused.json()["error"]) == (400, "INVALID_REQUEST")
    assert "needs a vision judge, and none is configured" in refused.json()["message"]


def test_a_key_needs_the_scope(stage: Stage) -> None:
    plain = enrol(stage.house, "A", "plain")
    for method, path in (("get", ""), ("post", ""), ("put", "/x"), ("delete", "/x"), ("post", "/try")):
        refused = stage.send(method, path, who=plain)
        assert refused.json()["message"] == "Missing required scope: account:config"


# --- changed ---------------------------------------------------------------------------------------------------------


def test_what_is_given_is_changed_as_a_new_version_and_the_rest_stays(stage: Stage) -> None:
    made = stage.add(description="d")
    changed = stage.send("put", f"/{made['category_id']}", json={"system_prompt": "Is there a wolf?", "name": None})
    assert changed.status_code == 200
    body = changed.json()
    assert (body["system_prompt"], body["name"], body["description"], body["version"]) == (
        "Is there a wolf?", "Dogs", "d", 2,
    )  # fmt: skip
    assert body["category_id"] == made["category_id"]
    assert stage.send("put", f"/{made['category_id']}", json={"slug": "dogs"}).json()["version"] == 2


def test_a_slug_is_never_changed(stage: Stage) -> None:
    stage.add()
    refused = stage.send("put", "/dogs", json={"slug": "cats"})
    assert (refused.status_code, refused.json()["message"]) == (400, "slug cannot be changed")


def test_every_change_is_a_version_with_its_author_and_nothing_new_is_none(stage: Stage) -> None:
    stage.add()
    stage.send("put", "/dogs", json={"enabled": False})
    stage.send("put", "/dogs", json={"enabled": False})
    stage.send("put", "/dogs", json={"enabled": True, "name": "All dogs"})
    stage.send("put", "/dogs", json={"enabled": False})
    stage.send("put", "/dogs", json={"enabled": True})
    stage.send("delete", "/dogs")
    versions = custom.history(stage.house.db.reader(), stage.alice.org_id, "dogs")
    assert [(one.version, one.change, one.enabled) for one in reversed(versions)] == [
        (1, "added", True), (2, "disabled", False), (3, "changed", True), (4, "disabled", False),
        (5, "enabled", True), (6, "removed", False),
    ]  # fmt: skip
    assert {one.actor for one in versions} == {f"key:{stage.alice.key[:12]}"}
    assert [line[1:] for line in stage.audited()] == [
        (f"category.{one.change}", "dogs", one.version) for one in reversed(versions)
    ]


def test_versions_are_listed_also_of_one_that_was_removed(stage: Stage) -> None:
    made = stage.add()
    stage.send("put", "/dogs", json={"system_prompt": "Is there a wolf?"})
    stage.send("delete", "/dogs")
    listed = stage.send("get", f"/{made['category_id']}/versions").json()["versions"]
    assert [(one["version"], one["change"], one["system_prompt"]) for one in listed] == [
        (3, "removed", "Is there a wolf?"), (2, "changed", "Is there a wolf?"), (1, "added", "Is there a dog?"),
    ]  # fmt: skip
    assert stage.send("get", "/nothing/versions").json()["error"] == "NOT_FOUND"


def test_versions_are_only_ever_added(stage: Stage) -> None:
    stage.add()
    with pytest.raises(Error, match="only ever added"):
        stage.house.db.write(lambda conn: conn.execute("UPDATE custom_category_version SET question = 'x'"))


def test_a_removed_ones_slug_is_free_and_goes_on_counting(stage: Stage) -> None:
    first = stage.add()
    assert stage.send("delete", f"/{first['category_id']}").status_code == 204
    assert stage.send("delete", f"/{first['category_id']}").json()["error"] == "NOT_FOUND"
    assert stage.send("put", f"/{first['category_id']}", json={"name": "x"}).json()["error"] == "NOT_FOUND"
    second = stage.add()
    assert (second["slug"], second["version"]) == ("dogs", 3)
    assert second["category_id"] != first["category_id"]


def test_one_is_not_enabled_when_no_judge_could_answer_it(house: House, alice: Person) -> None:
    def change(conn: Connection) -> None:
        able = replace(house.settings, inference=SEEING)
        custom.add(conn, able, alice.org_id, None, "Dogs", "?", actor="x", enabled=False)
        custom.change(conn, house.settings, alice.org_id, "dogs", actor="x", name="Renamed")
        with pytest.raises(InvalidRequest, match="vision judge"):
            custom.change(conn, house.settings, alice.org_id, "dogs", actor="x", enabled=True)

    house.db.write(change)


def test_another_organisations_is_not_there(stage: Stage) -> None:
    made = stage.add()
    for method, path in (("put", ""), ("delete", ""), ("get", "/versions"), ("post", "/try")):
        refused = stage.send(method, f"/{made['category_id']}{path}", who=stage.charlie, **(
            {"json": {}} if method in ("put", "post") else {}
        ))  # fmt: skip
        assert (refused.status_code, refused.json()["error"]) == (404, "NOT_FOUND")
    assert stage.send("get", who=stage.charlie).json()["count"] == 0


def test_the_later_generations_generated_prompts_are_not_here(stage: Stage) -> None:
    missing = stage.send("post", "/generate-prompt", json={"name": "Dogs"})
    assert (missing.status_code, missing.json()["error"]) == (404, "NOT_FOUND")


# --- the command -----------------------------------------------------------------------------------------------------


def run(house: House, *words: str, **environ: str) -> Any:
    answer = CliRunner(
        env={"CUSTOMHOUSE_HOME": str(house.settings.home), "CUSTOMHOUSE_INFERENCE_VISION_JUDGE": "eyes", **environ}
    ).invoke(root, ["categories", *words, "--json"], catch_exceptions=False)
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.output)


def test_the_commands_do_what_the_routes_do(house: House, alice: Person) -> None:
    added = run(house, "add", "--org", "A", "--name", "Dogs", "--question", "Is there a dog?", "--disabled")
    assert (added["slug"], added["enabled"], added["version"]) == ("dogs", False, 1)
    assert run(house, "change", "dogs", "--org", "A", "--question", "A wolf?", "--reason", "why")["version"] == 2
    assert run(house, "enable", "dogs", "--org", "A")["enabled"] is True
    assert run(house, "disable", "dogs", "--org", "A")["enabled"] is False
    assert [one["slug"] for one in run(house, "list", "--org", "A")["custom"]] == ["dogs"]
    assert run(house, "remove", "dogs", "--org", "A", "--reason", "cats") == {"removed": "dogs"}
    versions = run(house, "history", "--org", "A")
    assert [one["change"] for one in versions] == ["removed", "disabled", "enabled", "changed", "added"]
    assert all(one["actor"].startswith("operator:") for one in versions)
    reasons = [row[0] for row in house.db.reader().execute("SELECT reason FROM audit WHERE action LIKE 'category.%'")]
    assert reasons == [None, "why", None, None, "cats"]


def test_the_list_says_what_answers_each(house: House, alice: Person) -> None:
    run(house, "add", "dogs", "--org", "A", "--name", "Dogs", "--question", "Is there a dog?")
    shown = CliRunner(env={"CUSTOMHOUSE_HOME": str(house.settings.home)}).invoke(
        root, ["categories", "list", "--org", "A"], catch_exceptions=False
    )
    assert "custom:dogs        Dogs: Is there a dog? (version 1)" in shown.output
    assert "← image: nothing: no judge is configured, and such jobs fail" in shown.output


def test_trying_without_a_judge_says_what_to_install(house: House) -> None:
    answer = CliRunner(env={"CUSTOMHOUSE_HOME": str(house.settings.home)}).invoke(
        root, ["categories", "try", "hello", "--text", "--question", "?"]
    )
    assert answer.exit_code == 1
    assert "No text judge is configured" in str(answer.exception)


# --- the upgrade -----------------------------------------------------------------------------------------------------


def test_a_database_of_before_keeps_its_categories_deliveries_attempts_and_indexes(tmp_path: Path) -> None:
    conn = database.connect(tmp_path / "customhouse.db")
    db = sqlite_utils.Database(conn)
    migrations.apply(db, stop_before="m007_custom")
    conn.execute("INSERT INTO organisation (id, name, created_at) VALUES ('o', 'A', 0)")
    conn.execute("INSERT INTO custom_category VALUES ('c', 'o', 'dogs', 'Dogs', 'Is there a dog?', 1, 5, 6)")
    for number in (1, 2):
        conn.execute(
            "INSERT INTO job (id, org_id, kind, created_at) VALUES (?, 'o', 'PROMPT_MODERATION', 0)", (f"j{number}",)
        )
        conn.execute(
            """
            INSERT INTO delivery (id, org_id, job_id, url, is_global, body, status, attempts, next_at, created_at)
            VALUES (?, 'o', ?, 'https://a.example', 1, '{}', 'delivered', 2, 3, 4)
            """,
            (f"wh_j{number}", f"j{number}"),
        )
    conn.execute("DELETE FROM job WHERE id = 'j1'")  # a gap in the order
    conn.execute("INSERT INTO delivery_attempt (delivery_id, at, http_status, ms) VALUES ('wh_j2', 9, 200, 1.5)")
    rowid = conn.execute("SELECT rowid FROM delivery").fetchone()[0]
    before = standing(conn)
    migrations.apply(db)
    assert before <= standing(conn)
    assert custom.every(conn, "o")[0].applies_to == ("image", "video")
    (version,) = custom.history(conn, "o")
    assert (version.slug, version.version, version.question, version.actor, version.at) == (
        "dogs", 1, "Is there a dog?", "system:upgrade", 6,
    )  # fmt: skip
    kept = conn.execute("SELECT rowid, * FROM delivery").fetchone()
    assert (kept["rowid"], kept["job_id"], kept["batch_id"], kept["attempts"]) == (rowid, "j2", None, 2)
    assert conn.execute("SELECT http_status FROM delivery_attempt").fetchone()[0] == 200
    assert conn.execute("PRAGMA foreign_key_check").fetchall() == []
    conn.execute("DELETE FROM job WHERE id = 'j2'")
    assert conn.execute("SELECT count(*) FROM delivery_attempt").fetchone()[0] == 0
    conn.close()


def standing(conn: Connection) -> set[tuple[str, str]]:
    """Indexes and triggers of the tables that were made anew."""
    return {
        (row["type"], row["name"])
        for row in conn.execute(
            "SELECT type, name FROM sqlite_master WHERE tbl_name LIKE 'delivery%' AND sql IS NOT NULL"
        )
    }


def test_an_unknown_one_is_not_found(house: House, alice: Person) -> None:
    with pytest.raises(NotFound):
        custom.find(house.db.reader(), alice.org_id, "dogs")
