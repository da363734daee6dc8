"""Balance and records over HTTP: shapes, pages, cursors that cannot be forged, and 402."""

import base64
from typing import Any

import pytest
from litestar.testing import TestClient

from appliance import clock
from appliance.accounts.plans import ChargeMethod
from appliance.billing import cursor, ledger
from appliance.billing.ledger import EntryType
from appliance.database import Connection
from appliance.house import House
from tests.cast import Person
from tests.test_ledger import charge, credit, finish

Client = TestClient[Any]

BALANCE = "/api/v1/billing/balance"
RECORDS = "/api/v1/billing/records"
PROMPT = "/api/v1/moderate/prompt"


def _fill(house: House, person: Person, count: int) -> None:
    """A credit, then charges, a refund after every third."""

    def change(conn: Connection) -> None:
        post(conn, EntryType.CREDIT, 1_000_000, ("manual", f"gift {person.org_id}"))
        for n in range(count):
            post(conn, EntryType.CHARGE, -800, ("job", f"{person.org_id}-{n}"))
            if n % 3 == 2:
                post(conn, EntryType.REFUND, 800, ("job_failed", f"{person.org_id}-{n}"))

    def post(conn: Connection, type: EntryType, micros: int, source: tuple[str, str]) -> None:
        ledger.post(conn, person.org_id, type, micros, source=source, description="For a test", now=clock.now_ms())

    house.db.write(change)


def _all(client: Client, person: Person, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        answer = client.get(RECORDS, headers=person.headers, params=query)
        assert answer.status_code == 200, answer.text
        found += answer.json()["records"]
        if answer.json()["next_cursor"] is None:
            return found
        query["cursor"] = answer.json()["next_cursor"]


def test_the_balance_of_an_account_that_is_not_charged(client: Client, alice: Person) -> None:
    answer = client.get(BALANCE, headers=alice.headers)
    assert answer.json() == {
        "balance_usd": 0.0,
        "charge_method": "none",
        "currency": "USD",
        "auto_topup_enabled": False,
        "updated_at": None,
    }


def test_the_balance_follows_the_ledger(client: Client, house: House, alice: Person, charlie: Person) -> None:
    charge(house, alice)
    credit(house, alice, 12_340_000)
    assert client.post(PROMPT, headers=alice.headers, data={"prompt": "a lighthouse at dawn"}).status_code == 202
    body = client.get(BALANCE, headers=alice.headers).json()
    assert (body["balance_usd"], body["charge_method"]) == (12.3392, "per_job")
    assert body["updated_at"].endswith("Z")
    assert client.get(BALANCE, headers=charlie.headers).json()["balance_usd"] == 0


def test_an_account_may_have_a_charge_method_of_its_own(client: Client, house: House, alice: Person) -> None:
    charge(house, alice)
    house.db.write(
        lambda conn: conn.execute("UPDATE organisation SET charge_method = 'none' WHERE id = ?", (alice.org_id,))
    )
    assert client.get(BALANCE, headers=alice.headers).json()["charge_method"] == "none"
    assert client.post(PROMPT, headers=alice.headers, data={"prompt": "a lighthouse"}).status_code == 202


def test_a_record_says_what_was_paid_for(client: Client, house: House, alice: Person) -> None:
    charge(house, alice)
    credit(house, alice, 12_340_000)
    job_id = client.post(PROMPT, headers=alice.headers, data={"prompt": "a lighthouse at dawn"}).json()["job_id"]
    finish(house, job_id, "PROVIDER_TIMEOUT")
    refund, charged, credited = client.get(RECORDS, headers=alice.headers).json()["records"]
    assert list(charged) == [
        "record_id", "type", "amount_usd", "balance_after_usd", "job_id", "modality", "description", "created_at",
    ]  # fmt: skip
    assert (charged["type"], charged["amount_usd"], charged["balance_after_usd"]) == ("charge", -0.0008, 12.3392)
    assert (charged["job_id"], charged["modality"]) == (job_id, "prompt")
    assert (refund["type"], refund["amount_usd"], refund["balance_after_usd"]) == ("refund", 0.0008, 12.34)
    assert refund["description"] == "Prompt moderation failed: PROVIDER_TIMEOUT"
    assert (credited["type"], credited["job_id"], credited["modality"]) == ("credit", None, None)


def test_pages_hold_every_entry_once_newest_first(client: Client, house: House, alice: Person, charlie: Person) -> None:
    _fill(house, alice, 100)
    _fill(house, charlie, 5)
    found = _all(client, alice, limit=7)
    expected = [
        row[0]
        for row in house.db.reader().execute(
            "SELECT id FROM ledger WHERE org_id = ? ORDER BY seq DESC", (alice.org_id,)
        )
    ]
    assert [one["record_id"] for one in found] == expected
    assert len(found) == 134
    assert len(client.get(RECORDS, headers=alice.headers).json()["records"]) == 50
    assert len(_all(client, charlie, limit=100)) == 7


def test_entries_that_come_meanwhile_do_not_shift_the_pages(client: Client, house: House, alice: Person) -> None:
    _fill(house, alice, 10)
    first = client.get(RECORDS, headers=alice.headers, params={"limit": 5}).json()
    credit(house, alice, 1, "meanwhile")
    rest = _all(client, alice, limit=5, cursor=first["next_cursor"])
    assert len({one["record_id"] for one in first["records"] + rest}) == len(first["records"] + rest) == 14


def test_types_are_filtered_and_the_cursor_does_not_hold_them(client: Client, house: House, alice: Person) -> None:
    _fill(house, alice, 30)
    assert {one["type"] for one in _all(client, alice, type="refund,credit", limit=4)} == {"refund", "credit"}
    assert len(_all(client, alice, type="refund,credit", limit=4)) == 11
    assert _all(client, alice, type="stripe_refund") == []
    page = client.get(RECORDS, headers=alice.headers, params={"type": "charge", "limit": 3}).json()
    onward = client.get(RECORDS, headers=alice.headers, params={"cursor": page["next_cursor"], "limit": 3}).json()
    assert {one["type"] for one in onward["records"]} == {"charge", "refund"}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"limit": "1.0"}, "limit"),
        ({"limit": ""}, "limit"),
        ({"limit": "٥"}, "limit"),
        ({"limit": "0000000501"}, "limit"),
        ({"type": "charges"}, "type"),
        ({"type": "charge,"}, "type"),
        ({"type": ""}, "type"),
        ({"type": "CHARGE"}, "type"),
        ({"cursor": ""}, "cursor"),
        ({"cursor": "null"}, "cursor"),
    ],
)
def test_an_unknown_query_value_is_400(client: Client, alice: Person, query: dict[str, str], field: str) -> None:
    answer = client.get(RECORDS, headers=alice.headers, params=query)
    assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_REQUEST")
    assert answer.json()["details"][0]["field"] == field


