"""Endpoints, secrets and deliveries as rows, on a real file: enqueue, claim, record, due, replay; no network."""

import base64
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from appliance.accounts import organisations
from appliance.database import Connection, Database
from appliance.errors import Conflict, InvalidRequest, NotFound
from appliance.house import House
from appliance.jobs import rows, submit
from appliance.jobs.job import JobKind, Submission
from appliance.settings import Settings, Webhooks
from appliance.webhooks import deliveries, endpoints, secret
from appliance.webhooks.deliveries import ABREAST, Attempt, Claim
from appliance.webhooks.schedule import Outcome, State

NOW = 1_779_192_000_000
LEASE = 40_000
HOUR = 3_600_000
DELIVERED = Outcome(State.DELIVERED)


@pytest.fixture
def alice(house: House) -> str:
    return organisation(house, "alice")


@pytest.fixture
def charlie(house: House) -> str:
    return organisation(house, "charlie")


def organisation(house: House, name: str) -> str:
    """Its prompts are not checked, so a job of its closes as it is submitted."""

    def change(conn: Connection) -> str:
        made = organisations.create(conn, name)
        conn.execute("UPDATE organisation SET checks_off = '{\"text\": false}' WHERE id = ?", (made.id,))
        return made.id

    return house.db.write(change)


def register(house: House, org_id: str, url: str = "https://a.example/hook", now: int = NOW) -> endpoints.Registered:
    return house.db.write(lambda conn: endpoints.register(conn, org_id, url, now, actor="operator:test"))


def close_job(house: House, org_id: str, webhook_url: str | None = None) -> tuple[str, str | None]:
    """A job that has closed: its id, and its delivery's if there is one to send. Due from NOW on."""

    def change(conn: Connection) -> tuple[str, str | None]:
        follow = submit.submit(
            conn, house, org_id, None, Submission(JobKind.PROMPT, text="hello", webhook_url=webhook_url)
        )
        conn.execute("UPDATE delivery SET next_at = ?, created_at = ? WHERE job_id = ?", (NOW, NOW, follow.job_id))
        return follow.job_id, follow.delivery_id

    return house.db.write(change)


def delivery_of(house: House, org_id: str, url: str | None = None) -> str:
    _, delivery_id = close_job(house, org_id, url)
    assert delivery_id is not None
    return delivery_id


def take(house: House, delivery_id: str, now: int = NOW) -> Claim | None:
    return house.db.write(lambda conn: deliveries.claim(conn, delivery_id, now, LEASE))


def taken(house: House, delivery_id: str, now: int = NOW) -> Claim:
    claim = take(house, delivery_id, now)
    assert claim is not None
    return claim


def record(house: House, claim: Claim, outcome: Outcome, status: int | None = None, now: int = NOW) -> bool:
    attempt = Attempt(now, status, None if status else "no answer", 12.5)
    return house.db.write(lambda conn: deliveries.record(conn, claim, attempt, outcome, now))


def found(house: House, delivery_id: str) -> deliveries.Delivery:
    return deliveries.find(house.db.reader(), delivery_id)


def log(house: House, delivery_id: str) -> list[tuple[int | None, str | None]]:
    return [(one.http_status, one.error) for one in deliveries.attempts(house.db.reader(), delivery_id)]


def audited(house: House, org_id: str) -> list[tuple[str, str]]:
    lines = house.db.reader().execute("SELECT actor, action FROM audit WHERE org_id = ? ORDER BY id", (org_id,))
    return [(line["actor"], line["action"]) for line in lines]


def write(house: House, change: Callable[[Connection], Any]) -> Any:
    return house.db.write(change)


# --- endpoints and secrets


def test_the_first_registration_answers_the_secret_and_later_ones_do_not(house: House, alice: str) -> None:
    first = register(house, alice)
    assert first.secret is not None
    assert first.secret.startswith("whsec_")
    assert len(base64.b64decode(first.secret.removeprefix("whsec_"))) == 32
    second = register(house, alice, "https://b.example/hook", NOW + 1)
    assert second.secret is None
    endpoint = endpoints.get(house.db.reader(), alice)
    assert endpoint is not None
    assert (endpoint.url, endpoint.created_at, endpoint.updated_at) == ("https://b.example/hook", NOW, NOW + 1)


