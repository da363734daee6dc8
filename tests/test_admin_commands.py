"""`customhouse organisations`, the switches of `blocklist`, `models status` and `reload`, through the command line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from appliance import audit
from appliance.__main__ import root
from appliance.accounts import organisations, plans
from appliance.accounts.plans import Changes
from appliance.errors import Conflict, CustomhouseError, InvalidRequest, NotFound
from appliance.house import House
from appliance.text.lexicons import Lexicons
from tests import tinyonnx
from tests.cast import Person
from tests.tinyonnx import Process


class Cli:
    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch, **environ: str) -> None:
        for name, value in {"CUSTOMHOUSE_HOME": str(home), **environ}.items():
            monkeypatch.setenv(name, value)

    def run(self, *arguments: str) -> str:
        """What it printed. What it raises is raised."""
        done = CliRunner().invoke(root, list(arguments))
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))


@pytest.fixture
def cli(house: House, monkeypatch: pytest.MonkeyPatch) -> Cli:
    return Cli(house.settings.home, monkeypatch)


def lines(house: House, **wanted: Any) -> list[audit.Line]:
    return audit.page(house.db.reader(), audit.Filter(**wanted))


# --- organisations ---------------------------------------------------------------------------------------------------


def test_an_organisation_is_made_shown_and_changed(cli: Cli, house: House) -> None:
    made = cli.json("organisations", "create", "acme", "--rate-limit-per-minute", "5", "--reason", "signed")
    assert (made["name"], made["rate_limit_per_minute"], made["effective"]["burst_per_second"]) == ("acme", 5, 0)
    house.db.write(lambda conn: plans.create(conn, "big", "Big", Changes(burst_per_second=9), actor="x", reason="x"))
    changed = cli.json(
        "organisations", "change", "acme", "--plan", "big", "--rate-limit-per-minute", "default",
        "--charge", "per_job", "--retain-prompts-days", "3", "--name", "acme2", "--reason", "moved",
    )  # fmt: skip
    assert (changed["plan"], changed["rate_limit_per_minute"], changed["retain_prompts_days"]) == ("big", None, 3)
    assert changed["effective"]["burst_per_second"] == 9
    assert cli.json("organisations", "show", made["id"]) == cli.json("organisations", "show", "acme2") == changed
    assert [one["name"] for one in cli.json("organisations", "list")] == ["acme2"]
    assert "acme2" in cli.run("organisations", "list")
    line = lines(house, action="organisation.changed")[0]
    assert (line.actor, line.reason) == (audit.operator(), "moved")
    assert line.detail["plan"] == ["standard", "big"]


def test_bans_and_pauses_begin_and_end_with_a_reason(cli: Cli, house: House, alice: Person) -> None:
    for verb, status in (("disable", "disabled"), ("enable", "active"), ("ban", "terminated"), ("unban", "active")):
        body = cli.json("organisations", verb, "A", "--reason", f"why {verb}")
        assert body["status"] == status
        assert organisations.get(house.db.reader(), alice.org_id).status == status
    assert [line.reason for line in lines(house, org_id=alice.org_id)] == [
        "why unban",
        "why ban",
        "why enable",
        "why disable",
    ]
    assert "terminated: abuse" in cli.run("organisations", "ban", "A", "--reason", "abuse")
    assert [one["name"] for one in cli.json("organisations", "list", "--status", "terminated")] == ["A"]


@pytest.mark.parametrize("verb", ["change", "disable", "enable", "ban", "unban"])
def test_without_a_reason_it_is_wrong_usage(cli: Cli, alice: Person, verb: str) -> None:
    done = CliRunner().invoke(root, ["organisations", verb, "A"])
    assert done.exit_code == 2
    assert "--reason" in done.output
    with pytest.raises(InvalidRequest, match="--reason is empty"):
        cli.run("organisations", verb, "A", "--reason", " ")


def test_what_cannot_be_is_one_sentence(cli: Cli, alice: Person) -> None:
    with pytest.raises(NotFound, match="there are: A"):
        cli.run("organisations", "show", "B")
    with pytest.raises(Conflict, match="active, not banned"):
        cli.run("organisations", "unban", "A", "--reason", "x")
    with pytest.raises(Conflict, match="'A' already"):
        cli.run("organisations", "create", "A")
    with pytest.raises(InvalidRequest, match="whole number, or default"):
        cli.run("organisations", "change", "A", "--burst-per-second", "many", "--reason", "x")
    with pytest.raises(InvalidRequest, match="none of: developer, flex, free, growth, launch, standard"):
        cli.run("organisations", "change", "A", "--plan", "none", "--reason", "x")


# --- the blocklist ---------------------------------------------------------------------------------------------------


def test_what_is_made_may_say_why(cli: Cli, house: House, alice: Person) -> None:
    """As over HTTP."""
    made = cli.json("keys", "create", "--org", "New", "--name", "n", "--reason", "a trial")
    cli.json("keys", "rotate", made["id"], "--reason", "yearly")
    cli.json("blocklist", "add", "teapot", "--reason", "ticket 4711")
    said = {line.action: line.reason for line in lines(house)}
    assert said == {
        "organisation.created": "a trial",
        "key.created": "a trial",
        "key.rotated": "yearly",
        "blocklist.add": "ticket 4711",
    }


def test_a_term_is_switched_off_and_on(cli: Cli, house: House, alice: Person) -> None:
    lexicons = Lexicons(house)
    cli.run("blocklist", "add", "teapot")
    (off,) = cli.json("blocklist", "disable", "teapot", "--reason", "too many")
    assert (off["enabled"], lexicons.match(alice.org_id, "a teapot")) == (False, None)
    assert "disabled" in cli.run("blocklist", "list")
    (on,) = cli.json("blocklist", "enable", off["id"])
    assert on["enabled"] is True
    assert lexicons.match(alice.org_id, "a teapot") is not None
    assert [line.reason for line in lines(house, action="blocklist.change")] == [None, "too many"]
    with pytest.raises(NotFound, match="has no 'kettle'"):
        cli.run("blocklist", "disable", "kettle")


def test_a_terms_category_is_set_and_taken_away(cli: Cli) -> None:
    cli.run("blocklist", "add", "teapot")
    assert cli.json("blocklist", "category", "teapot", "underage")[0]["category"] == "underage"
    assert cli.json("blocklist", "category", "teapot", "none")[0]["category"] is None
    with pytest.raises(InvalidRequest, match="not usable"):
        cli.run("blocklist", "category", "teapot", "Not One")


# --- the running models ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    home, models = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("models")
    for name in ("tiny", "spare"):
        tinyonnx.install(home, models, name)
    with Process(home, models, CUSTOMHOUSE_INFERENCE_MODELS="tiny", CUSTOMHOUSE_INFERENCE_DEVICE="cpu") as process:
        yield process


def test_the_running_models_are_shown_and_opened_anew(running: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    cli = Cli(running.home, monkeypatch)
    states = {one["name"]: one["state"] for one in cli.json("models", "status")["models"]}
    assert states == {"tiny": "ready", "spare": "unloaded"}
    assert "ready     cpu" in cli.run("models", "status")
    assert cli.json("models", "reload", "--reason", "new weights") == {"tiny": "ready"}
    assert cli.run("models", "reload", "tiny") == "tiny: ready\n"
    assert [line["reason"] for line in cli.json("audit", "list", "--action", "models.reopened")] == [
        None,
        "new weights",
    ]
    with pytest.raises(InvalidRequest, match="spare is not loaded; loaded are: tiny"):
        cli.run("models", "reload", "spare")


def test_without_a_model_process_that_is_said(cli: Cli) -> None:
    for verb in ("status", "reload"):
        with pytest.raises(CustomhouseError, match="model process does not answer"):
            cli.run("models", verb)
