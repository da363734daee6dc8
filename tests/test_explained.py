"""`customhouse moderate --explain`: both ways of a text, a picture and a video, in this process; and no trace of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from appliance.__main__ import root
from appliance.accounts import organisations
from appliance.demo import MEDIA
from appliance.errors import CustomhouseError, NotFound, PolicyNotFound
from appliance.house import House
from appliance.policies import rows as policies
from appliance.text import keywords

Moderate = Callable[..., Result]


@pytest.fixture
def moderate(house: House) -> Moderate:
    house.db.write(lambda conn: keywords.add(conn, "zeppelin", org_id=None, actor="operator:test"))

    def run(*words: str) -> Result:
        env = {"CUSTOMHOUSE_HOME": str(house.settings.home), "CUSTOMHOUSE_CONFIG": None}
        done = CliRunner().invoke(root, ["moderate", *words, "--explain"], env=env)
        if isinstance(done.exception, CustomhouseError):
            raise done.exception
        return done

    return run


def answer(done: Result) -> Any:
    return json.loads(done.stdout)


def test_a_blocked_text_is_explained_both_ways(moderate: Moderate) -> None:
    done = moderate("text", "The Z3ppel1n is here")
    assert done.exit_code == 3
    assert "as a prompt: prohibited" in done.stdout
    assert "blocklist term 'zeppelin'" in done.stdout
    assert "as /v1/moderations under community-default version 0: block" in done.stdout
    assert "found 'zeppelin' (blocklist, high) at 4-12, by undoing leetspeak" in done.stdout
    assert "normalised: the z3ppel1n is here" in done.stdout


def test_with_the_models_down_a_text_is_undecided_and_the_rules_are_told(moderate: Moderate) -> None:
    done = moderate("text", "a lighthouse", "--json")
    assert done.exit_code == 1
    found = answer(done)
    assert found["pipeline"]["outcome"] == "undecided"
    assert "does not answer" in found["pipeline"]["problem"]
    assert found["decided"]["decision"] == "allow"
    assert found["decided"]["provider_status"] == "degraded"


@pytest.mark.parametrize("kind", ["image", "video"])
def test_pictures_without_models_are_decoded_and_undecided(moderate: Moderate, kind: str) -> None:
    path = MEDIA / ("rocket.jpg" if kind == "image" else "scenes.webm")
    done = moderate(kind, str(path), "--json")
    assert done.exit_code == 1
    found = answer(done)
    assert (found["kind"], found["outcome"]) == (kind, "undecided")
    assert found["pictures"] == (1 if kind == "image" else 5)
    assert "not answered" in moderate(kind, str(path)).stdout


def test_nothing_is_kept_of_it(moderate: Moderate, house: House) -> None:
    moderate("text", "The Z3ppel1n is here")
    moderate("image", str(MEDIA / "rocket.jpg"))
    conn = house.db.reader()
    for table in ("job", "moderation_event", "ledger", "organisation", "policy"):
        assert conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == 0, table
    assert list(house.settings.media_dir.iterdir()) == []


def test_a_policy_of_an_organisation_decides(moderate: Moderate, house: House) -> None:
    org = house.db.write(lambda conn: organisations.create(conn, "acme")).id
    house.db.write(lambda conn: policies.begin(conn, org, house.settings.policies_dir))
    found = answer(moderate("text", "hello", "--org", "acme", "--policy", policies.DEFAULT, "--json"))
    assert (found["decided"]["policy"], found["decided"]["version"]) == (policies.DEFAULT, 1)
    with pytest.raises(PolicyNotFound):
        moderate("text", "hello", "--org", "acme", "--policy", "unheard-of")
    with pytest.raises(NotFound, match="no organisation 'nobody'"):
        moderate("text", "hello", "--org", "nobody")


def test_a_file_that_is_not_there_is_said(moderate: Moderate, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no such file"):
        moderate("image", str(tmp_path / "none.jpg"))


def test_a_policy_goes_with_explaining_a_text(moderate: Moderate, house: House) -> None:
    assert moderate("image", "x.jpg", "--policy", "any").exit_code == 2
    env = {"CUSTOMHOUSE_HOME": str(house.settings.home)}
    assert CliRunner().invoke(root, ["moderate", "text", "x", "--policy", "any"], env=env).exit_code == 2
