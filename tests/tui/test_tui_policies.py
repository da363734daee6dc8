"""The screen of policies: versions side by side, the preview of flips, and every way to the next version."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Button, Input, Static

from appliance import audit, clock
from appliance.access import Access
from appliance.accounts import organisations
from appliance.audit import Filter
from appliance.house import House
from appliance.moderations import sampling
from appliance.moderations.sampling import Sample
from appliance.policies import change, rows
from appliance.policies.change import By
from appliance.settings import Settings
from appliance.text.analysis import ANALYZERS
from tests import decided
from tests.tui.conftest import NOON, SMALL, WIDE, Shoot, drive, settle
from tui.backend import policies
from tui.backend.desk import Desk
from tui.widgets.dialogs import Form, Told
from tui.widgets.rows import Rows

BY = By("operator:test", "a test")


@pytest.fixture
def full(house: House, alice: Any, charlie: Any) -> House:
    """Two organisations: one with two policies, of three and one versions, and 40 events; one without any."""

    def fill(conn: Any) -> None:
        folder = house.settings.policies_dir
        rows.begin(conn, alice.org_id, folder)
        default = rows.find(conn, alice.org_id, "community-default")
        steps = {"analyzers": {"spam": {"thresholds": {"warn": 0.3, "review": 0.5, "block": 0.9}}}}
        default = change.add(conn, default, {**steps, "semantic": {"mode": "off"}}, ANALYZERS, BY)
        change.add(conn, default, {"analyzers": {"spam": {"thresholds": {"block": 0.8}}}}, ANALYZERS, BY)
        change.create(conn, alice.org_id, "kids", "For children", {}, ANALYZERS, folder, BY, template="strict")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now_ms", lambda: NOON - 3_600_000)
        house.db.write(fill)
        version = rows.in_force(house.db.reader(), alice.org_id, None)
        assert version is not None
        made = [
            decided.asked(
                {"spam": number / 40},
                "block" if number / 40 >= 0.8 else "flag" if number / 40 >= 0.3 else "allow",
                version=version,
                action="block"
                if number / 40 >= 0.8
                else "review"
                if number / 40 >= 0.5
                else "warn"
                if number / 40 >= 0.3
                else "allow",
            )
            for number in range(40)
        ]
        ids = decided.record(house, alice, *made)

    def sampled(conn: Any) -> None:
        for number, event_id in enumerate(ids[:10]):
            action = "block" if number < 2 else "allow"
            given = Sample(
                event_id, alice.org_id, version.policy_id, version.id, "allow", "judge", 0.9, action, number >= 2, NOON
            )
            sampling.record(conn, given)

    house.db.write(sampled)
    return house


def versions(house: House, slug: str = "community-default") -> list[rows.Made]:
    conn = house.db.reader()
    return rows.versions(conn, rows.find(conn, organisations.named(conn, "A").id, slug))


def said(house: House, action: str) -> list[tuple[str, str | None]]:
    lines = audit.page(house.db.reader(), Filter(action=action))
    return [(one.actor, one.reason) for one in lines if one.actor != "operator:test"]


def told(pilot: Pilot[None]) -> list[str]:
    return [one.message for one in pilot.app._notifications]


async def press(pilot: Pilot[None], *keys: str) -> None:
    for key in keys:
        await pilot.press(key)
        await settle(pilot)


async def accept(pilot: Pilot[None], **values: str) -> None:
    """Fill the form that is open, and say yes."""
    assert isinstance(pilot.app.screen, Form), pilot.app.screen
    for name, value in values.items():
        pilot.app.screen.query_one(f"#ask-{name}", Input).value = value
    await settle(pilot)
    await press(pilot, "ctrl+s")


# --- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["textual-dark", "textual-light"])
@pytest.mark.parametrize("size", [SMALL, WIDE])
@pytest.mark.parametrize(("view", "keys"), [("list", []), ("versions", ["enter", "down", "d"])])
def test_the_screen_full(
    full: House, desk: Desk, shoot: Shoot, view: str, keys: list[str], size: tuple[int, int], theme: str
) -> None:
    name = f"policies_{view}_{'small' if size == SMALL else 'wide'}_{theme.removeprefix('textual-')}"
    shoot(desk, "policies", name, press=keys, size=size, theme=theme)


def test_every_member_side_by_side(full: House, desk: Desk, shoot: Shoot) -> None:
    shoot(desk, "policies", "policies_members_wide", press=["enter", "down"], size=WIDE)


def test_the_screen_empty(house: House, desk: Desk, shoot: Shoot) -> None:
    shoot(desk, "policies", "policies_empty")


def test_the_screen_failing(house: House, desk: Desk, shoot: Shoot, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Desk) -> Any:
        raise OSError("the disk is on fire")

    monkeypatch.setattr(policies, "every", broken)
    shoot(desk, "policies", "policies_failing")


def test_the_dialogs(full: House, desk: Desk, shoot: Shoot) -> None:
    shoot(desk, "policies", "policies_activate", press=["enter", "down", "a"])
    shoot(desk, "policies", "policies_thresholds", press=["t", "down", "enter"])
    shoot(desk, "policies", "policies_observe", press=["o"])
    shoot(desk, "policies", "policies_new", press=["n"])


def test_the_preview_of_flips(full: House, desk: Desk, shoot: Shoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its list of events, whose ids are made anew each time."""
    preview = policies.preview

    def without_flips(*given: Any) -> Any:
        report = preview(*given)
        report.flips = []
        return report

    monkeypatch.setattr(policies, "preview", without_flips)
    shoot(desk, "policies", "policies_preview", press=["enter", "down", "p"])
    shoot(
        desk, "policies", "policies_preview_wide_light", press=["enter", "down", "p"], size=WIDE, theme="textual-light"
    )


