"""How often an organisation may ask, and what an address with wrong keys hears."""

import multiprocessing
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient

from appliance import database
from appliance import settings as settings_file
from appliance.accounts import keys, limits, organisations, plans
from appliance.accounts.limits import Limits
from appliance.accounts.organisations import Standing
from appliance.errors import Misconfigured
from appliance.house import House
from appliance.settings import Limits as Limited
from appliance.settings import Settings
from tests.cast import Person, enrol

Client = TestClient[Any]
Make = Callable[[Settings], tuple[Client, House]]

CONFIG = "/api/v1/me/moderation-config"
HEADERS = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")


@pytest.fixture
def make(settings: Settings, client_with: Make) -> Callable[..., tuple[Client, House]]:
    """An application with these limits."""

    def with_limits(**given: int) -> tuple[Client, House]:
        return client_with(msgspec.structs.replace(settings, limits=Limited(**given)))

    return with_limits


def ask(client: Client, person: Person, path: str = CONFIG) -> Any:
    return client.get(path, headers=person.headers)


def standing(answer: Any) -> tuple[int, int, int]:
    limit, remaining, reset = (int(answer.headers[name]) for name in HEADERS)
    return limit, remaining, reset


def age(house: House, ms: int) -> None:
    """As if that much time had passed."""
    conn = database.connect(house.settings.limits_file)
    conn.execute("UPDATE window SET opened = opened - :ms, second_opened = second_opened - :ms", {"ms": ms})
    conn.close()


# --- organisations ---------------------------------------------------------------------------------------------------


def test_one_more_than_the_limit_is_429_with_the_contracts_words(make: Any) -> None:
    client, house = make(requests_per_minute=3)
    alice = enrol(house, "A", "alice")
    seen = [standing(ask(client, alice)) for _ in range(3)]
    assert [(limit, remaining) for limit, remaining, _ in seen] == [(3, 2), (3, 1), (3, 0)]
    assert all(1 <= reset <= 60 for _, _, reset in seen)
    refused = ask(client, alice)
    assert refused.status_code == 429
    assert refused.json() == {
        "error": "RATE_LIMITED",
        "message": "Rate limit exceeded",
        "statusCode": 429,
        "request_id": refused.headers["x-request-id"],
    }
    assert standing(refused)[:2] == (3, 0)
    assert re.fullmatch("[1-9][0-9]?", refused.headers["retry-after"])
    assert 1 <= int(refused.headers["retry-after"]) <= 60


def test_by_default_it_is_sixty_a_minute(make: Any) -> None:
    client, house = make()
    alice = enrol(house, "A", "alice")
    statuses = [ask(client, alice).status_code for _ in range(61)]
    assert statuses == [200] * 60 + [429]


def test_all_keys_of_an_organisation_are_counted_together_and_no_others(make: Any) -> None:
    client, house = make(requests_per_minute=4)
    alice, bob, charlie = enrol(house, "A", "alice"), enrol(house, "A", "bob"), enrol(house, "C", "charlie")
    for person in (alice, bob, alice, bob):
        assert ask(client, person).status_code == 200
    assert ask(client, alice).status_code == ask(client, bob).status_code == 429
    assert standing(ask(client, charlie))[:2] == (4, 3)


def test_every_route_counts_one_whatever_it_answers(make: Any) -> None:
    client, house = make(requests_per_minute=50)
    alice = enrol(house, "A", "alice", granted=("moderate:prompt", "job:read"))
    unknown = "00000000-0000-4000-8000-000000000000"
    job_id = client.post("/api/v1/moderate/prompt", headers=alice.headers, data={"prompt": "hi"}).json()["job_id"]
    house.db.write(lambda conn: conn.execute("UPDATE job SET status = 'failed'"))
    answers = [
        client.post("/api/v1/moderate/prompt", headers=alice.headers, data={}),
        client.post("/api/v1/moderate/image", headers=alice.headers, data={}),
        ask(client, alice, f"/api/v1/job/{unknown}"),
        ask(client, alice, f"/api/v1/job/{job_id}"),
        ask(client, alice, f"/api/v1/job/{job_id}/progress"),
    ]
    assert [answer.status_code for answer in answers] == [400, 403, 404, 200, 200]
    assert [standing(answer)[1] for answer in answers] == [48, 47, 46, 45, 44]
    assert answers[-1].headers["content-type"].startswith("text/event-stream")


