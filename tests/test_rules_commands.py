"""`customhouse categories`, `policies` and `blocklist` as the rules' screens have them, through the command line."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from appliance import audit
from appliance.__main__ import root
from appliance.accounts import toggles
from appliance.accounts.keys import Caller
from appliance.audit import Filter
from appliance.errors import Conflict, InvalidRequest
from appliance.house import House
from appliance.policies import body as bodies
from appliance.policies import rows
from appliance.policies.version import Body
from appliance.text import keywords, matches, named_lists
from appliance.text.analysis import ANALYZERS
from appliance.text.lexicons import Lexicons
from appliance.text.named_lists import Item, Matcher
from tests.cast import Person
from tests.test_thresholds import done, nsfw


class Cli:
    def __init__(self, house: House) -> None:
        self.house = house

    def run(self, *arguments: str, given: str | None = None) -> Result:
        return CliRunner().invoke(root, list(arguments), input=given)

    def said(self, *arguments: str, given: str | None = None) -> str:
        made = self.run(*arguments, given=given)
        assert made.exit_code == 0, (made.output, made.exception)
        return made.stdout

    def json(self, *arguments: str, given: str | None = None) -> Any:
        return json.loads(self.said(*arguments, "--json", given=given))

    def lines(self, **wanted: Any) -> list[audit.Line]:
        return audit.page(self.house.db.reader(), Filter(**wanted))


@pytest.fixture
def cli(house: House, alice: Person, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("CUSTOMHOUSE_HOME", str(house.settings.home))
    return Cli(house)


WHY = ("--reason", "a test")

# --- categories ------------------------------------------------------------------------------------------------------


def test_a_check_is_turned_off_and_on(cli: Cli, alice: Person) -> None:
    assert cli.json("categories", "turn", "nsfw", "off", "--org", "A", *WHY)["nsfw"] is False
    (shown,) = cli.json("categories", "toggles", "--org", "A")
    assert shown == {"organisation": "A", "nsfw": False, "ai_adult_general": True, "underage": True, "text": True}
    assert "nsfw OFF" in cli.said("categories", "toggles")
    cli.said("categories", "turn", "nsfw", "on", "--org", "A", *WHY)
    assert toggles.off(cli.house.db.reader(), alice.org_id) == {}
    (line,) = cli.lines(action="checks.turned_on")
    assert (line.actor, line.reason) == (audit.operator(), "a test")


def test_underage_is_turned_off_only_after_its_warning(cli: Cli, alice: Person) -> None:
    asked = cli.run("categories", "turn", "underage", "off", "--org", "A", *WHY, given="n\n")
    assert asked.exit_code == 1
    assert "alternative CSAM-detection control" in asked.stderr
    assert toggles.off(cli.house.db.reader(), alice.org_id) == {}
    cli.said("categories", "turn", "underage", "off", "--org", "A", "--yes", *WHY)
    assert toggles.off(cli.house.db.reader(), alice.org_id) == {"underage": False}
    assert len(cli.lines(action="checks.underage_off")) == 1


def test_a_threshold_is_previewed_moved_and_given_back(cli: Cli, alice: Person) -> None:
    done(cli.house, alice, nsfw(0.6))
    of = ("--of", "opennsfw:nsfw")
    preview = cli.json("categories", "threshold", "nsfw", "0.7", *of, "--preview")
    assert (preview["jobs"], preview["flips"], preview["turned_false"], preview["allowed"]) == (1, 1, 1, 1)
    assert "1 would flip" in cli.said("categories", "threshold", "nsfw", "0.7", *of, "--preview", "--org", "A")
    assert cli.house.categories["nsfw"].sources[0].threshold == 0.5
    made = cli.json("categories", "threshold", "nsfw", "0.7", *of, *WHY)
    assert (made["was"], made["value"]) == (0.5, 0.7)
    assert cli.house.categories["nsfw"].sources[0].threshold == 0.7
    assert "the file says 0.5" in cli.said("categories", "thresholds", "nsfw")
    cli.said("categories", "threshold", "nsfw", "file", *of, *WHY)
    assert cli.house.categories["nsfw"].sources[0].threshold == 0.5
    assert [one["value"] for one in cli.json("categories", "thresholds", "--history")] == [None, 0.7]
    listed = {(one["category"], one["source"]): one for one in cli.json("categories", "thresholds")}
    assert listed["nsfw", "opennsfw:nsfw"]["answers"]
    assert cli.run("categories", "threshold", "nsfw", "0.7", *of).exit_code == 2  # no reason
    assert cli.run("categories", "threshold", "underage", "a lot", *WHY).exit_code == 2


def test_the_only_threshold_that_answers_needs_no_name(cli: Cli) -> None:
    cli.said("categories", "threshold", "underage", "0.4", *WHY)
    assert cli.house.categories["underage"].sources[0].threshold == 0.4
    assert isinstance(cli.run("categories", "threshold", "nsfw", "0.4", *WHY).exception, InvalidRequest)


# --- policies --------------------------------------------------------------------------------------------------------


def test_a_policy_is_written_in_an_editor(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text(
        "#!/bin/sh\nsed -i 's/^observe_only = false/observe_only = true/' \"$1\"\ntouch -d '1 hour' \"$1\"\n"
    )
    editor.chmod(0o700)
    monkeypatch.setenv("VISUAL", str(editor))
    made = cli.json("policies", "edit", "community-default", "--org", "A", *WHY)
    assert (made["version"], made["observe_only"]) == (2, True)
    assert cli.json("policies", "diff", "community-default", "--org", "A")["changes"] == {"observe_only": [False, True]}
    monkeypatch.setenv("VISUAL", "true")
    assert isinstance(cli.run("policies", "edit", "community-default", "--org", "A", *WHY).exception, InvalidRequest)


def test_a_policy_observes_only_and_decides_again(cli: Cli) -> None:
    assert cli.json("policies", "observe", "community-default", "on", "--org", "A", *WHY)["observe_only"] is True
    again = cli.run("policies", "observe", "community-default", "on", "--org", "A", *WHY)
    assert isinstance(again.exception, Conflict)
    back = cli.json("policies", "observe", "community-default", "off", "--org", "A", *WHY)
    assert (back["version"], back["observe_only"]) == (3, False)
    (listed,) = cli.json("policies", "list")
    assert (listed["organisation"], listed["audited"]) == ("A", None)


@pytest.mark.parametrize("slug", ["community-default", "observe", "permissive", "rules-only", "strict"])
def test_a_body_written_as_toml_is_the_same_body(house: House, slug: str) -> None:
    _, body = rows.template(house.settings.policies_dir, slug)
    assert bodies.draft(bodies.parse(bodies.toml(body)), Body(), ANALYZERS) == body


def test_toml_that_is_none_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidRequest, match="line 1"):
        bodies.parse("observe_only = perhaps")


# --- blocklists ------------------------------------------------------------------------------------------------------


def test_terms_are_searched_for(cli: Cli, alice: Person) -> None:
    for term in ("lamppost", "Lampshade", "100%", "Фонарь"):
        cli.said("blocklist", "add", term)
    cli.said("blocklist", "add", "crane", "--category", "lamps", "--org", "A")
    found = cli.json("blocklist", "search", "LAMP")
    assert ([one["keyword"] for one in found["terms"]], found["count"]) == (["Lampshade", "lamppost"], 2)
    assert cli.json("blocklist", "search", "%")["count"] == 1
    assert cli.json("blocklist", "search", "фонарь")["count"] == 1
    assert cli.json("blocklist", "search", "lamp", "--org", "A")["count"] == 1  # by its category
    assert "1 of 2" in cli.run("blocklist", "search", "lamp", "--limit", "1").stderr
    sizes = {(one["list"], one["organisation"]): one["terms"] for one in cli.json("blocklist", "lists")}
    assert (sizes["everyone", None], sizes["own", "A"]) == (4, 1)
    assert sizes["shipped en", None] > 100


def test_an_import_is_previewed_and_may_pass_over_what_is_refused(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "terms.txt"
    file.write_text("lamppost\n# a remark\nlamppost\n#! match=regex category=lamps\nlamp(\nlamp.?post\n\\#\n")
    checked = cli.json("blocklist", "import", str(file), "--preview")
    assert (checked["new"], checked["present"]) == (3, 1)
    (refused,) = checked["refused"]
    assert (refused["line"], refused["text"]) == (5, "lamp(")
    assert "missing )" in refused["why"]
    assert cli.json("blocklist", "list") == []
    assert isinstance(cli.run("blocklist", "import", str(file)).exception, InvalidRequest)
    assert cli.json("blocklist", "list") == []
    done_ = cli.json("blocklist", "import", str(file), "--skip-refused", *WHY)
    assert done_ == {"added": 3, "present": 1, "refused": 1}
    file.write_text("#! match=anything\n")
    assert isinstance(cli.run("blocklist", "import", str(file)).exception, InvalidRequest)


def test_what_is_exported_is_imported_the_same(cli: Cli, house: House, tmp_path: Path) -> None:
    def fill(conn: Any) -> None:
        for term, match, category in (
            ("lamppost", "word", None),
            ("#lamp", "word", "lamps"),
            ("amp", "substring", "lamps"),
            ("lamp.?post", "regex", None),
        ):
            keywords.add(conn, term, org_id=None, match=match, category=category, actor="operator:test")

    house.db.write(fill)
    file = tmp_path / "out.txt"
    cli.said("blocklist", "export", str(file))
    cli.said("blocklist", "import", str(file), "--org", "A")
    told = ("keyword", "match", "category")
    here, there = cli.json("blocklist", "list"), cli.json("blocklist", "list", "--org", "A")
    assert [{name: one[name] for name in told} for one in here] == [{name: one[name] for name in told} for one in there]
    cli.said("blocklist", "disable", "lamppost")
    assert "# not looked for: lamppost" in cli.said("blocklist", "export")
    assert len(json.loads(cli.said("blocklist", "export", "--json"))) == 4


def test_every_match_of_a_sentence_is_explained(cli: Cli, house: House, alice: Person) -> None:
    cli.said("blocklist", "add", "lamppost", "--category", "lamps")
    cli.said("blocklist", "add", "shade", "--match", "substring", "--org", "A")

    def listed(conn: Any) -> None:
        caller = Caller(alice.org_id, alice.key_id, "alice", "p", frozenset())
        named_lists.put(conn, caller, "mine", None, keeps_description=True)
        named_lists.add_items(conn, caller, "mine", [Item("i1", "crane")])

    house.db.write(listed)
    text = "a L@mppost, a lampshade and a crane"
    run = cli.run("blocklist", "test", text, "--org", "A", "--explain", "--json")
    assert run.exit_code == 3
    told = json.loads(run.stdout)
    assert told["is_refused"]
    found = {one["term"]: one for one in told["found"]}
    lamp, shade, crane = found["lamppost"], found["shade"], found["crane"]
    assert (lamp["list"], lamp["category"], lamp["undone"], lamp["seen"]) == (
        "everyone", "lamps", "leetspeak", "L@mppost"
    )  # fmt: skip
    assert text[lamp["start"] : lamp["end"]] == "L@mppost"
    assert (shade["list"], shade["match"], shade["undone"], text[shade["start"] : shade["end"]]) == (
        "own", "substring", "", "shade"
    )  # fmt: skip
    assert (crane["list"], crane["why"]) == ("mine", "counts where a request names this list")
    assert "does not count" not in run.stdout
    quiet = cli.run("blocklist", "test", "a lighthouse at dawn", "--explain")
    assert (quiet.exit_code, "would let a prompt pass" in quiet.stdout) == (0, True)


def test_what_an_allowed_phrase_excuses_is_said(house: House, tmp_path: Path) -> None:
    folder = tmp_path / "lexicons"
    folder.mkdir()
    (folder / "en.toml").write_text(
        '[[lists]]\nterms = ["crane"]\ncategory = "birds"\nanalyzer = "profanity"\n[[allow]]\nterms = ["crane fly"]\n'
    )
    (folder / "de.toml").write_text(
        '[[lists]]\nterms = ["fly"]\ncategory = "flies"\nanalyzer = "profanity"\nneeds_language = true\n'
    )
    elsewhere = House(msgspec.structs.replace(house.settings, lexicons_dir=folder))
    lexicons = Lexicons(elsewhere)
    told = matches.explain(house.db.reader(), lexicons, Matcher(), None, "There is a crane fly, and there is a crane")
    elsewhere.close()
    assert not told.is_refused
    assert [(one.term, one.effect, one.start, one.counts, one.why) for one in told.found] == [
        ("crane", "block", 11, False, "stands inside a phrase that is allowed"),
        ("crane fly", "allow", 11, False, "excuses what stands inside it"),
        ("fly", "block", 17, False, "counts only in a text of de"),
        ("crane", "block", 37, True, "heard by the analyzer profanity"),
    ]