# --- what is done ----------------------------------------------------------------------------------------------------


def test_a_version_is_gone_back_to_after_its_flips_were_seen(full: House, desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "enter", "down", "a")
        text = str(pilot.app.screen.query_one("#text", Static).content)
        assert "Of the last 40 events 4 would flip: block → flag 4." in text
        await press(pilot, "ctrl+s")
        assert isinstance(pilot.app.screen, Form)  # a reason is needed
        await accept(pilot, reason="too strict")
        assert versions(full)[0].copied_from == 2
        table = pilot.app.screen.query_one("#versions", Rows)
        assert [str(table.line_at(n).cells[0]) for n in range(2)] == ["▸4", "3"]  # type: ignore[union-attr]

    drive(desk, "policies", doing)
    assert said(full, "policy.activated") == [(desk.actor, "too strict")]


def test_a_cancelled_activation_changes_nothing(full: House, desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "enter", "down", "a", "escape", "up", "a")
        assert any("in force already" in one for one in told(pilot))

    drive(desk, "policies", doing)
    assert len(versions(full)) == 3


def test_thresholds_are_changed_by_fields_after_the_preview(full: House, desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "t")
        pilot.app.screen.query_one("#find", Input).value = "spam"
        await settle(pilot)
        await press(pilot, "enter")
        form = pilot.app.screen
        assert form.query_one("#ask-block", Input).value == "0.8"
        await accept(pilot, block="lots")
        assert "number from 0 to 1" in str(form.query_one("#wrong", Static).content)
        await accept(pilot, block="0.2")
        assert "must rise" in str(form.query_one("#wrong", Static).content)
        await accept(pilot, block="0.95")
        assert "would flip: block → flag" in str(pilot.app.screen.query_one("#text", Static).content)
        await accept(pilot, reason="fewer blocks")

    drive(desk, "policies", doing)
    assert versions(full)[0].body.analyzers["spam"].thresholds.block == 0.95
    assert said(full, "policy.version_made") == [(desk.actor, "fewer blocks")]


