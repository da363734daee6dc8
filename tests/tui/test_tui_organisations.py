"""The organisations' screen: what it shows, and that each deed asks, is done, and stands in the audit log."""

import pytest
from textual.pilot import Pilot
from textual.widgets import Button, Input, Select, Static

from appliance import audit
from appliance.access import Access
from appliance.accounts import organisations
from appliance.accounts.organisations import Standing
from appliance.errors import NotFound
from appliance.house import House
from appliance.settings import Settings
from tests import tenanted
from tests.tui.conftest import NOON, SMALL, WIDE, Shoot, drive, settle
from tui.backend.desk import Desk
from tui.widgets.rows import Rows


@pytest.fixture
def tenants(house: House) -> None:
    tenanted.settle(house)


def lines(desk: Desk, action: str) -> list[audit.Line]:
    return desk.read(lambda conn: audit.page(conn, audit.Filter(action=action, actor=desk.actor)))


def standing(desk: Desk, org_id: str) -> Standing:
    return desk.read(lambda conn: organisations.get(conn, org_id)).status


def cells(pilot: Pilot[None], column: int) -> list[str]:
    rows = pilot.app.screen.query_one(Rows)
    return [str(line.cells[column]) for line in rows.window(0, rows.row_count)]


async def write(pilot: Pilot[None], field: str, text: str) -> None:
    pilot.app.screen.query_one(f"#{field}", Input).value = text
    await pilot.pause()


async def press(pilot: Pilot[None], *names: str) -> None:
    for name in names:
        await pilot.press(name)
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
def test_organisations_look_as_held(desk: Desk, shoot: Shoot, name: str, size: tuple[int, int], theme: str) -> None:
    shoot(desk, "organisations", f"organisations-{name}", size=size, theme=theme)


def test_no_organisations_look_as_held(desk: Desk, shoot: Shoot) -> None:
    shoot(desk, "organisations", "organisations-empty")


@pytest.mark.usefixtures("tenants")
def test_organisations_that_cannot_be_read_are_said(desk: Desk, shoot: Shoot) -> None:
    desk.house.db.write(lambda conn: conn.execute("ALTER TABLE moderation_use RENAME COLUMN day TO gone"))
    shoot(desk, "organisations", "organisations-failing")


@pytest.mark.usefixtures("tenants")
def test_dialogs_and_details_of_organisations_look_as_held(desk: Desk, shoot: Shoot) -> None:
    shoot(desk, "organisations", "organisations-detail-small", press=["end", "enter"])
    shoot(desk, "organisations", "organisations-detail-wide", press=["down", "enter"], size=WIDE)
    shoot(desk, "organisations", "organisations-new", press=["n"])
    shoot(desk, "organisations", "organisations-change-wide", press=["down", "c"], size=WIDE)
    shoot(desk, "organisations", "organisations-disable", press=["down", "d"])
    shoot(desk, "organisations", "organisations-ban", press=["down", "B"])
    shoot(desk, "organisations", "organisations-unban", press=["B"])
    shoot(desk, "organisations", "organisations-erase", press=["end", "up", "E"])


def test_an_organisation_is_made_with_what_is_its_own(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "n")
        await write(pilot, "ask-name", "Acme")
        await write(pilot, "ask-per_minute", "many")
        await yes(pilot)
        assert "a whole number" in str(pilot.app.screen.query_one("#wrong", Static).render())
        await write(pilot, "ask-per_minute", "120")
        await write(pilot, "ask-retain_days", "7")
        await yes(pilot)
        assert cells(pilot, 0) == ["Acme"]

    drive(desk, "organisations", doing)
    (made,) = desk.read(organisations.every)
    assert (made.requests_per_minute, made.burst_per_second, made.retain_prompts_days) == (120, None, 7)
    assert len(lines(desk, "organisation.created")) == 1


@pytest.mark.usefixtures("tenants")
def test_what_holds_is_changed_with_a_reason_and_what_is_emptied_is_the_plans_again(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "slash", *"gallery", "enter", "c")
        assert pilot.app.screen.query_one("#ask-per_minute", Input).value == "600"
        await write(pilot, "ask-name", "Meadow Forum")
        await write(pilot, "ask-reason", "they asked")
        await yes(pilot)
        assert "already" in str(pilot.app.screen.query_one("#wrong", Static).render())
        await write(pilot, "ask-name", "Harbour Museum")
        await write(pilot, "ask-per_minute", "")
        charge = pilot.app.screen.query_one("#ask-charge", Select)
        charge.value = "gpu_time"
        await yes(pilot)

    drive(desk, "organisations", doing)
    found = desk.read(lambda conn: organisations.get(conn, tenanted.GALLERY))
    assert (found.name, found.requests_per_minute, found.charge_method) == ("Harbour Museum", None, "gpu_time")
    (line,) = lines(desk, "organisation.changed")
    assert line.reason == "they asked"
    assert line.detail["requests_per_minute"] == [600, None]