def test_what_needs_no_key_says_nothing_of_limits(make: Any) -> None:
    client, house = make(requests_per_minute=1)
    alice = enrol(house, "A", "alice")
    for path in ("/health/live", "/metrics", "/schema/openapi.json", "/api/v1/nothing"):
        for _ in range(2):
            answer = ask(client, alice, path)
            assert answer.status_code != 429
            assert not any(name in answer.headers for name in HEADERS)
    assert ask(client, alice).status_code == 200


def test_what_is_refused_does_not_count(make: Any) -> None:
    client, house = make(requests_per_minute=2)
    alice = enrol(house, "A", "alice")
    assert [ask(client, alice).status_code for _ in range(5)] == [200, 200, 429, 429, 429]
    age(house, 60_000)
    assert standing(ask(client, alice))[:2] == (2, 1)


def test_the_window_opens_with_the_first_request_and_lasts_a_minute(make: Any) -> None:
    client, house = make(requests_per_minute=2)
    alice = enrol(house, "A", "alice")
    ask(client, alice)
    age(house, 50_000)
    last = ask(client, alice)
    assert last.status_code == 200
    assert standing(last)[2] <= 10
    refused = ask(client, alice)
    assert refused.headers["retry-after"] == refused.headers["x-ratelimit-reset"]
    age(house, 10_000)
    assert ask(client, alice).status_code == 200


def test_an_organisations_own_limit_goes_before_its_plans_and_that_before_the_setting(make: Any) -> None:
    client, house = make(requests_per_minute=10)
    alice = enrol(house, "A", "alice")
    assert standing(ask(client, alice))[0] == 10

    def plan(per_minute: int | None) -> None:
        change = plans.Changes(requests_per_minute=per_minute)
        house.db.write(lambda conn: plans.change(conn, "standard", change, actor="operator:test", reason="why"))

    def own(per_minute: int | None) -> None:
        change = organisations.Changes(requests_per_minute=per_minute)
        house.db.write(
            lambda conn: organisations.change(conn, alice.org_id, change, actor="operator:test", reason="why")
        )

    plan(20)
    assert standing(ask(client, alice))[0] == 20
    own(30)
    assert standing(ask(client, alice))[0] == 30
    own(2)
    refused = ask(client, alice)
    assert refused.status_code == 429
    assert standing(refused)[:2] == (2, 0)
    own(None)
    assert standing(ask(client, alice))[0] == 20
    plan(None)
    assert standing(ask(client, alice))[0] == 10


def test_a_burst_is_refused_for_a_second_and_does_not_use_up_the_minute(make: Any) -> None:
    client, house = make(requests_per_minute=100, burst_per_second=2)
    alice = enrol(house, "A", "alice")
    counts = Limits(house.settings.limits_file)
    name = f"org:{alice.org_id}"
    for _ in range(2):
        counts.count(name, 100, 2)
    assert counts.count(name, 100, 2) == limits.Count(100, 98, 60, retry_after_s=1)
    counts.close()
    answer = ask(client, alice)
    assert (answer.status_code, answer.headers.get("retry-after")) in ((429, "1"), (200, None))  # a second may be over
    age(house, 1000)
    assert ask(client, alice).status_code == 200


def test_the_clock_may_be_set_back(make: Any) -> None:
    client, house = make(requests_per_minute=1)
    alice = enrol(house, "A", "alice")
    ask(client, alice)
    age(house, -3_600_000)
    assert standing(ask(client, alice))[:2] == (1, 0)


