"""The audit log's screen: a long list, live, narrowed down; one line with all that was said."""

import json
from typing import Any

import pytest
from click.testing import CliRunner
from textual.pilot import Pilot
from textual.widgets import Button, Input, Static

from appliance import audit as log
from appliance.__main__ import root
from appliance.accounts import organisations
from appliance.database import Connection
from appliance.house import House
from tests.tui.conftest import NOON, SMALL, WIDE, Shoot, drive, picture, settle
from tui.backend import audit
from tui.backend.desk import Desk
from tui.widgets.rows import Rows

ACTIONS = ("key.created", "key.revoked", "organisation.changed", "threshold.changed", "job.retried")
WHO = ("operator:kim", "operator:root (sudo: zoe)", "key:ck_live_abc")
LINES = 900  # more than the first look takes


@pytest.fixture
def told(house: House) -> str:
    """So many lines, a minute apart, the last at noon; every tenth concerns Acme, whose id is the answer."""

    def tell(conn: Connection) -> str:
        org_id = organisations.get_or_create(conn, "Acme & Sons").id
        for n in range(LINES):
            conn.execute(
                "INSERT INTO audit (at, actor, org_id, action, subject, reason, detail) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    NOON - (LINES - 1 - n) * 60_000,
                    WHO[n % 3],
                    org_id if n % 10 == 0 else None,
                    ACTIONS[n % 5],
                    f"thing-{n % 50:02d}",
                    "asked by the \x1b[31mcustomer[/]" if n % 2 else None,
                    json.dumps({"from": n, "to": {"nsfw": n / 1000}}) if n % 4 else "{}",
                ),
            )
        return org_id

    return house.db.write(tell)


def table(pilot: Pilot[None]) -> Rows:
    return pilot.app.screen.query_one("#audit", Rows)


def count(pilot: Pilot[None]) -> str:
    return str(pilot.app.screen.query_one("#count", Static).render())


async def press(pilot: Pilot[None], *names: str) -> None:
    for name in names:
        await pilot.press(name)
        await settle(pilot)


async def narrow(pilot: Pilot[None], text: str) -> None:
    pilot.app.screen.query_one("#filter", Input).value = text
    await settle(pilot)


LOOKS = [
    ("full-small-dark", SMALL, "textual-dark"),
    ("full-wide-dark", WIDE, "textual-dark"),
    ("full-small-light", SMALL, "textual-light"),
    ("full-wide-light", WIDE, "textual-light"),
]


@pytest.mark.parametrize(("name", "size", "theme"), LOOKS)
@pytest.mark.usefixtures("told")
def test_the_log_looks_as_held(desk: Desk, shoot: Shoot, name: str, size: tuple[int, int], theme: str) -> None:
    shoot(desk, "audit", f"audit-{name}", size=size, theme=theme)


def test_an_empty_log_looks_as_held(desk: Desk, shoot: Shoot) -> None:
    shoot(desk, "audit", "audit-empty")


@pytest.mark.usefixtures("told")
def test_a_log_that_cannot_be_read_is_said(desk: Desk, shoot: Shoot) -> None:
    desk.house.db.write(lambda conn: conn.execute("ALTER TABLE audit RENAME COLUMN reason TO gone"))
    shoot(desk, "audit", "audit-failing")


@pytest.mark.usefixtures("told")
def test_details_and_dialogs_of_the_log_look_as_held(desk: Desk, shoot: Shoot) -> None:
    shoot(desk, "audit", "audit-detail-small", press=["enter"])
    shoot(desk, "audit", "audit-detail-wide", press=["down", "enter"], size=WIDE)
    shoot(desk, "audit", "audit-filtered", press=["slash", *"action:key.revoked", "enter"])
    shoot(desk, "audit", "audit-narrow", press=["f"])


def test_the_filter_finds_what_the_command_finds(desk: Desk, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUSTOMHOUSE_HOME", str(desk.home))

    def commanded(*words: str) -> list[str]:
        done = CliRunner().invoke(root, ["audit", "list", "--limit", "10000", "--json", *words])
        return [str(line["id"]) for line in json.loads(done.stdout)]

    async def doing(pilot: Pilot[None]) -> None:
        assert count(pilot) == f"{LINES}"
        for typed, words in [
            ("", []),
            ("actor:operator:kim", ["--actor", "operator:kim"]),
            ("action:key.revoked subject:thing-01", ["--action", "key.revoked", "--subject", "thing-01"]),
            ("org:'Acme & Sons'", ["--org", "Acme & Sons"]),
            ("from:2026-05-19T11:00 to:2026-05-19T11:30", ["--from", "2026-05-19T11:00", "--to", "2026-05-19T11:30"]),
            ("ASKED by thing", ["--search", "asked by thing"]),
            ("0.123", ["--search", "0.123"]),
        ]:
            await narrow(pilot, typed)
            assert [line.key for line in table(pilot).window(0, 2000)] == commanded(*words), typed
        await narrow(pilot, "from:soon")
        assert "is no moment" in count(pilot)

    drive(desk, "audit", doing)


@pytest.mark.usefixtures("told")
def test_a_line_is_shown_whole_and_cannot_steer_the_terminal(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "enter")
        seen = picture(pilot, SMALL)
        assert '"nsfw": 0.899' in seen
        assert "asked by the \ufffd[31mcustomer[/]" in seen

    drive(desk, "audit", doing)


@pytest.mark.usefixtures("told")
def test_the_same_person_and_the_same_thing_are_a_key_away(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "down", "a")
        assert pilot.app.screen.query_one("#filter", Input).value == "actor:'operator:root (sudo: zoe)'"
        assert count(pilot) == "300"
        await press(pilot, "s")
        assert count(pilot) == "18"
        await press(pilot, "escape", "f")
        pilot.app.screen.query_one("#ask-action", Input).value = "key.created"
        pilot.app.screen.query_one("#yes", Button).press()
        await settle(pilot)
        assert count(pilot) == "180"

    drive(desk, "audit", doing)


@pytest.mark.usefixtures("told")
def test_what_is_added_is_followed_at_the_top_and_counted_below_it(desk: Desk) -> None:
    def add() -> None:
        desk.house.db.write(lambda conn: log.record(conn, "operator:kim", "key.created", "fresh"))

    async def doing(pilot: Pilot[None]) -> None:
        screen: Any = pilot.app.screen
        add()
        screen._load_if_seen()
        await settle(pilot)
        line = table(pilot).current
        assert line is not None
        assert line.cells[3] == "fresh"
        await press(pilot, "down")
        add()
        screen._load_if_seen()
        await settle(pilot)
        assert table(pilot).cursor == 2
        assert count(pilot) == "▲ 1 new: home   902"
        await press(pilot, "home", "greater_than_sign")
        assert table(pilot).window(0, 1)[0].cells[3] == "thing-00"

    drive(desk, "audit", doing)


def test_the_first_line_of_all_is_taken_in(desk: Desk) -> None:
    found = audit.Log(desk, audit.Filter())
    assert (len(found), found.is_whole, found.renew()) == (0, True, False)
    desk.house.db.write(lambda conn: log.record(conn, "operator:kim", "key.created", "fresh"))
    assert found.renew()
    assert [line.subject for line in found.read(0, 5)] == ["fresh"]
    assert found.place(found.newest()) == 0
    assert found.place(12345) is None