@pytest.mark.usefixtures("tenants")
def test_a_pause_asks_with_cancel_focused_and_is_taken_back_by_u(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "u", "slash", *"press", "enter", "d")
        assert cancel_is_focused(pilot)
        await press(pilot, "enter")
        assert cells(pilot, 1) == ["active"]
        await press(pilot, "d")
        await write(pilot, "ask-reason", "unpaid")
        await yes(pilot)
        assert cells(pilot, 1) == ["disabled"]
        await press(pilot, "u")
        assert cells(pilot, 1) == ["active"]
        await press(pilot, "u")

    drive(desk, "organisations", doing)
    assert standing(desk, tenanted.PRESS) is Standing.ACTIVE
    assert [one.reason for one in lines(desk, "organisation.disabled")] == ["unpaid"]
    assert [one.reason for one in lines(desk, "organisation.active")] == ["undone"]


@pytest.mark.usefixtures("tenants")
def test_a_pause_is_ended_and_that_too_is_taken_back_with_its_reason(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "slash", *"forum", "enter", "d")
        await write(pilot, "ask-reason", "paid")
        await yes(pilot)
        assert cells(pilot, 1) == ["active"]
        await press(pilot, "u")

    drive(desk, "organisations", doing)
    found = desk.read(lambda conn: organisations.get(conn, tenanted.FORUM))
    assert (found.status, found.status_reason) == (Standing.DISABLED, "the invoice is open")


@pytest.mark.usefixtures("tenants")
def test_a_ban_asks_why_and_is_ended_with_a_reason_too(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "slash", *"press", "enter", "B")
        assert cancel_is_focused(pilot)
        await yes(pilot)
        assert "needed" in str(pilot.app.screen.query_one("#wrong", Static).render())
        await write(pilot, "ask-reason", "abuse")
        await yes(pilot)
        assert cells(pilot, 1) == ["banned"]
        await press(pilot, "d")  # says that B ends it
        assert cells(pilot, 1) == ["banned"]
        await press(pilot, "B")
        await write(pilot, "ask-reason", "a mistake")
        await yes(pilot)
        assert cells(pilot, 1) == ["active"]

    drive(desk, "organisations", doing)
    assert [one.reason for one in lines(desk, "organisation.terminated")] == ["abuse"]
    assert [one.reason for one in lines(desk, "organisation.active")] == ["a mistake"]


@pytest.mark.usefixtures("tenants")
def test_erasing_needs_the_name_typed_and_a_reason(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "slash", *"forum", "enter", "E")
        assert cancel_is_focused(pilot)
        assert pilot.app.screen.query_one("#yes", Button).disabled
        await write(pilot, "word", "Meadow")
        assert pilot.app.screen.query_one("#yes", Button).disabled
        await write(pilot, "word", "Meadow Forum")
        await yes(pilot)
        assert cancel_is_focused(pilot)
        await write(pilot, "ask-reason", "they left")
        await yes(pilot)
        assert cells(pilot, 0) == []

    drive(desk, "organisations", doing)
    with pytest.raises(NotFound):
        desk.read(lambda conn: organisations.named(conn, "Meadow Forum"))
    assert [(one.reason, one.org_id) for one in lines(desk, "jobs.erased")] == [("they left", tenanted.FORUM)]


@pytest.mark.usefixtures("tenants")
def test_its_keys_are_a_letter_away(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "slash", *"gallery", "enter", "a")
        assert cells(pilot, 2) == ["Harbour Gallery"] * 3

    drive(desk, "organisations", doing)


@pytest.mark.usefixtures("tenants")
def test_its_jobs_and_webhooks_are_a_letter_away(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "slash", *"press", "enter", "v")
        await settle(pilot)
        assert set(cells(pilot, 3)) == {"Lighthouse Press"}
        assert len(cells(pilot, 3)) == 4
        await press(pilot, "g", "r", "slash", *"gallery", "enter", "w")
        assert pilot.app.screen.query_one("#filter", Input).value == "Harbour Gallery"

    drive(desk, "organisations", doing)


@pytest.mark.usefixtures("tenants")
def test_who_may_only_look_changes_no_organisation(settings: Settings) -> None:
    desk = Desk(settings, Access("operator:eve", False, "You may look, not change"), now=lambda: NOON)

    async def doing(pilot: Pilot[None]) -> None:
        here = pilot.app.screen
        for key in ("n", "c", "d", "B", "E"):
            await press(pilot, key)
            assert pilot.app.screen is here
        assert {one.message for one in pilot.app._notifications} == {"You may look, not change"}

    before = desk.read(organisations.every)
    drive(desk, "organisations", doing)
    assert desk.read(organisations.every) == before
    desk.close()
