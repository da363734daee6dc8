"""`customhouse webhooks`: what an operator types and reads, against a real state directory."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from appliance.__main__ import root
from appliance.accounts import organisations
from appliance.database import Connection
from appliance.errors import Conflict, CustomhouseError, InvalidRequest, NotFound
from appliance.house import House
from appliance.jobs.job import JobKind, Submission
from appliance.jobs.submit import submit
from appliance.settings import Settings
from appliance.webhooks import deliveries
from appliance.webhooks.deliveries import Attempt
from appliance.webhooks.schedule import Outcome, State

URL = "https://a.example/hook"
OWN = "https://own.example/hook"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(Settings(home=tmp_path))
    for name in ("alice", "charlie"):

        def make(conn: Connection, name: str = name) -> None:
            made = organisations.create(conn, name)
            conn.execute("UPDATE organisation SET checks_off = '{\"text\": false}' WHERE id = ?", (made.id,))

        house.db.write(make)
    yield house
    house.close()


Customhouse = Callable[..., Result]


@pytest.fixture
def customhouse(house: House) -> Customhouse:
    """Type a command. What it raises for main() to print is raised here."""

    def run(*words: str) -> Result:
        env = {"CUSTOMHOUSE_HOME": str(house.settings.home), "CUSTOMHOUSE_CONFIG": None}
        result = CliRunner().invoke(root, ["webhooks", *words], env=env)
        if isinstance(result.exception, CustomhouseError):
            raise result.exception
        return result

    return run


def answer(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def failed_delivery(house: House, org: str = "alice", url: str | None = OWN) -> str:
    def change(conn: Connection) -> str:
        org_id = organisations.named(conn, org).id
        job = submit(conn, house, org_id, None, Submission(JobKind.PROMPT, text="hello", webhook_url=url)).job_id
        delivery_id = f"wh_{job}"
        created = deliveries.find(conn, delivery_id).created_at
        claim = deliveries.claim(conn, delivery_id, created, 1000)
        assert claim is not None
        attempt = Attempt(created, 500, None, 3.25)
        deliveries.record(conn, claim, attempt, Outcome(State.FAILED), created + 3)
        return delivery_id

    return house.db.write(change)


def test_an_empty_box_says_so(customhouse: Customhouse) -> None:
    assert customhouse("list").stdout == "ENDPOINTS\nnone\n\nDELIVERIES\nnone\n"
    assert answer(customhouse("list", "--json")) == {"endpoints": [], "deliveries": []}


def test_register_shows_a_new_secret_once_and_unregister_removes(customhouse: Customhouse) -> None:
    made = answer(customhouse("register", "--org", "alice", URL, "--json"))
    assert made["url"] == URL
    secret = made["secret"]
    again = customhouse("register", "--org", "alice", URL)
    assert "whsec_" not in again.stdout
    assert customhouse("secret", "reveal", "--org", "alice").stdout == f"{secret}\n"
    assert answer(customhouse("unregister", "--org", "alice", "--json")) == {"organisation": "alice", "removed": True}
    assert "no endpoint was registered" in customhouse("unregister", "--org", "alice").stdout


def test_register_says_when_nothing_will_be_sent_to_the_address(customhouse: Customhouse) -> None:
    done = customhouse("register", "--org", "alice", "http://127.0.0.1:9000/")
    assert done.exit_code == 0
    assert "nothing is sent there as it is" in done.stderr
    assert "media.allowed_private_cidrs" in done.stderr


def test_rotate_prints_the_new_secret_and_until_when_the_old_one_signs(customhouse: Customhouse) -> None:
    old = answer(customhouse("secret", "reveal", "--org", "alice", "--json"))
    new = answer(customhouse("secret", "rotate", "--org", "alice", "--reason", "yearly", "--json"))
    assert new["secret"] != old["secret"]
    assert old["previous_until"] is None
    assert new["previous_until"] is not None
    rotated = customhouse("secret", "rotate", "--org", "alice")
    assert rotated.stdout.startswith("whsec_")
    assert "signs too until" in rotated.stderr


def test_list_filters_by_organisation_and_state_and_show_tells_every_attempt(
    house: House, customhouse: Customhouse
) -> None:
    customhouse("register", "--org", "charlie", URL)
    delivery_id = failed_delivery(house)
    listed = answer(customhouse("list", "--org", "alice", "--json"))
    assert listed["endpoints"] == []
    assert [(one["id"], one["status"], one["organisation"]) for one in listed["deliveries"]] == [
        (delivery_id, "failed", "alice")
    ]
    assert answer(customhouse("list", "--org", "charlie", "--json"))["deliveries"] == []
    assert answer(customhouse("list", "--status", "delivered", "--json"))["deliveries"] == []
    assert delivery_id in customhouse("list", "--status", "failed", "--limit", "1").stdout
    shown = answer(customhouse("show", delivery_id, "--json"))
    assert shown["body"]["delivery_id"] == delivery_id
    assert [(one["http_status"], one["ms"]) for one in shown["attempts_made"]] == [(500, 3.2)]
    assert shown["id"] == answer(customhouse("show", shown["job_id"], "--json"))["id"]
    assert "ATTEMPTS" in customhouse("show", delivery_id).stdout


def test_replay_makes_it_due_again(house: House, customhouse: Customhouse) -> None:
    one, two = failed_delivery(house), failed_delivery(house)
    others = failed_delivery(house, "charlie")
    assert customhouse("replay", one).stdout == f"{one}\n"
    assert answer(customhouse("replay", "--failed", "--org", "alice", "--json")) == {"replayed": [two], "left": 0}
    assert customhouse("replay", "--failed", "--org", "alice").stdout == "nothing to replay\n"
    states = {found.id: found.status for found in deliveries.every(house.db.reader())}
    assert states == {one: State.PENDING, two: State.PENDING, others: State.FAILED}
    actors = [line[0] for line in house.db.reader().execute("SELECT actor FROM audit")]
    assert len(actors) == 2
    assert all(actor.startswith("operator:") for actor in actors)


def test_what_cannot_be_replayed_is_said(house: House, customhouse: Customhouse) -> None:
    customhouse("register", "--org", "alice", URL)
    delivery_id = failed_delivery(house, url=None)
    customhouse("unregister", "--org", "alice")
    with pytest.raises(Conflict, match="register the address again first"):
        customhouse("replay", delivery_id)
    assert "1 left as they are" in customhouse("replay", "--failed", "--org", "alice").stderr
    with pytest.raises(NotFound):
        customhouse("replay", delivery_id, "--org", "charlie")


def test_wrong_usage_is_told_apart_from_failure(customhouse: Customhouse) -> None:
    for words in (("replay",), ("replay", "--failed"), ("replay", "wh_x", "--failed"), ("list", "--status", "lost")):
        assert customhouse(*words).exit_code == 2
    with pytest.raises(NotFound, match="alice, charlie"):
        customhouse("list", "--org", "bob")
    with pytest.raises(NotFound, match="webhooks list"):
        customhouse("show", "wh_unknown")
    with pytest.raises(InvalidRequest, match="absolute http or https"):
        customhouse("register", "--org", "alice", "a.example")


def test_an_endpoint_is_disabled_with_a_reason_and_enabled_again(house: House, customhouse: Customhouse) -> None:
    customhouse("register", "--org", "alice", URL)
    assert answer(customhouse("disable", "--org", "alice", "--reason", "they move", "--json"))["changed"]
    assert not answer(customhouse("disable", "--org", "alice", "--reason", "again", "--json"))["changed"]
    assert answer(customhouse("list", "--json"))["endpoints"][0]["disabled_reason"] == "they move"
    assert "endpoint enabled" in customhouse("enable", "--org", "alice", "--reason", "moved").stdout
    assert "was not disabled" in customhouse("enable", "--org", "alice").stdout
    lines = house.db.reader().execute("SELECT action, reason FROM audit ORDER BY id DESC LIMIT 2").fetchall()
    assert [tuple(line) for line in lines] == [("webhook.enabled", "moved"), ("webhook.disabled", "they move")]
    for verb in ("disable", "enable"):
        with pytest.raises(NotFound, match="No endpoint"):
            customhouse(verb, "--org", "charlie", "--reason", "there is none")


def test_only_what_failed_since_then_is_replayed(house: House, customhouse: Customhouse) -> None:
    old, new = failed_delivery(house), failed_delivery(house)
    house.db.write(lambda conn: conn.execute("UPDATE delivery SET created_at = 0 WHERE id = ?", (old,)))
    replayed = answer(customhouse("replay", "--failed", "--org", "alice", "--since", "2020-01-01", "--json"))
    assert replayed == {"replayed": [new], "left": 0}
    for wrong in (("--failed", "--org", "alice", "--since", "soon"), (old, "--since", "2020-01-01")):
        assert customhouse("replay", *wrong).exit_code == 2


def test_an_endpoint_says_how_its_deliveries_came_out(house: House, customhouse: Customhouse) -> None:
    customhouse("register", "--org", "alice", URL)
    failed_delivery(house)
    (endpoint,) = answer(customhouse("list", "--json"))["endpoints"]
    assert (endpoint["finished"], endpoint["failed"], endpoint["last_status"]) == (1, 1, 500)


def test_windows_of_deliveries_are_the_same_from_both_ends(house: House) -> None:
    made = [failed_delivery(house) for _ in range(5)]
    wanted, conn = deliveries.Wanted(status=State.FAILED), house.db.reader()
    assert deliveries.count(conn, wanted) == 5
    for first in range(6):
        found = deliveries.window(conn, wanted, first, 2, 5)
        assert [one.id for one in found] == made[::-1][first : first + 2]
    assert deliveries.count(conn, deliveries.Wanted(reference=made[0][:12])) == 1
    assert deliveries.count(conn, deliveries.Wanted(reference=made[0].removeprefix("wh_"))) == 1
    assert deliveries.count(conn, deliveries.Wanted(reference="*")) == 5
    assert deliveries.count(conn, deliveries.Wanted(org_id="nobody")) == 0


def test_a_test_that_nobody_answers_ends_with_1_and_stands_in_the_audit_log(
    house: House, customhouse: Customhouse
) -> None:
    customhouse("register", "--org", "alice", "http://127.0.0.1:9/")
    done = customhouse("test", "--org", "alice", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["answered"] is False
    assert "media.allowed_private_cidrs" in customhouse("test", "--org", "alice").stderr
    assert house.db.reader().execute("SELECT count(*) FROM audit WHERE action = 'webhook.tested'").fetchone()[0] == 2
    with pytest.raises(NotFound, match="No endpoint"):
        customhouse("test", "--org", "charlie")
