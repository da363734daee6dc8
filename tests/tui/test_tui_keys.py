"""The keys' screen: what it shows, and that each deed asks, is done, and stands in the audit log."""

import pytest
from textual.pilot import Pilot
from textual.widgets import Button, Input, Select, SelectionList, Static

from appliance import audit
from appliance.access import Access
from appliance.accounts import keys
from appliance.errors import Unauthorized
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
    return desk.read(lambda conn: audit.page(conn, audit.Filter(action=action)))


def cells(pilot: Pilot[None], column: int) -> list[str]:
    rows = pilot.app.screen.query_one(Rows)
    return [str(line.cells[column]) for line in rows.window(0, rows.row_count)]


async def write(pilot: Pilot[None], field: str, text: str) -> None:
    pilot.app.screen.query_one(f"#ask-{field}", Input).value = text
    await pilot.pause()


async def press(pilot: Pilot[None], *names: str) -> None:
    for name in names:
        await pilot.press(name)
        await settle(pilot)


async def yes(pilot: Pilot[None]) -> None:
    pilot.app.screen.query_one("#yes", Button).press()
    await settle(pilot)


LOOKS = [
    ("full-small-dark", SMALL, "textual-dark"),
    ("full-wide-dark", WIDE, "textual-dark"),
    ("full-small-light", SMALL, "textual-light"),
    ("full-wide-light", WIDE, "textual-light"),
]


@pytest.mark.parametrize(("name", "size", "theme"), LOOKS)
@pytest.mark.usefixtures("tenants")
def test_keys_look_as_held(desk: Desk, shoot: Shoot, name: str, size: tuple[int, int], theme: str) -> None:
    shoot(desk, "keys", f"keys-{name}", size=size, theme=theme)


def test_no_keys_look_as_held(desk: Desk, shoot: Shoot) -> None:
    shoot(desk, "keys", "keys-empty")


@pytest.mark.usefixtures("tenants")
def test_keys_that_cannot_be_read_are_said(desk: Desk, shoot: Shoot) -> None:
    desk.house.db.write(lambda conn: conn.execute("ALTER TABLE api_key RENAME COLUMN prefix TO gone"))
    shoot(desk, "keys", "keys-failing")


@pytest.mark.usefixtures("tenants")
def test_dialogs_and_details_of_keys_look_as_held(desk: Desk, shoot: Shoot) -> None:
    shoot(desk, "keys", "keys-detail-small", press=["down", "down", "down", "enter"])
    shoot(desk, "keys", "keys-detail-wide", press=["end", "enter"], size=WIDE)
    shoot(desk, "keys", "keys-filter", press=["slash", *"harbour", "enter"])
    shoot(desk, "keys", "keys-whose", press=["n"])
    shoot(desk, "keys", "keys-new", press=["n", "enter"])
    shoot(desk, "keys", "keys-new-organisation-wide", press=["n", *"new org", "enter"], size=WIDE)
    shoot(desk, "keys", "keys-new-ticked", press=["n", "enter", *["tab"] * 5, "space"])
    shoot(desk, "keys", "keys-rotate", press=["r"])
    shoot(desk, "keys", "keys-revoke", press=["X"])


def test_a_new_key_looks_as_held_when_it_is_shown(desk: Desk, shoot: Shoot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys.secrets, "choice", lambda letters: letters[7])

    async def make(pilot: Pilot[None]) -> None:
        await press(pilot, "n")
        await write(pilot, "org", "Acme")
        await write(pilot, "name", "production")
        await yes(pilot)

    async def still(pilot: Pilot[None]) -> None:
        await make(pilot)
        pilot.app.clear_notifications()

    shoot(desk, "keys", "keys-shown", doing=still)


def test_a_key_is_made_with_what_was_ticked_and_shown_once(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "n")
        await write(pilot, "org", "Acme")
        await write(pilot, "name", "site")
        await write(pilot, "days", "soon")
        await yes(pilot)
        assert "whole number" in str(pilot.app.screen.query_one("#wrong", Static).render())
        await write(pilot, "days", "30")
        await write(pilot, "reason", "for the site")
        pilot.app.screen.query_one("#ask-surface", Select).value = "omnimod"
        pilot.app.screen.query_one("#ask-environment", Select).value = "test"
        ticks = pilot.app.screen.query_one("#ask-scopes", SelectionList)
        ticks.select("job:read").select("moderations:create")
        await yes(pilot)
        raw = str(pilot.app.screen.query_one("#secret", Static).render())
        seen.append(raw)
        await press(pilot, "c")
        assert pilot.app.clipboard == raw
        assert not any(raw in one.message for one in pilot.app._notifications)
        await press(pilot, "escape")
        assert cells(pilot, 2) == ["Acme"]
        assert raw not in " ".join(cells(pilot, 0))
        assert raw not in pilot.app.export_screenshot()

    drive(desk, "keys", doing)
    (raw,) = seen
    (key,) = desk.read(keys.every)
    assert (key.environment, key.expires_at) == ("test", NOON + 30 * tenanted.DAY)
    desk.house.db.write(lambda conn: conn.execute("UPDATE api_key SET expires_at = NULL"))  # noon is long past
    caller = desk.read(lambda conn: keys.recognise(conn, desk.house.pepper, raw))
    assert caller.scopes == {"job:read", "moderations:create"}
    (line,) = lines(desk, "key.created")
    assert (line.actor, line.reason, line.subject) == (desk.actor, "for the site", key.prefix)
    assert [one.actor for one in lines(desk, "organisation.created")] == [desk.actor]
    assert raw not in caplog.text
    everything = desk.read(lambda conn: [tuple(row) for row in conn.execute("SELECT * FROM audit")])
    assert raw not in str(everything)