def test_who_waited_for_who_opened_the_window_is_counted_in_it(make: Any) -> None:
    """2026-11-22: of two processes, one read the clock first and came second: it opened the window anew, and one more
    was let in."""
    client, house = make(requests_per_minute=3, burst_per_second=3)
    alice = enrol(house, "A", "alice")
    ask(client, alice)
    age(house, -200)
    assert standing(ask(client, alice))[:2] == (3, 1)
    age(house, -1)
    assert standing(ask(client, alice)) == (3, 0, 60)
    assert ask(client, alice).status_code == 429


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REQUESTS_PER_MINUTE", "0"),
        ("BURST_PER_SECOND", "-1"),
        ("FAILED_AUTH_PER_MINUTE", "0"),
        ("IDEMPOTENCY_HOURS", "0"),
    ],
)
def test_a_limit_that_is_none_is_refused_at_start(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(Misconfigured, match=f"limits.{name.lower()} must be at least"):
        settings_file.load(environ={"CUSTOMHOUSE_HOME": str(tmp_path), f"CUSTOMHOUSE_LIMITS_{name}": value})


# --- wrong keys ------------------------------------------------------------------------------------------------------


def test_wrong_keys_of_one_address_are_429_after_the_cap(make: Any) -> None:
    client, _ = make(failed_auth_per_minute=3)
    wrong = [
        {},
        {"Authorization": "Basic x"},
        {"Authorization": f"Bearer stars_{'a' * 40}"},
        {"Authorization": "Bearer nonsense"},
    ]
    answers = [client.get(CONFIG, headers=headers) for headers in wrong]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 429]
    assert answers[0].headers["www-authenticate"] == "Bearer"
    assert answers[3].json()["message"] == "Rate limit exceeded"
    assert 1 <= int(answers[3].headers["retry-after"]) <= 60
    assert not any(name in answer.headers for name in HEADERS for answer in answers)


def test_by_default_thirty_wrong_keys_are_heard_a_minute(make: Any) -> None:
    client, _ = make()
    assert [client.get(CONFIG).status_code for _ in range(31)] == [401] * 30 + [429]


def test_a_right_key_is_let_in_however_many_wrong_ones_came_from_there(make: Any) -> None:
    client, house = make(failed_auth_per_minute=1)
    alice = enrol(house, "A", "alice")
    assert [client.get(CONFIG).status_code for _ in range(3)] == [401, 429, 429]
    assert ask(client, alice).status_code == 200


def test_right_keys_do_not_use_up_what_wrong_ones_have(make: Any) -> None:
    client, house = make(failed_auth_per_minute=1)
    alice = enrol(house, "A", "alice")
    for _ in range(5):
        ask(client, alice)
    house.db.write(
        lambda conn: organisations.set_status(
            conn, alice.org_id, Standing.DISABLED, actor="operator:test", reason="why"
        )
    )
    assert ask(client, alice).status_code == 403
    assert client.get(CONFIG).status_code == 401


def test_a_revoked_key_is_a_wrong_one(make: Any) -> None:
    client, house = make(failed_auth_per_minute=2)
    alice = enrol(house, "A", "alice")
    house.db.write(lambda conn: keys.revoke(conn, alice.key_id, actor="operator:test"))
    assert [ask(client, alice).status_code for _ in range(3)] == [401, 401, 429]


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:3:4:5:6", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
    ],
)
def test_addresses_are_counted_as_their_owners_have_them(
    settings: Settings, house: House, one: str, other: str, is_same: bool
) -> None:
    from appliance.api.app import create_app

    house.settings = msgspec.structs.replace(settings, limits=Limited(failed_auth_per_minute=1))
    app = create_app(house)
    with TestClient(app) as client:
        asked = app.asgi_handler

        def from_address(address: str) -> int:
            async def there(scope: Any, receive: Any, send: Any) -> None:
                scope["client"] = (address, 1)
                await asked(scope, receive, send)

            app.asgi_handler = there
            return client.get(CONFIG).status_code

        assert [from_address(one), from_address(other)] == [401, 429 if is_same else 401]


# --- the file --------------------------------------------------------------------------------------------------------


def _hammer(path: Path, name: str, per_minute: int, tries: int, let_in: Any) -> None:
    counts = Limits(path)
    mine = [counts.count(name, per_minute) for _ in range(tries)]
    assert all(one is not None for one in mine)
    let_in.put(sum(not one.is_refused for one in mine if one is not None))