def test_registering_without_signing_makes_no_secret(house: House, alice: str) -> None:
    made = write(house, lambda conn: endpoints.register(conn, alice, "https://a.example/", NOW, actor="a", sign=False))
    assert made.secret is None
    assert secret.find(house.db.reader(), alice, NOW) is None


def test_registering_again_enables_a_disabled_endpoint(house: House, alice: str) -> None:
    register(house, alice)
    assert write(house, lambda conn: endpoints.disable(conn, alice, "410"))
    assert not write(house, lambda conn: endpoints.disable(conn, alice, "410 again"))
    disabled = endpoints.get(house.db.reader(), alice)
    assert disabled is not None
    assert disabled.is_disabled
    assert disabled.disabled_reason == "410"
    register(house, alice)
    enabled = endpoints.get(house.db.reader(), alice)
    assert enabled is not None
    assert not enabled.is_disabled
    assert enabled.disabled_reason is None
    assert [action for _, action in audited(house, alice)] == [
        "webhook.registered",
        "webhook.disabled",
        "webhook.registered",
    ]


def test_an_endpoint_that_moved_is_not_disabled_for_what_its_former_address_said(house: House, alice: str) -> None:
    register(house, alice, "https://new.example/")
    assert not write(house, lambda conn: endpoints.disable(conn, alice, "410", url="https://old.example/"))


