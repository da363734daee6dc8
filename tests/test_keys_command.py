"""`customhouse keys` and `customhouse categories`, through the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from appliance.__main__ import root
from appliance.accounts import keys, organisations
from appliance.errors import CustomhouseError, Unauthorized
from appliance.house import House
from appliance.settings import Settings


class Cli:
    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CUSTOMHOUSE_HOME", str(home))
        self.home = home

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(root, list(arguments))

    def json(self, *arguments: str) -> Any:
        done = self.run(*arguments, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def recognise(self, raw: str) -> keys.Caller:
        house = House(Settings(home=self.home))
        try:
            return keys.recognise(house.db.reader(), house.pepper, raw)
        finally:
            house.close()


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    return Cli(tmp_path, monkeypatch)


def test_a_key_is_printed_once_and_works(cli: Cli) -> None:
    done = cli.run("keys", "create", "--org", "acme", "--name", "production")
    assert done.exit_code == 0, done.output
    raw = done.stdout.strip()
    assert cli.recognise(raw).key_name == "production"
    listed = cli.run("keys", "list").output
    assert raw not in listed
    assert f"{raw[:12]}…  active    acme/production  used never" in listed


def test_scopes_surface_environment_and_life_are_as_asked(cli: Cli) -> None:
    made = cli.json(
        "keys", "create", "--org", "acme", "--name", "k", "--scope", "job:read", "--scope", "moderate:text",
        "--surface", "omnimod", "--environment", "test", "--expires-in-days", "30",
    )  # fmt: skip
    assert made["key"].startswith("omad_test_")
    assert made["scopes"] == ["moderate:prompt", "job:read"]
    assert made["expires_at"].endswith("Z")
    assert made["state"] == "active"


def test_a_rotated_key_takes_the_old_ones_place(cli: Cli) -> None:
    old = cli.run("keys", "create", "--org", "acme", "--name", "k").stdout.strip()
    new = cli.run("keys", "rotate", "k").output.strip()
    assert cli.recognise(new)
    with pytest.raises(Unauthorized):
        cli.recognise(old)


def test_after_a_rotation_the_name_means_the_key_that_works(cli: Cli) -> None:
    cli.run("keys", "create", "--org", "acme", "--name", "k")
    cli.run("keys", "rotate", "k")
    raw = cli.run("keys", "rotate", "k").output.strip()
    assert cli.run("keys", "revoke", "k").output.strip() == f"{raw[:12]}… is revoked"


def test_a_name_that_two_working_keys_have_is_asked_back(cli: Cli) -> None:
    cli.run("keys", "create", "--org", "acme", "--name", "k")
    cli.run("keys", "rotate", "k", "--grace", "60")
    refused = cli.run("keys", "revoke", "k").exception
    assert isinstance(refused, CustomhouseError)
    assert "customhouse keys list" in refused.message


def test_the_settings_are_shown_as_they_stand(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUSTOMHOUSE_SERVER_PORT", "9000")
    for shown in (json.loads(cli.run("config", "show").output), cli.json("config", "check")["settings"]):
        assert shown["home"] == str(cli.home)
        assert shown["server"]["port"] == 9000


def test_a_variable_that_is_like_a_setting_and_is_none_is_pointed_out(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUSTOMHOUSE_RETENTION_PROMPT_DAYS", "0")
    monkeypatch.setenv("CUSTOMHOUSE_RETENTION_TRACES_DAYS", "0")
    done = cli.run("config", "check")
    assert done.exit_code == 0
    assert (
        done.stderr
        == "CUSTOMHOUSE_RETENTION_PROMPT_DAYS names no setting and is ignored; see: customhouse config show\n"
    )


def test_an_organisation_that_a_key_is_first_made_for_stands_in_the_audit_log(cli: Cli) -> None:
    made = cli.run("keys", "create", "--org", "acme", "--name", "k")
    assert "acme is a new organisation" in made.stderr
    assert "acme" not in cli.run("keys", "create", "--org", "acme", "--name", "k2").stderr
    assert [line["action"] for line in cli.json("audit", "list")] == [
        "key.created",
        "key.created",
        "organisation.created",
    ]


def test_a_revoked_key_is_refused_and_listed_as_such(cli: Cli) -> None:
    raw = cli.run("keys", "create", "--org", "acme", "--name", "k").stdout.strip()
    assert cli.run("keys", "revoke", raw[:12], "--reason", "lost").output.strip() == f"{raw[:12]}… is revoked"
    with pytest.raises(Unauthorized, match="revoked"):
        cli.recognise(raw)
    assert [key["state"] for key in cli.json("keys", "list", "--org", "acme")] == ["revoked"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("keys", "create", "--org", "a", "--name", "k", "--scope", "everything"), "Unknown scope 'everything'"),
        (("keys", "revoke", "nobody"), "There is no key"),
        (("keys", "rotate", "nobody"), "There is no key"),
        (("keys", "list", "--org", "nobody"), "There is no organisation named 'nobody'"),
        (("categories", "add", "dogs", "--org", "nobody", "--name", "x", "--question", "x"), "no organisation"),
        (("categories", "remove", "dogs", "--org", "nobody", "--reason", "why"), "no organisation"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(cli: Cli, arguments: tuple[str, ...], message: str) -> None:
    done = cli.run(*arguments)
    assert isinstance(done.exception, CustomhouseError)
    assert message in done.exception.message


def test_no_keys_yet_says_how_to_make_one(cli: Cli) -> None:
    assert "customhouse keys create" in cli.run("keys", "list").output


def test_categories_are_listed_with_what_answers_them(cli: Cli) -> None:
    said = cli.run("categories", "list").output
    for line in ("nsfw ", "ai_adult_general", "underage", "text ", "← opennsfw: nsfw ≥ 0.", "← faces-age: under_18 ≥"):
        assert line in said
    assert set(cli.json("categories", "list")["built_in"]) == {"nsfw", "ai_adult_general", "underage", "text"}


def test_a_custom_category_needs_a_vision_judge_and_is_then_listed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.run("keys", "create", "--org", "acme", "--name", "k")
    add = ("categories", "add", "dogs", "--org", "acme", "--name", "Dogs", "--question", "Is there a dog?")
    refused = cli.run(*add).exception
    assert isinstance(refused, CustomhouseError)
    assert "customhouse models fetch NAME" in refused.message
    monkeypatch.setenv("CUSTOMHOUSE_INFERENCE_VISION_JUDGE", "judge")
    assert cli.run(*add).exit_code == 0
    assert "custom:dogs" in cli.run("categories", "list", "--org", "acme").output
    assert cli.run("categories", "remove", "dogs", "--org", "acme", "--reason", "why").exit_code == 0
    assert "custom:dogs" not in cli.run("categories", "list", "--org", "acme").output


def test_a_key_says_how_it_stands_before_it_ends(cli: Cli) -> None:
    assert (
        cli.json("keys", "create", "--org", "acme", "--name", "soon", "--expires-in-days", "7")["state"] == "expiring"
    )
    old = cli.run("keys", "create", "--org", "acme", "--name", "k").stdout.strip()
    cli.run("keys", "rotate", old[:12], "--grace", "60")
    cli.run("keys", "revoke", "soon")
    assert {one["name"]: one["state"] for one in cli.json("keys", "list", "--state", "in grace")} == {"k": "in grace"}
    assert [one["name"] for one in cli.json("keys", "list", "--state", "active")] == ["k"]
    assert [one["name"] for one in cli.json("keys", "list", "--state", "revoked")] == ["soon"]


def test_a_key_is_shown_with_who_changed_it_and_what_it_submitted(cli: Cli) -> None:
    raw = cli.run("keys", "create", "--org", "acme", "--name", "k", "--reason", "for the site").stdout.strip()
    shown = cli.json("keys", "show", "k")
    assert shown["jobs"] == {"jobs": 0, "prohibited": 0, "newest_at": None, "looked_at": 0}
    assert [(one["action"], one["reason"]) for one in shown["audit"]] == [("key.created", "for the site")]
    said = cli.run("keys", "show", "k").output
    assert "key.created" in said
    assert raw not in said + json.dumps(shown)


def test_a_new_key_is_not_in_what_python_says_of_it(house: House) -> None:
    org = house.db.write(lambda conn: organisations.create(conn, "acme"))
    issued = house.db.write(lambda conn: keys.issue(conn, house.pepper, org.id, "k", actor="operator:test"))
    assert issued.raw not in repr(issued)