def test_processes_together_let_in_exactly_the_limit(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    let_in: Any = context.Queue()
    several = [
        context.Process(target=_hammer, args=(tmp_path / "limits.db", "org:a", 1000, 400, let_in)) for _ in range(4)
    ]
    for one in several:
        one.start()
    assert sum(let_in.get(timeout=60) for _ in several) == 1000
    for one in several:
        one.join()
        assert one.exitcode == 0
    let_in.close()
    let_in.join_thread()


def test_a_count_outlives_its_process(tmp_path: Path) -> None:
    path = tmp_path / "limits.db"
    pid = os.fork()
    if pid == 0:
        counts = Limits(path)
        for _ in range(5):
            counts.count("org:a", 10)
        os._exit(9)  # nothing is closed
    os.waitpid(pid, 0)
    counts = Limits(path)
    assert counts.count("org:a", 10).remaining == 4  # pyright: ignore[reportOptionalMemberAccess]
    counts.close()


@pytest.mark.parametrize("suffixes", [("",), ("", "-wal", "-shm")])
def test_the_file_may_be_deleted_at_any_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffixes: tuple[str, ...]
) -> None:
    monkeypatch.setattr(limits, "_LOOK_S", 0)
    monkeypatch.setattr(limits, "_RESTS_S", (0,))
    path = tmp_path / "limits.db"
    one, other = Limits(path), Limits(path)
    for counts in (one, other):
        counts.count("org:a", 10)
    for suffix in suffixes:
        path.with_name(path.name + suffix).unlink()
    for _ in range(5):
        one.count("org:a", 10)
        other.count("org:a", 10)
    first, second = one.count("org:a", 1000), other.count("org:a", 1000)
    assert first is not None
    assert second is not None
    assert first.remaining - 1 == second.remaining  # they count together again
    one.close()
    other.close()


@pytest.mark.parametrize("is_open", [False, True])
def test_a_damaged_file_is_made_anew_and_nobody_is_refused_for_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, is_open: bool
) -> None:
    path = tmp_path / "limits.db"
    counts = Limits(path)
    if is_open:
        assert counts.count("org:a", 1) is not None
        counts.close()  # as after a restart: an open one has its pages in the WAL and in memory
    path.write_bytes(b"this is no database at all, whatever its name says" * 100)
    assert counts.count("org:a", 1) is None
    assert "requests not counted" in caplog.messages
    answers = [counts.count("org:a", 1) for _ in range(2)]
    assert [answer is not None and answer.is_refused for answer in answers] == [False, True]
    counts.close()


def test_what_is_not_counted_says_nothing_of_limits(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client, house = make(requests_per_minute=1)
    alice = enrol(house, "A", "alice")
    monkeypatch.setattr(client.app.state["door"].limits, "_rest_until", float("inf"))
    for _ in range(3):
        answer = ask(client, alice)
        assert answer.status_code == 200
        assert not any(name in answer.headers for name in HEADERS)


def test_while_another_holds_the_file_everybody_is_let_in(make: Any) -> None:
    client, house = make(requests_per_minute=1)
    alice = enrol(house, "A", "alice")
    ask(client, alice)
    holder = database.connect(house.settings.limits_file)
    holder.execute("BEGIN IMMEDIATE")
    assert [ask(client, alice).status_code for _ in range(3)] == [200, 200, 200]
    holder.execute("ROLLBACK")
    holder.close()
    client.app.state["door"].limits._rest_until = 0
    assert ask(client, alice).status_code == 429


def test_windows_that_are_over_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_LOOK_S", 0)
    path = tmp_path / "limits.db"
    counts = Limits(path)
    for number in range(20):
        counts.count(f"peer:{number}", 1)
    conn = database.connect(path)
    conn.execute("UPDATE window SET opened = opened - 61000")
    counts.count("org:a", 1)
    assert [row["name"] for row in conn.execute("SELECT name FROM window")] == ["org:a"]
    conn.close()
    counts.close()


def test_a_window_that_another_process_sweeps_as_it_refuses_begins_anew(tmp_path: Path) -> None:
    """It was full a moment ago, so that nothing was counted; and then it is over and gone."""
    counts = Limits(tmp_path / "limits.db")
    counts.count("org:a", 1)
    other = database.connect(tmp_path / "limits.db")

    def sweep(statement: str) -> None:
        if statement.startswith("SELECT opened"):
            other.execute("DELETE FROM window")

    assert counts._conn is not None
    counts._conn.set_trace_callback(sweep)
    count = counts.count("org:a", 1)
    assert count is not None
    assert (count.is_refused, count.remaining) == (False, 0)
    other.close()
    counts.close()


def test_threads_of_one_process_do_not_matter_to_the_count(make: Any) -> None:
    client, house = make(requests_per_minute=20)
    alice = enrol(house, "A", "alice")
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(ask(client, alice).status_code)) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses.count(200) == 20
    assert statuses.count(429) == 20