def test_a_forged_cursor_is_400(client: Client, house: House, alice: Person, charlie: Person) -> None:
    _fill(house, alice, 10)
    _fill(house, charlie, 10)
    mine = client.get(RECORDS, headers=alice.headers, params={"limit": 5}).json()["next_cursor"]
    raw = base64.urlsafe_b64decode(mine + "=")
    record = client.get(RECORDS, headers=alice.headers).json()["records"][0]["record_id"]

    def encoded(content: bytes) -> str:
        return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

    last_bits = mine[:-1] + chr(ord(mine[-1]) + 1)
    forged = {
        "another record, the same signature": encoded(bytes.fromhex(record.replace("-", "")) + raw[16:]),
        "one bit of the signature": encoded(raw[:-1] + bytes([raw[-1] ^ 1])),
        "truncated": mine[:-1],
        "a shorter signature": encoded(raw[:24]),
        "only the id": encoded(raw[:16]),
        "padded": mine + "=",
        "longer": mine + "AAAA",
        "bits that decode to nothing": last_bits,
        "another secret's": cursor.make(b"x" * 32, alice.org_id, record),
        "no base64": "!" * 43,
        "not ASCII": "é" * 43,
        "a surrogate": "\\ud800",
        "a plain offset": "5",
    }
    for what, value in forged.items():
        answer = client.get(RECORDS, headers=alice.headers, params={"cursor": value})
        assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_REQUEST"), what
    foreign = client.get(RECORDS, headers=charlie.headers, params={"cursor": mine})
    assert (foreign.status_code, foreign.json()["error"]) == (400, "INVALID_REQUEST")
    assert client.get(RECORDS, headers=alice.headers, params={"cursor": mine}).status_code == 200