def test_unregistering_removes_it_once_and_keeps_the_secret(house: House, alice: str) -> None:
    made = register(house, alice)
    assert write(house, lambda conn: endpoints.unregister(conn, alice, actor="operator:test"))
    assert not write(house, lambda conn: endpoints.unregister(conn, alice, actor="operator:test"))
    assert endpoints.get(house.db.reader(), alice) is None
    kept = secret.find(house.db.reader(), alice, NOW)
    assert kept is not None
    assert kept.secret == made.secret


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.example/hook",
        "//a.example/hook",
        "ftp://a.example/",
        "file:///etc/passwd",
        "https://",
        "https:///hook",
        "https://a.example:99999/",
        "https://a.example:0/",
        "https://user:pass@a.example/",
        "https://a.example/a b",
        "https://a.example/\r\nHost: b.example",
        "https://[::1/",
        "https://a.example/" + "x" * 2048,
    ],
)
def test_an_address_that_cannot_be_sent_to_is_refused_and_named(house: House, alice: str, url: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        register(house, alice, url)
    assert refused.value.details is not None
    assert refused.value.details[0]["field"] == "url"
    assert endpoints.get(house.db.reader(), alice) is None


@pytest.mark.parametrize(
    "url", ["http://a.example", "https://a.example:8443/x?y=1", "http://10.0.0.5/", "HTTPS://A.example/"]
)
def test_plain_http_ports_queries_and_literal_addresses_are_fine(url: str) -> None:
    assert endpoints.check_url(url) == url


def test_rotation_keeps_the_former_secret_signing_for_a_day(house: House, alice: str) -> None:
    old = register(house, alice).secret
    new = write(house, lambda conn: secret.rotate(conn, alice, NOW, actor="operator:test"))
    assert new.secret != old
    assert new.previous_until == NOW + 24 * HOUR
    assert write(house, lambda conn: secret.signing(conn, alice, NOW + 24 * HOUR - 1)) == [new.secret, old]
    assert write(house, lambda conn: secret.signing(conn, alice, NOW + 24 * HOUR)) == [new.secret]
    later = secret.find(house.db.reader(), alice, NOW + 24 * HOUR)
    assert later is not None
    assert later.previous_until is None


def test_rotating_twice_in_a_day_keeps_the_last_two(house: House, alice: str) -> None:
    register(house, alice)
    second = write(house, lambda conn: secret.rotate(conn, alice, NOW, actor="operator:test"))
    third = write(house, lambda conn: secret.rotate(conn, alice, NOW + HOUR, actor="operator:test"))
    assert write(house, lambda conn: secret.signing(conn, alice, NOW + HOUR)) == [third.secret, second.secret]


def test_showing_and_rotating_a_secret_stands_in_the_audit_log(house: House, alice: str) -> None:
    shown = write(house, lambda conn: secret.reveal(conn, alice, NOW, actor="operator:test"))
    write(house, lambda conn: secret.rotate(conn, alice, NOW, actor="operator:test", reason="it leaked"))
    assert audited(house, alice) == [
        ("operator:test", "webhook_secret.revealed"),
        ("operator:test", "webhook_secret.rotated"),
    ]
    everything = str([tuple(line) for line in house.db.reader().execute("SELECT * FROM audit")])
    assert "whsec_" not in everything
    assert shown.secret not in repr(shown)


# --- enqueue


def test_a_job_without_an_address_has_no_delivery(house: House, alice: str) -> None:
    assert close_job(house, alice)[1] is None
    assert deliveries.every(house.db.reader()) == []


def test_a_closed_job_has_one_delivery_to_the_endpoint(house: House, alice: str) -> None:
    register(house, alice)
    job_id, delivery_id = close_job(house, alice)
    assert delivery_id is not None
    assert delivery_id == f"wh_{job_id}"
    row = found(house, delivery_id)
    assert (row.org_id, row.job_id, row.url, row.is_global) == (alice, job_id, "https://a.example/hook", True)
    assert (row.status, row.attempts) == (State.PENDING, 0)
    assert f'"delivery_id":"{delivery_id}"' in deliveries.body(house.db.reader(), delivery_id)


def test_the_address_of_a_request_goes_before_the_endpoint(house: House, alice: str) -> None:
    register(house, alice)
    row = found(house, delivery_of(house, alice, "https://own.example/x"))
    assert (row.url, row.is_global) == ("https://own.example/x", False)


def test_enqueueing_twice_makes_one_delivery(house: House, alice: str) -> None:
    register(house, alice)
    job_id, delivery_id = close_job(house, alice)
    job = rows.job(house.db.reader(), job_id)
    assert job is not None
    assert write(house, lambda conn: deliveries.enqueue(conn, house.settings, job, NOW + 1)) == delivery_id
    assert len(deliveries.every(house.db.reader())) == 1


@pytest.mark.parametrize("send_failed", [False, True])
def test_a_failed_job_is_told_only_when_the_setting_says_so(house: House, alice: str, send_failed: bool) -> None:
    register(house, alice)
    job_id, _ = close_job(house, alice)
    job = rows.job(house.db.reader(), job_id)
    assert job is not None
    failed = msgspec.structs.replace(job, status="failed", is_prohibited=None, error_code="MEDIA_UNREACHABLE")
    settings = Settings(webhooks=Webhooks(send_failed=send_failed))

    def change(conn: Connection) -> str | None:
        conn.execute("DELETE FROM delivery")
        return deliveries.enqueue(conn, settings, failed, NOW)

    assert write(house, change) == (f"wh_{job_id}" if send_failed else None)
    bodies = [deliveries.body(house.db.reader(), one.id) for one in deliveries.every(house.db.reader())]
    assert [msgspec.json.decode(one)["is_prohibited"] for one in bodies] == ([None] if send_failed else [])


def test_a_delivery_to_a_disabled_endpoint_is_kept_as_failed_and_can_be_replayed(house: House, alice: str) -> None:
    register(house, alice)
    write(house, lambda conn: endpoints.disable(conn, alice, "the receiver answered 410 Gone"))
    job_id, delivery_id = close_job(house, alice)
    assert delivery_id is None  # nothing to send
    kept = found(house, job_id)
    assert (kept.status, kept.attempts) == (State.FAILED, 0)
    assert log(house, kept.id) == [(None, "not sent: the endpoint is disabled (the receiver answered 410 Gone)")]
    with pytest.raises(Conflict, match="register the address again"):
        write(house, lambda conn: deliveries.replay(conn, kept.id, NOW, actor="operator:test"))
    register(house, alice, "https://b.example/")
    write(house, lambda conn: deliveries.replay(conn, kept.id, NOW, actor="operator:test"))
    assert taken(house, kept.id).url == "https://b.example/"


# --- claim and record


def test_a_claim_is_taken_once_until_its_lease_ends(house: House, alice: str) -> None:
    delivery_id = delivery_of(house, alice, "https://own.example/")
    first = taken(house, delivery_id)
    assert (first.attempts, first.lease_until) == (0, NOW + LEASE)
    assert take(house, delivery_id, NOW + LEASE - 1) is None
    again = taken(house, delivery_id, NOW + LEASE)
    assert (again.id, again.body, again.attempts) == (first.id, first.body, 1)
    assert log(house, delivery_id) == [(None, "outcome unknown: its worker fell silent")]


def test_threads_that_claim_together_on_one_file_take_it_once(house: House, alice: str) -> None:
    delivery_id = delivery_of(house, alice, "https://own.example/")
    others = [house.db, *(Database(house.settings.database) for _ in range(3))]  # as four processes would
    together = threading.Barrier(16)
    claims: list[Claim | None] = []

    def run(db: Database) -> None:
        together.wait()
        claims.append(db.write(lambda conn: deliveries.claim(conn, delivery_id, NOW, LEASE)))

    threads = [threading.Thread(target=run, args=(others[n % 4],)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in others[1:]:
        other.close()
    assert len([claim for claim in claims if claim is not None]) == 1
    assert len(claims) == 16


def test_a_delivery_waiting_for_its_next_attempt_is_not_claimed_early(house: House, alice: str) -> None:
    delivery_id = delivery_of(house, alice, "https://own.example/")
    assert record(house, taken(house, delivery_id), Outcome(State.PENDING, next_at=NOW + 5000), 500)
    assert take(house, delivery_id, NOW + 4999) is None
    assert taken(house, delivery_id, NOW + 5000).attempts == 1


def test_a_delivered_one_is_done(house: House, alice: str) -> None:
    delivery_id = delivery_of(house, alice, "https://own.example/")
    assert record(house, taken(house, delivery_id), DELIVERED, 204, NOW + 20)
    row = found(house, delivery_id)
    assert (row.status, row.attempts, row.finished_at) == (State.DELIVERED, 1, NOW + 20)
    assert log(house, delivery_id) == [(204, None)]
    assert take(house, delivery_id, NOW + 10 * HOUR) is None


def test_who_lost_the_lease_cannot_move_it_but_an_arrival_counts(house: House, alice: str) -> None:
    delivery_id = delivery_of(house, alice, "https://own.example/")
    late = taken(house, delivery_id)
    holder = taken(house, delivery_id, NOW + LEASE)
    assert not record(house, late, Outcome(State.FAILED), 500)
    assert found(house, delivery_id).status is State.SENDING
    assert not record(house, late, DELIVERED, 200)
    assert found(house, delivery_id).status is State.DELIVERED
    assert not record(house, holder, Outcome(State.PENDING, next_at=NOW), 500)
    assert found(house, delivery_id).status is State.DELIVERED  # never sent a third time
    assert [status for status, _ in log(house, delivery_id)] == [None, 500, 200, 500]


def test_410_of_the_endpoint_disables_it_and_fails_what_waits_for_it(house: House, alice: str) -> None:
    register(house, alice)
    gone, waiting = delivery_of(house, alice), delivery_of(house, alice)
    record(house, taken(house, gone), Outcome(State.FAILED, is_gone=True), 410)
    endpoint = endpoints.get(house.db.reader(), alice)
    assert endpoint is not None
    assert endpoint.disabled_reason == "the receiver answered 410 Gone"
    assert ("system:webhooks", "webhook.disabled") in audited(house, alice)
    assert take(house, waiting) is None
    assert found(house, waiting).status is State.FAILED
    assert log(house, waiting)[0][1] == "not sent: the endpoint is disabled (the receiver answered 410 Gone)"


def test_410_of_a_requests_own_address_leaves_the_endpoint(house: House, alice: str) -> None:
    register(house, alice)
    delivery_id = delivery_of(house, alice, "https://own.example/")
    record(house, taken(house, delivery_id), Outcome(State.FAILED, is_gone=True), 410)
    endpoint = endpoints.get(house.db.reader(), alice)
    assert endpoint is not None
    assert not endpoint.is_disabled


def test_what_waits_follows_the_endpoint_to_its_new_address(house: House, alice: str) -> None:
    register(house, alice)
    delivery_id = delivery_of(house, alice)
    register(house, alice, "https://b.example/")
    assert taken(house, delivery_id).url == "https://b.example/"
    assert found(house, delivery_id).url == "https://b.example/"


def test_what_waits_for_an_endpoint_that_was_removed_is_not_sent(house: House, alice: str) -> None:
    register(house, alice)
    delivery_id = delivery_of(house, alice)
    write(house, lambda conn: endpoints.unregister(conn, alice, actor="operator:test"))
    assert take(house, delivery_id) is None
    assert found(house, delivery_id).status is State.FAILED


def test_secrets_and_bodies_stay_out_of_the_claims_printed_form(house: House, alice: str) -> None:
    claim = taken(house, delivery_of(house, alice, "https://own.example/"))
    assert len(claim.secrets) == 1
    assert "whsec_" not in f"{claim!r} {claim}"
    assert "is_prohibited" not in repr(claim)


# --- due, and fairness among tenants


def test_due_finds_the_new_the_retried_and_the_lost(house: House, alice: str) -> None:
    new, retried, lost, done = (delivery_of(house, alice, "https://own.example/") for _ in range(4))
    record(house, taken(house, retried), Outcome(State.PENDING, next_at=NOW + 10), 500)
    taken(house, lost)
    record(house, taken(house, done), DELIVERED, 200)

    def due(now: int) -> set[str]:
        return set(deliveries.due(house.db.reader(), now, 100))

    assert due(NOW - 1) == set()
    assert due(NOW) == {new}
    assert due(NOW + 10) == {new, retried}
    assert due(NOW + LEASE) == {new, retried, lost}
    assert len(deliveries.due(house.db.reader(), NOW + LEASE, 2)) == 2


def test_a_tenant_with_a_hung_receiver_leaves_room_for_the_others(house: House, alice: str, charlie: str) -> None:
    hung = [delivery_of(house, alice, "https://hung.example/") for _ in range(ABREAST + 3)]
    assert len(set(deliveries.due(house.db.reader(), NOW, 100)) & set(hung)) == ABREAST
    for delivery_id in hung[:ABREAST]:
        taken(house, delivery_id)
    assert take(house, hung[ABREAST]) is None
    quick = delivery_of(house, charlie, "https://quick.example/")
    assert found(house, hung[ABREAST]).status is State.PENDING  # it stays due
    taken(house, quick)
    assert taken(house, hung[ABREAST], NOW + LEASE)  # the four were lost: their leases hold no place


@pytest.mark.parametrize(("tenants", "each"), [(1, 4), (2, 3), (3, 2), (4, 1), (6, 1), (12, 1)])
def test_tenants_that_hang_together_hold_their_shares_and_leave_threads_free(
    house: House, tenants: int, each: int
) -> None:
    waiting = {
        name: [delivery_of(house, organisation(house, name), "https://hung.example/")]
        for name in (f"hung-{number}" for number in range(tenants))
    }
    for name, ids in waiting.items():
        org_id = organisations.named(house.db.reader(), name).id
        ids += [delivery_of(house, org_id, "https://hung.example/") for _ in range(ABREAST)]
    held = {name: sum(take(house, one) is not None for one in ids) for name, ids in waiting.items()}
    assert held == dict.fromkeys(waiting, each)
    if tenants <= 6:
        assert sum(held.values()) <= deliveries.THREADS - 2


def test_a_tenant_that_held_more_gives_its_place_back_when_another_has_something_due(
    house: House, alice: str, charlie: str
) -> None:
    ids = [delivery_of(house, alice, "https://hung.example/") for _ in range(ABREAST + 4)]
    claims = [taken(house, one) for one in ids[:ABREAST]]
    delivery_of(house, charlie, "https://hung.example/")
    record(house, claims[0], DELIVERED, 200)
    assert take(house, ids[ABREAST]) is None  # three are under way, and three is its share now
    record(house, claims[1], DELIVERED, 200)
    assert taken(house, ids[ABREAST])


def test_what_is_not_due_yet_takes_no_share(house: House, alice: str, charlie: str) -> None:
    ids = [delivery_of(house, alice, "https://hung.example/") for _ in range(ABREAST)]
    later = delivery_of(house, charlie, "https://hung.example/")
    house.db.write(lambda conn: conn.execute("UPDATE delivery SET next_at = ? WHERE id = ?", (NOW + HOUR, later)))
    assert all(taken(house, one) for one in ids)


def test_who_has_sent_one_goes_on_with_the_same_tenants_next(house: House, alice: str, charlie: str) -> None:
    mine = [delivery_of(house, alice, "https://own.example/") for _ in range(3)]
    delivery_of(house, charlie, "https://own.example/")
    sent: list[str] = []
    while claim := write(house, lambda conn: deliveries.claim_next(conn, alice, NOW, LEASE)):
        sent.append(claim.id)
        record(house, claim, DELIVERED, 200)
    assert sorted(sent) == sorted(mine)


# --- replay, and who may see what


def test_a_replay_is_a_new_round_of_the_same_delivery(house: House, alice: str) -> None:
    delivery_id = delivery_of(house, alice, "https://own.example/")
    before = taken(house, delivery_id)
    with pytest.raises(Conflict, match="being sent"):
        write(house, lambda conn: deliveries.replay(conn, delivery_id, NOW, actor="operator:test"))
    record(house, before, DELIVERED, 200)
    again = write(house, lambda conn: deliveries.replay(conn, delivery_id, NOW + HOUR, actor="operator:test"))
    assert (again.status, again.attempts, again.next_at, again.finished_at) == (State.PENDING, 0, NOW + HOUR, None)
    claim = taken(house, delivery_id, NOW + HOUR)
    assert (claim.id, claim.body) == (before.id, before.body)
    assert len(log(house, delivery_id)) == 1  # the former round stays in the log
    assert ("operator:test", "delivery.replayed") in audited(house, alice)


def test_replaying_all_that_failed_leaves_what_cannot_be_sent(house: House, alice: str, charlie: str) -> None:
    register(house, alice)
    own, to_endpoint, fine = (delivery_of(house, alice, url) for url in ("https://own.example/", None, None))
    others = delivery_of(house, charlie, "https://own.example/")
    for delivery_id in (own, to_endpoint, others):
        record(house, taken(house, delivery_id), Outcome(State.FAILED), 500)
    record(house, taken(house, fine), DELIVERED, 200)
    write(house, lambda conn: endpoints.disable(conn, alice, "410"))
    replayed = write(house, lambda conn: deliveries.replay_failed(conn, alice, NOW, actor="operator:test"))
    assert replayed == ([own], 1)
    register(house, alice)
    replayed = write(house, lambda conn: deliveries.replay_failed(conn, alice, NOW, actor="operator:test"))
    assert replayed == ([to_endpoint], 0)
    assert found(house, others).status is State.FAILED
    assert found(house, fine).status is State.DELIVERED


def test_a_tenant_sees_and_replays_only_its_own(house: House, alice: str, charlie: str) -> None:
    register(house, alice)
    register(house, charlie, "https://c.example/")
    job_id, delivery_id = close_job(house, alice)
    assert delivery_id is not None
    assert found(house, job_id) == found(house, delivery_id)
    assert [one.id for one in deliveries.every(house.db.reader(), org_id=alice)] == [delivery_id]
    assert deliveries.every(house.db.reader(), org_id=charlie) == []
    with pytest.raises(NotFound):
        deliveries.find(house.db.reader(), delivery_id, org_id=charlie)
    with pytest.raises(NotFound):
        write(house, lambda conn: deliveries.replay(conn, delivery_id, NOW, actor="key:c", org_id=charlie))
    secrets = {tuple(write(house, lambda conn, org=org: secret.signing(conn, org, NOW))) for org in (alice, charlie)}
    assert len(secrets) == 2
    assert taken(house, delivery_id).secrets == write(house, lambda conn: secret.signing(conn, alice, NOW))


def test_lists_are_newest_first_and_filtered_by_state(house: House, alice: str) -> None:
    ids = [delivery_of(house, alice, "https://own.example/") for _ in range(3)]
    record(house, taken(house, ids[0]), DELIVERED, 200)
    listed = [one.id for one in deliveries.every(house.db.reader())]
    assert listed == ids[::-1]
    assert [one.id for one in deliveries.every(house.db.reader(), status=State.DELIVERED)] == ids[:1]
    assert len(deliveries.every(house.db.reader(), limit=2)) == 2


def test_a_worker_that_starts_sends_at_once_what_a_dead_one_held(house: House, alice: str) -> None:
    delivery_id = delivery_of(house, alice, "https://a.example/hook")
    taken(house, delivery_id)
    assert take(house, delivery_id, NOW + 1) is None
    house.db.write(lambda conn: deliveries.release(conn, NOW + 1))
    assert taken(house, delivery_id, NOW + 1).attempts == 1  # counted, because it may well have arrived
