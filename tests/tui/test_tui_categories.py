"""The screen of categories: checks by organisation, thresholds with what would flip, custom categories with a trial."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from textual.pilot import Pilot
from textual.widgets import Button, Input, Static

from appliance import audit, clock, prompts, thresholds
from appliance.access import Access
from appliance.accounts import custom, organisations, toggles
from appliance.audit import Filter
from appliance.house import House
from appliance.jobs.replay import Replay
from appliance.jobs.trial import Trial
from appliance.settings import Settings
from tests.test_thresholds import done, nsfw
from tests.tui.conftest import NOON, SMALL, WIDE, Shoot, drive, settle
from tui.backend import categories
from tui.backend.desk import Desk
from tui.screens.categories import Mover
from tui.widgets.dialogs import Confirm, Form
from tui.widgets.rows import Rows


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """With judges, so that custom categories can be asked."""
    from appliance.settings import Inference, Log
    from tests.cast import UNHURRIED

    judges = Inference(vision_judge="smolvlm", text_judge="shieldgemma")
    return Settings(home=tmp_path / "home", log=Log(level="warning"), limits=UNHURRIED, inference=judges)


@pytest.fixture
def full(house: House, alice: Any, charlie: Any, settings: Settings) -> House:
    """Three organisations, one without underage; a moved threshold; three custom categories; 60 jobs with scores."""

    def fill(conn: Any) -> None:
        organisations.create(conn, "Lighthouse Press")
        by: Any = {"actor": "operator:test", "reason": "a test"}
        toggles.switch(conn, alice.org_id, "nsfw", False, **by)
        toggles.switch(conn, charlie.org_id, "underage", False, **by)
        file = house.shipped_categories
        thresholds.put(conn, file, "nsfw", "opennsfw:nsfw", 0.42, **by)
        for slug, name, question, kinds in (
            ("boats", "Boats", "Does the image show a boat?", ("image", "video")),
            ("weather", "Weather", "Does the text speak of the weather?", ("prompt",)),
        ):
            custom.add(conn, settings, alice.org_id, slug, name, question, applies_to=kinds, **by)
        custom.add(
            conn, settings, charlie.org_id, "cats", "Cats", "Is there a cat?", enabled=False, description="Pets.", **by
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now_ms", lambda: NOON - 3_600_000)
        house.db.write(fill)
    for number in range(60):
        done(house, alice, nsfw(round(number / 60, 3)))
    return house


def said(house: House, action: str) -> list[tuple[str, str | None]]:
    lines = audit.page(house.db.reader(), Filter(action=action))
    return [(one.actor, one.reason) for one in lines if one.actor != "operator:test"]


async def write(pilot: Pilot[None], text: str) -> None:
    """Into the field that has the focus."""
    field = pilot.app.screen.focused
    assert isinstance(field, Input), field
    field.value = text
    await settle(pilot)


def by_press(*keys: str) -> Any:
    async def doing(pilot: Pilot[None]) -> None:
        for key in keys:
            await pilot.press(key)
            await settle(pilot)

    return doing


# --- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["textual-dark", "textual-light"])
@pytest.mark.parametrize("size", [SMALL, WIDE])
@pytest.mark.parametrize(("view", "key"), [("checks", "c"), ("limits", "t"), ("own", "o"), ("asked", "w")])
def test_the_screen_full(
    full: House, desk: Desk, shoot: Shoot, view: str, key: str, size: tuple[int, int], theme: str
) -> None:
    name = f"categories_{view}_{'small' if size == SMALL else 'wide'}_{theme.removeprefix('textual-')}"
    shoot(desk, "categories", name, press=[key], size=size, theme=theme)


@pytest.mark.parametrize(("view", "key"), [("checks", "c"), ("own", "o")])
def test_the_screen_empty(house: House, desk: Desk, shoot: Shoot, view: str, key: str) -> None:
    shoot(desk, "categories", f"categories_{view}_empty", press=[key])


def test_the_screen_failing(house: House, desk: Desk, shoot: Shoot, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Desk) -> Any:
        raise OSError("the disk is on fire")

    monkeypatch.setattr(categories, "checks", broken)
    shoot(desk, "categories", "categories_failing")


def test_the_warning_of_underage(full: House, desk: Desk, shoot: Shoot) -> None:
    shoot(desk, "categories", "categories_underage", press=["3"])
    shoot(desk, "categories", "categories_underage_light", press=["3"], theme="textual-light")


def test_a_threshold_with_its_flips(full: House, desk: Desk, shoot: Shoot) -> None:
    up = ["t", "enter", *["up"] * 12]
    shoot(desk, "categories", "categories_threshold", press=up)
    shoot(desk, "categories", "categories_threshold_wide_light", press=up, size=WIDE, theme="textual-light")


def test_the_dialogs_of_custom_categories(full: House, desk: Desk, shoot: Shoot) -> None:
    shoot(desk, "categories", "categories_new", press=["o", "n"])
    shoot(desk, "categories", "categories_past", press=["o", "v"])
    shoot(desk, "categories", "categories_try", press=["o", "r"])
    shoot(desk, "categories", "categories_remove", press=["o", "D"])


# --- checks ----------------------------------------------------------------------------------------------------------


def test_a_check_is_turned_off_with_a_reason_and_undone(full: House, desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await by_press("2")(pilot)
        form = pilot.app.screen
        assert isinstance(form, Form)
        assert form.query_one("#cancel", Button).has_focus  # it takes protection away
        form.query_one("#ask-reason", Input).focus()
        await pilot.press("enter")
        await settle(pilot)
        assert isinstance(pilot.app.screen, Form)  # a reason is needed
        await write(pilot, "they print anatomy")
        await by_press("enter")(pilot)
        assert toggles.on(full.db.reader(), org)[:2] == ["underage", "text"]
        rows = pilot.app.screen.query_one("#checks-rows", Rows)
        assert str(rows.line_at(0).cells[2]) == "OFF"  # type: ignore[union-attr]
        await by_press("u")(pilot)
        assert "ai_adult_general" in toggles.on(full.db.reader(), org)

    org = organisations.named(full.db.reader(), "A").id
    drive(desk, "categories", doing)
    assert said(full, "checks.turned_off") == [(desk.actor, "they print anatomy")]
    assert said(full, "checks.turned_on") == [(desk.actor, "undone at the desk")]


def test_underage_goes_off_after_its_warning_is_answered_by_its_name(full: House, desk: Desk) -> None:
    org = organisations.named(full.db.reader(), "A").id

    async def doing(pilot: Pilot[None]) -> None:
        await by_press("3")(pilot)
        warning = pilot.app.screen
        assert isinstance(warning, Confirm)
        assert "alternative CSAM-detection control" in str(warning.query_one("#text", Static).content)
        assert warning.query_one("#yes", Button).disabled
        await by_press("enter")(pilot)  # cancel has the focus
        assert "underage" in toggles.on(full.db.reader(), org)
        await by_press("3")(pilot)
        pilot.app.screen.query_one("#word", Input).value = "underage"
        await settle(pilot)
        await pilot.click("#yes")
        await settle(pilot)
        pilot.app.screen.query_one("#ask-reason", Input).value = "another service does it"
        await pilot.click("#yes")
        await settle(pilot)
        assert "underage" not in toggles.on(full.db.reader(), org)

    drive(desk, "categories", doing)
    assert said(full, "checks.underage_off") == [(desk.actor, "another service does it")]


def test_who_may_only_look_is_told_so_before_anything_is_asked(full: House, settings: Settings) -> None:
    reader = Desk(settings, Access("operator:guest", False, "You are not of the group"), now=lambda: NOON)

    async def doing(pilot: Pilot[None]) -> None:
        for keys in (["1"], ["o", "n"], ["D"], ["s"], ["enter"], ["t", "f"]):
            await by_press(*keys)(pilot)
            assert not isinstance(pilot.app.screen, (Form, Confirm))
        told = [one.message for one in pilot.app._notifications]
        assert told.count("You are not of the group") == 6

    try:
        drive(reader, "categories", doing)
    finally:
        reader.close()


# --- thresholds ------------------------------------------------------------------------------------------------------


def test_a_threshold_is_moved_seeing_what_flips_and_undone(full: House, desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await by_press("t", "enter")(pilot)
        mover = pilot.app.screen
        assert isinstance(mover, Mover)
        mover.query_one("#value", Input).value = "0.6"
        await settle(pilot)
        counted = Replay(full.db.reader, full.categories).moved("nsfw", "opennsfw:nsfw", 0.6)
        assert counted.turned_false == 10
        assert f"{counted.flips} would flip" in str(mover.query_one("#flips", Static).content)
        await by_press("enter")(pilot)
        assert isinstance(pilot.app.screen, Mover)  # a reason is needed
        await write(pilot, "too many beaches")
        await by_press("enter")(pilot)
        assert full.categories["nsfw"].sources[0].threshold == 0.6
        line = pilot.app.screen.query_one("#limits-rows", Rows).line_at(0)
        assert line is not None
        assert line.cells[2] == "0.6"
        await by_press("u")(pilot)
        assert full.categories["nsfw"].sources[0].threshold == 0.42

    drive(desk, "categories", doing)
    assert said(full, "threshold.changed") == [(desk.actor, "undone at the desk"), (desk.actor, "too many beaches")]


def test_a_threshold_is_given_back_to_the_file(full: House, desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await by_press("t", "f")(pilot)
        await write(pilot, "as it was")
        await by_press("enter")(pilot)

    drive(desk, "categories", doing)
    assert full.categories["nsfw"].sources[0].threshold == 0.5


def test_what_is_no_threshold_is_said_and_nothing_is_moved(full: House, desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await by_press("t", "enter")(pilot)
        for wrong in ("", "lots", "0", "1.2"):
            pilot.app.screen.query_one("#value", Input).value = wrong
            await settle(pilot)
            assert "over 0 and at most 1" in str(pilot.app.screen.query_one("#flips", Static).content)
            await by_press("enter")(pilot)
            assert isinstance(pilot.app.screen, Mover)

    drive(desk, "categories", doing)
    assert full.categories["nsfw"].sources[0].threshold == 0.42


def test_a_threshold_that_somebody_else_moved_meanwhile_is_left(full: House, desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await by_press("t", "enter")(pilot)
        file = full.shipped_categories
        full.db.write(lambda conn: thresholds.put(conn, file, "nsfw", "opennsfw:nsfw", 0.9, actor="operator:other"))
        pilot.app.screen.query_one("#value", Input).value = "0.6"
        pilot.app.screen.query_one("#reason", Input).value = "a test"
        await pilot.click("#yes")
        await settle(pilot)
        assert any("changed meanwhile" in one.message for one in pilot.app._notifications)

    drive(desk, "categories", doing)
    assert full.categories["nsfw"].sources[0].threshold == 0.9


# --- custom ones -----------------------------------------------------------------------------------------------------


def test_a_custom_category_is_added_changed_switched_and_removed(full: House, desk: Desk) -> None:
    org = organisations.named(full.db.reader(), "A").id

    async def fill(pilot: Pilot[None], **values: str) -> None:
        for name, value in values.items():
            field: Any = pilot.app.screen.query_one(f"#ask-{name}")
            if isinstance(field, Input):
                field.value = value
            else:
                field.text = value
        await settle(pilot)
        await pilot.press("ctrl+s")
        await settle(pilot)

    async def doing(pilot: Pilot[None]) -> None:
        await by_press("o", "n")(pilot)
        await fill(pilot, name="Anchors", question="Is there an anchor?", reason="a client asked")
        rows = pilot.app.screen.query_one("#own-rows", Rows)
        assert [str(rows.line_at(n).cells[1]) for n in range(4)] == ["Anchors", "Boats", "Weather", "Cats"]  # type: ignore[union-attr]
        rows.move_to(0)
        await by_press("enter")(pilot)
        await fill(pilot, question="Is there a big anchor?", reason="sharper")
        assert custom.find(full.db.reader(), org, "anchors").version == 2
        await by_press("s")(pilot)
        await fill(pilot, reason="later")
        assert not custom.find(full.db.reader(), org, "anchors").enabled
        await by_press("u")(pilot)
        assert custom.find(full.db.reader(), org, "anchors").enabled
        await by_press("D")(pilot)
        assert pilot.app.screen.query_one("#cancel", Button).has_focus
        await fill(pilot, reason="not needed")
        assert "anchors" not in [one.slug for one in custom.every(full.db.reader(), org)]

    drive(desk, "categories", doing)
    assert said(full, "category.added") == [(desk.actor, "a client asked")]
    assert said(full, "category.changed") == [(desk.actor, "sharper")]
    assert said(full, "category.removed") == [(desk.actor, "not needed")]


def test_what_is_refused_is_said_in_the_form_and_nothing_typed_is_lost(full: House, desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await by_press("o", "n")(pilot)
        form = pilot.app.screen
        form.query_one("#ask-name", Input).value = "Boats"
        form.query_one("#ask-slug", Input).value = "boats"
        form.query_one("#ask-question").text = "Is there a boat?"  # type: ignore[attr-defined]
        form.query_one("#ask-reason", Input).value = "again"
        await by_press("ctrl+s")(pilot)
        assert pilot.app.screen is form
        assert "already" in str(form.query_one("#wrong", Static).content)
        assert form.query_one("#ask-slug", Input).value == "boats"

    drive(desk, "categories", doing)


def test_a_category_is_tried_on_a_text_and_nothing_is_kept(
    full: House, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str, bool, float | None]] = []

    def answered(_: Desk, question: str, what: str, *, is_text: bool, threshold: float | None) -> Trial:
        asked.append((question, what, is_text, threshold))
        return Trial(True, 0.91, 0.5, "shieldgemma", "abc", "cpu", 12.0)

    monkeypatch.setattr(categories, "attempt", answered)

    async def doing(pilot: Pilot[None]) -> None:
        await by_press("o", "r")(pilot)
        pilot.app.screen.query_one("#ask-what").text = "a boat at dawn"  # type: ignore[attr-defined]
        await by_press("ctrl+s")(pilot)
        assert any(one.title == "Prohibited" and "0.910 ≥ 0.5" in one.message for one in pilot.app._notifications)
        await by_press("w", "end", "r")(pilot)  # the built-in policy for prompts, against its own threshold
        pilot.app.screen.query_one("#ask-what").text = "a lighthouse"  # type: ignore[attr-defined]
        await by_press("ctrl+s")(pilot)

    drive(desk, "categories", doing)
    assert asked[0] == ("Does the image show a boat?", "a boat at dawn", True, None)
    assert asked[1][1:] == ("a lighthouse", True, 0.5)


def test_a_trial_that_cannot_be_made_says_why(full: House, desk: Desk, settings: Settings) -> None:
    desk.settings = msgspec.structs.replace(
        settings, inference=msgspec.structs.replace(settings.inference, text_judge="")
    )

    async def doing(pilot: Pilot[None]) -> None:
        await by_press("o", "r")(pilot)
        pilot.app.screen.query_one("#ask-what").text = "a boat at dawn"  # type: ignore[attr-defined]
        await by_press("ctrl+s")(pilot)
        assert any("No text judge is configured" in one.message for one in pilot.app._notifications)

    drive(desk, "categories", doing)


def test_the_filter_narrows_down_what_is_shown(full: House, desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await by_press("slash")(pilot)
        await write(pilot, "light")
        rows = pilot.app.screen.query_one("#checks-rows", Rows)
        assert rows.row_count == 1
        await write(pilot, "nobody")
        assert rows.row_count == 0
        assert rows.empty == "Nothing is like that: escape clears the filter."
        await by_press("escape", "t", "slash")(pilot)
        await write(pilot, "text violence")
        assert pilot.app.screen.query_one("#limits-rows", Rows).row_count == 2

    drive(desk, "categories", doing)


# --- the built-in questions ------------------------------------------------------------------------------------------


def test_a_question_is_asked_in_other_words_undone_and_gone_back_with(full: House, desk: Desk) -> None:
    def asked() -> str:
        return full.categories["nsfw"].question

    async def reword(pilot: Pilot[None], text: str, reason: str) -> None:
        await by_press("enter")(pilot)
        pilot.app.screen.query_one("#ask-words").text = text  # type: ignore[attr-defined]
        pilot.app.screen.query_one("#ask-reason", Input).value = reason
        await by_press("ctrl+s")(pilot)

    async def doing(pilot: Pilot[None]) -> None:
        file = asked()
        await by_press("w")(pilot)
        await reword(pilot, "Is it a beach?", "more beaches")
        assert asked() == "Is it a beach?"
        await by_press("u")(pilot)
        assert asked() == file.strip()
        await reword(pilot, "Is it a pier?", "piers")
        await by_press("b")(pilot)
        pilot.app.screen.query_one("#find", Input).value = "beach"
        await settle(pilot)
        await by_press("enter")(pilot)
        pilot.app.screen.query_one("#ask-reason", Input).value = "it was better"
        await by_press("ctrl+s")(pilot)
        assert asked() == "Is it a beach?"
        assert full.categories["nsfw"].version == 4

    drive(desk, "categories", doing)
    assert said(full, "prompt.changed")[0] == (desk.actor, "it was better")
    assert len(said(full, "prompt.changed")) == 4


def test_words_that_somebody_else_changed_meanwhile_are_left(full: House, desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await by_press("w", "enter")(pilot)
        full.db.write(lambda conn: prompts.put(conn, "vlm-nsfw", "Is it a quay?", actor="operator:other"))
        pilot.app.screen.query_one("#ask-words").text = "Is it a pier?"  # type: ignore[attr-defined]
        pilot.app.screen.query_one("#ask-reason", Input).value = "a test"
        await by_press("ctrl+s")(pilot)
        assert "changed meanwhile" in str(pilot.app.screen.query_one("#wrong", Static).content)

    drive(desk, "categories", doing)
    assert full.categories["nsfw"].question == "Is it a quay?"
