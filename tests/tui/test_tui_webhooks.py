"""The webhooks' screen: what it shows, that each deed asks, is done and audited, and that nobody's words are shown."""

import json

import pytest
from msgspec import structs
from textual.pilot import Pilot
from textual.widgets import Button, Input, Select, Static

from appliance import audit
from appliance.access import Access
from appliance.errors import InvalidRequest
from appliance.house import House
from appliance.settings import Media, Settings
from appliance.webhooks import deliveries, endpoints, secret
from appliance.webhooks.schedule import State
from tests import tenanted
from tests.test_webhooks_deliver import Receiver
from tests.tui.conftest import NOON, SMALL, WIDE, Shoot, drive, settle
from tui.backend import webhooks
from tui.backend.desk import Desk
from tui.widgets.rows import Rows


@pytest.fixture
def tenants(house: House) -> None:
    tenanted.settle(house)
    tenanted.send(house)


def lines(desk: Desk, action: str) -> list[audit.Line]:
    return desk.read(lambda conn: audit.page(conn, audit.Filter(action=action, actor=desk.actor)))


def state(desk: Desk, number: int) -> State:
    return desk.read(lambda conn: deliveries.find(conn, tenanted.delivery(number))).status


def cells(pilot: Pilot[None], column: int, table: str = "webhooks") -> list[str]:
    rows = pilot.app.screen.query_one(f"#{table}", Rows)
    return [str(line.cells[column]) for line in rows.window(0, rows.row_count)]


async def write(pilot: Pilot[None], field: str, text: str) -> None:
    pilot.app.screen.query_one(f"#{field}", Input).value = text
    await settle(pilot)


async def press(pilot: Pilot[None], *names: str) -> None:
    for name in names:
        await pilot.press(name)
        await settle(pilot)


async def at_endpoint(pilot: Pilot[None], number: int) -> None:
    rows = pilot.app.screen.query_one("#endpoints", Rows)
    rows.focus()
    rows.move_to(number)
    await settle(pilot)


async def yes(pilot: Pilot[None]) -> None:
    pilot.app.screen.query_one("#yes", Button).press()
    await settle(pilot)


def cancel_is_focused(pilot: Pilot[None]) -> bool:
    return pilot.app.focused is pilot.app.screen.query_one("#cancel")


LOOKS = [
    ("full-small-dark", SMALL, "textual-dark"),
    ("full-wide-dark", WIDE, "textual-dark"),
    ("full-small-light", SMALL, "textual-light"),
    ("full-wide-light", WIDE, "textual-light"),
]


@pytest.mark.parametrize(("name", "size", "theme"), LOOKS)
@pytest.mark.usefixtures("tenants")
def test_webhooks_look_as_held(desk: Desk, shoot: Shoot, name: str, size: tuple[int, int], theme: str) -> None:
    shoot(desk, "webhooks", f"webhooks-{name}", size=size, theme=theme)


def test_no_webhooks_look_as_held(desk: Desk, shoot: Shoot) -> None:
    shoot(desk, "webhooks", "webhooks-empty")


@pytest.mark.usefixtures("tenants")
def test_webhooks_that_cannot_be_read_are_said(desk: Desk, shoot: Shoot) -> None:
    desk.house.db.write(lambda conn: conn.execute("ALTER TABLE delivery RENAME COLUMN status TO gone"))
    shoot(desk, "webhooks", "webhooks-failing")


@pytest.mark.usefixtures("tenants")
def test_dialogs_and_details_of_webhooks_look_as_held(desk: Desk, shoot: Shoot) -> None:
    shoot(desk, "webhooks", "webhooks-detail-small", press=["slash", *"failed", "enter", "enter"])
    shoot(desk, "webhooks", "webhooks-detail-wide", press=["down", "down", "enter"], size=WIDE)
    shoot(desk, "webhooks", "webhooks-replay", press=["r"])
    shoot(desk, "webhooks", "webhooks-replay-failed", press=["f", "down", "enter"])
    shoot(desk, "webhooks", "webhooks-new", press=["n"])

    async def disable(pilot: Pilot[None]) -> None:
        await at_endpoint(pilot, 0)
        await press(pilot, "d")

    shoot(desk, "webhooks", "webhooks-disable", doing=disable)

    async def reveal(pilot: Pilot[None]) -> None:
        await at_endpoint(pilot, 0)
        await press(pilot, "v")

    shoot(desk, "webhooks", "webhooks-reveal", doing=reveal)