def test_a_cursor_to_an_entry_that_is_gone_is_400(client: Client, house: House, alice: Person) -> None:
    lost = cursor.make(house.pepper, alice.org_id, clock.new_id())
    assert client.get(RECORDS, headers=alice.headers, params={"cursor": lost}).status_code == 400


def test_payment_required_402_names_the_balance_and_how_to_top_up(client: Client, house: House, alice: Person) -> None:
    charge(house, alice)
    answer = client.post(PROMPT, headers=alice.headers, data={"prompt": "a lighthouse at dawn"})
    assert (answer.status_code, answer.json()["error"]) == (402, "PAYMENT_REQUIRED")
    assert "$0.00" in answer.json()["message"]
    assert "customhouse billing credit" in answer.json()["message"]
    assert house.db.reader().execute("SELECT count(*) FROM job").fetchone()[0] == 0
    credit(house, alice, 1)
    assert client.post(PROMPT, headers=alice.headers, data={"prompt": "a lighthouse at dawn"}).status_code == 202


def test_an_invalid_submission_costs_nothing(client: Client, house: House, alice: Person) -> None:
    charge(house, alice)
    credit(house, alice, 10_000)
    assert client.post(PROMPT, headers=alice.headers, data={"prompt": " "}).status_code == 400
    assert client.get(BALANCE, headers=alice.headers).json()["balance_usd"] == 0.01


def test_metered_accounts_are_refused_at_zero_too(client: Client, house: House, alice: Person) -> None:
    charge(house, alice, ChargeMethod.GPU_TIME)
    answer = client.post(PROMPT, headers=alice.headers, data={"prompt": "a lighthouse at dawn"})
    assert answer.status_code == 402


def test_a_page_of_any_types_is_read_from_an_index(house: House, alice: Person) -> None:
    """At ten million entries a sort for one page would take seconds."""
    asked: list[str] = []
    conn = house.db.reader()
    conn.set_trace_callback(asked.append)
    ledger.page(conn, alice.org_id, limit=51)
    ledger.page(conn, alice.org_id, limit=51, types=[EntryType.CREDIT, EntryType.REFUND])
    ledger.balance(conn, alice.org_id)
    conn.set_trace_callback(None)
    for statement in asked:
        steps = [row["detail"] for row in conn.execute("EXPLAIN QUERY PLAN " + statement)]
        assert len(steps) == 1, steps
        assert steps[0].startswith("SEARCH ledger USING INDEX ledger_of_"), steps
    assert len(asked) == 4


def test_a_file_is_not_read_for_an_account_that_cannot_pay(client: Client, house: House, alice: Person) -> None:
    charge(house, alice)
    no_image = {"image_file": ("a.png", b"no picture at all")}
    assert client.post("/api/v1/moderate/image", headers=alice.headers, files=no_image).status_code == 402
    credit(house, alice, 1)
    assert client.post("/api/v1/moderate/image", headers=alice.headers, files=no_image).status_code == 415


def test_a_repetition_of_what_was_accepted_is_answered_at_any_balance(
    client: Client, house: House, alice: Person
) -> None:
    charge(house, alice)
    credit(house, alice, 1)
    headers = {**alice.headers, "Idempotency-Key": "once"}
    for path, data in (
        (PROMPT, {"prompt": "a lighthouse"}),
        ("/api/v1/moderate/image", {"image_url": "https://93.184.216.34/a.png"}),
    ):
        house.db.write(lambda conn, path=path: _gift(conn, alice, path))
        first = client.post(path, headers=headers, data=data)
        assert client.get(BALANCE, headers=alice.headers).json()["balance_usd"] < 0
        again = client.post(path, headers=headers, data=data)
        assert (first.status_code, again.status_code) == (202, 202)
        assert again.json() == first.json()
    charged = house.db.reader().execute("SELECT count(*) FROM ledger WHERE type = 'charge'").fetchone()[0]
    assert charged == 2


def _gift(conn: Connection, person: Person, name: str) -> None:
    """Just above zero again."""
    left = ledger.balance(conn, person.org_id)
    if left <= 0:
        source = ("manual", name)
        ledger.post(conn, person.org_id, EntryType.CREDIT, 1 - left, source=source, description="d", now=1)
