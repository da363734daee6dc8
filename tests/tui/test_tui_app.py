"""The frame: going anywhere, finding everything, help that cannot lie, jumping, what every screen must say, looks."""

import asyncio
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
from textual.events import Key
from textual.pilot import Pilot
from textual.widgets import Input, Static

from appliance.house import House
from tests.tui.conftest import NOON, SMALL, WIDE, Shoot, drive, settle
from tui import places
from tui.app import CustomhouseApp
from tui.backend.desk import Access, Desk
from tui.help import Help
from tui.place import Place
from tui.preferences import Preferences
from tui.widgets.rows import Column, Line, Rows

WRONG = (
    "Nothing is running. Start it: customhouse up",
    "The disk has 90 MB free; below 256 MB nothing new is accepted",
)


def _run(app: CustomhouseApp, doing: object, size: tuple[int, int] = SMALL) -> None:
    app.animation_level = "none"

    async def go() -> None:
        async with app.run_test(size=size) as pilot:
            await settle(pilot)
            await doing(pilot)  # type: ignore[operator]

    asyncio.run(go())


class Plain(Place):
    """A place of this test: a filter, a table, an action of its own."""

    NAME = "keys"
    BINDINGS = [("x", "shout", "Shout")]  # noqa: RUF012

    def body(self):
        yield Input(id="filter", compact=True)
        yield Rows([Column("Name", 20, grows=True), Column("Said", 10)], id="plain")

    async def load(self) -> None:
        self.query_one(Rows).show([Line(f"k{n}", (f"=name {n}", "-5")) for n in range(3)])

    def action_shout(self) -> None:
        self.notify("Hey")


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name leads to Plain: the frame is tested without the screens of others."""

    def find(name: str) -> type[Place]:
        return type("Plain", (Plain,), {"NAME": name})

    monkeypatch.setattr(places, "find", find)


# --- going about ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("plain")
def test_g_and_a_letter_go_to_every_place(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        for one in places.ALL:
            await pilot.press("g", one.key)
            await settle(pilot)
            assert isinstance(pilot.app.screen, Place)
            assert one.name == pilot.app.screen.NAME
        assert len(pilot.app.screen_stack) == 2

    drive(desk, "keys", doing)


@pytest.mark.usefixtures("plain")
def test_escape_leaves_the_list_of_places_where_one_was(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await pilot.press("g", "escape")
        await settle(pilot)
        assert isinstance(pilot.app.screen, Place)
        assert pilot.app.screen.NAME == "jobs"

    drive(desk, "jobs", doing)


@pytest.mark.usefixtures("plain")
def test_g_and_a_letter_sent_in_one_breath_arrive_in_their_order(desk: Desk) -> None:
    """2026-11-21: the letter reached the screen below, where it was a key of its own."""

    async def doing(pilot: Pilot[None]) -> None:
        for letter in "gw":
            pilot.app.post_message(Key(letter, letter))
        await settle(pilot)
        assert isinstance(pilot.app.screen, Place)
        assert pilot.app.screen.NAME == "webhooks"

    drive(desk, "organisations", doing)


def test_a_click_on_the_rail_goes_there(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await pilot.click("#rail", offset=(3, 7))
        await settle(pilot)
        assert isinstance(pilot.app.screen, Place)
        assert places.PLACES[6].name == pilot.app.screen.NAME

    drive(desk, "keys", doing, size=WIDE)


@pytest.mark.usefixtures("plain")
def test_a_click_in_the_list_of_places_goes_there(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await pilot.press("g")
        await settle(pilot)
        await pilot.click("#places", offset=(2 + 25, 1))
        await settle(pilot)
        assert isinstance(pilot.app.screen, Place)
        assert pilot.app.screen.NAME == "jobs"

    drive(desk, "keys", doing)


@pytest.mark.usefixtures("plain")
def test_no_two_places_have_one_letter() -> None:
    keys = [one.key for one in places.ALL]
    assert len(set(keys)) == len(keys) == 16


@pytest.mark.usefixtures("plain")
def test_the_table_has_the_focus_and_slash_goes_to_the_filter_and_escape_back(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        screen = pilot.app.screen
        assert isinstance(screen.focused, Rows)
        await pilot.press("slash")
        assert isinstance(screen.focused, Input)
        await pilot.press("g", "question_mark", "colon")
        assert screen.query_one(Input).value == "g?:"
        await pilot.press("escape")
        assert isinstance(screen.focused, Rows)

    drive(desk, "keys", doing)


# --- the palette ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("plain")
def test_the_palette_finds_a_place_and_an_action_of_the_screen(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await pilot.press("colon", *"webhoo")
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        assert isinstance(pilot.app.screen, Place)
        assert pilot.app.screen.NAME == "webhooks"
        await pilot.press("ctrl+p", *"help")
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        assert isinstance(pilot.app.screen, Help)

    drive(desk, "keys", doing)


# --- help, jump -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("plain")
def test_jump_goes_where_its_letter_stands_and_touches_nothing(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        screen = pilot.app.screen
        await pilot.press("semicolon")
        await settle(pilot)
        labels = pilot.app.screen.query("Label")
        assert len(labels) == 2
        assert [(one.region.x, one.region.y) for one in labels] == [
            (one.region.x, one.region.y) for one in screen.focus_chain
        ]
        await pilot.press("a")
        await settle(pilot)
        assert pilot.app.screen is screen
        assert isinstance(screen.focused, Input)
        assert screen.query_one(Input).value == ""

    drive(desk, "keys", doing)


@pytest.mark.usefixtures("plain")
def test_help_closes_by_the_key_that_opened_it(desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await pilot.press("question_mark")
        await settle(pilot)
        assert isinstance(pilot.app.screen, Help)
        await pilot.press("question_mark")
        await settle(pilot)
        assert isinstance(pilot.app.screen, Place)

    drive(desk, "keys", doing)


# --- what every screen must say ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("plain")
def test_what_is_wrong_is_said_on_every_screen_and_goes_when_it_is_well(desk: Desk) -> None:
    said: list[Sequence[str]] = [WRONG]
    app = CustomhouseApp(desk, "keys", alarms=lambda _: said[0])

    async def doing(pilot: Pilot[None]) -> None:
        banner = pilot.app.screen.query_one("#banner", Static)
        assert banner.display
        assert WRONG[0] in str(banner.content)
        await pilot.press("g", "j")
        await settle(pilot)
        assert pilot.app.screen.query_one("#banner", Static).display
        said[0] = ()
        app.watch_alarms()
        await settle(pilot)
        assert not pilot.app.screen.query_one("#banner", Static).display

    _run(app, doing)


@pytest.mark.usefixtures("plain")
def test_an_alarm_that_cannot_be_asked_is_itself_said(desk: Desk) -> None:
    def broken(_: Desk) -> Sequence[str]:
        raise OSError("no such thing")

    app = CustomhouseApp(desk, "keys", alarms=broken)

    async def doing(pilot: Pilot[None]) -> None:
        assert "cannot be asked: no such thing" in str(pilot.app.screen.query_one("#banner", Static).content)

    _run(app, doing)


# --- looks and keys ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("name", ["dark", "light", "ansi", "none"])
def test_a_theme_is_worn_at_once_and_remembered(desk: Desk, tmp_path: Path, name: str) -> None:
    file = tmp_path / "config" / "tui.toml"
    app = CustomhouseApp(desk, "keys", remembered=file)

    async def doing(pilot: Pilot[None]) -> None:
        app.choose_theme(name)
        await settle(pilot)
        assert app.is_colourless == (name == "none")

    _run(app, doing)
    assert file.read_text() == f'theme = "{name}"\n'


@pytest.mark.usefixtures("plain")
def test_without_colour_not_one_is_drawn_and_the_cursor_is_still_seen(desk: Desk) -> None:
    app = CustomhouseApp(desk, "keys", liked=Preferences(theme="none"))

    async def doing(pilot: Pilot[None]) -> None:
        rows = pilot.app.screen.query_one(Rows)
        strips = [rows.render_line(y) for y in range(4)]
        drawn = [
            strip.apply_filter(one, rows.background_colors[1]) for strip in strips for one in app.get_line_filters()
        ]
        assert drawn
        styles = [segment.style for strip in drawn for segment in strip if segment.style]
        assert all(style.color is None or style.color.is_default for style in styles[-len(drawn) :])
        assert any(segment.style and segment.style.reverse for segment in strips[1])

    _run(app, doing)


@pytest.mark.usefixtures("plain")
def test_a_persons_keys_take_the_place_of_ours(desk: Desk) -> None:
    app = CustomhouseApp(desk, "keys", liked=Preferences(keys={"app.go": "f6"}))

    async def doing(pilot: Pilot[None]) -> None:
        await pilot.press("f6", "w")
        await settle(pilot)
        assert isinstance(pilot.app.screen, Place)
        assert pilot.app.screen.NAME == "webhooks"

    _run(app, doing)


@pytest.mark.usefixtures("plain")
def test_what_is_wrong_with_a_persons_file_is_said_and_keeps_nobody_out(desk: Desk) -> None:
    liked = Preferences(keys={"app.gone": "f6", "app.help": "ctrl+nothing"}, wrong=("tui.toml: not valid TOML",))
    app = CustomhouseApp(desk, "keys", liked=liked)

    async def doing(pilot: Pilot[None]) -> None:
        said = [one.message for one in pilot.app._notifications]
        assert "tui.toml: not valid TOML" in said
        assert "keys: there is no app.gone; did you mean app.go?" in said
        assert "keys: app.help = 'ctrl+nothing': 'ctrl+nothing' is no key" in said

    _run(app, doing)


@pytest.mark.usefixtures("plain")
def test_reduced_motion_is_held_to(desk: Desk) -> None:
    assert CustomhouseApp(desk, "keys", liked=Preferences(motion="reduced")).animation_level == "none"


# --- export -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("plain")
def test_a_table_is_exported_and_a_file_that_is_there_is_asked_about(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "out.csv"

    async def export(pilot: Pilot[None], *answers: str) -> None:
        await pilot.press("e")
        await settle(pilot)
        pilot.app.screen.query_one("#ask-path", Input).value = str(file)
        await pilot.press("enter")
        await settle(pilot)
        for key in answers:
            await pilot.press(key)
            await settle(pilot)

    async def doing(pilot: Pilot[None]) -> None:
        await export(pilot)
        assert file.read_bytes().decode("utf-8-sig").splitlines() == [
            "key,Name,Said",
            "k0,'=name 0,-5",
            "k1,'=name 1,-5",
            "k2,'=name 2,-5",
        ]
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        file.write_text("mine")
        await export(pilot, "enter")  # cancel has the focus
        assert file.read_text() == "mine"
        await export(pilot, "right", "enter")
        assert file.read_text() != "mine"
        assert sorted(one.name for one in tmp_path.iterdir() if one.name.startswith((".", "out"))) == ["out.csv"]

    drive(desk, "keys", doing)


# --- who may only look ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("plain")
def test_read_only_is_said_on_top(house: House) -> None:
    desk = Desk(house.settings, Access("operator:nell", False, "You may look"), now=lambda: NOON)

    async def doing(pilot: Pilot[None]) -> None:
        assert "read only" in str(pilot.app.screen.query_one("#top", Static).content)

    drive(desk, "keys", doing)
    desk.close()


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(("suffix", "size"), [("small", SMALL), ("wide", WIDE)])
@pytest.mark.parametrize(
    ("name", "press"), [("goto", "g"), ("help", "question_mark"), ("jump", "semicolon"), ("frame", "down")]
)
def test_a_picture_of(desk: Desk, shoot: Shoot, name: str, press: str, suffix: str, size: tuple[int, int]) -> None:
    shoot(desk, "keys", f"app-{name}-{suffix}", press=[press], size=size)


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("name", ["goto", "help"])
def test_a_light_picture_of(desk: Desk, shoot: Shoot, name: str) -> None:
    press = {"goto": "g", "help": "question_mark"}[name]
    shoot(desk, "keys", f"app-{name}-light", press=[press], theme="textual-light")


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(("suffix", "size"), [("small", SMALL), ("wide", WIDE)])
def test_a_picture_of_the_palette(desk: Desk, shoot: Shoot, suffix: str, size: tuple[int, int]) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await pilot.press("colon", *"theme")
        await settle(pilot)

    shoot(desk, "keys", f"app-palette-{suffix}", doing=doing, size=size)


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(("suffix", "size"), [("small", SMALL), ("wide", WIDE)])
@pytest.mark.parametrize("theme", ["textual-dark", "textual-light", "ansi-dark"])
def test_a_picture_of_what_is_wrong(desk: Desk, shoot: Shoot, suffix: str, size: tuple[int, int], theme: str) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        app = pilot.app
        assert isinstance(app, CustomhouseApp)
        app.alarms = WRONG
        assert isinstance(app.screen, Place)
        app.screen.say_alarms()

    shoot(desk, "keys", f"app-banner-{suffix}-{theme.removeprefix('textual-')}", doing=doing, size=size, theme=theme)
