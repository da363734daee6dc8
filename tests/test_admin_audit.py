"""The audit log: only ever added to, filtered and paged over HTTP, listed and exported by the command line."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from appliance import audit, database
from appliance.__main__ import root
from appliance.database import Connection
from appliance.errors import InvalidRequest
from appliance.house import House
from appliance.settings import Settings
from tests.desk import ClientWith, Desk


@pytest.fixture
def desk(client_with: ClientWith, settings: Settings, _migrated: Path) -> Desk:
    return Desk(client_with, settings, _migrated)


def tell(house: House, count: int, action: str = "told", org_id: str | None = None) -> None:
    def change(conn: Connection) -> None:
        for number in range(count):
            audit.record(conn, "operator:zoe", action, str(number), reason="because", org_id=org_id)

    house.db.write(change)


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit"])
def test_no_line_is_changed_or_removed(house: House, statement: str) -> None:
    tell(house, 1)
    with pytest.raises(database.IntegrityError, match="only ever added to"):
        house.db.write(lambda conn: conn.execute(statement))
    assert [line.actor for line in audit.page(house.db.reader(), audit.Filter())] == ["operator:zoe"]


@pytest.mark.parametrize("statement", ["UPDATE prompt_version SET content = 'x'", "DELETE FROM prompt_version"])
def test_nor_is_a_version_of_a_prompt(house: House, statement: str) -> None:
    from appliance import prompts

    house.db.write(lambda conn: prompts.put(conn, "vlm-nsfw", "Is it?", actor="x"))
    with pytest.raises(database.IntegrityError, match="only ever added to"):
        house.db.write(lambda conn: conn.execute(statement))
    assert [one.content for one in prompts.every(house.db.reader(), "vlm-nsfw")] == ["Is it?"]


def test_a_line_lives_and_dies_with_its_change(house: House) -> None:
    def change(conn: Connection) -> None:
        audit.record(conn, "x", "told", "y")
        raise InvalidRequest("no")

    with pytest.raises(InvalidRequest):
        house.db.write(change)
    assert audit.page(house.db.reader(), audit.Filter()) == []


def test_a_line_has_all_that_was_said(desk: Desk) -> None:
    made = desk.done("post", "/keywords", {"keyword": "teapot", "reason": "seen"}, status=201)
    (line,) = desk.done("get", "/audit")["lines"]
    assert {name: line[name] for name in ("actor", "action", "subject", "client_id", "reason", "detail")} == {
        "actor": desk.actor,
        "action": "blocklist.add",
        "subject": made["id"],
        "client_id": None,
        "reason": "seen",
        "detail": {"keyword": "teapot", "match": "word"},
    }
    assert line["at"].endswith("Z")


def test_pages_follow_each_other_without_gap_or_repetition(desk: Desk) -> None:
    tell(desk.house, 25)
    seen: list[str] = []
    cursor = ""
    while True:
        page = desk.done("get", f"/audit?limit=10{cursor}")
        seen += [line["subject"] for line in page["lines"]]
        tell(desk.house, 1, action="meanwhile")
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == [str(number) for number in reversed(range(25))]


def test_the_last_page_that_is_full_has_no_next(desk: Desk) -> None:
    tell(desk.house, 10)
    assert desk.done("get", "/audit?limit=10")["next_cursor"] is None


def test_filters_say_which_lines(desk: Desk) -> None:
    tell(desk.house, 3)
    tell(desk.house, 2, action="other", org_id=desk.alice.org_id)
    for query, count in (
        ("actor=operator:zoe", 5),
        ("actor=nobody", 0),
        ("action=other", 2),
        ("subject=1", 2),
        ("subject=2&action=told", 1),
        (f"client_id={desk.alice.org_id}", 2),
        ("from=2020-01-01", 5),
        ("from=2020-01-01T00:00:00%2B02:00&to=2020-01-02", 0),
        ("to=2199-01-01T00:00:00Z", 5),
    ):
        assert len(desk.done("get", f"/audit?{query}")["lines"]) == count, query


def test_from_is_inclusive_and_to_is_not(desk: Desk) -> None:
    tell(desk.house, 1)
    at = desk.done("get", "/audit")["lines"][0]["at"]
    assert len(desk.done("get", f"/audit?from={at}")["lines"]) == 1
    assert desk.done("get", f"/audit?to={at}")["lines"] == []


@pytest.mark.parametrize("query", ["cursor=x", "cursor=-1", "cursor=0", "limit=501", "from=yesterday", "to=2026-13-01"])
def test_a_query_that_makes_no_sense_is_refused(desk: Desk, query: str) -> None:
    assert query.partition("=")[0] in desk.refused("get", f"/audit?{query}", status=400)


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def run(house: House, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.setenv("CUSTOMHOUSE_HOME", str(house.settings.home))

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(root, list(arguments))
        assert done.exit_code == 0, done.output
        return done.stdout

    return run


def test_the_command_lists_what_the_route_does(house: House, run: Callable[..., str]) -> None:
    tell(house, 3)
    assert [line["subject"] for line in json.loads(run("audit", "list", "--limit", "2", "--json"))] == ["2", "1"]
    assert "operator:zoe" in run("audit", "list", "--actor", "operator:zoe")
    assert json.loads(run("audit", "list", "--to", "2020-01-01", "--json")) == []


def test_everything_is_exported_and_no_cell_runs_in_a_spreadsheet(house: House, run: Callable[..., str]) -> None:
    tell(house, 2345)
    house.db.write(lambda conn: audit.record(conn, "operator:zoe", "told", "=1+1", reason="@x"))
    rows = list(csv.DictReader(io.StringIO(run("audit", "export"))))
    assert len(rows) == 2346
    assert (rows[0]["subject"], rows[0]["reason"], rows[-1]["subject"]) == ("'=1+1", "'@x", "0")
    lines = run("audit", "export", "--json", "--subject", "7").splitlines()
    assert [json.loads(line)["subject"] for line in lines] == ["7"]
