"""`customhouse policies`, `events` and `quota`, through the command line."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from appliance.__main__ import root
from appliance.errors import CustomhouseError, InvalidRequest, Misconfigured, NotFound, PolicyNotFound
from appliance.house import House
from appliance.moderations import evaluations
from appliance.moderations.verdict import Ask
from appliance.text.analysis import Result as Score
from appliance.text.evaluation import Report
from tests import decided
from tests.cast import Person
from tests.decided import begun, on_plan


class Cli:
    def __init__(self, house: House) -> None:
        self.house = house

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(root, list(arguments))

    def said(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.exit_code == 0, (done.output, done.exception)
        return done.output

    def json(self, *arguments: str) -> Any:
        return json.loads(self.said(*arguments, "--json"))

    def refused(self, *arguments: str) -> CustomhouseError:
        error = self.run(*arguments).exception
        assert isinstance(error, CustomhouseError), error
        return error

    def audit(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self.house.db.reader().execute("SELECT * FROM audit ORDER BY id")]


@pytest.fixture
def cli(house: House, alice: Person, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("CUSTOMHOUSE_HOME", str(house.settings.home))
    return Cli(house)


WHY = ("--org", "A", "--reason", "a test")


def test_a_policy_is_made_moved_on_and_gone_back_with(cli: Cli) -> None:
    (default,) = cli.json("policies", "list", "--org", "A")
    assert (default["slug"], default["is_default"], default["version"]) == ("community-default", True, 1)
    made = cli.json("policies", "create", "kids", "--template", "strict", "--set", "semantic.mode=off", *WHY)
    assert (made["slug"], made["semantic"]["mode"], made["version"]) == ("kids", "off", 1)
    path = "analyzers.spam.thresholds.block"
    second = cli.json("policies", "version", "kids", "--set", f"{path}=0.97", "--set", "observe_only=true", *WHY)
    assert (second["version"], second["analyzers"]["spam"]["thresholds"]["block"]) == (2, 0.97)
    assert cli.json("policies", "diff", "kids", "--org", "A")["changes"] == {
        path: [0.9, 0.97],
        "observe_only": [False, True],
    }
    back = cli.json("policies", "activate", "kids", "1", *WHY)
    assert (back["version"], back["copied_from"], back["observe_only"]) == (3, 1, False)
    assert cli.json("policies", "diff", "kids", "1", "3", "--org", "A")["changes"] == {}
    assert cli.json("policies", "show", "kids", "--version", "2", "--org", "A")["is_active"] is False
    assert [one["version"] for one in cli.json("policies", "show", "kids", "--versions", "--org", "A")] == [3, 2, 1]
    renamed = cli.json("policies", "rename", "kids", "--default", "--name", "Children", *WHY)
    assert (renamed["is_default"], renamed["name"]) == (True, "Children")
    lines = cli.audit()
    assert [line["action"] for line in lines] == [
        "policy.created", "policy.version_made", "policy.activated", "policy.changed",
    ]  # fmt: skip
    assert {(line["reason"], line["subject"]) for line in lines} == {("a test", "kids")}
    assert all(line["actor"].startswith("operator:") for line in lines)


def test_what_is_said_to_people(cli: Cli) -> None:
    cli.said("policies", "version", "community-default", "--set", "analyzers.emoji.enabled=false", *WHY)
    assert "community-default        version 2" in cli.said("policies", "list", "--org", "A")
    shown = cli.said("policies", "show", "community-default", "--org", "A")
    assert "spam                  0.6    0.8   0.95" in shown
    assert "emoji                 0.7      –      –  off" in shown
    assert "a test" in shown
    said = cli.said("policies", "diff", "community-default", "--org", "A")
    assert "analyzers.emoji.enabled: true → false" in said


def test_what_a_version_was_found_worth_is_shown_beside_it(
    cli: Cli, house: House, alice: Person, tmp_path: Path
) -> None:
    labelled = tmp_path / "comments.csv"
    labelled.write_text("text,decision\na teapot,0\n")
    version = begun(house, alice)
    report = Report([], [])
    house.db.write(
        lambda conn: evaluations.save(
            conn, alice.org_id, version.id, labelled, 1_000, {}, report, actor="operator:test"
        )
    )
    shown = cli.said("policies", "show", "community-default", "--org", "A")
    assert "comments.csv, 1,000 texts" in shown
    cli.said("policies", "version", "community-default", "--set", "analyzers.emoji.enabled=false", *WHY)
    assert "comments.csv" not in cli.said("policies", "show", "community-default", "--org", "A")
    assert "comments.csv" in cli.said("policies", "show", "community-default", "--version", "1", "--org", "A")


def test_members_come_from_a_file_too(cli: Cli, tmp_path: Path) -> None:
    toml, as_json, wrong = tmp_path / "p.toml", tmp_path / "p.json", tmp_path / "p.txt"
    toml.write_text('name = "passed over"\n[analyzers]\nspam = { thresholds = { warn = 0.5 } }\n')
    as_json.write_text('{"hash_reuse": {"enabled": false}}')
    wrong.write_text("=")
    made = cli.json("policies", "version", "community-default", "--file", str(toml), "--replace", *WHY)
    assert list(made["analyzers"]) == ["spam"]
    made = cli.json("policies", "version", "community-default", "--file", str(as_json), *WHY)
    assert (made["hash_reuse"]["enabled"], list(made["analyzers"])) == (False, ["spam"])
    for file in (wrong, tmp_path / "none.toml"):
        refused = cli.refused("policies", "version", "community-default", "--file", str(file), *WHY)
        assert isinstance(refused, Misconfigured)


def test_what_makes_no_sense_is_refused_with_a_sentence(cli: Cli) -> None:
    show = ("policies", "show", "--org", "A")
    assert isinstance(cli.refused(*show, "nothing"), PolicyNotFound)
    assert isinstance(cli.refused(*show, "community-default", "--version", "9"), NotFound)
    assert isinstance(cli.refused("policies", "list", "--org", "nobody"), NotFound)
    version = ("policies", "version", "community-default", *WHY)
    for assigned, message in (
        ("analyzers.spamm.enabled=true", "analyzers.spamm is no analyzer"),
        ("observe_only", "say MEMBER=VALUE"),
        ("semantic.mode=sometimes", "semantic.mode must be one of"),
    ):
        refused = cli.refused(*version, "--set", assigned)
        assert isinstance(refused, InvalidRequest)
        assert message in refused.message
    empty = cli.refused("policies", "version", "community-default", "--org", "A", "--reason", " ")
    assert "--reason is empty" in empty.message
    for replaces in ((), ("--replace",)):
        nothing = cli.refused("policies", "version", "community-default", *replaces, *WHY)
        assert nothing.message == "Nothing is said of the version: name members with --set or --file"
    assert cli.audit() == []


def test_a_preview_is_told_and_every_flip_written(cli: Cli, alice: Person, tmp_path: Path) -> None:
    old = decided.begun(cli.house, alice)
    fields: dict[str, Any] = {"version": old, "action": "warn"}
    ids = decided.record(cli.house, alice, *(decided.asked({"spam": 0.65}, "flag", **fields) for _ in range(3)))
    ask = ("policies", "preview", "community-default", "--org", "A", "--set", "analyzers.spam.thresholds.warn=0.7")
    file = tmp_path / "flips.csv"
    found = cli.json(*ask, "--limit", "2", "--export", str(file))
    assert (found["events"], found["flipped"], len(found["flips"])) == (3, 3, 2)
    assert found["turns"][0]["by_analyzer"] == {"spam": 3}
    head, *lines = csv.reader(file.read_text().splitlines())
    assert head == ["event_id", "created_at", "language", "from", "to", "action_from", "action_to", "analyzers"]
    assert lines[0][2:] == ["en", "flag", "allow", "warn", "allow", "spam"]
    assert [line[0] for line in lines] == ids[::-1]
    said = cli.said(*ask)
    assert "3 events in" in said
    assert "3 would be decided otherwise, 0 cannot be told" in said
    assert "flag → allow: 3\n  by analyzer: spam 3\n  by language: en 3" in said
    assert isinstance(cli.refused(*ask, "--version", "1"), InvalidRequest)
    again = cli.json("policies", "preview", "community-default", "--org", "A", "--version", "1", "--events", "2")
    assert (again["events"], again["flipped"]) == (2, 0)
    assert cli.audit() == []


def test_events_are_listed_and_shown(cli: Cli, alice: Person) -> None:
    ask = Ask("a lighthouse", "openai", metadata={"external_id": "c1"})
    first, second = decided.record(
        cli.house,
        alice,
        decided.asked(),
        decided.asked({"spam": Score(0.95, ("free money",))}, "block", ask=ask, flagged=("spam",)),
    )
    listed = cli.json("events", "list", "--org", "A")
    assert [one["id"] for one in listed["events"]] == [second, first]
    page = cli.json("events", "list", "--org", "A", "--limit", "1")
    after = cli.json("events", "list", "--org", "A", "--cursor", page["next_cursor"])
    assert [one["id"] for one in after["events"]] == [first]
    filters = ("--decision", "block", "--external-id", "c1", "--origin", "openai", "--language", "en")
    narrowed = cli.json("events", "list", "--org", "A", *filters, "--since", "2020-01-01")
    assert [one["id"] for one in narrowed["events"]] == [second]
    assert cli.json("events", "list", "--org", "A", "--until", "2020-01-01")["events"] == []
    shown = cli.json("events", "show", second, "--org", "A")
    assert (shown["scores"], shown["matched"], shown["flagged"]) == ({"spam": 0.95}, {"spam": ["free money"]}, ["spam"])
    said = cli.said("events", "show", second, "--org", "A")
    assert "block" in said
    assert "spam               0.950  flagged  free money" in said
    assert second in cli.said("events", "list", "--org", "A")
    assert isinstance(cli.refused("events", "show", "mev_none", "--org", "A"), NotFound)
    assert "--since must be a moment" in cli.refused("events", "list", "--org", "A", "--since", "now").message


def test_the_quota_and_its_use_are_told(cli: Cli, alice: Person) -> None:
    on_plan(cli.house, alice, "free", 100)
    decided.record(cli.house, alice, decided.asked(), decided.asked(decision="block"))
    (found,) = cli.json("quota", "list")
    assert (found["org"], found["plan_tier"], found["used"], found["remaining"]) == ("A", "free", 2, 98)
    assert cli.said("quota", "list").startswith("A                        free         2 of 100, 98 left until 20")
    shown = cli.json("quota", "show", "A")
    assert shown["usage"]["by_decision"] == {"allow": 1, "flag": 0, "block": 1}
    assert "2 requests (allow 1, flag 0, block 1)" in cli.said("quota", "show", "A")
    assert cli.json("quota", "show", "A", "--period", "2020-01")["usage"]["standard_requests"] == 0
    assert "--period must be a month" in cli.refused("quota", "show", "A", "--period", "2020").message