def test_a_policy_only_observes_and_decides_again(full: House, desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "o")
        assert pilot.app.screen.query_one("#cancel", Button).has_focus
        await accept(pilot, reason="a trial week")
        assert versions(full)[0].body.observe_only
        line = pilot.app.screen.query_one("#list-rows", Rows).current
        assert line is not None
        assert line.cells[3] == "observes only"
        await press(pilot, "o")
        await accept(pilot, reason="it went well")
        assert not versions(full)[0].body.observe_only

    drive(desk, "policies", doing)
    assert said(full, "policy.version_made") == [(desk.actor, "it went well"), (desk.actor, "a trial week")]


def test_another_policy_becomes_the_default_and_a_new_one_is_made(full: House, desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "m")
        assert any("default already" in one for one in told(pilot))
        await press(pilot, "down", "m")
        await accept(pilot, reason="a school")
        await press(pilot, "n")
        await accept(pilot, slug="Kids", reason="x")
        assert "lower-case letters" in str(pilot.app.screen.query_one("#wrong", Static).content)
        await accept(pilot, slug="teens", reason="older ones")

    drive(desk, "policies", doing)
    conn = full.db.reader()
    found = rows.every(conn, organisations.named(conn, "A").id)
    assert [(one.slug, one.is_default) for one in found] == [
        ("kids", True), ("community-default", False), ("teens", False)
    ]  # fmt: skip
    assert said(full, "policy.created") == [(desk.actor, "older ones")]


def test_a_version_is_written_in_the_editor(
    full: House, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong, right = tmp_path / "wrong", tmp_path / "right"
    wrong.write_text("#!/bin/sh\nsed -i 's/block = 0.8/block = 0.1/' \"$1\"\n")
    right.write_text("#!/bin/sh\nsed -i 's/block = 0.1/block = 0.97/' \"$1\"\n")
    for one in (wrong, right):
        one.chmod(0o700)
    monkeypatch.setattr(App, "suspend", lambda _: contextlib.nullcontext())
    monkeypatch.setenv("VISUAL", str(wrong))

    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "v")
        assert "must rise" in str(pilot.app.screen.query_one("#text", Static).content)
        monkeypatch.setenv("VISUAL", str(right))
        await press(pilot, "ctrl+s")  # again, with what was written
        assert "analyzers.spam.thresholds.block: 0.8 → 0.97" in str(pilot.app.screen.query_one("#text", Static).content)
        await accept(pilot, reason="by hand")
        monkeypatch.setenv("VISUAL", "true")
        await press(pilot, "v")
        assert any("Nothing was changed" in one for one in told(pilot))
        monkeypatch.setenv("VISUAL", "no-such-editor")
        await press(pilot, "v")
        assert any("no such command" in one for one in told(pilot))

    drive(desk, "policies", doing)
    assert versions(full)[0].body.analyzers["spam"].thresholds.block == 0.97
    assert said(full, "policy.version_made") == [(desk.actor, "by hand")]


def test_a_terminal_that_cannot_be_handed_over_is_said(
    full: House, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISUAL", "true")

    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "v")
        assert any("cannot be handed to an editor" in one for one in told(pilot))

    drive(desk, "policies", doing)


def test_who_may_only_look_previews_and_changes_nothing(full: House, settings: Settings) -> None:
    reader = Desk(settings, Access("operator:guest", False, "You are not of the group"), now=lambda: NOON)

    async def doing(pilot: Pilot[None]) -> None:
        for keys in (["o"], ["t"], ["v"], ["n"], ["m"], ["enter", "down", "a"]):
            await press(pilot, *keys)
            assert not isinstance(pilot.app.screen, Form)
        assert told(pilot).count("You are not of the group") == 6
        await press(pilot, "p")
        assert isinstance(pilot.app.screen, Told)

    try:
        drive(reader, "policies", doing)
    finally:
        reader.close()
    assert len(versions(full)) == 3


def test_an_organisation_without_a_policy_says_what_it_will_have(full: House, desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "end", "enter")
        assert any("shipped default with its first decision" in one for one in told(pilot))

    drive(desk, "policies", doing)