@pytest.mark.usefixtures("tenants")
def test_nobodys_words_are_shown_of_a_delivery(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        rows = pilot.app.screen.query_one("#webhooks", Rows)
        for number in range(rows.row_count):
            rows.move_to(number)
            await press(pilot, "enter")
            assert "lighthouse" not in pilot.app.export_screenshot()
            await press(pilot, "escape")

    drive(desk, "webhooks", doing)
    told = webhooks.detail(desk, tenanted.delivery(0)).told
    assert told.is_prohibited
    assert told.true == ("nsfw", "dogs")


@pytest.mark.usefixtures("tenants")
def test_a_delivery_is_sent_again_with_a_reason(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await write(pilot, "filter", tenanted.delivery(1))
        assert cells(pilot, 0) == ["failed"]
        await press(pilot, "r")
        await yes(pilot)
        assert "needed" in str(pilot.app.screen.query_one("#wrong", Static).render())
        await write(pilot, "ask-reason", "repaired")
        await yes(pilot)
        assert cells(pilot, 0) == ["pending"]
        await write(pilot, "filter", tenanted.delivery(11))
        await press(pilot, "r")
        await write(pilot, "ask-reason", "again")
        await yes(pilot)
        assert "being sent" in str(pilot.app.screen.query_one("#wrong", Static).render())

    drive(desk, "webhooks", doing)
    assert state(desk, 1) is State.PENDING
    (line,) = lines(desk, "delivery.replayed")
    assert (line.subject, line.reason) == (tenanted.delivery(1), "repaired")


@pytest.mark.usefixtures("tenants")
def test_all_failed_since_a_day_go_out_again(desk: Desk) -> None:
    old = tenanted.delivery(1)
    desk.house.db.write(lambda conn: conn.execute("UPDATE delivery SET created_at = 0 WHERE id = ?", (old,)))

    async def doing(pilot: Pilot[None]) -> None:
        await at_endpoint(pilot, 0)
        assert cells(pilot, 0, "endpoints") == ["Harbour Gallery", "Lighthouse Press", "Meadow Forum"]
        await press(pilot, "f")
        await write(pilot, "ask-day", "yesterday")
        await write(pilot, "ask-reason", "repaired")
        await yes(pilot)
        assert "2026-05-01" in str(pilot.app.screen.query_one("#wrong", Static).render())
        await write(pilot, "ask-day", "2026-05-01")
        await yes(pilot)

    drive(desk, "webhooks", doing)
    assert [state(desk, number) for number in (1, 3, 5, 7, 9)] == [State.FAILED, *[State.PENDING] * 4]
    (line,) = lines(desk, "delivery.replayed")
    assert (line.org_id, line.detail, line.reason) == (tenanted.GALLERY, {"count": 4}, "repaired")


@pytest.mark.usefixtures("tenants")
def test_an_endpoint_is_disabled_and_enabled_with_reasons(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await at_endpoint(pilot, 1)
        await press(pilot, "d")
        assert cancel_is_focused(pilot)
        await write(pilot, "ask-reason", "they move")
        await yes(pilot)
        assert cells(pilot, 1, "endpoints") == ["enabled", "disabled", "disabled"]
        await press(pilot, "d")
        await write(pilot, "ask-reason", "moved")
        await yes(pilot)
        assert cells(pilot, 1, "endpoints") == ["enabled", "enabled", "disabled"]

    drive(desk, "webhooks", doing)
    assert [one.reason for one in lines(desk, "webhook.disabled")] == ["they move"]
    assert [one.reason for one in lines(desk, "webhook.enabled")] == ["moved"]


@pytest.mark.usefixtures("tenants")
def test_a_secret_is_rotated_and_both_sign(desk: Desk) -> None:
    seen: list[str] = []

    async def doing(pilot: Pilot[None]) -> None:
        await at_endpoint(pilot, 1)
        await press(pilot, "o")
        await write(pilot, "ask-reason", "yearly")
        await yes(pilot)
        seen.append(str(pilot.app.screen.query_one("#secret", Static).render()))
        await press(pilot, "escape")
        assert seen[0] not in pilot.app.export_screenshot()

    before = desk.read(lambda conn: secret.find(conn, tenanted.PRESS, NOON))
    drive(desk, "webhooks", doing)
    after = desk.read(lambda conn: secret.find(conn, tenanted.PRESS, NOON))
    assert before is not None
    assert after is not None
    assert (after.secret, after.previous) == (seen[0], before.secret)
    assert [one.reason for one in lines(desk, "webhook_secret.rotated")] == ["yearly"]


@pytest.mark.usefixtures("tenants")
def test_a_secret_is_shown_after_a_question_and_the_audit_log_says_so(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await at_endpoint(pilot, 1)
        await press(pilot, "v")
        assert cancel_is_focused(pilot)
        await press(pilot, "enter")
        assert lines(desk, "webhook_secret.revealed") == []
        await press(pilot, "v")
        await yes(pilot)
        assert str(pilot.app.screen.query_one("#secret", Static).render()).startswith("whsec_")

    drive(desk, "webhooks", doing)
    assert len(lines(desk, "webhook_secret.revealed")) == 1


@pytest.mark.usefixtures("tenants")
def test_an_endpoint_is_sent_a_test_that_is_answered_refused_or_lost(settings: Settings) -> None:
    receiver = Receiver((200, {}), (500, {}))
    settings = structs.replace(settings, media=Media(allowed_private_cidrs=["127.0.0.0/8"]))
    desk = Desk(settings, now=lambda: NOON)
    desk.change(lambda conn: endpoints.register(conn, tenanted.GALLERY, receiver.url, NOON, actor="operator:ada"))
    said: list[str] = []

    async def doing(pilot: Pilot[None]) -> None:
        await at_endpoint(pilot, 0)
        for _ in range(3):
            await press(pilot, "t")
            await yes(pilot)
            said.append([one.message for one in pilot.app._notifications][-1])
            if len(receiver.got) == 2:
                receiver.close()

    drive(desk, "webhooks", doing)
    assert [one.split(" in ")[0] for one in said] == ["200", "500", "No answer"]
    assert "no success" in said[1]
    body = json.loads(receiver.got[0].body)
    assert body["type"] == "test"
    assert receiver.got[0].headers["webhook-id"] == body["delivery_id"]
    assert [one.detail["http_status"] for one in lines(desk, "webhook.tested")] == [None, 500, 200]
    assert desk.read(lambda conn: deliveries.count(conn, deliveries.Wanted())) == 12
    desk.close()


@pytest.mark.usefixtures("tenants")
def test_an_endpoint_is_registered_and_unregistered(desk: Desk) -> None:
    name = "Anchor & Sons, a house of rather a long name"

    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "n")
        pilot.app.screen.query_one("#ask-org", Select).value = name
        await write(pilot, "ask-url", "ftp://nowhere.example/")
        await yes(pilot)
        assert "http" in str(pilot.app.screen.query_one("#wrong", Static).render())
        await write(pilot, "ask-url", "http://127.0.0.1:9/in")
        await yes(pilot)
        assert any("Nothing is sent there as it is" in one.message for one in pilot.app._notifications)
        assert str(pilot.app.screen.query_one("#secret", Static).render()).startswith("whsec_")
        await press(pilot, "escape")
        assert len(cells(pilot, 0, "endpoints")) == 4
        await at_endpoint(pilot, 0)
        await press(pilot, "D")
        assert cancel_is_focused(pilot)
        await yes(pilot)
        assert len(cells(pilot, 0, "endpoints")) == 3

    drive(desk, "webhooks", doing)
    assert desk.read(lambda conn: endpoints.get(conn, tenanted.ANCHOR)) is None
    assert [len(lines(desk, f"webhook.{one}")) for one in ("registered", "unregistered")] == [1, 1]


@pytest.mark.usefixtures("tenants")
def test_states_are_gone_through_and_an_endpoint_narrows(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        seen: list[set[str]] = []
        for _ in range(5):
            await press(pilot, "s")
            seen.append(set(cells(pilot, 0)))
        assert seen == [
            {"pending"},
            {"sending"},
            {"delivered"},
            {"failed"},
            {"pending", "sending", "delivered", "failed"},
        ]
        await at_endpoint(pilot, 0)
        await press(pilot, "enter")
        assert set(cells(pilot, 2)) == {"Harbour Gallery"}

    drive(desk, "webhooks", doing)


def test_what_the_filter_means() -> None:
    orgs = {"1": "Acme", "2": "Acme Two"}
    assert webhooks.parse("failed acme two", orgs) == webhooks.Wanted(org_id="2", status=State.FAILED)
    assert webhooks.parse("acme", orgs).org_id == "1"
    assert webhooks.parse("deliv wh_0f8f", orgs) == webhooks.Wanted(status=State.DELIVERED, reference="wh_0f8f")
    assert webhooks.parse("0f8fad5b-d9cb", orgs).reference == "0f8fad5b-d9cb"
    with pytest.raises(InvalidRequest):
        webhooks.parse("nobody", orgs)


@pytest.mark.usefixtures("tenants")
def test_who_may_only_look_sends_nothing_and_sees_no_secret(settings: Settings) -> None:
    desk = Desk(settings, Access("operator:eve", False, "You may look, not change"), now=lambda: NOON)

    async def doing(pilot: Pilot[None]) -> None:
        here = pilot.app.screen
        await at_endpoint(pilot, 0)
        for key in ("r", "f", "d", "o", "t", "v", "n", "D"):
            await press(pilot, key)
            assert pilot.app.screen is here
        assert {one.message for one in pilot.app._notifications} == {"You may look, not change"}

    drive(desk, "webhooks", doing)
    desk.close()