@pytest.mark.usefixtures("tenants")
def test_what_the_house_refuses_is_said_in_the_form_and_nothing_typed_is_lost(desk: Desk) -> None:
    before = len(desk.read(keys.every))

    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "n", "enter")
        await write(pilot, "name", "n" * 201)
        await yes(pilot)
        assert "200 characters" in str(pilot.app.screen.query_one("#wrong", Static).render())
        assert pilot.app.screen.query_one("#ask-name", Input).value == "n" * 201
        await press(pilot, "escape")

    drive(desk, "keys", doing)
    assert len(desk.read(keys.every)) == before


@pytest.mark.usefixtures("tenants")
def test_a_rotated_key_works_for_its_grace(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "slash", *"ab3def", "enter", "r")
        await yes(pilot)
        assert "needed" in str(pilot.app.screen.query_one("#wrong", Static).render())
        await write(pilot, "reason", "yearly")
        await yes(pilot)
        assert str(pilot.app.screen.query_one("#secret", Static).render()).startswith("stars_")
        await press(pilot, "escape", "escape")
        assert cells(pilot, 0).count("stars_Ab3dEf…") == 1

    drive(desk, "keys", doing)
    line = lines(desk, "key.rotated")[0]
    assert (line.actor, line.reason, line.detail["grace_s"]) == (desk.actor, "yearly", 86_400)


@pytest.mark.usefixtures("tenants")
def test_a_key_is_revoked_with_a_reason_once_cancel_was_not_taken(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "slash", *"ab3def", "enter", "X")
        assert pilot.app.focused is pilot.app.screen.query_one("#cancel")
        await press(pilot, "enter")
        assert cells(pilot, 1) == ["active"]
        await press(pilot, "X")
        await yes(pilot)
        assert "needed" in str(pilot.app.screen.query_one("#wrong", Static).render())
        await write(pilot, "reason", "it leaked")
        await yes(pilot)
        assert cells(pilot, 1) == ["revoked"]
        await press(pilot, "X")
        assert cells(pilot, 1) == ["revoked"]

    drive(desk, "keys", doing)
    (line,) = lines(desk, "key.revoked")
    assert (line.actor, line.reason, line.subject) == (desk.actor, "it leaked", "stars_Ab3dEf")


def test_a_revoked_key_is_refused(desk: Desk) -> None:
    from tui.backend import keys as backend

    issued = backend.create(desk, backend.New("Acme", "k", "stars", "live", (), None, "why"))
    backend.revoke(desk, issued.key.id, "lost")
    with pytest.raises(Unauthorized):
        desk.read(lambda conn: keys.recognise(conn, desk.house.pepper, issued.raw))


@pytest.mark.usefixtures("tenants")
def test_states_are_gone_through_and_words_narrow(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        seen: list[set[str]] = []
        for _ in range(6):
            await press(pilot, "s")
            seen.append(set(cells(pilot, 1)))
        assert seen[:5] == [{one} for one in ("active", "expiring", "in grace", "expired", "revoked")]
        assert len(seen[5]) == 5
        await press(pilot, "slash", *"gallery omad_test", "enter")
        assert cells(pilot, 3) == ["trial"]
        await press(pilot, "y")
        assert pilot.app.clipboard == "00000000-0000-4000-8000-000000000003"
        await press(pilot, "slash", "escape")
        assert len(cells(pilot, 0)) == 7

    drive(desk, "keys", doing)


@pytest.mark.usefixtures("tenants")
def test_who_may_only_look_is_told_so_before_anything_is_asked(settings: Settings) -> None:
    desk = Desk(settings, Access("operator:eve", False, "You may look, not change"), now=lambda: NOON)

    async def doing(pilot: Pilot[None]) -> None:
        here = pilot.app.screen
        for key in ("n", "r", "X"):
            await press(pilot, key)
            assert pilot.app.screen is here
        assert {one.message for one in pilot.app._notifications} == {"You may look, not change"}

    before = desk.read(keys.every)
    drive(desk, "keys", doing)
    assert desk.read(keys.every) == before
    desk.close()
